"""Stored bytes by location, whatever sink put them there: ``path``, ``path.tar:OFFSET``, ``path.parquet:ROW``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
        self._shards: dict[str, int] = {}
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
            return os.pread(self._shard(path), size_bytes, int(place))
        if path.endswith(".parquet"):
            if self._parquet is None:
                from psfharvest.store.readers.parquet_reader import ParquetReader  # noqa: PLC0415 - needs an extra

                self._parquet = ParquetReader(self._folder)
            return self._parquet.read(path, int(place))
        return (self._folder / location).read_bytes()

    def close(self) -> None:
        """Let go of all files."""
        while self._shards:
            os.close(self._shards.popitem()[1])
        self._parquet = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _shard(self, path: str) -> int:
        handle = self._shards.get(path)
        if handle is None:
            if len(self._shards) >= SHARDS_OPEN:
                os.close(self._shards.pop(next(iter(self._shards))))
            handle = self._shards[path] = os.open(self._folder / path, os.O_RDONLY)
        return handle
