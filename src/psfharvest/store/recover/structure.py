"""
Whether shards and Parquet files can be read by their own readers, whatever the manifest claims of them.

A tar whose header is damaged hides all members behind that from ``tar``; a Parquet file with one damaged column is
refused as a whole. Each file is looked at once, when it is first asked for or at the end.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from psfharvest.store.readers import shard_scan
from psfharvest.store.recover.candidates import numbers_in
from psfharvest.store.sinks import arrow, parquet_journal, shards


class Flaws(NamedTuple):
    """What cannot be read in a file; `problem` is empty where all of it can be."""

    problem: str = ""
    stretches: tuple[tuple[int, int], ...] = ()
    """Of offsets in a shard, or of rows in a Parquet file."""
    end: int = 2**63
    """From here on nothing can be read."""

    def hit(self, place: int) -> bool:
        """Return whether a cutout that is claimed there cannot be read."""
        return bool(self.problem) and (place >= self.end or any(a <= place < b for a, b in self.stretches))


class Structure:
    """
    The files of a folder.

    Parameters
    ----------
    folder
        The harvest folder.
    sink
        Its sink.
    shard, end
        Where its last claim ends: a harvest may be writing behind that.
    """

    def __init__(self, folder: Path, sink: str, shard: int, end: int) -> None:
        self._folder = folder
        self._sink = sink
        self._shard = shard
        self._end = end
        self._found: dict[str, Flaws] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def flaws(self, path: str) -> Flaws:
        """Return what cannot be read in a file, given its path relative to the folder; from any thread."""
        if self._sink not in (shards.FOLDER, parquet_journal.FOLDER):
            return Flaws()
        with self._locks[path]:
            if path not in self._found:
                self._found[path] = self._look(path)
            return self._found[path]

    def flawed(self) -> Iterator[tuple[str, str]]:
        """Yield the path of each file that cannot be read throughout, and its problem."""
        for path in self._paths():
            problem = self.flaws(path).problem
            if problem:
                yield path, problem

    def _paths(self) -> Iterator[str]:
        if self._sink == shards.FOLDER:
            numbers = {n for n in numbers_in(self._folder / shards.FOLDER) if n <= self._shard}
            for number in sorted(numbers | ({self._shard} if self._end else set())):
                yield f"{shards.FOLDER}/{number:06d}.tar"
        if self._sink == parquet_journal.FOLDER:
            base = self._folder / parquet_journal.FOLDER
            for path in sorted(base.glob("*/*.parquet")):
                yield path.relative_to(self._folder).as_posix()
            yield f"{parquet_journal.FOLDER}/{parquet_journal.JOURNAL}/{self._shard:06d}.tar"

    def _look(self, path: str) -> Flaws:
        try:
            if path.endswith(".parquet"):
                return parquet_flaws(self._folder / path)
            is_last = int(path.rpartition("/")[2].partition(".")[0]) == self._shard
            return shard_flaws(self._folder / path, self._end if is_last else None)
        except FileNotFoundError:
            is_lost = path == f"{shards.FOLDER}/{self._shard:06d}.tar" and self._end > 0
            return Flaws("missing", end=0) if is_lost else Flaws()


def shard_flaws(path: Path, end: int | None) -> Flaws:
    """
    Return what a reader of tars cannot walk over; `end` is how much was claimed, None: all of it.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    """
    damage = shard_scan.find_damage(path, end)
    if not damage.is_any:
        return Flaws()
    return Flaws("unreadable", tuple(damage.gaps), damage.end if damage.is_cut else 2**63)


def parquet_flaws(path: Path) -> Flaws:
    """
    Return which row groups cannot be read, all of their columns.

    Raises
    ------
    OSError
        When there is no such file, or the system cannot read it.
    """
    bad: list[tuple[int, int]] = []
    try:
        with arrow.open_parquet(path) as file:
            first = 0
            for number in range(file.num_row_groups):
                end = first + file.metadata.row_group(number).num_rows
                try:
                    arrow.read_group(file, number)
                except arrow.ParquetDamaged:
                    bad.append((first, end))
                first = end
    except arrow.ParquetDamaged:
        return Flaws("unreadable", end=0)
    return Flaws("unreadable", tuple(bad)) if bad else Flaws()
