"""Column of a block: its values singly or in a list; the module `block` describes the format."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

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


class EvenWords(NamedTuple):
    """Words of one length, each in quotes and with a comma behind it; how many they are, and what each takes so."""

    content: bytes
    n: int
    word_bytes: int


class Column:
    """
    One column of a block.

    Attributes
    ----------
    kind
        ``int``, ``decimal``, ``float``, ``text`` or ``json``.
    entry
        The column's entry in the head.
    n_rows
        How many rows it has.
    marks
        One byte a row, or nothing.
    words
        Of ``text`` and ``json``: the different values, None first; else nothing.
    """

    def __init__(self, entry: Entry, n_rows: int, content: bytes, like: Column | None) -> None:
        self.kind = entry.kind
        self.entry = entry
        self.n_rows = n_rows
        self._content = content
        self._start = n_rows if entry.marks else 0
        self.marks = content[: self._start]
        self._like = like
        self._is_worded = entry.kind in ("text", "json")
        self._numbers: list[int] | None = None

    @cached_property
    def words(self) -> list[Any]:  # noqa: D102 - see the class
        if not self._is_worded:
            return []
        words = json.loads(self._written)
        return [None, *(words if self.kind == "text" else map(json.loads, words))]

    @property
    def n_words(self) -> int:
        """How many different values a column of words has, without None."""
        return len(self.words) - 1 if self.even_words is None else self.even_words.n

    def digits(self, place: int) -> bytes:
        """Return the bytes of one significance, 0 for the lowest, of the stored numbers of all rows."""
        if place >= self.entry.width:
            return bytes(self.n_rows)
        begin = self._start + place * self.n_rows
        return self._content[begin : begin + self.n_rows]

    @property
    def _written(self) -> bytes:
        """The words, as they are stored."""
        return self._content[self._start + self.n_rows * self.entry.width :]

    @cached_property
    def even_words(self) -> EvenWords | None:
        """The words where they are of one length and as they are read: exposures, dates; else None."""
        return _even(self._written)

    @cached_property
    def _stored(self) -> bytes:
        """The stored numbers, eight bytes each."""
        stored = bytearray(8 * self.n_rows)
        for place in range(self.entry.width):
            stored[place if sys.byteorder == "little" else 7 - place :: 8] = self.digits(place)
        return bytes(stored)

    def value(self, index: int) -> Any:
        """Return the value of one row."""
        mark = self.marks[index] if self.marks else 0
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
        return number // self.entry.scale if mark == WHOLE else number / self.entry.scale

    def values(self) -> list[Any]:
        """Return the values of all rows."""
        if self.kind == "float":
            found: list[Any] = memoryview(self._stored).cast("d").tolist()
        elif self._is_worded:
            found = list(map(self.words.__getitem__, self.numbers()))
        elif self.kind == "int":
            found = list(self.numbers())
        else:
            scale = self.entry.scale
            found = [number / scale for number in self.numbers()]
        if self.marks.count(0) < len(self.marks):
            for index, mark in enumerate(self.marks):
                if mark:
                    found[index] = None if mark == NULL else int(found[index]) if mark == WHOLE else -0.0
        return found

    def numbers(self) -> list[int]:
        """Return the whole numbers of all rows."""
        if self._numbers is None:
            base, stored = self.entry.base, memoryview(self._stored).cast("Q").tolist()
            if self._like is not None:
                self._numbers = [a + b + base for a, b in zip(stored, self._like.numbers(), strict=True)]
            elif self.entry.like == STEPS:
                self._numbers = [number + base for number in accumulate(stored)]
            else:
                self._numbers = [number + base for number in stored]
        return self._numbers

    def _word(self, number: int) -> Any:
        """Return one of `words`, without the others where they need not be parsed for it."""
        if number == 0 or "words" in self.__dict__ or self.even_words is None:
            return self.words[number]
        begin, end = (place * self.even_words.word_bytes for place in (number - 1, number))
        word = self.even_words.content[begin + 1 : end - 2].decode("ascii")
        return word if self.kind == "text" else json.loads(word)

    def _number(self, index: int) -> int:
        if self._numbers is not None:
            return self._numbers[index]
        n, number = self.n_rows, self.entry.base
        is_sum = self.entry.like == STEPS
        for place in range(self.entry.width):
            at = self._start + place * n + index
            number += (sum(self._content[at - index : at + 1]) if is_sum else self._content[at]) << 8 * place
        return number + self._like._number(index) if self._like is not None else number


def _even(written: bytes) -> EvenWords | None:
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
    return EvenWords(content, n, size) if is_even else None
