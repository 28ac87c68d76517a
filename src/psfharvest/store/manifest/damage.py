"""
Damaged manifests: recognise one, and set what is left of it aside; nothing is deleted.

A journal (``-wal``) without its manifest is set aside, too: SQLite would play it into the next manifest of that
name, and mix two harvests.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from psfharvest.core.errors import FolderRefused, ManifestError
from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.manifest import place
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import SIDES

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def refuse_sound(folder: Path) -> None:
    """
    Make sure that a folder has no manifest, or a damaged one; a whole manifest is read for that.

    Raises
    ------
    FolderRefused
        When it has a sound one.
    ManifestError
        When the manifest cannot be judged: foreign, newer, not readable.
    """
    path = place.find(folder).path
    if not os.path.lexists(path) or is_damaged(folder):
        return
    raise FolderRefused(
        f"{path} is sound: there is nothing to adopt; 'psfharvest verify {folder} --repair' holds the cutouts "
        "against it"
    )


def is_damaged(folder: Path) -> bool:
    """
    Return True when SQLite finds the folder's manifest damaged, or it is empty.

    Raises
    ------
    ManifestError
        When it cannot be judged.
    """
    path = place.find(folder).path
    try:
        if path.stat().st_size == 0:
            return True
        with Manifest.read(folder) as manifest, manifest.connection() as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except ManifestError as error:
        if not str(getattr(error.__cause__, "sqlite_errorname", "")).startswith(_DAMAGE):
            raise
        return True
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error


def set_aside(folder: Path) -> str:
    """
    Give a manifest's files other names, under which they still belong together; return the name, or nothing.

    Raises
    ------
    SinkError
        When they cannot be renamed.
    """
    at = place.find(folder)
    there = [side for side in SIDES if os.path.lexists(at.side(side))]
    names = (f"{at.path.name}-damaged-{n}" for n in itertools.count(1))
    name = next(n for n in names if not any(os.path.lexists(at.path.with_name(f"{n}{side}")) for side in SIDES))
    try:
        if _holds_nothing(at, there):
            for side in there:
                at.side(side).unlink()
            return ""
        for side in there:
            at.side(side).rename(at.path.with_name(f"{name}{side}"))
    except OSError as error:
        raise cannot_store(error, name) from error
    return name


def _holds_nothing(at: place.Place, there: Sequence[str]) -> bool:
    """Return True for what a reader leaves behind: an index, and an empty journal."""
    return not any(side != "-shm" and at.side(side).stat().st_size for side in there)


def refuse_claims_beyond(manifest: Manifest, shard: int, end: int) -> None:
    """
    Make sure that no claim lies where a sink would cut: a mark that was damaged must not cost a shard.

    Raises
    ------
    ManifestError
        When one does.
    """
    with manifest.connection() as db:
        beyond = db.execute(
            "SELECT 1 FROM outcome WHERE state = 'done' AND (shard > ? OR (shard = ? AND place >= ?)) LIMIT 1",
            (shard, shard, end),
        ).fetchone()
    if beyond is not None:
        raise manifest.damaged(f"shard {shard} is said to end at {end}, and cutouts are claimed beyond")
