"""Column of a block: its values singly, in a list, or as an array; the module `block` describes the format."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NULL, WHOLE, MINUS_ZERO = 1, 2, 3
"""Marks of rows without a value, and, among floats, of integers and of what a decimal cannot be."""
PLAIN, STEPS = -2, -1
"""Values of `like` that are no column's index."""
_AROUND = 3
"""Two quotes and a comma: what a word takes beside its letters."""


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
        if width == 1:
            return np.frombuffer(self._content, np.uint8, n, self._start).astype(np.int64)
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
