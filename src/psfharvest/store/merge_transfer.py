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

from psfharvest.core.errors import FolderRefused, SinkError
from psfharvest.core.model import Item, Outcome, State
from psfharvest.filesystem import portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.byte_groups import byte_groups
from psfharvest.store.manifest.merging import MergedManifest, Placed, SourceShard, Taken
from psfharvest.store.moves import Moves
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.numbered_files import length_of
from psfharvest.store.sink_kinds import SINK_KINDS, Sink, numbered_files
from psfharvest.store.sinks.files import NOT_LINKED, FileSink, explicit_location

BATCH_SIZE = 512
"""Cutouts of one transaction, at most."""
BYTES_AT_ONCE = 2**25
"""Bytes of them that are held in memory, unless one alone has more."""


class Destination:
    """Where cutouts go: the sink of the target folder, opened when it is first written to."""

    def __init__(self, folder: Path, merged: MergedManifest) -> None:
        self.folder = folder
        self.merged = merged
        self.numbered = numbered_files(merged.sink)
        """What is known of the sink's numbered files; None where it has none."""
        self._kind = SINK_KINDS[merged.sink]
        self._sink: Sink | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def sink(self) -> Sink:
        """Return the sink, open; raises `FolderRefused` for a kind that cannot be merged."""
        if self._sink is None:
            if self._kind.open_merged is None:
                raise FolderRefused(f"folders with sink {self._kind.name!r} can be neither merged nor converted to")
            self._sink = self._kind.open_merged(self.folder, self.merged)
        return self._sink

    def linking(self) -> FileSink | None:
        """Return the sink if it can give a file that exists a second name."""
        sink = self.sink()
        return sink if isinstance(sink, FileSink) else None

    def next_shard(self) -> int:
        """Close the sink, and return the number of a shard that is not in use."""
        self.settle()
        return self.merged.close_shard()[0]

    def settle(self) -> None:
        """Cut what a killed process left behind the claimed end of the shard or journal, and close the sink."""
        if self.merged.mark[1]:
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
    numbered = numbered_files(sink)
    if numbered is None:
        return
    try:
        for path in numbered.numbered(folder):
            if path.stem.isdigit() and int(path.stem) >= first:
                path.unlink()
    except OSError as error:
        raise cannot_store(error, folder) from error


def take(
    source: Path, target: Destination, *, may_link: bool, is_given_up: bool = False, moves: Moves | None = None
) -> Iterator[int]:
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
    moves
        Takes note of files that are moved where they cannot be linked; None: these are copied, and verified.

    Yields
    ------
    int
        How many cutouts have been dealt with since the last time.

    Raises
    ------
    LocalError
        When the target cannot be written.
    """
    merged = target.merged
    last = None if is_given_up else int(merged.source_setting("shard", 0))
    with Reader(source) as reader:
        for shard in merged.shards():
            is_last = shard.number == last
            if may_link and shard.is_whole and (n := _link_shard(source, target, shard, moves, is_last=is_last)):
                yield n
            else:
                merged.list_shard(shard.number)
                yield from _rewrite(reader, target, shard.number)
        sink = target.linking() if may_link else None
        while sink is not None and (batch := merged.taking(None, BATCH_SIZE)):
            yield _link_files(source, reader, target, sink, batch)
        yield from _rewrite(reader, target, None)


def _link_shard(
    source: Path, target: Destination, shard: SourceShard, moves: Moves | None, *, is_last: bool
) -> int:
    """Give a shard of the source, or its Parquet files of one number, a second name; 0: that cannot be."""
    relative = target.numbered.whole(source, shard, is_last=is_last) if target.numbered is not None else []
    if not relative:
        return 0
    number = target.next_shard()
    try:
        for path in relative:
            final = target.folder / path.with_name(f"{number:06d}{path.suffix}")
            final.parent.mkdir(parents=True, exist_ok=True)
            final.unlink(missing_ok=True)  # a killed merge has left it
            if not _second_name(source / path, final, moves):
                return 0
            portable.sync_folder(final.parent)
    except OSError as error:
        raise cannot_store(error, error.filename2 or target.folder) from error
    return target.merged.claim_shard(shard.number, number)


def _second_name(path: Path, final: Path, moves: Moves | None) -> bool:
    """Link a file, or move it where that cannot be and it may be moved."""
    try:
        os.link(path, final)
    except OSError as error:
        if error.errno not in NOT_LINKED:
            raise
        return moves is not None and moves.move(path, final)
    return True


def _link_files(source: Path, reader: Reader, target: Destination, sink: FileSink, batch: Sequence[Taken]) -> int:
    """Give files of the source second names, and claim them; what cannot be linked is copied."""
    items = target.merged.items([taken.new for taken in batch])
    is_tree = target.merged.layout == "tree"
    placed: list[Placed] = []
    left: list[tuple[Taken, Item]] = []
    for taken, item in zip(batch, items, strict=True):
        is_there = length_of(source / taken.location) == taken.size_bytes
        location = sink.link(item, source / taken.location) if is_there else None
        if location is None:
            left.append((taken, item))
        else:
            placed.append(Placed(taken.old, None, explicit_location(item, location, is_tree=is_tree)))
    target.merged.claim(placed, {})
    for group in byte_groups(left, BYTES_AT_ONCE, _size_of):
        _store(reader, target, group)
    return len(batch)


def _rewrite(reader: Reader, target: Destination, shard: int | None) -> Iterator[int]:
    while batch := target.merged.taking(shard, BATCH_SIZE):
        items = target.merged.items([taken.new for taken in batch])
        for group in byte_groups(zip(batch, items, strict=True), BYTES_AT_ONCE, _size_of):
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
    target.merged.claim(placed, sink.checkpoint())
    if broken:
        target.merged.leave_pending(broken)


def _read(reader: Reader, taken: Taken) -> bytes | None:
    """Return the bytes of a claim, or None where they are not what was claimed."""
    try:
        body = reader.read(taken.location, taken.size_bytes)
    except PermissionError as error:
        raise SinkError(f"cannot read {taken.location}: {error.strerror}; you need the right to read it") from error
    except (OSError, ValueError, IndexError):
        return None
    return body if hashlib.sha256(body).hexdigest() == taken.sha256 else None


def _size_of(pair: tuple[Taken, Item]) -> int:
    return pair[0].size_bytes
