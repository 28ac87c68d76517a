"""Lock of a harvest folder: one process at a time; the error that a second one gets names the holder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from psfharvest.core.errors import FolderRefused
from psfharvest.filesystem import process
from psfharvest.filesystem.failures import cannot_store, cannot_use
from psfharvest.filesystem.file_lock import keep_from_children, try_lock, unlock
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.lease import BEAT_S, STALE_S, lease
from psfharvest.store.lease import holder as lease_holder

LOCK_NAME = ".psfharvest.lock"
TRIES, LOOK_S = 4, 0.05
"""Tries of the lock before it counts as held, and the pause in between."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[str]:
    """
    Hold the folder for this process; the kernel lets go of it when the process ends, however it ends.

    Where the file system has no locks, a lease takes their place; what is to be said of that is yielded.

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
        raise cannot_use(error, folder, "choose a folder that can be written") from error
    keep_from_children(file)
    with file, ExitStack() as stack:
        note = ""
        try:
            is_held = not _try_again(file.number)
        except OSError as error:
            stack.enter_context(lease(folder))
            is_held, note = False, _lease_note(folder, error)
        if is_held:
            raise FolderRefused(f"{folder} is being harvested by {_holder(file)}; wait for it, or end it")
        try:
            file.truncate(0)
            file.write(json.dumps(process.identity()).encode())
        except OSError as error:
            raise cannot_store(error, str(folder / LOCK_NAME)) from error
        try:
            yield note
        finally:
            with suppress(OSError):
                file.truncate(0)  # so that `holder` can tell without trying the lock
            unlock(file.number)


def _lease_note(folder: Path, error: OSError) -> str:
    return (
        f"the file system of {folder} has no file locks (flock: {error.strerror}): a lease file, renewed every "
        f"{BEAT_S:g} s, keeps two harvests apart there; after one on another machine was killed the folder is free "
        f"{STALE_S:g} s later, and one that was stopped for longer than that must not be continued"
    )


def _try_again(handle: int) -> bool:
    """Try a few times: `holder` on another machine may have held it for an instant."""
    for n in range(TRIES):
        if n:
            time.sleep(LOOK_S)
        if try_lock(handle):
            return True
    return False


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
            shown = {"pid": int(who["pid"]), "host": str(who["host"]), "since": str(who["since"])}
            is_free = process.has_ended(who)
            if is_free is None:
                is_free = _is_free(folder, file)
        except (ValueError, KeyError, TypeError, OSError):
            return None
        return None if is_free else shown


def _is_free(folder: Path, file: OpenFile) -> bool:
    try:
        return try_lock(file.number)
    except OSError:
        return lease_holder(folder) is None


def _holder(file: OpenFile) -> str:
    try:
        who = json.loads(file.read(1000, 0))
        return process.words(who)
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
