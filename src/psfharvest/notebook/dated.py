"""
Folders named by the minute, as the archive names them: ``MAST_2026-11-22T1015``; no two jobs share one.

A name that is taken here, or was given away by this process, gives way to the next free minute's. A folder knows
the list that it was made for, so that the same list finds the folder that it left unfinished.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from psfharvest.core.errors import FolderRefused, ManifestError, SinkError
from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.folder import is_harvest
from psfharvest.store.lock import LOCK_NAME, folder_lock
from psfharvest.store.read.account import account

LIST_NAME = ".dataURIs"
"""The list that a folder was made for; hidden names are no cutout's."""
HELD_S = 3.0
"""How long a folder may be held by what was interrupted just now."""

_given: set[Path] = set()
_lock = threading.Lock()


def new_name(here: Path) -> str:
    """Return a name that no folder in `here` has, and that was not given before."""
    moment = datetime.now()  # the user's own clock, as the notebook's module read it
    with _lock:
        while True:
            path = here / f"MAST_{moment:%Y-%m-%dT%H%M}"
            if path not in _given and not os.path.lexists(path):
                _given.add(path)
                return path.name
            moment += timedelta(minutes=1)


def folder_of(here: Path, uris: Sequence[str]) -> Path:
    """
    Return the folder for a list: the one that it left unfinished, or a new one.

    Raises
    ------
    SinkError
        When there is none and none can be made.
    """
    content = "".join(f"{uri}\n" for uri in uris).encode()
    for folder in sorted(here.glob("MAST_*"), reverse=True):
        if _holds(folder, content) and not _is_finished(folder) and _is_free(folder):
            return folder
    return _new_folder(here, content)


def _new_folder(here: Path, content: bytes) -> Path:
    try:
        while True:
            folder = here / new_name(here)
            with suppress(FileExistsError):  # another process was faster
                folder.mkdir()
                break
        partial = folder / f"{LIST_NAME}.partial"
        partial.write_bytes(content)
        partial.replace(folder / LIST_NAME)
    except OSError as error:
        raise cannot_store(error, str(folder)) from error
    return folder


def _holds(folder: Path, content: bytes) -> bool:
    path = folder / LIST_NAME
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _is_finished(folder: Path) -> bool:
    if not is_harvest(folder):
        return False
    try:
        report = account(folder)
    except (FolderRefused, ManifestError):
        return True  # it cannot be gone on with
    return bool(report.total and report.is_fully_asked) and not (report.pending or report.failed)


def _is_free(folder: Path) -> bool:
    deadline = time.monotonic() + HELD_S
    while (folder / LOCK_NAME).exists():
        try:
            with folder_lock(folder):
                return True
        except SinkError:
            return False
        except FolderRefused:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True
