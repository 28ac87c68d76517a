"""
The journal of a Parquet sink: a tar shard of what is not in Parquet files yet, in the order of writing.

A row's number in its file is the cutout's place among those of its side here, so that a location holds before and
after the journal has become files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.core.fits import datauri
from psfharvest.store.readers import shard_scan

FOLDER = "parquet"
JOURNAL = ".journal"
OTHER = "other"
"""Where files go that are no images of a known side."""


def journal_path(base: Path, number: int) -> Path:
    """Return where a journal is."""
    return base / JOURNAL / f"{number:06d}.tar"


class JournalEntry(NamedTuple):
    """One cutout of a journal: which file it goes to, where its bytes start, how many they are, and its note."""

    name: str
    start: int
    size: int
    note: dict[str, Any]
    end: int
    """Where the next one's record starts."""


def walk(journal: Path) -> Iterator[JournalEntry]:
    """Yield the cutouts of a journal, in their order, up to its end or first damage: no row behind that is sure."""
    end = 0
    for record in shard_scan.scan(journal):
        if record.begin != end or record.note is None:
            return
        end = record.end
        parts = datauri.parts_of(record.note["uri"])
        yield JournalEntry(class_of(parts.size_px if parts else None), record.start, record.size, record.note, end)


def class_of(size_px: int | None) -> str:
    """Return the name of the file that images of a side go to."""
    return OTHER if size_px is None else str(size_px)
