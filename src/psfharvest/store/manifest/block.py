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
harvest does not load numpy; `Column.array` does.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NULL, WHOLE, MINUS_ZERO = 1, 2, 3
"""Marks of rows without a value, and, among floats, of integers and of what a decimal cannot be."""
START = struct.Struct("<II")
PLAIN, STEPS = -2, -1
"""Values of `like` that are no column's index."""
_AROUND = 3
"""Two quotes and a comma: what a word takes beside its letters."""
_FEW = 4
"""Columns of a block whose entries are parsed one by one."""


class Entry(NamedTuple):
    """Entry of one column in the head."""

    kind: str
    length: int
    crc: int
    marks: int
    width: int
    base: int
    like: int
    scale: int


class _Even(NamedTuple):
    """Words of one length, each in quotes and with a comma behind it; how many they are, and their length."""

    content: bytes
    n: int
    n_letters: int


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
        self._entries: list[list[Any]] = []
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
        chosen = range(self.n_columns) if columns is None else columns
        return [self.column(column).value(index) for column in chosen]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the values of all rows."""
        if self._rows is None:
            columns = (self.column(column).values() for column in range(self.n_columns))
            self._rows = list(zip(*columns, strict=True))
        return self._rows

    def _decoded(self, index: int) -> Column:
        entry = self._entry(index)
        start = self._start(index)
        stream = self._blob[start : start + entry.length]
        _check(stream, entry.crc)
        like = self.column(entry.like) if entry.like >= 0 else None
        return Column(entry, self.n_rows, _inflated(stream), like)

    def _entry(self, index: int) -> Entry:
        """Return a column's entry: of few columns each is parsed apart, of many all are at once."""
        if not self._entries and len(self._columns) >= _FEW:
            _, *self._entries = json.loads(self._head)
        if self._entries:
            return Entry(*self._entries[index])
        kind, *numbers = self._written[index].rstrip("]").split(",")
        return Entry(kind.strip('"'), *map(int, numbers))

    def _start(self, index: int) -> int:
        """Return where a column's stream begins."""
        for written in self._written[len(self._starts) - 1 : index]:
            self._starts.append(self._starts[-1] + int(written.split(",", 2)[1]))
        return self._starts[index]


class Column:
    """
    One column of a block.

    Attributes
    ----------
    kind
        ``int``, ``decimal``, ``float``, ``text`` or ``json``.
    words
        Of ``text`` and ``json``: the different values, None first; else nothing.
    """

    def __init__(self, entry: Entry, n_rows: int, content: bytes, like: Column | None) -> None:
        self.kind = entry.kind
        self._entry = entry
        self._n_rows = n_rows
        self._content = content
        self._start = n_rows if entry.marks else 0
        self._marks = content[: self._start]
        self._like = like
        self._is_worded = entry.kind in ("text", "json")
        self._numbers: list[int] | None = None
        self._array: NDArray[np.int64] | None = None

    @cached_property
    def words(self) -> list[Any]:  # noqa: D102 - see the class
        if not self._is_worded:
            return []
        words = json.loads(self._written)
        return [None, *(words if self.kind == "text" else map(json.loads, words))]

    @property
    def _written(self) -> bytes:
        """The words, as they are stored."""
        return self._content[self._start + self._n_rows * self._entry.width :]

    @cached_property
    def _even(self) -> _Even | None:
        """The words where they are of one length and as they are read: exposures, dates; else None."""
        return _even(self._written)

    @cached_property
    def _stored(self) -> bytes:
        """The stored numbers, eight bytes each."""
        n, stored = self._n_rows, bytearray(8 * self._n_rows)
        for place in range(self._entry.width):
            begin = self._start + place * n
            stored[place if sys.byteorder == "little" else 7 - place :: 8] = self._content[begin : begin + n]
        return bytes(stored)

    def value(self, index: int) -> Any:
        """Return the value of one row."""
        mark = self._marks[index] if self._marks else 0
        if mark == NULL:
            return None
        if mark == MINUS_ZERO:
            return -0.0
        if self.kind == "float":
            value: float = memoryview(self._stored).cast("d")[index]
            return int(value) if mark == WHOLE else value
        number = self._number(index)
        if self._is_worded:
            return self._word(number)
        if self.kind == "int":
            return number
        return number // self._entry.scale if mark == WHOLE else number / self._entry.scale

    def values(self) -> list[Any]:
        """Return the values of all rows."""
        if self.kind == "float":
            found: list[Any] = memoryview(self._stored).cast("d").tolist()
        elif self._is_worded:
            found = list(map(self.words.__getitem__, self.numbers()))
        elif self.kind == "int":
            found = list(self.numbers())
        else:
            scale = self._entry.scale
            found = [number / scale for number in self.numbers()]
        if self._marks.count(0) < len(self._marks):
            for index, mark in enumerate(self._marks):
                if mark:
                    found[index] = None if mark == NULL else int(found[index]) if mark == WHOLE else -0.0
        return found

    def numbers(self) -> list[int]:
        """Return the whole numbers of all rows."""
        if self._numbers is None:
            base, stored = self._entry.base, memoryview(self._stored).cast("Q").tolist()
            if self._like is not None:
                self._numbers = [a + b + base for a, b in zip(stored, self._like.numbers(), strict=True)]
            elif self._entry.like == STEPS:
                self._numbers = [number + base for number in accumulate(stored)]
            else:
                self._numbers = [number + base for number in stored]
        return self._numbers

    def array(self) -> NDArray[Any]:
        """
        Return all rows as an array: int64, or float64, or, for columns of words, places in `words`.

        Where there is no value, it holds anything; see `nulls`.
        """
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        if self.kind == "float":
            return self._stored_array().view(np.float64)
        whole = self._whole_array()
        if self.kind != "decimal":
            return whole
        found = whole / np.float64(self._entry.scale)
        if MINUS_ZERO in self._marks:
            found[np.frombuffer(self._marks, np.uint8) == MINUS_ZERO] = -0.0
        return found

    def nulls(self) -> NDArray[np.bool_] | None:
        """Return which rows have no value; None where all have one."""
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        if self._is_worded:
            found: NDArray[np.bool_] = self._whole_array() == 0
            return found if found.any() else None
        return np.frombuffer(self._marks, np.uint8) == NULL if NULL in self._marks else None

    def wholes(self) -> NDArray[np.bool_] | None:
        """Return which rows of a column of floats are integers; None where none is."""
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        return np.frombuffer(self._marks, np.uint8) == WHOLE if WHOLE in self._marks else None

    def texts(self) -> NDArray[np.str_]:
        """Return the different values of a column of ``text`` as an array, with "" for null first."""
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        even = self._even
        if even is None:
            return np.array(["", *self.words[1:]], np.str_)
        letters = np.zeros((even.n + 1, even.n_letters), "<u4")
        quoted = np.frombuffer(even.content, np.uint8).reshape(even.n, even.n_letters + _AROUND)
        letters[1:] = quoted[:, 1 : 1 + even.n_letters]
        return letters.view(f"<U{even.n_letters}")[:, 0].astype(np.str_, copy=False)

    def _word(self, number: int) -> Any:
        """Return one of `words`, without the others where they need not be parsed for it."""
        if number == 0 or "words" in self.__dict__ or self._even is None:
            return self.words[number]
        begin = (number - 1) * (self._even.n_letters + _AROUND) + 1
        word = self._even.content[begin : begin + self._even.n_letters].decode("ascii")
        return word if self.kind == "text" else json.loads(word)

    def _number(self, index: int) -> int:
        if self._numbers is not None:
            return self._numbers[index]
        n, number = self._n_rows, self._entry.base
        is_sum = self._entry.like == STEPS
        for place in range(self._entry.width):
            at = self._start + place * n + index
            number += (sum(self._content[at - index : at + 1]) if is_sum else self._content[at]) << 8 * place
        return number + self._like._number(index) if self._like is not None else number

    def _stored_array(self) -> NDArray[np.int64]:
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        n, width = self._n_rows, self._entry.width
        places = np.frombuffer(self._content, np.uint8, n * width, self._start).reshape(width, n)
        found = np.zeros((n, 8), np.uint8)
        for place in range(width):  # faster than all of them at once
            found[:, place] = places[place]
        numbers: NDArray[np.int64] = found.view("<i8")[:, 0].astype(np.int64, copy=False)
        return numbers

    def _whole_array(self) -> NDArray[np.int64]:
        """Return the whole numbers of all rows, which are not to be changed."""
        import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

        if self._array is None:
            found = self._stored_array()
            if self._like is not None:
                found += self._like._whole_array()
            elif self._entry.like == STEPS:
                np.cumsum(found, out=found)
            if self._entry.base:
                found += self._entry.base
            self._array = found
        return self._array


def _even(written: bytes) -> _Even | None:
    """Return stored words of one length without escapes, as they stand; None for others."""
    content = written[1:-1] + b","
    size = content.find(b'"', 1) + 2
    n, rest = divmod(len(content), size)
    is_even = (
        n > 0
        and size > _AROUND
        and not rest
        and b"\\" not in content
        and content.count(b'"') == 2 * n
        and content[::size].count(b'"') == n
        and content[size - 2 :: size].count(b'"') == n
    )
    return _Even(content, n, size - _AROUND) if is_even else None


def _check(found: bytes, crc: int) -> None:
    if zlib.crc32(found) != crc:
        raise ValueError("a block of catalogue rows has not the checksum that it was stored with")


def _inflated(found: bytes) -> bytes:
    try:
        return zlib.decompress(found)
    except zlib.error as error:
        raise ValueError(f"a block of catalogue rows cannot be read: {error}") from error
