"""
What a shard holds, read from the shard alone: each cutout with its note, past torn ends and damaged headers.

A record is two members, the cutout and its note (see `psfharvest.store.sinks.shards`). Where a header is damaged,
the scan goes on at the next whole one, so that one bad block costs one cutout and not the rest of the shard.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 512
READ_AT_ONCE = 2**20
MAX_NOTE = 2**20
_MAGIC = b"ustar"
_MAGIC_AT = 257
_REGULAR = (b"0", b"\0")
_PAX_PATH = re.compile(rb"^[0-9]+ path=(.*)$", re.MULTILINE)


class Record(NamedTuple):
    """One cutout of a shard, or what is left of it."""

    start: int
    """Where its bytes start; -1 where their header is lost."""
    size: int
    note: dict[str, Any] | None
    """Its dataURI as ``uri``, then its catalogue row; None where the note is lost, and with it the dataURI."""
    end: int
    """Where the next record starts."""


class _Member(NamedTuple):
    start: int
    size: int
    end: int
    is_note: bool
    is_behind_gap: bool


def scan(path: Path, start: int = 0) -> Iterator[Record]:
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
    handle = os.open(path, os.O_RDONLY)
    try:
        yield from _records(handle, start, os.fstat(handle).st_size)
    finally:
        os.close(handle)


def _records(handle: int, start: int, size: int) -> Iterator[Record]:
    body: _Member | None = None
    for member in _members(handle, start):
        if body is not None and (member.is_behind_gap or not member.is_note):
            yield Record(body.start, body.size, None, body.end)  # its note is lost
            body = None
        elif member.is_behind_gap and not member.is_note:
            yield Record(-1, 0, None, member.start - BLOCK)  # a stretch without one whole header
        if member.end > size:
            body = body or member
            break
        if member.is_note:
            yield Record(*((body.start, body.size) if body else (-1, 0)), _note(handle, member), member.end)
        body = None if member.is_note else member
    if body is not None:
        yield Record(body.start, body.size, None, body.end)


def _members(handle: int, at: int) -> Iterator[_Member]:
    """Yield regular members, whole or torn; what cannot be read at the end is one torn member."""
    is_behind_gap = False
    long_name = b""
    while head := os.pread(handle, BLOCK, at):
        size = _size_in(head)
        if size is None:
            found, is_any = _next_header(handle, at)
            if found is None:
                if is_any:
                    yield _Member(-1, 0, 2**63, is_note=False, is_behind_gap=False)
                return
            at, is_behind_gap, long_name = found, True, b""
            continue
        end = at + BLOCK + size + -size % BLOCK
        if head[156:157] in _REGULAR:
            name = long_name or head[:100].rstrip(b"\0")
            yield _Member(at + BLOCK, size, end, name.endswith(b".json"), is_behind_gap)
            is_behind_gap, long_name = False, b""
        elif head[156:157] == b"x" and size <= MAX_NOTE:
            found_name = _PAX_PATH.search(os.pread(handle, size, at + BLOCK))
            long_name = found_name[1] if found_name else b""
        at = end


def _size_in(head: bytes) -> int | None:
    """Return the size that a header tells, or None where it is no whole header."""
    if len(head) < BLOCK or head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return None
    try:
        claimed, size = (int(head[a:b].strip(b"\0 "), 8) for a, b in ((148, 156), (124, 136)))
    except ValueError:
        return None
    return size if sum(head) - sum(head[148:156]) + 8 * ord(" ") == claimed else None


def _next_header(handle: int, at: int) -> tuple[int | None, bool]:
    """Return where the next whole header stands, and whether there is anything but zeros before it."""
    is_any = False
    while piece := os.pread(handle, READ_AT_ONCE, at):
        found = piece.find(_MAGIC)
        while found >= 0:
            block = found - _MAGIC_AT
            if block >= 0 and block % BLOCK == 0 and _size_in(piece[block : block + BLOCK]) is not None:
                return at + block, True
            found = piece.find(_MAGIC, found + 1)
        is_any = is_any or piece.count(0) < len(piece)
        at += len(piece)
    return None, is_any


def _note(handle: int, member: _Member) -> dict[str, Any] | None:
    if member.size > MAX_NOTE:
        return None
    try:
        note = json.loads(os.pread(handle, member.size, member.start))
    except (ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and isinstance(note.get("uri"), str) else None
