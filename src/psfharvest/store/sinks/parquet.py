"""
Parquet files of cutouts: a journal first, then its claim; a full journal becomes files of one row a cutout.

A Parquet file is of no use before its end is written, so what is claimed goes into a journal, a tar shard like
those of `ShardSink`: ``parquet/.journal/000007.tar``. When it is full, and at the end of a run, it is turned into
``parquet/51/000007.parquet``, ``parquet/101/000007.parquet``, …: a file for each side of images, its rows in the
journal's order. They are written under other names and renamed, and only then does the journal go; so a death at
any instant leaves either the journal or all that came of it. A location, ``parquet/51/000007.parquet:ROW``, never
changes: until the file is there, `parquet_reader` finds the row in the journal.

The archive's bytes are kept as header text and pixels where these give them back exactly, else in column ``fits``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfharvest.core.advice import repair
from psfharvest.core.errors import SinkError
from psfharvest.core.fits import datauri, pixels
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Outcome
from psfharvest.filesystem import atomic, portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.row_schema import SKY, STORED, Columns, RowSchema, RowSchemas, sky_columns
from psfharvest.store.sinks import arrow
from psfharvest.store.sinks.parquet_journal import (
    FOLDER,
    JOURNAL,
    OTHER,
    JournalEntry,
    class_of,
    journal_path,
    walk,
)
from psfharvest.store.sinks.shards import ShardSink

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

JOURNAL_BYTES = 48 * 10**6
"""How large a journal grows: turning it into Parquet takes well under a second, so that Ctrl-C stays quick."""


class ParquetSink:
    """
    Store cutouts as Parquet.

    Parameters
    ----------
    folder
        The harvest folder.
    shard, end
        Where the manifest's last claim ends: a journal's number and its length.
    claimed
        Returns shard and end as the manifest has them now; what goes beyond them is not made into a file. None:
        whatever was stored is claimed.
    columns
        Returns the catalogue columns that every file has, as `Manifest.columns` does; None: those that are known.
    journal_bytes
        The size at which a journal is turned into files.
    origin
        Where the cutouts come from: it stands in the metadata of each file.

    Raises
    ------
    BadInput
        When pyarrow is not installed.
    SinkError
        When the folder cannot be written, or holds less than was claimed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard: int = 0,
        end: int = 0,
        claimed: Callable[[], tuple[int, int]] | None = None,
        columns: Columns | None = None,
        journal_bytes: int = JOURNAL_BYTES,
        origin: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        arrow.load_pyarrow()
        self._base = folder / FOLDER
        self._claimed = claimed
        self._columns = columns
        self._schema = RowSchemas(columns)
        self._journal_bytes = journal_bytes
        self._origin = origin
        try:
            if end and not journal_path(self._base, shard).exists():
                shard, end = shard + 1, 0  # it has become files
            self._base.mkdir(exist_ok=True)
            portable.sync_folder(folder)
            self._sweep(shard)
        except OSError as error:
            raise cannot_store(error, str(self._base)) from error
        self._open(shard, end)

    @property
    def needs_sources(self) -> bool:
        """True: the catalogue row is part of a row."""
        return True

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """
        Append the bodies to the journal; when this returns they are on the disk, also for a power loss.

        Raises
        ------
        SinkError
            When they could not be written; nothing of the batch may be claimed then.
        """
        journal = self._journal
        if self._end >= self._journal_bytes and self._is_claimed():
            shard = self._shard
            self._finish()
            journal = self._open(shard + 1, 0)
        stored = []
        for s in journal.store(outcomes):
            name = class_of(s.outcome.item.size_px)
            stored.append(s._replace(place=self._rows[name]))
            self._rows[name] += 1
        return stored

    def checkpoint(self) -> Mapping[str, int]:
        """Return what the manifest must record together with the claim of the last batch."""
        return self._journal.checkpoint()

    def close(self) -> None:
        """
        Turn what is claimed into files; where that cannot be done now, the journal waits for the next time.

        Raises
        ------
        SinkError
            When the files could not be written; nothing that was claimed is lost.
        """
        if not self._is_open:
            return  # an earlier error has ended it
        if not self._end or self._is_claimed():
            self._finish()
        else:
            self._journal.close()

    @property
    def _shard(self) -> int:
        return self.checkpoint()["shard"]

    @property
    def _end(self) -> int:
        return self.checkpoint()["shard_end"]

    def _is_claimed(self) -> bool:
        return self._claimed is None or self._claimed() == (self._shard, self._end)

    def _open(self, shard: int, end: int) -> ShardSink:
        self._is_open = False
        self._journal = ShardSink(
            self._base,
            shard=shard,
            end=end,
            columns=self._columns,
            shard_bytes=2**63,
            subfolder=JOURNAL,
            is_read_soon=True,
        )
        self._is_open = True
        path = journal_path(self._base, shard)
        self._rows: Counter[str] = Counter()
        whole_end = 0
        for entry in walk(path):
            self._rows[entry.name] += 1
            whole_end = entry.end
        if whole_end != end:
            self._journal.close()
            raise _damaged(path)
        return self._journal

    def _finish(self) -> None:
        shard, is_any = self._shard, self._end > 0
        self._journal.close()
        self._is_open = False
        path = journal_path(self._base, shard)
        try:
            if is_any:
                convert(path, self._base, shard, self._rows, self._schema(), self._origin())
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            portable.sync_folder(self._base)
        except OSError as error:
            raise cannot_store(error, f"{FOLDER}/*/{shard:06d}.parquet") from error

    def _sweep(self, shard: int) -> None:
        """Drop what a death left half made; the journal has it all."""
        for folder in self._base.iterdir():
            for path in folder.glob(".*.growing"):
                path.unlink()
            if folder.name != JOURNAL:
                (folder / f"{shard:06d}.parquet").unlink(missing_ok=True)


def convert(
    journal: Path,
    base: Path,
    number: int,
    n_rows: Mapping[str, int],
    schema: RowSchema | None = None,
    origin: Mapping[str, str] | None = None,
) -> None:
    """
    Turn a journal into files, one for each side of images; they stand under their final names at the end.

    Parameters
    ----------
    journal
        The journal.
    base, number
        The folder of the files, and their number.
    n_rows
        How many cutouts of each side the journal has.
    schema
        The folder's columns; None: those that are known.
    origin
        Where the cutouts come from, for the metadata of the files.

    Raises
    ------
    OSError
        When they cannot be written.
    SinkError
        When the journal holds less than that.
    """
    classes: dict[str, list[JournalEntry]] = {}
    for entry in walk(journal):
        classes.setdefault(entry.name, []).append(entry)
    if {name: len(entries) for name, entries in classes.items()} != +Counter(n_rows):
        raise _damaged(journal)
    chosen = schema or RowSchema()
    about = [origin] if origin else []
    made = [_write(journal, base / name, number, entries, chosen, about) for name, entries in classes.items()]
    for partial, final in made:
        atomic.replace(partial, final, is_synced=True)
    portable.sync_folder(base)


def _damaged(journal: Path) -> SinkError:
    return SinkError(f"{journal} is damaged; run: {repair(journal.parents[2])}")


def _write(
    journal: Path,
    folder: Path,
    number: int,
    entries: Sequence[JournalEntry],
    columns: RowSchema,
    about: Sequence[Mapping[str, str]],
) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    name = entries[0].name
    partial, final = folder / f".{number:06d}.growing", folder / f"{number:06d}.parquet"
    size_px = None if name == OTHER else int(name)
    images = {} if size_px is None else {"image": size_px}
    schema = arrow.schema({**columns.kinds, **SKY, **STORED}, images, with_bytes=True, provenance=about)
    with arrow.writer(partial, schema) as writer, OpenFile(journal) as file:
        for start in range(0, len(entries), arrow.ROWS_A_GROUP):
            rows, arrays = _group(file, entries[start : start + arrow.ROWS_A_GROUP], size_px, columns)
            writer.write_table(arrow.table(schema, rows, dict.fromkeys(images, arrays)))
    return partial, final


def _group(
    file: OpenFile, entries: Sequence[JournalEntry], size_px: int | None, columns: RowSchema
) -> tuple[list[dict[str, Any]], list[NDArray[float32] | None]]:
    """Return the rows of one group, and their pixels."""
    rows: list[dict[str, Any]] = []
    arrays: list[NDArray[float32] | None] = []
    for entry in entries:
        body = file.read(entry.size, entry.start)
        header, image = pixels.take_apart(body, size_px) or (None, None)
        more = {"size_bytes": entry.size, "sha256": hashlib.sha256(body).hexdigest(), "header": header}
        place = sky_columns(Cutout(entry.note["uri"], body))
        rows.append({**columns.row_of_note(entry.note), **place, **more, "fits": body if image is None else None})
        arrays.append(_odd_image(body, entry.note["uri"], size_px) if image is None else image)
    return rows, arrays


def _odd_image(body: bytes, uri: str, size_px: int | None) -> NDArray[float32] | None:
    """Return the pixels of a body that cannot be made again from them, and is kept beside them."""
    image = None if size_px is None else pixels.image(body, datauri.parts_of(uri))
    return image if image is not None and image.shape == (size_px, size_px) else None
