"""
Where a folder's manifest stands: in the folder, or where a small file in the folder says.

A folder on a file system that cannot lock may have its manifest on a local disk. Both then carry one id, so that no
other folder's manifest is taken for it.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from pathlib import Path
from typing import NamedTuple

from psfharvest.core.errors import BadInput, FolderRefused, ManifestError

MANIFEST_NAME = "manifest.sqlite"
POINTER_NAME = "manifest.place.json"
PLAN_NAME = "plan.json"
PARTS_NAME = "parts"
"""Of a harvest in parts: its plan, and the folder of its parts."""
MOVED_NAME = "moved.txt"
"""In the folder of the parts: which of their files a merge has moved, so that none may go on by itself."""
SIDES = ("", "-wal", "-shm", "-journal")
"""The manifest's own file, and those that SQLite keeps beside it."""


class Place(NamedTuple):
    """A harvest folder and its manifest's file; `id` is empty where that stands in the folder."""

    folder: Path
    path: Path
    id: str = ""

    def side(self, ending: str) -> Path:
        """Return one of the manifest's files, by its ending in `SIDES`."""
        return self.path.with_name(f"{self.path.name}{ending}")

    def is_somewhere(self) -> bool:
        """Return whether the manifest exists."""
        return self.path.is_file()


def find(folder: Path) -> Place:
    """
    Return where a folder's manifest stands, or would stand.

    Raises
    ------
    ManifestError
        When the folder's note of its place cannot be read.
    """
    pointer = folder / POINTER_NAME
    try:
        said = json.loads(pointer.read_text())
        return Place(folder, Path(said["manifest"]), str(said["id"]))
    except (FileNotFoundError, NotADirectoryError):
        return Place(folder, folder / MANIFEST_NAME)
    except OSError as error:
        raise ManifestError(f"{pointer}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{pointer} does not say where the manifest is ({error!r}); write it anew as "
            '{"manifest": "/its/path.sqlite", "id": "…"}, or remove it, and '
            f"'psfharvest adopt {folder}' makes a manifest from what is stored"
        ) from error


def existing(folder: Path) -> Place:
    """
    Return where a folder's manifest stands.

    Raises
    ------
    FolderRefused
        When there is none.
    """
    place = find(folder)
    if place.is_somewhere():
        return place
    refuse_parts(folder)
    if place.id:
        raise FolderRefused(
            f"the manifest of {folder} is kept at {place.path}{_on_host(folder)}, which is not there: go on where "
            f"it is; or copy it to {folder / MANIFEST_NAME} and remove {folder / POINTER_NAME}"
        )
    if not folder.exists() and os.path.lexists(folder):
        raise FolderRefused(f"{folder} is a link to {folder.readlink()}, which does not exist")
    raise FolderRefused(f"{folder} is no harvest folder: it has no {MANIFEST_NAME}; give the folder of a harvest")


def is_in_parts(folder: Path) -> bool:
    """Return whether a folder holds a harvest in parts that are not merged yet."""
    is_planned = (folder / PLAN_NAME).is_file() and (folder / PARTS_NAME).is_dir()
    return is_planned and not find(folder).is_somewhere()


def refuse_parts(folder: Path) -> None:
    """
    Make sure that a folder holds no harvest in parts that are not merged.

    Raises
    ------
    FolderRefused
        When it does.
    """
    if is_in_parts(folder):
        raise FolderRefused(
            f"{folder} holds a harvest in parts that are not merged; once they are finished, "
            f"run: psfharvest merge {folder}"
        )


def refuse_moved(folder: Path) -> None:
    """
    Make sure that a folder is no part whose files a merge has begun to move.

    Raises
    ------
    FolderRefused
        When it is.
    """
    home = folder.absolute().parent
    if home.name == PARTS_NAME and (home / MOVED_NAME).exists():
        raise FolderRefused(f"{folder} is being merged; run: psfharvest merge {home.parent}")


def choose(folder: Path, wanted: Path | None) -> Place:
    """
    Return the place for a new folder's manifest.

    Raises
    ------
    BadInput
        When nothing can be made at the wanted place.
    """
    if wanted is None:
        return Place(folder, folder / MANIFEST_NAME)
    path = wanted.absolute()
    if os.path.lexists(path):
        raise BadInput(f"manifest {wanted} exists already: give a new file's name for a new harvest")
    if not path.parent.is_dir():
        raise BadInput(f"manifest {wanted}: the folder {path.parent} does not exist; make it first")
    if path.parent == folder.absolute() and path.name == MANIFEST_NAME:
        return Place(folder, folder / MANIFEST_NAME)
    return Place(folder, path, uuid.uuid4().hex)


def record(place: Place) -> None:
    """Note in the folder where its manifest stands, unless that is the folder itself."""
    if place.id:
        said = {"manifest": str(place.path), "id": place.id, "host": socket.gethostname()}
        partial = place.folder / f".{POINTER_NAME}.growing"
        try:
            partial.write_text(json.dumps(said, indent=1) + "\n")
            partial.replace(place.folder / POINTER_NAME)
        except OSError as error:
            raise ManifestError(f"{place.folder / POINTER_NAME}: {error.strerror}") from error


def refuse_another(folder: Path, wanted: Path | None) -> None:
    """
    Make sure that a wanted place is where the folder's manifest stands.

    Raises
    ------
    FolderRefused
        When it stands elsewhere.
    """
    own = existing(folder).path
    if wanted is not None and wanted.absolute() != own.absolute():
        raise FolderRefused(f"the manifest of {folder} is {own}; leave manifest=… away, or choose another folder")


def _on_host(folder: Path) -> str:
    try:
        host = json.loads((folder / POINTER_NAME).read_text()).get("host")
    except (OSError, ValueError, AttributeError):
        return ""
    return f" on {host}" if host and host != socket.gethostname() else ""
