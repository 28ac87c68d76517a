"""Lock of a harvest folder: one process at a time; the error that a second one gets names the holder."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psfharvest.core.errors import FolderRefused, SinkError
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.open_file import OpenFile

LOCK_NAME = ".psfharvest.lock"
TRIES, LOOK_S = 4, 0.05
"""How often the lock is tried before somebody is told that it is held, and the pause in between."""


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
        file = OpenFile(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SinkError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    _no_heir(file)
    with file:
        try:
            is_held = not _try_again(file.number)
        except OSError as error:
            raise SinkError(
                f"the file system of {folder} has no file locks (flock: {error.strerror}), so that nothing keeps "
                "two harvests apart there; choose a folder on another file system"
            ) from error
        if is_held:
            raise FolderRefused(f"{folder} is being harvested by {_holder(file)}; wait for it, or end it")
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "started": _start_of(os.getpid()),
        }
        try:
            file.truncate(0)
            file.write(json.dumps(who).encode())
        except OSError as error:
            raise cannot_store(error, str(folder / LOCK_NAME)) from error
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)  # so that `holder` can tell without trying the lock
            _unlock(file.number)


def _try_again(handle: int) -> bool:
    """Try a few times: `holder` on another machine may have held it for an instant."""
    for n in range(TRIES):
        if n:
            time.sleep(LOOK_S)
        if _try_lock(handle):
            return True
    return False


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _start_of(pid: int) -> str:
    """Return when a process began, as the system counts it; nothing where it does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    return fields[19] if len(fields) > 19 else ""


def holder(folder: Path) -> dict[str, Any] | None:
    """
    Return pid, host and start of the process that holds the folder; None when none is known to.

    The lock itself is left alone, so that a harvest that begins just now finds it free: the holder has written who
    it is, and lives. Only of a process on another machine that cannot be known.
    """
    try:
        file = OpenFile(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    with file:
        try:
            who = json.loads(file.read(1000, 0))
            pid, host, since = int(who["pid"]), str(who["host"]), str(who["since"])
            if host == socket.gethostname():
                started = str(who.get("started", ""))
                is_free = not _is_alive(pid) or started != _start_of(pid)
            else:
                is_free = _try_lock(file.number)
        except (ValueError, KeyError, TypeError, OSError):
            return None
        return None if is_free else {"pid": pid, "host": host, "since": since}


_held: weakref.WeakSet[OpenFile] = weakref.WeakSet()


def _no_heir(file: OpenFile) -> None:
    """Have a forked child close its copy: the lock belongs to all copies, and must end with this process."""
    _held.add(file)


def _close_all() -> None:
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _holder(file: OpenFile) -> str:
    try:
        who = json.loads(file.read(1000, 0))
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

    def _unlock(handle: int) -> None:
        """Leave it to the closing of the file."""

else:

    def _try_lock(handle: int) -> bool:
        import fcntl  # noqa: PLC0415 - only there

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _unlock(handle: int) -> None:
        """Let go of the lock, which a copy of the descriptor in another process would hold on to."""
        import fcntl  # noqa: PLC0415 - only there

        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
