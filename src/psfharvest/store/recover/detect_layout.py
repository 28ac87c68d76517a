"""
Which sink and layout a folder's cutouts are stored in, seen from their places alone.

The folder is walked once, entry by entry, so that millions of files take no memory. Nothing is opened.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from psfharvest.core import bundle_page
from psfharvest.core.catalog import detectors
from psfharvest.core.errors import BadInput, FolderRefused, SinkError
from psfharvest.store.sink_kinds import CUTOUT_NAME, SINK_KINDS

_NO_CUTOUTS = frozenset({"contact-sheet.png", bundle_page.NAME})
_FOLDER = "|".join(detectors.FOLDERS)
_CUTOUT = re.compile(rf"(?:.*/)?{CUTOUT_NAME}")


class FolderLayout(NamedTuple):
    """How a folder stores its cutouts."""

    sink: str
    layout: str
    n_places: int
    """Files that stand where this sink puts them."""
    n_files: int
    """All files in the folder but its own."""

    @property
    def words(self) -> str:
        """The kind as a user would give it."""
        return f"--sink {self.sink}" + (f" --layout {self.layout}" if self.sink == "files" else "")


def recognise(folder: Path, *, any_files: bool = False) -> FolderLayout:
    """
    Return how the cutouts in a folder are stored.

    Parameters
    ----------
    folder
        With cutouts of one sink, one layout.
    any_files
        Whether files that are no cutouts will do, as a list of other dataURIs brings them.

    Raises
    ------
    BadInput
        When there is no such folder, or no cutout stands where a harvest folder has them.
    FolderRefused
        When there are cutouts of two kinds.
    SinkError
        When the folder cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give the one that holds the cutouts")
    n_files, elsewhere = 0, ""
    found: dict[tuple[str, str], str] = {}
    n_places: Counter[tuple[str, str]] = Counter()
    places = {(kind.name, layout): at for kind in SINK_KINDS.values() for layout, at in kind.places.items()}
    for n_files, name in enumerate(files_in(folder), 1):  # noqa: B007 - used behind the loop
        kind = next((k for k, place in places.items() if place.fullmatch(name)), None)
        if kind is not None:
            found.setdefault(kind, name)
            n_places[kind] += 1
        elif not elsewhere and _CUTOUT.fullmatch(name):
            elsewhere = name
    kinds = [FolderLayout(*kind, n_places[kind], n_files) for kind in found]
    if len(kinds) > 1:
        raise _two_kinds(folder, kinds, list(found.values()))
    if elsewhere and not kinds:
        raise FolderRefused(
            f"{folder}: {elsewhere} is no place of a harvest folder, which has its cutouts in "
            f"{' or '.join(f'{name}/' for name in detectors.FOLDERS)}; {_way_out(folder, elsewhere)}"
        )
    return kinds[0] if kinds else _other_files(folder, n_files if any_files else 0)


def _two_kinds(folder: Path, kinds: Sequence[FolderLayout], examples: Sequence[str]) -> FolderRefused:
    return FolderRefused(
        f"{folder} holds cutouts of two kinds: {examples[0]} ({kinds[0].words}) and {examples[1]} "
        f"({kinds[1].words}); a harvest folder has one: move the others to a folder of their own, and adopt each"
    )


def _other_files(folder: Path, n_files: int) -> FolderLayout:
    if not n_files:
        raise BadInput(f"{folder} holds no cutouts: there is nothing to adopt; 'psfharvest harvest' fetches some")
    return FolderLayout("files", "tree", 0, n_files)


def files_in(folder: Path) -> Iterator[str]:
    """
    Yield the path of each file below a folder, but for the folder's own; a link to a folder counts at the top only.

    Raises
    ------
    SinkError
        When a folder cannot be read.
    """
    todo = [""]
    while todo:
        inside = todo.pop()
        try:
            with os.scandir(folder / inside) as entries:
                for entry in entries:
                    name = f"{inside}{entry.name}"
                    if not inside and _is_own(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=not inside):
                        todo.append(f"{name}/")
                    elif entry.is_file():
                        yield name
        except OSError as error:
            raise SinkError(f"cannot read {folder / inside}: {error.strerror}; mend that first") from error


def _is_own(name: str) -> bool:
    return name.startswith((".", "manifest.sqlite", "manifest.place.json")) or name in _NO_CUTOUTS


def _way_out(folder: Path, example: str) -> str:
    above = re.match(rf"(.+?)/(?:{_FOLDER})/", example)
    if above is not None:
        return f"give the folder {folder / above[1]}"
    if folder.absolute().name in detectors.FOLDERS:
        return f"give the folder above it, {folder.absolute().parent}"
    return "move them there, or give their folder that name, and adopt again"
