"""What the operating system refused, in words that say what to do next."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psfharvest.core.errors import SinkError

_FEW_INODES = 16
"""What was just removed, half made, may have left so many."""
_ROOM_BYTES = 2**20
_AGAIN = "then run the same again"
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def cannot_store(error: OSError, what: str | Path) -> SinkError:
    """Return the error of a write that the operating system refused."""
    return SinkError(f"cannot store {what}: {describe(error, what)}")


def cannot_use(error: OSError, folder: Path, remedy: str) -> SinkError:
    """Return the error of a folder that the system refuses: what it lacks is named, for all else the remedy is."""
    is_shortage = error.errno in (*_TOO_MANY_OPEN, *_FULL)
    words = describe(error, folder) if is_shortage else f"{error.strerror}; {remedy}"
    return SinkError(f"{folder}: {words}")


@contextmanager
def refused_as_sink_error() -> Iterator[None]:
    """Raise what the operating system refuses as a `SinkError`: errors of ours pass, and so do all others."""
    try:
        yield
    except OSError as error:
        what = str(error.filename2 or error.filename or "the harvest's files")
        raise SinkError(f"{what}: {describe(error, what)}") from error


def describe(error: OSError, what: str | Path) -> str:
    """Return what was wrong and what to do, for an error of the operating system about a path."""
    cause = error.strerror or str(error)
    if error.errno in _TOO_MANY_OPEN:
        scope = "this process" if error.errno == errno.EMFILE else "the system"
        return (
            f"{scope} has too many files open; raise the limit (ulimit -n 1024) or lower the number of "
            f"connections: Limits(max_connections=…), {_AGAIN}"
        )
    if error.errno in _FULL and lacks_inodes(error.filename2 or error.filename or what):
        return (
            f"{cause}: bytes are free, but no inodes, and every file takes one; "
            f'harvest into a new folder with sink="shards", or remove files, {_AGAIN}'
        )
    return f"{cause}; mend that, {_AGAIN}"


def lacks_inodes(what: str | bytes | Path) -> bool:
    """Return whether the file system of a path has free bytes, and no file can be made in it."""
    if not hasattr(os, "statvfs"):  # Windows
        return False
    path = Path(os.fsdecode(what)).absolute()
    for place in (path, *path.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        has_room = found.f_bavail * found.f_frsize > _ROOM_BYTES
        return found.f_files > 0 and found.f_favail <= _FEW_INODES and has_room
    return False
