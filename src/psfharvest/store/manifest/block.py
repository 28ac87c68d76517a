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

Every value comes back as it was given, its type included: the kind is chosen by trying whether it does. Encoding
and reading rows need the standard library only, so that a harvest does not load numpy; `Column.array` does.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate, repeat
from operator import eq, itemgetter, le, mul, sub, truediv
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NULL, WHOLE, MINUS_ZERO = 1, 2, 3
"""Marks of rows without a value, and, among floats, of integers and of what a decimal cannot be."""
_LEVEL = 6
_START = struct.Struct("<II")
_PLAIN, _STEPS = -2, -1
"""Values of `like` that are no column's index."""
_DECIMALS_MAX = 12
_EXACT = 2**53
"""Up to it every integer is a double, and a quotient of two is rounded once: the same in C, Python and numpy."""
_SAMPLE = 24
_AROUND = 3
"""Two quotes and a comma: what a word takes beside its letters."""
_GAIN = 0.6
"""A column is stored by its difference to another one where that takes less than this part of the room."""
_LENGTH = itemgetter(1)
"""The length of a column's stream, of its entry in the head."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Entry(NamedTuple):
    """Entry of one column in the head."""

    kind: str
    length: int
    crc: int
    marks: int
    width: int
    base: int
    like: int
    scale: int


class _Wholes(NamedTuple):
    """A column as whole numbers."""

    kind: str
    numbers: list[int]
    marks: bytes = b""
    scale: int = 1
    words: bytes = b""


class _Even(NamedTuple):
    """Words of one length, each in quotes and with a comma behind it; how many they are, and their length."""

    content: bytes
    n: int
    n_letters: int


def encode(rows: Sequence[Sequence[Any]], n_columns: int) -> bytes:
    """
    Return rows as a blob.

    Raises
    ------
    ValueError
        When a row has not as many values as there are columns.
    TypeError
        When a value is nothing that JSON has.
    """
    if any(len(row) != n_columns for row in rows):
        raise ValueError(f"a catalogue row has not {n_columns} values")
    known: list[_Wholes] = []
    entries, streams = [], []
    for values in zip(*rows, strict=True):
        wholes = _wholes_of(values)
        entry, stream = _packed(wholes, known)
        known.append(wholes)
        entries.append(entry)
        streams.append(stream)
    head = zlib.compress(_encode([len(rows), *entries]).encode(), _LEVEL)
    return b"".join([_START.pack(len(head), zlib.crc32(head)), head, *streams])


def identity(blob: bytes) -> tuple[int, bytes]:
    """Return what differs between blobs that differ: the head's checksum, which covers those of all columns."""
    return len(blob), blob[: _START.size]


class Block:
    """
    A block's columns, each decoded when it is first asked for.

    Parameters
    ----------
    blob
        As `encode` gave it.

    Raises
    ------
    ValueError
        When it is damaged, here and in `column`.
    """

    def __init__(self, blob: bytes) -> None:
        if len(blob) < _START.size:
            raise ValueError("a block of catalogue rows is cut off")
        length, crc = _START.unpack_from(blob)
        head = blob[_START.size : _START.size + length]
        _check(head, crc)
        n_rows, *self._entries = json.loads(_inflated(head))
        self.n_rows = int(n_rows)
        self._starts = list(accumulate(map(_LENGTH, self._entries), initial=_START.size + length))
        self._blob = blob
        self._columns: dict[int, Column] = {}
        self._rows: list[tuple[Any, ...]] | None = None

    @property
    def n_columns(self) -> int:
        """How many columns it has."""
        return len(self._entries)

    def column(self, index: int) -> Column:
        """Return one column."""
        found = self._columns.get(index)
        if found is None:
            found = self._columns[index] = self._decoded(index)
        return found

    def row(self, index: int, columns: Iterable[int] | None = None) -> list[Any]:
        """Return the values of one row: of all columns, or of some."""
        chosen = range(len(self._entries)) if columns is None else columns
        return [self.column(column).value(index) for column in chosen]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the values of all rows."""
        if self._rows is None:
            columns = (self.column(column).values() for column in range(len(self._entries)))
            self._rows = list(zip(*columns, strict=True))
        return self._rows

    def _decoded(self, index: int) -> Column:
        entry = _Entry(*self._entries[index])
        stream = self._blob[self._starts[index] : self._starts[index + 1]]
        _check(stream, entry.crc)
        like = self.column(entry.like) if entry.like >= 0 else None
        return Column(entry, self.n_rows, _inflated(stream), like)


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

    def __init__(self, entry: _Entry, n_rows: int, content: bytes, like: Column | None) -> None:
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
            elif self._entry.like == _STEPS:
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
        is_sum = self._entry.like == _STEPS
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
            elif self._entry.like == _STEPS:
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


def _deflated(parts: Iterable[bytes]) -> bytes:
    """Return parts as one zlib stream; a new deflate block for each, so that noise is stored and not coded."""
    packer = zlib.compressobj(_LEVEL)
    found = [piece for part in parts if part for piece in (packer.compress(part), packer.flush(zlib.Z_BLOCK))]
    return b"".join([*found, packer.flush()])


def _inflated(found: bytes) -> bytes:
    try:
        return zlib.decompress(found)
    except zlib.error as error:
        raise ValueError(f"a block of catalogue rows cannot be read: {error}") from error


def _wholes_of(values: Sequence[Any]) -> _Wholes:
    """Return a column as whole numbers, in the first form that gives every value back."""
    types = set(map(type, values))
    marks = b""
    if type(None) in types and len(types) > 1 and types <= {type(None), int, float}:
        marks = bytes([NULL if value is None else 0 for value in values])
        values = _filled(values)
        types.discard(type(None))
    if types == {int} and min(values) >= -(2**62) and max(values) < 2**62:  # so that no difference overflows
        return _Wholes("int", list(values), marks)
    if types == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        marks = bytes(
            [
                mark or (WHOLE if type(value) is int else 0)
                for value, mark in zip(values, marks or bytes(len(values)), strict=True)
            ]
        )
        values = [float(value) for value in values]
        types = {float}
    if types == {float}:
        decimal = _decimal(values)
        if decimal is not None:
            return _Wholes("decimal", decimal[0], _with_minus_zeros(values, decimal[0], marks), decimal[1])
        return _Wholes("float", array("q", array("d", values).tobytes()).tolist(), marks)
    if marks:
        values = [None if mark == NULL else value for value, mark in zip(values, marks, strict=True)]
    return _of_words(values, "text" if types <= {str, type(None)} and str in types else "json")


def _with_minus_zeros(values: Sequence[float], numbers: Sequence[int], marks: bytes) -> bytes:
    if 0 not in numbers:
        return marks
    found = bytearray(marks or bytes(len(values)))
    for index, value in enumerate(values):
        if value == 0 and math.copysign(1.0, value) < 0 and not found[index]:
            found[index] = MINUS_ZERO
    return bytes(found) if any(found) else b""


def _of_words(values: Sequence[Any], kind: str) -> _Wholes:
    texts = values if kind == "text" else [None if value is None else _encode(value) for value in values]
    places: dict[str | None, int] = {None: 0}
    numbers = [places.setdefault(text, len(places)) for text in texts]
    return _Wholes(kind, numbers, words=_encode(list(places)[1:]).encode())


def _filled(values: Sequence[Any]) -> list[Any]:
    """Return a column with the value before in place of each null: it takes the least room."""
    last = next(value for value in values if value is not None)
    found = []
    for value in values:
        last = last if value is None else value
        found.append(last)
    return found


def _decimal(values: Sequence[float]) -> tuple[list[int], int] | None:
    """Return floats as whole numbers of their last decimal, and its scale; None where that loses anything."""
    for decimals in range(_DECIMALS_MAX + 1):
        scale = 10**decimals
        if _scaled(values[:_SAMPLE], scale) is not None:
            numbers = _scaled(values, scale)
            if numbers is not None:
                return numbers, scale
    return None


def _scaled(values: Sequence[float], scale: int) -> list[int] | None:
    try:
        numbers = list(map(round, map(mul, values, repeat(scale))))
    except (ValueError, OverflowError):  # not a number, or infinite
        return None
    if max(numbers) > _EXACT or min(numbers) < -_EXACT:
        return None
    return numbers if all(map(eq, map(truediv, numbers, repeat(scale)), values)) else None


def _packed(wholes: _Wholes, known: Sequence[_Wholes]) -> tuple[_Entry, bytes]:
    numbers, base, like = wholes.numbers, 0, _PLAIN
    if wholes.kind != "float":
        like = _similar(wholes, known)
        if like >= 0:
            numbers = list(map(sub, numbers, known[like].numbers))
        elif wholes.kind == "int" and all(map(le, numbers, numbers[1:])):
            like = _STEPS
            base, numbers = numbers[0], [0, *map(sub, numbers[1:], numbers)]
        if like != _STEPS:
            base = min(numbers)
            numbers = [number - base for number in numbers]
        width = (max(numbers).bit_length() + 7) // 8
    else:
        width = 8
    content = [wholes.marks]
    if width:
        kind = "q" if wholes.kind == "float" else "Q"
        stored = array(kind, numbers)
        if sys.byteorder == "big":
            stored.byteswap()
        raw = stored.tobytes()
        content += [raw[place::8] for place in range(width)]
    stream = _deflated([*content, wholes.words])
    entry = _Entry(
        wholes.kind, len(stream), zlib.crc32(stream), int(bool(wholes.marks)), width, base, like, wholes.scale
    )
    return entry, stream


def _similar(wholes: _Wholes, known: Sequence[_Wholes]) -> int:
    """Return the index of the column before that takes the most of this one's room away, or `_PLAIN`."""
    if wholes.kind not in ("int", "decimal"):
        return _PLAIN
    step = max(1, len(wholes.numbers) // _SAMPLE)
    sample = wholes.numbers[::step]
    best, best_room = _PLAIN, _GAIN * _room(sample)
    for index, other in enumerate(known):
        if other.kind == wholes.kind and other.scale == wholes.scale:
            room = _room(list(map(sub, sample, other.numbers[::step])))
            if room < best_room:
                best, best_room = index, room
    return best


def _room(sample: Sequence[int]) -> int:
    """Return about how much room numbers take: the bits of their range for each different one."""
    return (max(sample) - min(sample)).bit_length() * len(set(sample))
