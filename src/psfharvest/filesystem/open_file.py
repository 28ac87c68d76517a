"""An open file with one owner: every byte is written, it is closed once, and it cannot be used after that."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from psfharvest.filesystem import portable

_CLOSED = -1


class OpenFile:
    """
    An open file; use it in a ``with`` statement, or close it.

    After `close` every use raises `ValueError`, so that a number which the system has given to another file since
    is never written, read or closed by mistake.

    Parameters
    ----------
    path
        Of the file.
    flags
        As `os.open` takes them. A pipe in the place of a file to be read is opened at once, and cannot be read.
    """

    __slots__ = ("__weakref__", "_number", "path")

    def __init__(self, path: str | Path, flags: int = os.O_RDONLY) -> None:
        self._number = _CLOSED
        self.path = path
        at_once = portable.O_NONBLOCK if flags == os.O_RDONLY else 0
        self._number = os.open(path, flags | portable.O_BINARY | at_once, 0o666)

    @classmethod
    def duplicate(cls, number: int, name: str) -> Self:
        """Return a file of its own for a descriptor that belongs to somebody else."""
        made = cls.__new__(cls)
        made._number = os.dup(number)
        made.path = name
        return made

    @property
    def number(self) -> int:
        """
        The file's descriptor.

        Raises
        ------
        ValueError
            When the file is closed.
        """
        if self._number == _CLOSED:
            raise ValueError(f"{self.path}: the file is closed")
        return self._number

    @property
    def is_open(self) -> bool:
        """False once it was closed."""
        return self._number != _CLOSED

    def size(self) -> int:
        """Return the file's length, in bytes."""
        return os.fstat(self.number).st_size

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes from an offset on; fewer only where the file ends."""
        data = portable.pread(self.number, size, offset)
        if not data or len(data) == size:
            return data
        pieces, n_read = [data], len(data)
        while n_read < size and (data := portable.pread(self.number, size - n_read, offset + n_read)):
            pieces.append(data)
            n_read += len(data)
        return b"".join(pieces)

    def read_next(self, size: int) -> bytes:
        """Return what comes next of a pipe, terminal or file, up to `size` bytes; nothing at its end."""
        return os.read(self.number, size)

    def write(self, data: bytes) -> None:
        """Write all bytes at the file's position."""
        written = os.write(self.number, data)
        while written < len(data):
            written += os.write(self.number, memoryview(data)[written:])

    def write_at(self, offset: int, pieces: Iterable[bytes]) -> int:
        """Write all pieces one after the other at an offset, and return where they end."""
        every = list(pieces)
        for start in range(0, len(every), portable.IOV_MAX):
            some = every[start : start + portable.IOV_MAX]
            end = offset + sum(map(len, some))
            offset += portable.pwritev(self.number, some, offset)
            if offset < end:
                rest = memoryview(b"".join(some))[offset - end :]
                while rest:
                    written = portable.pwrite(self.number, rest, offset)
                    rest, offset = rest[written:], offset + written
        return offset

    def truncate(self, size: int) -> None:
        """Make the file exactly that long."""
        os.ftruncate(self.number, size)

    def sync(self) -> None:
        """Write the file to the disk, with all that is known about it."""
        portable.sync(self.number)

    def sync_data(self) -> None:
        """Write the file's bytes to the disk."""
        portable.sync_data(self.number)

    def drop_pages(self, first: int, end: int) -> None:
        """Tell the system that it need not go on holding a part of the file in memory."""
        portable.drop_pages(self.number, first, end - first)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        number, self._number = self._number, _CLOSED
        if number != _CLOSED:
            os.close(number)  # where that fails, the number is free all the same

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
