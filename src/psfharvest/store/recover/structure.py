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

from psfharvest.store.recover.numbered_files import Flaws
from psfharvest.store.sink_kinds import numbered_files


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
        self._numbered = numbered_files(sink)
        self._shard = shard
        self._end = end
        self._found: dict[str, Flaws] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def flaws(self, path: str) -> Flaws:
        """Return what cannot be read in a file, given its path relative to the folder; from any thread."""
        if self._numbered is None:
            return Flaws()
        with self._locks[path]:
            if path not in self._found:
                self._found[path] = self._numbered.flaws(self._folder, path, self._shard, self._end)
            return self._found[path]

    def flawed(self) -> Iterator[tuple[str, str]]:
        """Yield the path of each file that cannot be read throughout, and its problem."""
        if self._numbered is None:
            return
        for path in self._numbered.paths(self._folder, self._shard, self._end):
            problem = self.flaws(path).problem
            if problem:
                yield path, problem
