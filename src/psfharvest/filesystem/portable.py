"""
System calls that not every platform has, each with what stands in for it.

Windows has no ``pread``, ``pwrite``, ``writev``, ``fdatasync`` and ``posix_fadvise``, translates line ends in files
that were not opened with ``O_BINARY``, and cannot open a folder. On macOS ``fsync`` leaves the bytes in the drive's
own cache: ``F_FULLFSYNC`` empties that, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

O_BINARY: int = getattr(os, "O_BINARY", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
IOV_MAX = 1024
"""Pieces of one `pwritev`, at most."""
_F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_CAN_OPEN_FOLDERS = os.name != "nt"
_NO_FOLDER_SYNC = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.EPERM, errno.EACCES}
)
"""Answers of a file system that syncs no folders, and for a folder that may not be read."""
_position = threading.Lock()
"""Where a file's one position stands in for an offset, nobody else may move it meanwhile."""

CAN_DROP_PAGES = hasattr(os, "posix_fadvise")
"""Whether the system takes the advice that pages of a file are not needed any more."""


def _seek_and_read(fd: int, size: int, offset: int) -> bytes:
    with _position:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def _seek_and_write(fd: int, data: bytes | memoryview, offset: int) -> int:
    with _position:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def _joined_write(fd: int, pieces: Sequence[bytes], offset: int) -> int:
    return pwrite(fd, b"".join(pieces), offset)


pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _seek_and_read)
"""Return at most so many bytes from an offset on."""
pwrite: Callable[[int, bytes | memoryview, int], int] = getattr(os, "pwrite", _seek_and_write)
"""Write at an offset, and return how many bytes were written."""
pwritev: Callable[[int, Sequence[bytes], int], int] = getattr(os, "pwritev", _joined_write)
"""Write pieces one after the other at an offset, and return how many bytes were written."""


def sync(fd: int) -> None:
    """Write a file's bytes and all that is known about it to the disk."""
    if _F_FULLFSYNC is not None:
        with contextlib.suppress(OSError):  # a file system without it takes fsync
            fcntl.fcntl(fd, _F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_data(fd: int) -> None:
    """Write a file's bytes to the disk, and what is needed to read them."""
    if _F_FULLFSYNC is None and hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        sync(fd)


def drop_pages(fd: int, offset: int, size: int) -> None:
    """Tell the system that it need not go on holding a part of a file in memory; that is advice only."""
    if CAN_DROP_PAGES:
        with contextlib.suppress(OSError):  # not every file system takes it
            os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: str | Path) -> None:
    """
    Write the names in a folder to the disk, on systems and file systems where a program can ask for that.

    Raises
    ------
    OSError
        When the disk failed.
    """
    if not _CAN_OPEN_FOLDERS:
        return
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
