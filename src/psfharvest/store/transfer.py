"""
The bytes of one source of a merge: linked where whole files can be, read, verified and stored anew elsewhere.

A closed shard whose claims are all taken gets a second name. The source goes on writing to its last shard, and a
shard that holds cutouts which another source has, too, would hold them twice: these are read cutout by cutout, held
against their hashes, and appended to the target's own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from psfharvest.core.errors import SinkError
from psfharvest.core.model import Item, Outcome, State
from psfharvest.filesystem import portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.manifest.merging import GrowingManifest, Placed, SourceShard, Taken
from psfharvest.store.readers.reader import Reader
from psfharvest.store.sinks import parquet_journal, shards
from psfharvest.store.sinks.files import NOT_LINKED, FileSink, explicit_location
from psfharvest.store.sinks.parquet import ParquetSink
from psfharvest.store.sinks.shards import ShardSink

AT_ONCE = 512
"""Cutouts of one transaction, at most."""
BYTES_AT_ONCE = 2**25
"""Bytes of them that are held in memory, unless one alone has more."""


class Destination:
    """
    Where cutouts go: the sink of the target folder, opened when it is first written to.

    Parameters
    ----------
    folder
        The target; its lock is held.
    grown
        The manifest that they are claimed in.
    """

    def __init__(self, folder: Path, grown: GrowingManifest) -> None:
        self.folder = folder
        self.grown = grown
        self._sink: FileSink | ShardSink | ParquetSink | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def sink(self) -> FileSink | ShardSink | ParquetSink:
        """Return the sink, open."""
        if self._sink is None:
            shard, end = self.grown.mark
            if self.grown.sink == "shards":
                self._sink = ShardSink(self.folder, shard=shard, end=end)
            elif self.grown.sink == "parquet":
                self._sink = ParquetSink(self.folder, shard=shard, end=end, claimed=lambda: self.grown.mark)
            else:
                self._sink = FileSink(self.folder, layout=self.grown.layout)
        return self._sink

    def files(self) -> FileSink:
        """Return the sink of a target that keeps files."""
        sink = self.sink()
        if not isinstance(sink, FileSink):
            raise TypeError(f"a target with sink {self.grown.sink} keeps no files")
        return sink

    def next_shard(self) -> int:
        """Close the sink, and return the number of a shard that is not in use."""
        self.settle()
        return self.grown.close_shard()[0]

    def settle(self) -> None:
        """Bring what a killed process has left to its claimed end, and close the sink."""
        if self.grown.mark[1]:
            self.sink()
        self.close()

    def close(self) -> None:
        """Close the sink."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


def drop_unclaimed(folder: Path, sink: str, first: int) -> None:
    """
    Remove shards, or Parquet files and journals, that a killed merge has left: those numbered from `first` on.

    Raises
    ------
    SinkError
        When that cannot be done.
    """
    base = folder / sink
    if sink not in (shards.FOLDER, parquet_journal.FOLDER) or not base.is_dir():
        return
    pattern = "*.tar" if sink == shards.FOLDER else "*/*.*"
    try:
        for path in base.glob(pattern):
            if path.stem.isdigit() and int(path.stem) >= first:
                path.unlink()
    except OSError as error:
        raise cannot_store(error, base) from error


def take(source: Path, target: Destination, *, may_link: bool, is_given_up: bool = False) -> Iterator[int]:
    """
    Store what the target's manifest is still to claim of a source, and claim it.

    Parameters
    ----------
    source
        The harvest folder whose manifest is attached.
    target
        Where it goes.
    may_link
        Whether files of the source may get second names; False: every byte is read and verified.
    is_given_up
        Whether nobody will write to the source again, so that its last shard may be linked, too.

    Yields
    ------
    int
        How many cutouts have been dealt with since the last time.

    Raises
    ------
    LocalError
        When the target cannot be written.
    """
    grown = target.grown
    last = None if is_given_up else int(grown.source_setting("shard", 0))
    with Reader(source) as reader:
        for shard in grown.shards():
            is_open = shard.number == last and grown.source_setting("sink") == shards.FOLDER
            if may_link and shard.is_whole and not is_open and _link_shard(source, target, shard):
                yield shard.n_taking
            else:
                yield from _rewrite(reader, target, shard.number)
        while may_link and grown.sink == "files" and (batch := grown.taking(None, AT_ONCE)):
            yield _link_files(source, reader, target, batch)
        yield from _rewrite(reader, target, None)


def _link_shard(source: Path, target: Destination, shard: SourceShard) -> bool:
    """Give a shard of the source, or its Parquet files of one number, a second name; False: that cannot be."""
    if target.grown.sink == shards.FOLDER:
        tar = Path(shards.FOLDER, f"{shard.number:06d}.tar")
        if _size(source / tar) < shard.end:
            return False
        relative = [tar]
    else:
        sides = sorted(parquet_journal.class_of(side_px) for side_px in shard.sides_px)
        relative = [Path(parquet_journal.FOLDER, side, f"{shard.number:06d}.parquet") for side in sides]
        if not all((source / path).is_file() for path in relative):
            return False  # it is a journal still
    number = target.next_shard()
    try:
        for path in relative:
            final = target.folder / path.with_name(f"{number:06d}{path.suffix}")
            final.parent.mkdir(parents=True, exist_ok=True)
            final.unlink(missing_ok=True)  # a killed merge has left it
            os.link(source / path, final)
            portable.sync_folder(final.parent)
    except OSError as error:
        if error.errno in NOT_LINKED:
            return False
        raise cannot_store(error, error.filename2 or target.folder) from error
    target.grown.claim_shard(shard.number, number)
    return True


def _link_files(source: Path, reader: Reader, target: Destination, batch: Sequence[Taken]) -> int:
    """Give files of the source second names, and claim them; what cannot be linked is copied."""
    sink, items = target.files(), target.grown.items([taken.new for taken in batch])
    is_tree = target.grown.layout == "tree"
    placed: list[Placed] = []
    left: list[tuple[Taken, Item]] = []
    for taken, item in zip(batch, items, strict=True):
        is_there = _size(source / taken.location) == taken.size_bytes
        location = sink.link(item, source / taken.location) if is_there else None
        if location is None:
            left.append((taken, item))
        else:
            placed.append(Placed(taken.old, None, explicit_location(item, location, is_tree=is_tree)))
    target.grown.claim(placed, {})
    for group in _groups(left):
        _store(reader, target, group)
    return len(batch)


def _rewrite(reader: Reader, target: Destination, shard: int | None) -> Iterator[int]:
    while batch := target.grown.taking(shard, AT_ONCE):
        items = target.grown.items([taken.new for taken in batch])
        for group in _groups(list(zip(batch, items, strict=True))):
            _store(reader, target, group)
            yield len(group)


def _store(reader: Reader, target: Destination, group: Sequence[tuple[Taken, Item]]) -> None:
    """Read cutouts, store those that are as claimed, and claim them; the others stay pending."""
    outcomes: list[Outcome] = []
    olds: list[int] = []
    broken: list[int] = []
    for taken, item in group:
        body = _read(reader, taken)
        if body is None:
            broken.append(taken.old)
        else:
            outcomes.append(Outcome(item, State.DONE, 0, body, hashlib.sha256(body).digest()))
            olds.append(taken.old)
    sink = target.sink()
    stored = sink.store(outcomes)
    placed = [Placed(old, s.shard, s.place) for old, s in zip(olds, stored, strict=True)]
    target.grown.claim(placed, sink.checkpoint())
    if broken:
        target.grown.leave_pending(broken)


def _read(reader: Reader, taken: Taken) -> bytes | None:
    """Return the bytes of a claim, or None where they are not what was claimed."""
    try:
        body = reader.read(taken.location, taken.size_bytes)
    except PermissionError as error:
        raise SinkError(f"cannot read {taken.location}: {error.strerror}; you need the right to read it") from error
    except (OSError, ValueError, IndexError):
        return None
    return body if hashlib.sha256(body).hexdigest() == taken.sha256 else None


def _groups(pairs: Sequence[tuple[Taken, Item]]) -> Iterator[list[tuple[Taken, Item]]]:
    group: list[tuple[Taken, Item]] = []
    size = 0
    for pair in pairs:
        if group and size + pair[0].size_bytes > BYTES_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(pair)
        size += pair[0].size_bytes
    if group:
        yield group


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
