"""Lock of a harvest folder: one process at a time; the error that a second one gets names the holder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psfharvest.core.errors import FolderRefused, SinkError
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.file_lock import keep_from_children, try_lock, unlock
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
    keep_from_children(file)
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
            unlock(file.number)


def _try_again(handle: int) -> bool:
    """Try a few times: `holder` on another machine may have held it for an instant."""
    for n in range(TRIES):
        if n:
            time.sleep(LOOK_S)
        if try_lock(handle):
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
                is_free = try_lock(file.number)
        except (ValueError, KeyError, TypeError, OSError):
            return None
        return None if is_free else {"pid": pid, "host": host, "since": since}


def _holder(file: OpenFile) -> str:
    try:
        who = json.loads(file.read(1000, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
