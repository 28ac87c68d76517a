"""Single cutouts out of shards, by their offset."""

from __future__ import annotations

from pathlib import Path

from psfharvest.filesystem.open_file import OpenFile

SHARDS_OPEN = 16


class ShardReader:
    """Reads from shards, of which it keeps some open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, OpenFile] = {}

    def read(self, path: str, place: int, size_bytes: int) -> bytes:
        """Return the bytes at an offset; fewer than `size_bytes` where the file has been cut; raises OSError."""
        file = self._shards.get(path)
        if file is None:
            if len(self._shards) >= SHARDS_OPEN:
                self._shards.pop(next(iter(self._shards))).close()
            file = self._shards[path] = OpenFile(self._folder / path)
        return file.read(size_bytes, place)

    def close(self) -> None:
        """Close all shards."""
        while self._shards:
            self._shards.popitem()[1].close()
