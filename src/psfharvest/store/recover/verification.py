"""One verification of a harvest folder: every stored cutout read again, what is broken counted and repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.recover import audit, mend

URIS_SHOWN = 1000

Watch = Callable[[Iterator[audit.CheckedClaim], int], Iterable[audit.CheckedClaim]]


@dataclass(frozen=True, slots=True)
class Verification:
    """
    What a verification found.

    Attributes
    ----------
    checked, ok, broken
        Numbers of stored cutouts.
    problems
        Problem (``missing``, ``truncated``, ``changed``, ``unreadable``) to number of cutouts.
    uris
        The first 1,000 broken ones.
    strays
        Files in the folder that belong to no claim; they are left as they are.
    files
        Shards and Parquet files that their own readers (tar, pyarrow) cannot read throughout.
    pending
        Cutouts that a repair made pending.
    """

    checked: int
    ok: int
    broken: int
    problems: Mapping[str, int]
    uris: tuple[str, ...] = field(repr=False)
    strays: int
    files: tuple[str, ...] = ()
    pending: int = 0

    @property
    def is_broken(self) -> bool:
        """Whether anything was broken, repaired or not."""
        return bool(self.broken or self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``psfharvest verify --json`` prints."""
        return {
            "checked": self.checked,
            "ok": self.ok,
            "broken": self.broken,
            "problems": dict(self.problems),
            "uris": list(self.uris),
            "strays": self.strays,
            "files": list(self.files),
        }


def verify(folder: Path, *, repair: bool = False, watch: Watch = lambda found, _total: found) -> Verification:
    """
    Re-read every stored cutout and compare it with the manifest; nothing is asked of the archive.

    Parameters
    ----------
    folder
        The harvest folder.
    repair
        Make broken cutouts pending again and mend shards and Parquet files; this holds the folder's lock.
    watch
        Passes the findings on one by one, to show progress; it gets their number, too.

    Raises
    ------
    FolderRefused
        When the folder holds no harvest, or is in use and `repair` is asked for.
    ManifestError
        When its manifest cannot be read.
    """
    problems: Counter[str] = Counter()
    broken: list[int] = []
    uris: list[str] = []
    files: list[str] = []
    n_checked = 0
    n_pending = 0
    # held from the first look on: what a harvest stores meanwhile must not be taken back
    with mend.held(folder) if repair else nullcontext():
        with Manifest.read(folder) as manifest:
            for found in watch(audit.audit(folder, manifest), manifest.tally().done):
                if not found.number:
                    files.append(found.location)
                    continue
                n_checked += 1
                if found.problem:
                    problems[found.problem] += 1
                    broken.append(found.number)
                    uris += [found.uri] if len(uris) < URIS_SHOWN else []
            n_strays = sum(1 for _ in audit.strays(folder, manifest))
        if repair and (broken or files):
            n_pending = mend.repair_held(folder, broken, files)
    return Verification(
        checked=n_checked,
        ok=n_checked - len(broken),
        broken=len(broken),
        problems=dict(problems),
        uris=tuple(uris),
        strays=n_strays,
        files=tuple(files),
        pending=n_pending,
    )
