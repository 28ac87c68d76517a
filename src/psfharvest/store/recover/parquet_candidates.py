"""
What a folder's Parquet files hold, a row group at once: dataURIs, catalogue rows, and the hash of each cutout.

A journal that has not become files yet comes last; files of its own number are made from it anew when the sink goes
on. Only where those hold more than it does, it is damaged, and they are read in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfharvest.core.errors import FolderRefused
from psfharvest.store import row_schema
from psfharvest.store.readers import shard_scan
from psfharvest.store.recover import candidates
from psfharvest.store.recover.candidates import Candidate, CandidateBatch
from psfharvest.store.sinks import arrow
from psfharvest.store.sinks.parquet_journal import FOLDER, JOURNAL, class_of, journal_path

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_NOT_METADATA = (arrow.HEADER, "image", "fits")


def units(folder: Path, mark: Sequence[int]) -> Iterator[CandidateBatch]:
    """
    Yield what the Parquet files and the journal of a folder hold, from a mark on, or from their beginning.

    Raises
    ------
    BadInput
        When pyarrow is not installed.
    FolderRefused
        When there are several journals, or one that is older than the files.
    """
    arrow.load_pyarrow()
    done = mark[0] if mark else 0
    for n, unit in enumerate(_all(folder, done), 1):
        if unit is not None:
            yield unit._replace(mark=(n,))


def _all(folder: Path, done: int) -> Iterator[CandidateBatch | None]:
    """Yield every unit; None for those that are done, which are not read."""
    base = folder / FOLDER
    files = sorted(
        (number, path.name) for path in base.iterdir() for number in candidates.numbers_in(path, ".parquet")
    )
    last = max((number for number, _ in files), default=-1)
    journal = _journal(base, files, last)
    behind = {"shard": last + 1, "shard_end": 0}
    n = 0
    for number, name in files:
        if number == journal:
            continue
        for unit in _of_file(folder, f"{FOLDER}/{name}/{number:06d}.parquet", number, name, done - n):
            n += 1
            yield unit._replace(checkpoint=behind) if unit is not None and n > done else None
    if journal is not None:
        path = journal_path(base, journal)
        for unit in candidates.journal(f"{FOLDER}/{JOURNAL}/{path.name}", path, journal):
            n += 1
            yield unit if n > done else None


def _journal(base: Path, files: Sequence[tuple[int, str]], last: int) -> int | None:
    """Return the number of the journal that is to be read, None where there is none."""
    numbers = candidates.numbers_in(base / JOURNAL)
    if not numbers:
        return None
    if len(numbers) > 1 or numbers[0] < last:
        raise FolderRefused(
            f"{base / JOURNAL} holds journals that do not belong to the files beside it: {numbers}; "
            "keep the newest, move the others to a folder of their own, and adopt each"
        )
    of_same = [base / name / f"{last:06d}.parquet" for number, name in files if number == numbers[0]]
    n_rows = sum(_n_rows(path) for path in of_same)
    n_records = sum(1 for record in shard_scan.scan(journal_path(base, numbers[0])) if record.note)
    return None if n_rows > n_records else numbers[0]


def _of_file(folder: Path, location: str, number: int, name: str, done: int) -> Iterator[CandidateBatch | None]:
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    nothing = CandidateBatch([], (), {}, [location])
    try:
        file = arrow.open_parquet(folder / location)
    except (OSError, ValueError, pa.ArrowException):
        yield nothing
        return
    with file:
        row = 0
        for group in range(file.num_row_groups):
            try:
                unit = _of_group(file, group, location, number, name, row) if group >= done else None
            except (OSError, ValueError, KeyError, pa.ArrowException):
                unit = nothing
            yield unit
            row += file.metadata.row_group(group).num_rows


def _of_group(
    file: pq.ParquetFile, group: int, location: str, number: int, name: str, first: int
) -> CandidateBatch:
    columns = [column for column in file.schema_arrow.names if column not in _NOT_METADATA]
    rows: list[dict[str, Any]] = file.read_row_group(group, columns=columns).to_pylist()
    found: list[Candidate] = []
    lost: list[str] = []
    for place, row in enumerate(rows, first):
        asked = candidates.asked_of(row["uri"]) if row["uri"] else None
        if asked is None or name != class_of(asked.parts.size_px if asked.parts else None):
            lost.append(f"{location}:{place}")
            continue
        catalogue = row_schema.catalogue_of(row)
        at = f"{location}:{place}"
        found.append(Candidate(asked, catalogue, at, row["size_bytes"], number, place, row["sha256"] or ""))
    return CandidateBatch(found, (), {}, lost)


def _n_rows(path: Path) -> int:
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return 0
