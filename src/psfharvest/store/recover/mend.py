"""
Repair of a folder: broken claims are taken back, and shards and Parquet files made readable by their own readers.

Files first, then claims: a death in between leaves broken claims, which the same call finds and takes back. What is
whole stays where it is. Over dead bytes a shard gets a filler, a member of its own; what was lost at its end is cut
off. In a Parquet file dead rows become null. A journal is cut at its first damage: no row behind that is sure.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from psfharvest.filesystem import atomic, portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.folder import Settings, old_folder
from psfharvest.store.manifest.manifest import Claim, Manifest
from psfharvest.store.readers import shard_scan
from psfharvest.store.recover.structure import parquet_flaws, shard_flaws
from psfharvest.store.sinks import arrow, parquet_journal, shards


class _Mended(NamedTuple):
    """What a file has lost: cutouts by number; `end` is where the sink goes on in it, where that has changed."""

    lost: set[int]
    end: int | None = None


def repair(folder: Path, broken: Iterable[int], paths: Iterable[str] = ()) -> int:
    """
    Take claims back, so that these cutouts are pending again, and mend their files; return how many.

    Parameters
    ----------
    folder
        The harvest folder.
    broken
        Numbers of cutouts.
    paths
        Shards and Parquet files that are damaged themselves, relative to the folder.

    Raises
    ------
    FolderRefused
        When another process harvests the folder.
    SinkError
        When a file cannot be mended.
    """
    with old_folder(folder, Settings()) as manifest:
        return len(take_back(folder, manifest, broken, paths))


def take_back(folder: Path, manifest: Manifest, broken: Iterable[int], paths: Iterable[str] = ()) -> list[int]:
    """
    Do the same in a folder that this process holds; return the numbers of what is pending now.

    A sink that is open must not be writing into one of the files.

    Raises
    ------
    SinkError
        When a file cannot be mended.
    """
    dead = set(broken)
    mark, lost = _mend_files(folder, manifest, dead, paths)
    numbers = sorted(dead | lost)
    with manifest.transaction():
        manifest.retract(numbers)
        if mark is not None:
            manifest.set(shard=mark[0], shard_end=mark[1])
    return numbers


def _mend_files(
    folder: Path, manifest: Manifest, dead: set[int], paths: Iterable[str]
) -> tuple[tuple[int, int] | None, set[int]]:
    """Mend what holds dead cutouts; return the sink's new mark, if there is one, and what else was lost."""
    shard, end = int(manifest.setting("shard", 0)), int(manifest.setting("shard_end", 0))
    is_parquet = manifest.setting("sink") == parquet_journal.FOLDER
    mark: tuple[int, int] | None = None
    lost: set[int] = set()
    for number in sorted(manifest.shards_of(dead) | {_number_of(path) for path in paths}):
        claims = manifest.claims_in(number)
        last_end = end if number == shard else None
        try:
            for mended in (
                _mend_parquet(folder, number, claims, dead, last_end)
                if is_parquet
                else [_mend_shard(folder / f"{shards.FOLDER}/{number:06d}.tar", claims, dead, last_end)]
            ):
                lost |= mended.lost
                mark = mark if mended.end is None else (number, mended.end)
        except OSError as error:
            raise cannot_store(error, f"{error.filename or folder}") from error
    return mark, lost


def _number_of(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])


def _mend_shard(path: Path, claims: Iterable[Claim], dead: Collection[int], end: int | None) -> _Mended:
    """Mend a shard; `end` is how much of it was claimed where it is the last one."""
    try:
        flaws = shard_flaws(path, end)
    except FileNotFoundError:
        return _Mended({claim.n for claim in claims}, 0 if end else None)
    places = {claim.place for claim in claims if claim.n in dead}
    records = (record for record in shard_scan.scan(path) if record.is_whole and record.end <= flaws.end)
    stretches = [*flaws.stretches, *((r.begin, r.end) for r in records if r.start in places)]
    is_cut = flaws.end < 2**63
    with OpenFile(path, os.O_RDWR) as file:
        for first, behind in _merged(stretches):
            file.write_at(first, [shard_scan.filler(first, behind)])
        if is_cut:
            shards.end_tar(file, flaws.end)
        file.sync()
    if is_cut and flaws.end == 0 and end is None:
        path.unlink()
        portable.sync_folder(path.parent)
    return _Mended({c.n for c in claims if flaws.hit(c.place)}, flaws.end if is_cut and end is not None else None)


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches in their order, neighbours as one."""
    merged: list[tuple[int, int]] = []
    for first, end in sorted(stretches):
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged


def _mend_parquet(
    folder: Path, number: int, claims: Iterable[Claim], dead: Collection[int], end: int | None
) -> Iterable[_Mended]:
    """Mend the files of a number, and its journal; `end` is how much of that was claimed where it is open."""
    base = folder / parquet_journal.FOLDER
    for path in sorted(base.glob(f"*/{number:06d}.parquet")):
        own = [c for c in claims if parquet_journal.class_of(c.size_px) == path.parent.name]
        yield _mend_rows(path, own, dead)
    journal = parquet_journal.journal_path(base, number)
    if end and journal.exists():
        yield _mend_journal(journal, claims, dead, end)


def _mend_rows(path: Path, claims: Iterable[Claim], dead: Collection[int]) -> _Mended:
    """Make rows null that are dead or cannot be read; a file without any other row goes."""
    flaws = parquet_flaws(path)
    lost = {claim.n for claim in claims if flaws.hit(claim.place)}
    rows = {claim.place for claim in claims if claim.n in dead}
    for first, behind in flaws.stretches:
        rows.update(range(first, behind))
    if flaws.end and rows:
        growing = path.with_name(f".{path.stem}.growing")
        with arrow.open_parquet(path) as file, arrow.writer(growing, file.schema_arrow) as writer:
            is_any_left = len(rows) < file.metadata.num_rows
            first = 0
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                writer.write_table(arrow.without_rows(file, group, {row - first for row in rows}))
                first += n_rows
        if is_any_left:
            atomic.replace(growing, path, is_synced=True)
            return _Mended(lost)
        growing.unlink()
    if rows or not flaws.end:
        path.unlink()
        portable.sync_folder(path.parent)
    return _Mended(lost)


def _mend_journal(path: Path, claims: Iterable[Claim], dead: Collection[int], end: int) -> _Mended:
    """Cut a journal where its first dead row stands."""
    places = {(parquet_journal.class_of(c.size_px), c.place) for c in claims if c.n in dead}
    rows: Counter[str] = Counter()
    cut = 0
    for entry in parquet_journal.walk(path):
        if (entry.name, rows[entry.name]) in places or entry.end > end:
            break
        rows[entry.name] += 1
        cut = entry.end
    if cut == end:
        return _Mended(set())
    with OpenFile(path, os.O_RDWR) as file:
        shards.end_tar(file, cut)
        file.sync()
    return _Mended({c.n for c in claims if c.place >= rows[parquet_journal.class_of(c.size_px)]}, cut)
