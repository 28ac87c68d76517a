"""Stored bytes by location, whatever sink put them there: ``path``, ``path.tar:OFFSET``, ``path.parquet:ROW``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.sink_kinds import SINK_KINDS, BodyReader


class Reader:
    """Reads what a harvest folder has stored; made once for many reads, and closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[str, BodyReader] = {}

    def read(self, location: str, size_bytes: int) -> bytes:
        """
        Return the bytes at a location; fewer than `size_bytes` where the file has been cut.

        Raises
        ------
        OSError
            When they are not there, or cannot be read.
        """
        path, _, place = location.rpartition(":")
        ending = path[path.rfind(".") :] if path else ""
        reader = self._readers.get(ending) or self._open(ending)
        if reader is not None:
            return reader.read(path, int(place), size_bytes)
        with OpenFile(f"{self._folder}/{location}") as file:
            return file.read(file.size(), 0)

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, ending: str) -> BodyReader | None:
        for kind in SINK_KINDS.values():
            if ending in kind.endings:
                return self._readers.setdefault(ending, kind.endings[ending](self._folder))
        return None
