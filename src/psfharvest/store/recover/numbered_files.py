"""Numbered files with many cutouts each, the last of which a sink appends to: what recovery must know of them."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from psfharvest.store.manifest.manifest import Claim, Manifest
from psfharvest.store.manifest.merging import SourceShard

EVERYTHING = 2**63
"""Beyond any offset or row."""


class Lost(NamedTuple):
    """Claims whose bytes are gone: numbers of cutouts, and the file, if it must be mended."""

    numbers: list[int]
    path: str = ""


class Flaws(NamedTuple):
    """What cannot be read in a file; `problem` is empty where all of it can be."""

    problem: str = ""
    stretches: tuple[tuple[int, int], ...] = ()
    """Of offsets in a shard, or of rows in a Parquet file."""
    end: int = EVERYTHING
    """From here on nothing can be read."""

    def hit(self, place: int) -> bool:
        """Return whether a cutout that is claimed there cannot be read."""
        return bool(self.problem) and (place >= self.end or any(a <= place < b for a, b in self.stretches))


class Mended(NamedTuple):
    """What a file has lost: cutouts by number; `end` is where the sink goes on in it, where that has changed."""

    lost: set[int]
    end: int | None = None


class NumberedFiles(Protocol):
    """
    The files of one sink, whose claims give a number and a place, and whose end the manifest's mark claims.

    Paths that are texts are relative to the harvest folder.
    """

    def last(self, folder: Path, number: int) -> Path | None:
        """Return the file with a number that is appended to, or None when it is closed."""
        ...

    def lost(self, folder: Path, manifest: Manifest) -> Iterator[Lost]:
        """Yield the claims whose bytes are gone, by existence and length of all files but the last."""
        ...

    def paths(self, folder: Path, shard: int, end: int) -> Iterator[str]:
        """Yield the files up to the mark: the last number, and how much of it is claimed."""
        ...

    def flaws(self, folder: Path, path: str, shard: int, end: int) -> Flaws:
        """Return what the readers of such files cannot read in one, up to the mark."""
        ...

    def mend(
        self, folder: Path, number: int, claims: Sequence[Claim], dead: Collection[int], end: int | None
    ) -> Iterator[Mended]:
        """Make the files of a number readable without dead cutouts; `end` is what is claimed of the last file."""
        ...

    def whole(self, source: Path, shard: SourceShard, *, is_last: bool) -> list[Path]:
        """Return the files of a number that a merge may link, relative; none where they are appended to or cut."""
        ...

    def numbered(self, folder: Path) -> Iterator[Path]:
        """Yield every such file; its stem is its number."""
        ...


def length_of(path: Path | str) -> int | None:
    """Return a file's length in bytes, or None where there is none: a folder, pipe or link to nothing is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of a Path's, once a cutout
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def is_in_the_way(path: Path) -> bool:
    """Return whether something that is no file stands where a file of a sink should."""
    return os.path.lexists(path) and length_of(path) is None


def move_aside(path: Path) -> None:
    """Give what is in the way of a file of a sink another name: it is somebody else's, and stays."""
    if is_in_the_way(path):
        names = (path.with_name(f"{path.name}-no-file-{n}") for n in itertools.count(1))
        path.rename(next(name for name in names if not os.path.lexists(name)))
