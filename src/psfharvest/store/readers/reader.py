"""Stored bytes by location, whatever sink put them there: ``path``, ``path.tar:OFFSET``, ``path.parquet:ROW``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from psfharvest.filesystem.open_file import OpenFile

if TYPE_CHECKING:
    from psfharvest.store.readers.parquet_reader import ParquetReader

SHARDS_OPEN = 16


class Reader:
    """
    Reads what a harvest folder has stored; made once for many reads, and closed at the end.

    Parameters
    ----------
    folder
        The harvest folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, OpenFile] = {}
        self._parquet: ParquetReader | None = None

    def read(self, location: str, size_bytes: int) -> bytes:
        """
        Return the bytes at a location; fewer than `size_bytes` where the file has been cut.

        Raises
        ------
        OSError
            When they are not there, or cannot be read.
        """
        path, _, place = location.rpartition(":")
        if path.endswith(".tar"):
            return self._shard(path).read(size_bytes, int(place))
        if path.endswith(".parquet"):
            if self._parquet is None:
                from psfharvest.store.readers.parquet_reader import ParquetReader  # noqa: PLC0415 - needs an extra

                self._parquet = ParquetReader(self._folder)
            return self._parquet.read(path, int(place))
        return (self._folder / location).read_bytes()

    def close(self) -> None:
        """Let go of all files."""
        while self._shards:
            self._shards.popitem()[1].close()
        self._parquet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _shard(self, path: str) -> OpenFile:
        file = self._shards.get(path)
        if file is None:
            if len(self._shards) >= SHARDS_OPEN:
                self._shards.pop(next(iter(self._shards))).close()
            file = self._shards[path] = OpenFile(self._folder / path)
        return file
