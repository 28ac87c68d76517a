"""
Lease of a harvest folder, for file systems without locks: a file whose holder renews it while it is at work.

A lock ends with its process; a lease can only be found abandoned. On one machine that is seen from the process, on
another one from a file that has not been renewed for `STALE_S`.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psfharvest.core.errors import FolderRefused
from psfharvest.filesystem import process
from psfharvest.filesystem.failures import cannot_store

LEASE_NAME = ".psfharvest.lease"
TAKE_OVER_NAME = f"{LEASE_NAME}.takeover"
"""Exists while a process replaces an abandoned lease."""
BEAT_S = 10.0
STALE_S = 120.0
TRIES = 3


@contextmanager
def lease(folder: Path, *, beat_s: float = BEAT_S) -> Iterator[None]:
    """
    Hold the folder for this process by a lease, which is renewed every `beat_s`.

    Raises
    ------
    FolderRefused
        When another process holds it.
    SinkError
        When the folder is not writable.
    """
    own = {**process.identity(), "token": uuid.uuid4().hex}
    path = folder / LEASE_NAME
    try:
        _take(path, own)
    except OSError as error:
        raise cannot_store(error, path) from error
    ended = threading.Event()
    beats = threading.Thread(target=_renew, args=(path, own, beat_s, ended), name="psfharvest-lease", daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join(1.0)
        with suppress(OSError):
            if _read(path) == own:
                path.unlink()


def holder(folder: Path) -> dict[str, Any] | None:
    """Return who holds a lease of the folder that has not been abandoned; None when nobody does."""
    with suppress(OSError):
        found = _read(folder / LEASE_NAME)
        if found and not _is_abandoned(folder / LEASE_NAME, found):
            return found
    return None


def _take(path: Path, own: dict[str, Any]) -> None:
    for _ in range(TRIES):
        if _make(path, own):
            return
        found = _read(path)
        if not _is_abandoned(path, found):
            who = process.words(found) if found else "another process"
            raise FolderRefused(
                f"{path.parent} is being harvested by {who}; wait for it, or end it; if it ended together with its "
                f"machine, its lease ends after {STALE_S:g} s"
            )
        if _take_over(path, own, found):
            return
    raise FolderRefused(f"{path.parent} is being harvested by another process that began just now")


def _make(path: Path, own: dict[str, Any]) -> bool:
    """Make the file with all of its content at once; return False where there is one."""
    partial = _written(path, own)
    try:
        os.link(partial, path)  # fails where the name is taken, on every file system that has it
    except FileExistsError:
        return False
    except OSError:  # no hard links there
        try:
            with path.open("x") as file:
                file.write(json.dumps(own))
        except FileExistsError:
            return False
    finally:
        partial.unlink(missing_ok=True)
    return _read(path) == own


def _take_over(path: Path, own: dict[str, Any], found: dict[str, Any]) -> bool:
    """Put the own lease in the place of an abandoned one; return False where another process is at that, too."""
    guard = path.with_name(TAKE_OVER_NAME)
    try:
        guard.touch(exist_ok=False)
    except FileExistsError:
        if _age_s(guard) > STALE_S:  # its process was killed in between
            guard.unlink(missing_ok=True)
        return False
    try:
        # as long as a file is there nobody makes one, and with the guard nobody else replaces it
        if not path.exists() or _read(path) != found or not _is_abandoned(path, found):
            return False
        partial = _written(path, own)
        partial.replace(path)
        return True
    finally:
        guard.unlink(missing_ok=True)


def _written(path: Path, own: dict[str, Any]) -> Path:
    """Write the own lease under a name of its own."""
    partial = path.with_name(f"{path.name}.{own['token']}")
    partial.write_text(json.dumps(own))
    return partial


def _read(path: Path) -> dict[str, Any]:
    """Return what a lease says; nothing where there is none, or none that is whole."""
    try:
        found = json.loads(path.read_text())
        return found if {"pid", "host", "since", "token"} <= found.keys() else {}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def _is_abandoned(path: Path, found: dict[str, Any]) -> bool:
    has_ended = process.has_ended(found) if found else None
    return _age_s(path) > STALE_S if has_ended is None else has_ended


def _age_s(path: Path) -> float:
    """Return for how long a file has not been renewed, by the clock of its file system."""
    now = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return STALE_S + 1.0
    finally:
        now.unlink(missing_ok=True)


def _renew(path: Path, own: dict[str, Any], beat_s: float, ended: threading.Event) -> None:
    while not ended.wait(beat_s):
        with suppress(OSError):
            if _read(path) == own:
                os.utime(path)
