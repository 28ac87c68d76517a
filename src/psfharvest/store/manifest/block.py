"""
A block: some catalogue rows of one layout, stored by column in one blob of the manifest. This page is the format.

A blob is a head and, behind it, one stream for each column in the layout's order. It begins with two little-endian
32-bit numbers, the length of the head and its CRC-32. The head is a JSON array, compressed by zlib: the number of
rows, then for each column an array ``[kind, length, crc, marks, width, base, like, scale]``. `length` and `crc`
are of the column's stream, which is compressed by zlib, too, and read without the others. It holds, in this order:

* where `marks` is 1, one byte a row: 0, or `NULL`, or, among floats, `WHOLE` (an integer) or `MINUS_ZERO`;
* the whole numbers of the rows, `width` bytes each, by significance: the lowest byte of all rows, then the next;
* in columns of words, the different words, as a JSON array of texts.

A whole number is stored less the column's `base`; where `like` is -1 as the difference to the row before (`base` is
then added once), where it is 0 or more as the difference to the same row of the column with that index. What it
means depends on the kind:

=========  =================================================================================================
int        the value
decimal    the value times `scale`, a power of ten: floats of few decimals, as catalogues print them
float      the bits of the value as a double
text       0 for null, or else the place in the list of words, from 1
json       the same for anything else (booleans, integers above 64 bits, columns of mixed types): a word is the
           value as JSON
=========  =================================================================================================

Every value comes back as it was given, its type included: the kind is chosen by trying whether it does, in
`psfharvest.store.manifest.block_encoder`. Encoding and reading rows need the standard library only, so that a
harvest does not load numpy; `psfharvest.store.manifest.block_arrays` does.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from itertools import accumulate, starmap
from typing import Any

from psfharvest.store.manifest.block_column import Column, Entry

START = struct.Struct("<II")
_FEW = 4
"""Columns of a block whose entries are parsed one by one."""


def identity(blob: bytes) -> tuple[int, bytes]:
    """Return what differs between blobs that differ: the head's checksum, which covers those of all columns."""
    return len(blob), blob[: START.size]


class Block:
    """
    A block's columns, each decoded when it is first asked for.

    Parameters
    ----------
    blob
        As `psfharvest.store.manifest.block_encoder.encode` gave it.

    Raises
    ------
    ValueError
        When it is damaged, here and in `column`.
    """

    def __init__(self, blob: bytes) -> None:
        if len(blob) < START.size:
            raise ValueError("a block of catalogue rows is cut off")
        length, crc = map(int, START.unpack_from(blob))
        head = blob[START.size : START.size + length]
        _check(head, crc)
        self._head = _inflated(head).decode("ascii")
        n_rows, *self._written = self._head[1:-1].split(",[")
        self.n_rows = int(n_rows)
        self._entries: list[Entry] = []
        self._starts: list[int] = [START.size + length]
        self._blob = blob
        self._columns: dict[int, Column] = {}
        self._rows: list[tuple[Any, ...]] | None = None

    @property
    def n_columns(self) -> int:
        """How many columns it has."""
        return len(self._written)

    def column(self, index: int) -> Column:
        """Return one column."""
        found = self._columns.get(index)
        if found is None:
            found = self._columns[index] = self._decoded(index)
        return found

    def row(self, index: int, columns: Iterable[int] | None = None) -> list[Any]:
        """Return the values of one row: of all columns, or of some."""
        chosen = range(self.n_columns) if columns is None else list(columns)
        if len(chosen) > _FEW:
            self._parse()
        return [self.column(column).value(index) for column in chosen]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the values of all rows."""
        if self._rows is None:
            self._parse()
            columns = (self.column(column).values() for column in range(self.n_columns))
            self._rows = list(zip(*columns, strict=True))
        return self._rows

    def _decoded(self, index: int) -> Column:
        if len(self._columns) >= _FEW:
            self._parse()
        entry = self._entries[index] if self._entries else self._entry(index)
        start = self._starts[index] if index < len(self._starts) else self._start(index)
        stream = self._blob[start : start + entry.length]
        _check(stream, entry.crc)
        like = self.column(entry.like) if entry.like >= 0 else None
        return Column(entry, self.n_rows, _inflated(stream), like)

    def _parse(self) -> None:
        """Parse the entries of all columns at once, which takes less time than those of many one by one."""
        if not self._entries:
            _, *found = json.loads(self._head)
            self._entries = list(starmap(Entry, found))
            self._starts = list(accumulate((entry.length for entry in self._entries), initial=self._starts[0]))

    def _entry(self, index: int) -> Entry:
        """Return one column's entry."""
        kind, *numbers = self._written[index].rstrip("]").split(",")
        return Entry(kind.strip('"'), *map(int, numbers))

    def _start(self, index: int) -> int:
        """Return where a column's stream begins."""
        for written in self._written[len(self._starts) - 1 : index]:
            self._starts.append(self._starts[-1] + int(written.split(",", 2)[1]))
        return self._starts[index]


def _check(found: bytes, crc: int) -> None:
    if zlib.crc32(found) != crc:
        raise ValueError("a block of catalogue rows has not the checksum that it was stored with")


def _inflated(found: bytes) -> bytes:
    try:
        return zlib.decompress(found)
    except zlib.error as error:
        raise ValueError(f"a block of catalogue rows cannot be read: {error}") from error
