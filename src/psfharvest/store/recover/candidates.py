"""
What shards and journals hold, in units of some hundred cutouts, each with the place from which to go on.

The dataURI and catalogue row of a cutout stand beside it, in its note.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.core.errors import BadURI
from psfharvest.core.model import WantedURI
from psfharvest.store import row_schema
from psfharvest.store.readers import shard_scan
from psfharvest.store.sinks.parquet_journal import class_of
from psfharvest.store.sinks.shards import FOLDER

BATCH_SIZE = 512
_NUMBERED = re.compile(r"([0-9]{6,})\.(?:tar|parquet)")


class Candidate(NamedTuple):
    """Stored bytes that may be the cutout that their note names."""

    asked: WantedURI
    row: Mapping[str, Any]
    """Its catalogue row, or nothing."""
    at: str
    """The location to read it from; empty where nothing of it is left."""
    size_bytes: int
    shard: int | None
    place: int | str
    """As in `Stored`."""
    sha256: str = ""
    """The hash that stands beside it, where one does."""


class CandidateBatch(NamedTuple):
    """Some candidates, and what is to be recorded with them."""

    candidates: Sequence[Candidate]
    mark: Sequence[int]
    """Where to go on behind them."""
    checkpoint: Mapping[str, int]
    """Where the sink goes on, were these the last."""
    lost: Sequence[str]
    """Locations of bytes that belong to no cutout that can be recognised."""


def shards(folder: Path, mark: Sequence[int]) -> Iterator[CandidateBatch]:
    """Yield what the shards of a folder hold, from a mark on, or from their beginning."""
    first, start = mark or (0, 0)
    for number in numbers_in(folder / FOLDER):
        if number < first:
            continue
        path = f"{FOLDER}/{number:06d}.tar"
        end = start if number == first else 0
        candidates: list[Candidate] = []
        lost: list[str] = []
        for record in shard_scan.scan(folder / path, end):
            candidate = _candidate(record, path, number, record.start)
            if candidate is None:
                lost.append(path)
                continue
            candidates.append(candidate)
            end = record.end
            if len(candidates) >= BATCH_SIZE:
                yield CandidateBatch(candidates, (number, end), {"shard": number, "shard_end": end}, lost)
                candidates, lost = [], []
        # a shard without one whole record is left as it is, and the sink goes on behind it
        goes_on = {"shard": number, "shard_end": end} if end else {"shard": number + 1, "shard_end": 0}
        yield CandidateBatch(candidates, (number + 1, 0), goes_on, lost)


def journal(base: str, path: Path, number: int) -> Iterator[CandidateBatch]:
    """
    Yield what a Parquet sink's journal holds, up to its first damage: behind it no row's number is sure.

    Parameters
    ----------
    base
        The journal's path, relative to the folder.
    path, number
        The journal.
    """
    rows: Counter[str] = Counter()
    candidates: list[Candidate] = []
    lost: list[str] = []
    end = 0
    for record in shard_scan.scan(path):
        found = None if record.start < 0 else _candidate(record, base, number, 0)
        if found is None:
            lost.append(base)
            break
        parts = found.asked.parts
        name = class_of(parts.size_px if parts else None)
        candidates.append(found._replace(place=rows[name]))
        rows[name] += 1
        end = record.end
        if len(candidates) >= BATCH_SIZE:
            yield CandidateBatch(candidates, (), {"shard": number, "shard_end": end}, lost)
            candidates = []
    yield CandidateBatch(candidates, (), {"shard": number, "shard_end": end}, lost)


def numbers_in(folder: Path, ending: str = ".tar") -> list[int]:
    """Return the numbers of a folder's shards, ascending."""
    if not folder.is_dir():
        return []
    found = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir() if path.name.endswith(ending))
    return sorted(int(match[1]) for match in found if match)


def asked_of(uri: str) -> WantedURI | None:
    """Return what a note's dataURI asks for, or None where it is none."""
    try:
        return WantedURI.reading(uri)
    except BadURI:
        return None


def _candidate(record: shard_scan.ShardRecord, path: str, number: int, place: int) -> Candidate | None:
    asked = asked_of(record.note["uri"]) if record.note else None
    if record.note is None or asked is None:
        return None
    row = row_schema.catalogue_of(row_schema.plain(record.note))
    at = f"{path}:{record.start}" if record.start >= 0 else ""
    return Candidate(asked, row, at, record.size, number, place)
