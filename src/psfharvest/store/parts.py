"""
A harvest in parts: the plan, where each part is harvested, and the sum of their accounts until they are merged.

``plan.json`` is written once, whole, before the first part begins; a later run of the folder reads it and never
plans anew. Each part is a harvest folder of its own below ``parts/``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from psfharvest.core.catalog.plan import Part
from psfharvest.core.errors import FolderRefused, ManifestError, PsfharvestError
from psfharvest.core.model import Report
from psfharvest.filesystem import atomic
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import PARTS_NAME, PLAN_NAME
from psfharvest.store.read.account import account, account_of

VERSION = 1
LIST_SUFFIX = ".txt"
_SUMMED = ("total", "done", "missing", "failed", "pending", "bytes", "elapsed_s", "requests", "lacking")


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """
    A query or a list that is harvested in parts.

    Attributes
    ----------
    kind, identity
        As in a manifest: ``query`` or ``file``, and what is equal for the same.
    spec
        What it takes to harvest it, as plain values.
    """

    kind: str
    identity: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: which of the plan's targets it belongs to, its range (of a list: its number, twice), its size."""

    target: int
    low: int
    high: int
    n: int

    @property
    def part(self) -> Part:
        """The part of a query."""
        return Part(self.low, self.high, self.n)


@dataclass(frozen=True, slots=True)
class Planning:
    """What it took to make a plan: a run of the harvest that is none of its parts'."""

    started_at: str
    elapsed_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder is asked for, how it stores, and in which parts it is harvested; None: not recorded."""

    targets: Sequence[PlannedTarget]
    sink: str
    parts: Sequence[PlannedPart]
    shard_bytes: int | None = None
    planning: Planning | None = None

    @property
    def is_disjoint(self) -> bool:
        """Whether no dataURI can be in two parts."""
        detectors = [target.spec.get("query", {}).get("detector") for target in self.targets]
        return len(set(detectors)) == len(detectors)

    @property
    def n_cutouts(self) -> int:
        """How many there are in all parts; of a list its lines."""
        n_each = [len(target.spec.get("suffixes", [""])) for target in self.targets]
        return sum(part.n * n_each[part.target] for part in self.parts)

    def write(self, folder: Path) -> None:
        """
        Write it, whole or not at all.

        Raises
        ------
        SinkError
            When that cannot be done.
        """
        with atomic.written_whole(folder / PLAN_NAME) as partial:
            partial.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n")


def read_plan(folder: Path) -> Plan | None:
    """
    Return a folder's plan, None where it has none.

    Raises
    ------
    ManifestError
        When it cannot be read.
    """
    path = folder / PLAN_NAME
    try:
        said = json.loads(path.read_text())
        if said["version"] != VERSION:
            raise ManifestError(f"{path} is of version {said['version']}; a newer psfharvest reads it")
        return Plan(
            [PlannedTarget(**target) for target in said["targets"]],
            said["sink"],
            [PlannedPart(**part) for part in said["parts"]],
            said["shard_bytes"],
            Planning(**said["planning"]) if said.get("planning") else None,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; make it readable, and run the same again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{path} cannot be read ({error!r}); put back a copy of it, or merge what was harvested into a new "
            f"folder: psfharvest merge --partial {folder / PARTS_NAME}/[0-9]* INTO"
        ) from error


def folder_of(folder: Path, n: int) -> Path:
    """Return where a part is harvested, by its number."""
    return folder / PARTS_NAME / f"{n:06d}"


def list_of(folder: Path, n: int) -> Path:
    """Return where the list of a part of a list is kept, beside its folder."""
    return folder_of(folder, n).with_suffix(LIST_SUFFIX)


def begun(folder: Path, plan: Plan) -> list[int]:
    """Return the numbers of the parts that have begun, ascending."""
    base = folder / PARTS_NAME
    names = {path.name for path in base.iterdir()} if base.is_dir() else set()
    return [
        n for n in range(len(plan.parts)) if folder_of(folder, n).name in names and is_harvest(folder_of(folder, n))
    ]


def is_finished(folder: Path) -> bool:
    """
    Return whether nothing is left to do in a part's folder: failed and missing cutouts are for later.

    One that was just made, and does not know yet what it is asked for, is not finished.
    """
    if not is_harvest(folder):
        return False
    with Manifest.read(folder) as manifest:
        is_begun = bool(targets.read_targets(manifest))
        report = account_of(manifest)
    return is_begun and not report.pending and report.is_fully_asked


def n_final(folder: Path) -> int:
    """Return how many cutouts of a part's folder have a final state; 0 where it has not begun, or is merged."""
    try:
        report = account(folder)
    except PsfharvestError:
        return 0
    return report.done + report.missing + report.failed


def summed(folder: Path) -> Report:
    """
    Return the sum of the accounts of all parts that have begun, and of what the plan took.

    Raises
    ------
    FolderRefused
        When the folder holds no harvest in parts.
    ManifestError
        When plan or manifests cannot be read.
    """
    plan = read_plan(folder)
    if plan is None:
        raise FolderRefused(f"{folder} is no harvest in parts: it has no {PLAN_NAME}")
    numbers = begun(folder, plan)
    took = plan.planning or Planning("", 0.0, 0)
    is_begun = len(numbers) == len(plan.parts)
    report = Report(0, 0, 0, 0, 0, 0, took.elapsed_s, took.requests, is_fully_asked=is_begun)
    for n in numbers:
        of_part = account(folder_of(folder, n))
        report = replace(
            report,
            **{name: getattr(report, name) + getattr(of_part, name) for name in _SUMMED},
            reasons=_plus(report.reasons, of_part.reasons),
            retried=_plus(report.retried, of_part.retried),
            quirks=_plus(report.quirks, of_part.quirks),
            is_fully_asked=report.is_fully_asked
            and of_part.is_fully_asked
            and bool(of_part.total or not plan.parts[n].n),
        )
    return report


def _plus(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))
