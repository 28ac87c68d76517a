"""Parquet files and journals as numbered files: claims that they lost, what cannot be read in them, repair."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from psfharvest.filesystem import atomic, portable
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest import extents
from psfharvest.store.manifest.manifest import Claim, Manifest
from psfharvest.store.manifest.merging import SourceShard
from psfharvest.store.recover import shard_files
from psfharvest.store.recover.numbered_files import Flaws, Lost, Mended, is_in_the_way, length_of, move_aside
from psfharvest.store.sinks import arrow, parquet_journal, shards
from psfharvest.store.sinks.parquet_journal import FOLDER, JOURNAL, class_of, journal_path

MAGIC = b"PAR1"
"""How a whole Parquet file begins and ends: https://parquet.apache.org/docs/file-format/"""
_FOOTER_LENGTH_BYTES = 4


class ParquetFiles:
    """The Parquet files of a folder, and its journal; satisfies `NumberedFiles`."""

    def last(self, folder: Path, number: int) -> Path | None:
        """Return the journal with a number, or None when it has become Parquet files."""
        path = journal_path(folder / FOLDER, number)
        return path if path.exists() else None

    def lost(self, folder: Path, manifest: Manifest) -> Iterator[Lost]:
        """Yield the cutouts of Parquet files that are gone or without their end."""
        base = folder / FOLDER
        last, _ = manifest.mark
        for number, size_px in extents.parquet_sides(manifest):
            if number > last or journal_path(base, number).exists():
                continue
            name = class_of(size_px)
            path = base / name / f"{number:06d}.parquet"
            if not _is_ended(path):
                numbers = [c.n for c in manifest.claims_in(number) if class_of(c.size_px) == name]
                yield Lost(numbers, path.relative_to(folder).as_posix() if os.path.lexists(path) else "")

    def paths(self, folder: Path, shard: int, end: int) -> Iterator[str]:
        """Yield the Parquet files, then the journal that is appended to."""
        del end
        for path in sorted((folder / FOLDER).glob("*/*.parquet")):
            yield path.relative_to(folder).as_posix()
        yield f"{FOLDER}/{JOURNAL}/{shard:06d}.tar"

    def flaws(self, folder: Path, path: str, shard: int, end: int) -> Flaws:
        """Return which row groups of a file, or what of a journal, cannot be read; none of a lost file."""
        if is_in_the_way(folder / path):
            return Flaws("missing", end=0)
        try:
            if path.endswith(".parquet"):
                return find_flaws(folder / path)
            is_last = path == f"{FOLDER}/{JOURNAL}/{shard:06d}.tar"
            return shard_files.find_flaws(folder / path, end if is_last else None)
        except FileNotFoundError:
            return Flaws()

    def mend(
        self, folder: Path, number: int, claims: Sequence[Claim], dead: Collection[int], end: int | None
    ) -> Iterator[Mended]:
        """Make dead rows null, and cut a journal at its first dead row."""
        base = folder / FOLDER
        for path in sorted(base.glob(f"*/{number:06d}.parque[t]")):  # a plain name leaves out links to nothing
            own = [c for c in claims if class_of(c.size_px) == path.parent.name]
            if is_in_the_way(path):
                move_aside(path)
                yield Mended({claim.n for claim in own})
            else:
                yield _mend_rows(path, own, dead)
        journal = journal_path(base, number)
        if end and journal.exists():
            yield _mend_journal(journal, claims, dead, end)

    def whole(self, source: Path, shard: SourceShard, *, is_last: bool) -> list[Path]:
        """Return the Parquet files of a number in a merge's source; none as long as it is a journal."""
        del is_last
        relative = [
            Path(FOLDER, side, f"{shard.number:06d}.parquet") for side in sorted(map(class_of, shard.sides_px))
        ]
        return relative if all((source / path).is_file() for path in relative) else []

    def numbered(self, folder: Path) -> Iterator[Path]:
        """Yield all Parquet files and journals."""
        yield from (folder / FOLDER).glob("*/[0-9]*.*")


def find_flaws(path: Path) -> Flaws:
    """
    Return which row groups cannot be read, all of their columns.

    Raises
    ------
    OSError
        When there is no such file, or the system cannot read it.
    """
    bad: list[tuple[int, int]] = []
    try:
        with arrow.open_parquet(path) as file:
            first = 0
            for number in range(file.num_row_groups):
                end = first + file.metadata.row_group(number).num_rows
                try:
                    arrow.read_group(file, number)
                except arrow.ParquetDamaged:
                    bad.append((first, end))
                first = end
    except arrow.ParquetDamaged:
        return Flaws("unreadable", end=0)
    return Flaws("unreadable", tuple(bad)) if bad else Flaws()


def _is_ended(path: Path) -> bool:
    """Return whether a Parquet file has its end: the length of its footer, and the magic bytes."""
    if length_of(path) is None:
        return False
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < 2 * len(MAGIC) + _FOOTER_LENGTH_BYTES:
                return False
            file.seek(size - len(MAGIC) - _FOOTER_LENGTH_BYTES)
            end = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return end.endswith(MAGIC) and int.from_bytes(end[:_FOOTER_LENGTH_BYTES], "little") < size


def _mend_rows(path: Path, claims: Iterable[Claim], dead: Collection[int]) -> Mended:
    """Make rows null that are dead or cannot be read; a file without any other row goes."""
    flaws = find_flaws(path)
    lost = {claim.n for claim in claims if flaws.hit(claim.place)}
    rows = {claim.place for claim in claims if claim.n in dead}
    for first, behind in flaws.stretches:
        rows.update(range(first, behind))
    if flaws.end and rows:
        partial = path.with_name(f".{path.stem}.growing")
        with arrow.open_parquet(path) as file, arrow.writer(partial, file.schema_arrow) as writer:
            is_any_left = len(rows) < file.metadata.num_rows
            first = 0
            for group in range(file.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                writer.write_table(arrow.without_rows(file, group, {row - first for row in rows}))
                first += n_rows
        if is_any_left:
            atomic.replace(partial, path, is_synced=True)
            return Mended(lost)
        partial.unlink()
    if rows or not flaws.end:
        path.unlink()
        portable.sync_folder(path.parent)
    return Mended(lost)


def _mend_journal(path: Path, claims: Iterable[Claim], dead: Collection[int], end: int) -> Mended:
    """Cut a journal where its first dead row stands."""
    places = {(class_of(c.size_px), c.place) for c in claims if c.n in dead}
    rows: Counter[str] = Counter()
    cut = 0
    for entry in parquet_journal.walk(path):
        if (entry.name, rows[entry.name]) in places or entry.end > end:
            break
        rows[entry.name] += 1
        cut = entry.end
    if cut == end:
        return Mended(set())
    with OpenFile(path, os.O_RDWR) as file:
        shards.end_tar(file, cut)
        file.sync()
    return Mended({c.n for c in claims if c.place >= rows[class_of(c.size_px)]}, cut)
