"""
The journal before the Parquet files: a tar shard that is walked, in the order in which it was written.

A row's number in its file is the cutout's place among those of its side here, so that a location holds before and
after the journal has become files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.core.fits import datauri
from psfharvest.store.sinks.shards import BLOCK

FOLDER = "parquet"
JOURNAL = ".journal"
OTHER = "other"
"""Where files go that are no images of a known side."""


def journal_path(base: Path, number: int) -> Path:
    """Return where a journal is."""
    return base / JOURNAL / f"{number:06d}.tar"


class Entry(NamedTuple):
    """One cutout of a journal: which file it goes to, where its bytes start, how many they are, and its note."""

    name: str
    start: int
    size: int
    note: dict[str, Any]


def walk(journal: Path) -> Iterator[Entry]:
    """Yield the cutouts of a journal, in their order; a torn end is left out."""
    with journal.open("rb") as file:
        body: tuple[int, int] | None = None
        while len(head := file.read(BLOCK)) == BLOCK and any(head[:100]):
            start, size = file.tell(), int(head[124:135], 8)
            if head[156:157] not in b"0":  # a long name's own record
                file.seek(start + size + -size % BLOCK)
                continue
            if body is None:
                body = (start, size)
                file.seek(start + size + -size % BLOCK)
                continue
            text = file.read(size)
            file.seek(-size % BLOCK, os.SEEK_CUR)
            if len(text) < size:
                return
            note = json.loads(text)
            parts = datauri.parts_of(note["uri"])
            yield Entry(class_of(parts.size_px if parts else None), *body, note)
            body = None


def class_of(size_px: int | None) -> str:
    """Return the name of the file that images of a side go to."""
    return OTHER if size_px is None else str(size_px)
