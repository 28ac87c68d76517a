"""
What a shard holds, read from the shard alone: each cutout with its note, past torn ends and damaged headers.

A record is two members, the cutout and its note (see `psfharvest.store.sinks.shards`). Where a header is damaged,
the scan goes on at the next whole one, so that one bad block costs one cutout and not the rest of the shard.

A repair puts one member, a filler, over each stretch that is no record any more, so that every reader of tars walks
over it. Its name has two underscores on both sides and no dot: readers of WebDataset pass it over.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.core.tar import BLOCK, END, MAGIC, MAGIC_AT, REGULAR, header, parse_header, pax_path
from psfharvest.filesystem.open_file import OpenFile

READ_AT_ONCE = 2**20
MAX_NOTE = 2**20
UNDER_WAY_LOOKS, UNDER_WAY_S = 20, 0.1
"""How often, and at what intervals, a batch that seems to be under way is looked at before it counts as damage."""
_FILLER = re.compile(rb"__removed-[0-9]+__")
_CUTOUT, _NOTE, _FILL = "cutout", "note", "filler"


class ShardRecord(NamedTuple):
    """One cutout of a shard, or what is left of it."""

    begin: int
    """Where its first header starts; -1 where that is lost."""
    start: int
    """Where its bytes start; -1 where their header is lost."""
    size: int
    note: dict[str, Any] | None
    """Its dataURI as ``uri``, then its catalogue row; None where the note is lost, and with it the dataURI."""
    end: int
    """Where the next record starts."""
    is_paired: bool = False
    """Whether both members have one key, as readers of WebDataset need; a lost record of a long name ends that."""

    @property
    def is_whole(self) -> bool:
        """True where both members are there, under their names."""
        return self.start >= 0 and self.note is not None and self.is_paired


class Filler(NamedTuple):
    """A stretch that a repair has made into a member of its own."""

    begin: int
    end: int


class Damage(NamedTuple):
    """What stands in the way of a reader of tars."""

    gaps: list[tuple[int, int]]
    """Stretches that are no whole records, each from its first byte to the next whole record."""
    end: int
    """Where the last whole record ends."""
    is_cut: bool
    """True where the tar does not end there as it should."""

    @property
    def is_any(self) -> bool:
        """True where a reader of tars does not come to the end."""
        return bool(self.gaps) or self.is_cut


class _Member(NamedTuple):
    begin: int
    start: int
    size: int
    end: int
    name: bytes
    is_behind_gap: bool

    @property
    def kind(self) -> str:
        if _FILLER.fullmatch(self.name):
            return _FILL
        return _NOTE if self.name.endswith(b".json") else _CUTOUT


def scan(path: Path, start: int = 0) -> Iterator[ShardRecord]:
    """
    Yield the records of a shard, in their order.

    Parameters
    ----------
    path
        Of the shard.
    start
        Where a record starts, or 0.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with OpenFile(path) as file:
        for piece in _pieces(_Window(file, file.size()), start):
            if isinstance(piece, ShardRecord):
                yield piece


def find_damage(path: Path, end: int | None = None) -> Damage:
    """
    Return what a reader of tars cannot walk over in a shard.

    Parameters
    ----------
    path
        Of the shard.
    end
        How much of it was claimed, where more may be written behind that; None: nothing more will be.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with OpenFile(path) as file:
        size = file.size()
        window = _Window(file, size if end is None else min(end, size))
        gaps = []
        whole_end = 0
        for piece in _pieces(window, 0):
            if isinstance(piece, Filler) or piece.is_whole:
                if piece.begin > whole_end:
                    gaps.append((whole_end, piece.begin))
                whole_end = piece.end
        if end is not None:
            is_ended = whole_end == end and _ends_well(end, size - end) and _goes_on(file, end)
            return Damage(gaps, whole_end, not is_ended)
        tail = file.read(READ_AT_ONCE, whole_end)
        return Damage(gaps, whole_end, any(tail) or not _ends_well(whole_end, len(tail)))


def _goes_on(file: OpenFile, end: int) -> bool:
    """
    Return whether a tar's end, or a member that is not claimed yet, stands behind the last claim.

    A writer puts the first header of a batch in place last: until then the second block alone may be in use.
    """
    for _ in range(UNDER_WAY_LOOKS):
        behind = file.read(len(END), end)
        if not any(behind) or parse_header(behind[:BLOCK]):
            return True
        if any(behind[:BLOCK]):
            return False
        time.sleep(UNDER_WAY_S)
    return False


def _ends_well(end: int, n_behind: int) -> bool:
    """Return whether readers are content with so many bytes behind the last record; without any, too."""
    return n_behind >= len(END) or (n_behind == 0 and end > 0)


def filler(begin: int, end: int) -> bytes:
    """Return the header of a member that spans a stretch of a shard."""
    return header(f"__removed-{begin:012d}__", end - begin - BLOCK)


class _Window:
    """The beginning of a file up to `end`, read in large pieces."""

    def __init__(self, file: OpenFile, end: int) -> None:
        self.end = end
        self._file = file
        self._at = 0
        self._piece = b""

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        size = max(0, min(size, self.end - offset))
        inside = offset - self._at
        if inside < 0 or inside + size > len(self._piece):
            n = max(size, min(READ_AT_ONCE, self.end - offset))
            self._at, self._piece, inside = offset, self._file.read(n, offset), 0
        return self._piece[inside : inside + size]


def _pieces(window: _Window, start: int) -> Iterator[ShardRecord | Filler]:
    body: _Member | None = None
    for member in _members(window, start):
        if body is not None and (member.is_behind_gap or member.kind != _NOTE):
            yield ShardRecord(body.begin, body.start, body.size, None, body.end)  # its note is lost
            body = None
        elif member.is_behind_gap and member.kind == _CUTOUT:
            yield ShardRecord(-1, -1, 0, None, member.begin)  # a stretch without one whole header
        if member.end > window.end:
            body = body or member
            break
        if member.kind == _FILL:
            yield Filler(member.begin, member.end)
        elif member.kind == _NOTE:
            begin, at, size, key = (body.begin, body.start, body.size, _key(body)) if body else (-1, -1, 0, b"")
            yield ShardRecord(begin, at, size, _note(window, member), member.end, bool(key) and key == _key(member))
        body = member if member.kind == _CUTOUT else None
    if body is not None:
        yield ShardRecord(body.begin, body.start, body.size, None, body.end)


def _key(member: _Member) -> bytes:
    return member.name.rpartition(b".")[0]


def _members(window: _Window, at: int) -> Iterator[_Member]:
    """Yield regular members, whole or torn; what cannot be read at the end is one torn member."""
    is_behind_gap = False
    long_name, begin = b"", at
    while head := window.read(BLOCK, at):
        member = parse_header(head)
        if member is None:
            found, is_any = _next_header(window, at)
            if found is None:
                if is_any:
                    yield _Member(at, -1, 0, 2**63, b"", is_behind_gap=False)
                return
            at = begin = found
            is_behind_gap, long_name = True, b""
            continue
        end = at + BLOCK + member.padded_size
        if member.kind in REGULAR:
            yield _Member(begin, at + BLOCK, member.size, end, long_name or member.name, is_behind_gap)
            is_behind_gap, long_name, begin = False, b"", end
        elif member.kind == b"x" and member.size <= MAX_NOTE:
            long_name = pax_path(window.read(member.size, at + BLOCK))
            begin = at if long_name else end
        at = end


def _next_header(window: _Window, at: int) -> tuple[int | None, bool]:
    """Return where the next whole header stands, and whether there is anything but zeros before it."""
    is_any = False
    while piece := window.read(READ_AT_ONCE, at):
        found = piece.find(MAGIC)
        while found >= 0:
            block = found - MAGIC_AT
            if block >= 0 and block % BLOCK == 0 and parse_header(piece[block : block + BLOCK]):
                return at + block, True
            found = piece.find(MAGIC, found + 1)
        is_any = is_any or piece.count(0) < len(piece)
        at += len(piece)
    return None, is_any


def _note(window: _Window, member: _Member) -> dict[str, Any] | None:
    if member.size > MAX_NOTE:
        return None
    try:
        note = json.loads(window.read(member.size, member.start))
    except (ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and isinstance(note.get("uri"), str) else None
