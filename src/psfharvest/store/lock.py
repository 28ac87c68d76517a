"""One process harvests a folder at a time; a second is told who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psfharvest.core.errors import FolderRefused, SinkError

LOCK_NAME = ".psfharvest.lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """
    Hold the folder for this process; the kernel lets go of it when the process ends, however it ends.

    Raises
    ------
    FolderRefused
        When another process holds it; the message says which.
    SinkError
        When the folder is not writable.
    """
    try:
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise SinkError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    try:
        if not _try_lock(handle):
            raise FolderRefused(f"{folder} is being harvested by {_holder(handle)}; wait for it, or end it")
        os.ftruncate(handle, 0)
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        os.write(handle, json.dumps(who).encode())
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        who = json.loads(os.pread(handle, 1000, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"


if os.name == "nt":

    def _try_lock(handle: int) -> bool:
        import msvcrt  # noqa: PLC0415 - only there

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

else:

    def _try_lock(handle: int) -> bool:
        import fcntl  # noqa: PLC0415 - only there

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
