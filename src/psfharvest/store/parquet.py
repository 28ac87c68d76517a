"""
Parquet files of cutouts: a journal first, then its claim; a full journal becomes files of one row a cutout.

A Parquet file is of no use before its end is written, so what is claimed goes into a journal, a tar shard like
those of `ShardSink`: ``parquet/.journal/000007.tar``. When it is full, and at the end of a run, it is turned into
``parquet/51/000007.parquet``, ``parquet/101/000007.parquet``, …: a file for each side of images, its rows in the
journal's order. They are written under other names and renamed, and only then does the journal go; so a death at
any instant leaves either the journal or all that came of it. A location, ``parquet/51/000007.parquet:ROW``, never
changes: until the file is there, `ParquetReader` finds the row in the journal.

The archive's bytes are kept as header text and pixels where these give them back exactly, else in column ``fits``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from psfharvest.core import datauri, pixels
from psfharvest.core.errors import cannot_store
from psfharvest.core.model import Item, Outcome
from psfharvest.store import arrow
from psfharvest.store.kinds import Kinds
from psfharvest.store.manifest import Stored
from psfharvest.store.shards import BLOCK, ShardSink, sync

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float32
    from numpy.typing import NDArray

FOLDER = "parquet"
JOURNAL = ".journal"
JOURNAL_BYTES = 48 * 10**6
"""How large a journal grows: turning it into Parquet takes well under a second, so that Ctrl-C stays quick."""
GROUPS_KEPT = 6
"""Row groups a reader keeps, of neighbouring rows and each size: the order of asking leads back and forth."""
OTHER = "other"
"""Where files go that are no images of a known side."""
_FIRST = ("uri", "size_bytes", "sha256")


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
    journal_bytes
        The size at which a journal is turned into files.

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
        journal_bytes: int = JOURNAL_BYTES,
    ) -> None:
        arrow.load_pyarrow()
        self._base = folder / FOLDER
        self._claimed = claimed
        self._journal_bytes = journal_bytes
        if end and not journal_path(self._base, shard).exists():
            shard, end = shard + 1, 0  # it has become files
        try:
            self._base.mkdir(exist_ok=True)
            sync(folder)
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
        if self._end >= self._journal_bytes and self._is_claimed():
            shard = self._shard
            self._finish()
            self._open(shard + 1, 0)
        stored = []
        for s in self._journal.store(outcomes):
            name = _class_of(s.outcome.item.size_px)
            stored.append(s._replace(place=self._rows[name]))
            self._rows[name] += 1
        return stored

    def forget(self, items: Sequence[Item]) -> None:
        """Do nothing: a row without a claim is dead, and stays."""

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

    def _open(self, shard: int, end: int) -> None:
        self._journal = ShardSink(self._base, shard=shard, end=end, shard_bytes=2**63, subfolder=JOURNAL)
        path = journal_path(self._base, shard)
        self._rows = Counter(entry.name for entry in walk(path))

    def _finish(self) -> None:
        shard, is_any = self._shard, self._end > 0
        self._journal.close()
        path = journal_path(self._base, shard)
        try:
            if is_any:
                convert(path, self._base, shard)
            path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            sync(self._base)
        except OSError as error:
            raise cannot_store(error, f"{FOLDER}/*/{shard:06d}.parquet") from error

    def _sweep(self, shard: int) -> None:
        """Drop what a death left half made; the journal has it all."""
        for folder in self._base.iterdir():
            for path in folder.glob(".*.growing"):
                path.unlink()
            if folder.name != JOURNAL:
                (folder / f"{shard:06d}.parquet").unlink(missing_ok=True)


class ParquetReader:
    """
    Read single cutouts back, from files and from the journal that has not become files yet.

    Parameters
    ----------
    folder
        The harvest folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._groups: dict[tuple[str, int], Any] = {}
        self._journal: tuple[int, list[Entry]] | None = None

    def read(self, path: str, row: int) -> bytes:
        """
        Return the bytes of one row, just as the archive sent them.

        Raises
        ------
        OSError
            When file or row are not there, or cannot be read.
        """
        for _ in range(2):  # a journal may become a file between two looks
            with contextlib.suppress(FileNotFoundError, IndexError):
                return self._from_file(path, row)
            with contextlib.suppress(FileNotFoundError, IndexError):
                return self._from_journal(path, row)
        raise FileNotFoundError(2, "no such row", f"{path}:{row}")

    def _from_file(self, path: str, row: int) -> bytes:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            file = self._files.get(path)
            if file is None:
                file = _keep(self._files, path, pq.ParquetFile(self._folder / path))
            return self._row(path, file, row)
        except IndexError:  # a file that has been made anew since
            self._files.clear()
            self._groups.clear()
            raise
        except pa.ArrowInvalid as error:
            raise OSError(5, str(error), path) from error

    def _row(self, path: str, file: Any, row: int) -> bytes:
        if row >= file.metadata.num_rows:
            raise IndexError(row)
        number, row = divmod(row, arrow.ROWS_A_GROUP)
        group: pa.Table = self._groups.get((path, number))
        if group is None:
            names = [n for n in ("header", "image", "fits") if n in file.schema_arrow.names]
            group = _keep(self._groups, (path, number), file.read_row_group(number, columns=names))
        body = group["fits"][row].as_py()
        if body is None:
            flat = group["image"][row].values.to_numpy()
            body = pixels.put_together(group["header"][row].as_py(), flat)
        return bytes(body)

    def _from_journal(self, path: str, row: int) -> bytes:
        _, name, file_name = path.split("/")
        number = int(file_name.partition(".")[0])
        journal = journal_path(self._folder / FOLDER, number)
        with journal.open("rb") as file:
            for is_fresh in (False, True):
                if self._journal is None or self._journal[0] != number or is_fresh:
                    self._journal = (number, [e._replace(note={}) for e in walk(journal)])
                entries = [entry for entry in self._journal[1] if entry.name == name]
                if row < len(entries):
                    file.seek(entries[row].start)
                    return file.read(entries[row].size)
        raise IndexError(row)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> Any:
    """Keep a value in place of the one kept longest."""
    while len(kept) >= GROUPS_KEPT:
        del kept[next(iter(kept))]
    kept[key] = value
    return value


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
            parts = datauri.parse(note["uri"])
            yield Entry(_class_of(parts.size_px if parts else None), *body, note)
            body = None


def convert(journal: Path, base: Path, number: int) -> None:
    """
    Turn a journal into files, one for each side of images; they stand under their final names at the end.

    Raises
    ------
    OSError
        When they cannot be written.
    """
    classes: dict[str, list[Entry]] = {}
    for entry in walk(journal):
        classes.setdefault(entry.name, []).append(entry)
    made = [_write(journal, base / name, number, entries) for name, entries in classes.items()]
    for growing, final in made:
        growing.replace(final)
        sync(final.parent)
    sync(base)


def _write(journal: Path, folder: Path, number: int, entries: Sequence[Entry]) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    name, kinds = entries[0].name, Kinds(_FIRST)
    for entry in entries:
        kinds.look({"size_bytes": 0, "sha256": "", **entry.note})
    growing, final = folder / f".{number:06d}.growing", folder / f"{number:06d}.parquet"
    size_px = None if name == OTHER else int(name)
    images = {} if size_px is None else {"image": size_px}
    schema = arrow.schema(kinds.all(), images, with_bytes=True)
    with arrow.writer(growing, schema) as writer, journal.open("rb") as file:
        for start in range(0, len(entries), arrow.ROWS_A_GROUP):
            rows, arrays = _group(file, entries[start : start + arrow.ROWS_A_GROUP], size_px)
            writer.write_table(arrow.table(schema, rows, dict.fromkeys(images, arrays)))
    sync(growing)
    return growing, final


def _group(
    file: IO[bytes], entries: Sequence[Entry], size_px: int | None
) -> tuple[list[dict[str, Any]], list[NDArray[float32] | None]]:
    """Return the rows of one group, and their pixels."""
    rows: list[dict[str, Any]] = []
    arrays: list[NDArray[float32] | None] = []
    for entry in entries:
        file.seek(entry.start)
        body = file.read(entry.size)
        header, image = pixels.take_apart(body, size_px) or (None, None)
        more = {"size_bytes": entry.size, "sha256": hashlib.sha256(body).hexdigest(), "header": header}
        rows.append({**entry.note, **more, "fits": body if image is None else None})
        arrays.append(image)
    return rows, arrays


def _class_of(size_px: int | None) -> str:
    return OTHER if size_px is None else str(size_px)
