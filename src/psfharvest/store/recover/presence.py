"""
Whether what is claimed is still in the folder: existence and length of its files, never a byte of a cutout.

Cheap enough for the start of every run, beside it: one look at each file, where `audit` reads and hashes them all.
Claims are read before the file is looked at, so that what a run claims meanwhile is never taken for lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from psfharvest.store.manifest import extents
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.sink_kinds import SINK_KINDS
from psfharvest.store.sinks import parquet_journal, shards

PARQUET_MAGIC = b"PAR1"
"""How a whole Parquet file begins and ends: https://parquet.apache.org/docs/file-format/"""
_FOOTER_LENGTH_BYTES = 4


class Lost(NamedTuple):
    """Claims whose bytes are gone: numbers of cutouts, and the file, if it must be mended."""

    numbers: list[int]
    path: str = ""


def lost(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """
    Yield the claims whose bytes are gone, some at a time; pages without any are yielded, too, with no numbers.

    Raises
    ------
    OSError
        When the folder cannot be looked at.
    """
    return (SINK_KINDS[manifest.setting("sink")].lost or lost_files)(folder, manifest)


def cut_tail(folder: Path, manifest: Manifest) -> str:
    """Return the path of the file that the sink goes on in, if it has less than was claimed."""
    number, end = int(manifest.setting("shard", 0)), int(manifest.setting("shard_end", 0))
    last_file = SINK_KINDS[manifest.setting("sink")].last_file
    path = last_file(folder, number) if end and last_file is not None else None
    return path.relative_to(folder).as_posix() if path is not None and (_length(path) or 0) < end else ""


def last_shard(folder: Path, number: int) -> Path:
    """Return the path of the shard that is appended to."""
    return folder / shards.FOLDER / f"{number:06d}.tar"


def last_journal(folder: Path, number: int) -> Path | None:
    """Return the path of the journal that is appended to, or None when it has become Parquet files."""
    path = parquet_journal.journal_path(folder / parquet_journal.FOLDER, number)
    return path if path.exists() else None


def lost_files(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """Yield the cutouts whose own file is gone or has another length; of a file with many, whether it is there."""
    base = f"{folder}/"
    for page in extents.claimed_files(manifest):
        yield Lost([n for n, location, size_bytes in page if not _is_there(base, location, size_bytes)])


def lost_in_shards(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """Yield the cutouts beyond the end of each shard but the last: see `cut_tail`."""
    last = int(manifest.setting("shard", 0))
    for number, end in extents.shard_ends(manifest):
        if number >= last:
            return
        path = f"{shards.FOLDER}/{number:06d}.tar"
        length = _length(folder / path)
        is_whole = length is not None and length >= end
        yield Lost([] if is_whole else extents.claims_beyond(manifest, number, length or 0), path)


def lost_in_parquet(folder: Path, manifest: Manifest) -> Iterator[Lost]:
    """Yield the cutouts of Parquet files that are gone or without their end."""
    base = folder / parquet_journal.FOLDER
    last = int(manifest.setting("shard", 0))
    for number, size_px in extents.parquet_sides(manifest):
        if number > last or parquet_journal.journal_path(base, number).exists():
            continue
        name = parquet_journal.class_of(size_px)
        path = base / name / f"{number:06d}.parquet"
        if not _is_ended(path):
            claims = manifest.claims_in(number)
            numbers = [c.n for c in claims if parquet_journal.class_of(c.size_px) == name]
            yield Lost(numbers, path.relative_to(folder).as_posix() if path.exists() else "")


def _is_ended(path: Path) -> bool:
    """Return whether a Parquet file has its end: the length of its footer, and the magic bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < 2 * len(PARQUET_MAGIC) + _FOOTER_LENGTH_BYTES:
                return False
            file.seek(size - len(PARQUET_MAGIC) - _FOOTER_LENGTH_BYTES)
            end = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return end.endswith(PARQUET_MAGIC) and int.from_bytes(end[:_FOOTER_LENGTH_BYTES], "little") < size


def _is_there(base: str, location: str, size_bytes: int) -> bool:
    length = _length(base + location)
    if length is not None or ":" not in location:
        return length == size_bytes
    return _length(base + location.rpartition(":")[0]) is not None


def _length(path: Path | str) -> int | None:
    """Return a file's length in bytes, or None where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - half the time of a Path's, once a cutout
    except (FileNotFoundError, NotADirectoryError):
        return None
