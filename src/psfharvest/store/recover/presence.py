"""
Whether what is claimed is still in the folder: existence and length of its files, never a byte of a cutout.

Cheap enough for the start of every run, beside it: one look at each file, where `audit` reads and hashes them all.
Claims are read before the file is looked at, so that what a run claims meanwhile is never taken for lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from psfharvest.store.manifest import extents
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.recover.numbered_files import Lost, length_of
from psfharvest.store.sink_kinds import numbered_files


def lost(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """
    Yield the claims whose bytes are gone, some at a time; pages without any are yielded, too, with no numbers.

    Raises
    ------
    OSError
        When the folder cannot be looked at.
    """
    numbered = numbered_files(manifest.sink)
    return lost_files(folder, manifest) if numbered is None else numbered.lost(folder, manifest)


def cut_tail(folder: Path, manifest: Manifest) -> str:
    """Return the path of the file that the sink goes on in, if it has less than was claimed."""
    number, end = manifest.mark
    numbered = numbered_files(manifest.sink)
    path = numbered.last(folder, number) if end and numbered is not None else None
    return path.relative_to(folder).as_posix() if path is not None and (length_of(path) or 0) < end else ""


def lost_files(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """Yield the cutouts whose own file is gone or has another length; of a file with many, whether it is there."""
    base = f"{folder}/"
    for page in extents.claimed_files(manifest):
        yield Lost([n for n, location, size_bytes in page if not _is_there(base, location, size_bytes)])


def _is_there(base: str, location: str, size_bytes: int) -> bool:
    length = length_of(base + location)
    if length is not None or ":" not in location:
        return length == size_bytes
    return length_of(base + location.rpartition(":")[0]) is not None
