"""
Plain tar shards: bytes first, then their claim; after a crash a shard is cut back to its claimed end and goes on.

Each cutout is two members, WebDataset's way: ``<key>.fits``, byte for byte the archive's, and ``<key>.json``, its
dataURI and catalogue row in the columns of `psfharvest.store.row_schema`: the same keys, with values of the same
types, in every one, since readers take the types of a data set from its first few samples. A batch is synced once.
What the manifest knows is the shard's number and the offset of the first byte, so that one cutout is read without
scanning.

A shard is a whole tar at every instant: the end of the tar is written with each batch, behind it, and the first
header of a batch last, in place of the end before. A death in between leaves a tar that ends before the batch.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from psfharvest.core.advice import repair
from psfharvest.core.errors import SinkError
from psfharvest.core.model import Item, Outcome
from psfharvest.core.tar import BLOCK, END, header
from psfharvest.filesystem import atomic, portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.row_schema import Columns, RowSchemas

FOLDER = "shards"
SHARD_BYTES = 10**9
_FOLIO_MAX = 2**21
"""Largest folio of Linux's page cache; POSIX_FADV_DONTNEED drops whole folios only."""
_NAME = re.compile(r"(\d{6,})\.tar")
_UNFINISHED = re.compile(r"\.\d{6,}\.growing")


class ShardSink:
    """
    Append cutouts to the folder's shards.

    Parameters
    ----------
    folder
        The harvest folder.
    shard, end
        Where the manifest's last claim ends: a shard's number and its length; what lies behind was never claimed.
    columns
        Returns the catalogue columns of every cutout's JSON, as `Manifest.columns` does; None: the known ones.
    shard_bytes
        The size at which a shard is closed and the next begun.
    subfolder
        Where in the folder they stand.
    is_read_soon
        Whether written pages should stay in the page cache. Otherwise they are dropped (``POSIX_FADV_DONTNEED``): a
        harvest of terabytes must not push other programs' files out, and appending behind dropped pages takes the
        system a quarter less time.

    Raises
    ------
    SinkError
        When the folder cannot be written, or holds less than was claimed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard: int = 0,
        end: int = 0,
        columns: Columns | None = None,
        shard_bytes: int = SHARD_BYTES,
        subfolder: str = FOLDER,
        is_read_soon: bool = False,
    ) -> None:
        self._folder = folder / subfolder
        self._harvest = folder.parent if subfolder != FOLDER else folder
        self._schema = RowSchemas(columns)
        self._drops_pages = not is_read_soon
        self._shard = shard
        self._end = end
        self._shard_bytes = shard_bytes
        try:
            self._folder.mkdir(exist_ok=True)
            portable.sync_folder(folder)
            self._drop_unclaimed()
            self._check_claim()
            self._file = self._opened(shard, end)
        except OSError as error:
            raise cannot_store(error, str(self._folder)) from error

    @property
    def needs_sources(self) -> bool:
        """True: the catalogue row goes into the shard."""
        return True

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """
        Append the bodies; when this returns they are on the disk, also for a power loss.

        Raises
        ------
        SinkError
            When they could not be written; nothing of the batch may be claimed then.
        """
        stored: list[Stored] = []
        pieces: list[bytes] = []
        end = self._end
        schema = self._schema()
        try:
            for outcome in outcomes:
                if end >= self._shard_bytes:
                    self._append(pieces)
                    self._roll()
                    pieces, end = [], 0
                item, body = outcome.item, outcome.body or b""
                name, note = stem(item), schema.note(item.uri, item.source)
                head, tail = header(name, len(body)), header(f"{name.rpartition('.')[0]}.json", len(note))
                stored.append(Stored(outcome, self._shard, end + len(head)))
                members = (head, body, END[: -len(body) % BLOCK], tail, note, END[: -len(note) % BLOCK])
                pieces += members
                end += sum(map(len, members))
            self._append(pieces)
        except OSError as error:
            where = error.filename2 or error.filename or self._path(self._shard)
            raise cannot_store(error, str(where)) from error
        return stored

    def checkpoint(self) -> Mapping[str, int]:
        """Return what the manifest must record together with the claim of the last batch."""
        return {"shard": self._shard, "shard_end": self._end}

    def close(self) -> None:
        """
        Close the open shard, without what a failed batch has left; it goes on from its claimed end.

        One of several that holds nothing is removed: a merged folder's next is opened by each run, needed or not.
        """
        if self._file.is_open:
            with contextlib.suppress(OSError), self._file as file:
                if file.size() != self._end + len(END):
                    end_tar(file, self._end)
            if self._end == 0 < self._shard:
                with contextlib.suppress(OSError):
                    self._path(self._shard).unlink()

    def _append(self, pieces: list[bytes]) -> None:
        if not pieces:
            return
        begin, first = self._end, pieces[0]
        end = self._file.write_at(begin + BLOCK, [first[BLOCK:], *pieces[1:], END])
        self._file.write_at(begin, [first[:BLOCK]])
        self._file.sync_data()
        self._path(self._shard).lstat()  # raises where it was removed meanwhile: its bytes go with it
        self._end = end - len(END)
        if self._drops_pages:
            self._file.drop_pages(max(0, begin - _FOLIO_MAX), end)

    def _roll(self) -> None:
        new = self._opened(self._shard + 1, 0)
        self._file.close()
        self._file, self._shard, self._end = new, self._shard + 1, 0

    def _opened(self, shard: int, end: int) -> OpenFile:
        """Return a shard, open; it ends as a tar ends at `end`."""
        path = self._path(shard)
        if end == 0:
            partial = self._folder / f".{shard:06d}.growing"
            with OpenFile(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as file:
                file.write(END)
            atomic.replace(partial, path, is_synced=True)
            return OpenFile(path, os.O_RDWR)
        file = OpenFile(path, os.O_RDWR)
        try:
            end_tar(file, end)
        except OSError:
            file.close()
            raise
        return file

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard:06d}.tar"

    def _check_claim(self) -> None:
        path = self._path(self._shard)
        size = path.stat().st_size if path.exists() else 0
        if size < self._end:
            raise SinkError(
                f"{path} has {size} bytes, {self._end} were claimed: it was cut or removed; "
                f"put it back, or run: {repair(self._harvest)}"
            )

    def _drop_unclaimed(self) -> None:
        for path in self._folder.iterdir():
            found = _NAME.fullmatch(path.name)
            if (found and int(found[1]) > self._shard) or _UNFINISHED.fullmatch(path.name):
                path.unlink()


def end_tar(file: OpenFile, end: int) -> None:
    """Let a tar end there, and drop what lies behind."""
    file.write_at(end, [END])
    file.truncate(end + len(END))


def cuts(folder: Path, shard: int, end: int) -> bool:
    """Return whether a sink that opens there drops bytes: after a death, or with a mark that is wrong."""
    base = folder / FOLDER
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    numbers = [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
    if any(number > shard for number in numbers):
        return True
    return shard in numbers and (base / f"{shard:06d}.tar").stat().st_size > end + len(END)


def stem(item: Item) -> str:
    """Return a member's name: its only dot is before its ending, since WebDataset's key ends at the first."""
    folder, slash, name = item.key.rpartition("/")
    if name.endswith(".fits"):
        return f"{folder}{slash}{name[:-5].replace('.', '%2E')}.fits"
    return f"{folder}{slash}{name.replace('.', '%2E')}%00.bin"
