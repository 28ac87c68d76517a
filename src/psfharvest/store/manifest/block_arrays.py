"""Column of several blocks as arrays, decoded together; the module `block` describes the format."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.store.manifest.block import Block
from psfharvest.store.manifest.block_column import MINUS_ZERO, NULL, STEPS, WHOLE, Column

_NUMBER_BYTES = 8


class ColumnArrays:
    """
    One column in some blocks, of one kind in all of them: their rows behind each other.

    Parameters
    ----------
    columns
        The column of each block; all have the same kind, and are stored as differences to the same column.
    like
        That column in the same blocks, in parts; nothing where there is none.

    Attributes
    ----------
    kind
        ``int``, ``decimal``, ``float``, ``text`` or ``json``.
    """

    def __init__(self, columns: Sequence[Column], like: Sequence[ColumnArrays] = ()) -> None:
        self._columns = columns
        self._like = like
        self._n_rows = [column.n_rows for column in columns]
        self.kind = columns[0].kind

    @property
    def n_rows(self) -> int:
        """How many rows it has."""
        return sum(self._n_rows)

    @property
    def is_worded(self) -> bool:
        """Whether values are places in `words`, and not numbers."""
        return self.kind in ("text", "json")

    @cached_property
    def words(self) -> list[Any]:
        """What the places in `array` mean, None first; a word of two blocks stands twice."""
        return [None, *itertools.chain.from_iterable(column.words[1:] for column in self._columns)]

    def array(self) -> NDArray[Any]:
        """
        Return all rows: int64, or float64, or, for columns of words, places in `words`; not to be changed.

        Where there is no value, it holds anything; see `nulls`.
        """
        return self._array

    def nulls(self) -> NDArray[np.bool_] | None:
        """Return which rows have no value; None where all have one."""
        if not self.is_worded:
            return self._marked(NULL)
        return None if self._array.all() else self._array == 0

    def wholes(self) -> NDArray[np.bool_] | None:
        """Return which rows of a column of floats are integers; None where none is."""
        return self._marked(WHOLE)

    def texts(self) -> NDArray[np.str_]:
        """Return `words` of a column of ``text`` as an array, with "" for null."""
        evens = [even for column in self._columns if (even := column.even_words) is not None]
        sizes = {even.word_bytes for even in evens}
        if len(evens) < len(self._columns) or len(sizes) > 1:
            return np.array(["", *self.words[1:]], np.str_)
        [size] = sizes
        written = np.frombuffer(b"".join(even.content for even in evens), np.uint8)
        quoted = written.reshape(-1, size)
        letters = np.zeros((len(quoted) + 1, size - 3), "<u4")
        letters[1:] = quoted[:, 1:-2]  # between the quotes, and before the comma
        return letters.view(f"<U{letters.shape[1]}")[:, 0].astype(np.str_, copy=False)

    @cached_property
    def _array(self) -> NDArray[Any]:
        if self.kind == "float":
            return self._stored().view(np.float64)
        if self.kind != "decimal":
            return self.numbers
        scales = [column.entry.scale for column in self._columns]
        found = self.numbers / (float(scales[0]) if len({*scales}) == 1 else self._by_row(scales, np.float64))
        is_minus_zero = self._marked(MINUS_ZERO)
        if is_minus_zero is not None:
            found[is_minus_zero] = -0.0
        return found

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The whole numbers of all rows, and of words their places among those of all blocks."""
        found = self._stored()
        bases = [column.entry.base for column in self._columns]
        if self._like:
            found += np.concatenate([part.numbers for part in self._like])
        elif self._columns[0].entry.like == STEPS:
            np.cumsum(found, out=found)
            starts = [0, *itertools.accumulate(self._n_rows[:-1])]
            before = [int(found[start - 1]) if start else 0 for start in starts]
            bases = [_wrapped(base - steps) for base, steps in zip(bases, before, strict=True)]
        if any(bases):
            found += bases[0] if len({*bases}) == 1 else self._by_row(bases, np.int64)
        if self.is_worded and len(self._columns) > 1:
            n_before = [0, *itertools.accumulate(column.n_words for column in self._columns[:-1])]
            np.add(found, self._by_row(n_before, np.int64), out=found, where=found != 0)
        return found

    def _stored(self) -> NDArray[np.int64]:
        """Return the stored numbers, eight bytes each."""
        width = max(column.entry.width for column in self._columns)
        if width == 0:
            return np.zeros(self.n_rows, np.int64)
        places = [np.frombuffer(self._place(place), np.uint8) for place in range(width)]
        if width == 1:
            return places[0].astype(np.int64)
        found = np.zeros((len(places[0]), _NUMBER_BYTES), np.uint8)
        for place, digits in enumerate(places):  # faster than all of them at once
            found[:, place] = digits
        numbers: NDArray[np.int64] = found.view("<i8")[:, 0].astype(np.int64, copy=False)
        return numbers

    def _place(self, place: int) -> bytes:
        """Return the bytes of one significance of all rows."""
        return b"".join(column.digits(place) for column in self._columns)

    def _marked(self, mark: int) -> NDArray[np.bool_] | None:
        if not any(mark in column.marks for column in self._columns):
            return None
        marks = b"".join(column.marks or bytes(column.n_rows) for column in self._columns)
        is_marked: NDArray[np.bool_] = np.frombuffer(marks, np.uint8) == mark
        return is_marked

    def _by_row(self, by_block: Sequence[int], dtype: Any) -> NDArray[Any]:
        return np.repeat(np.array(by_block, dtype), self._n_rows)


class BlockArrays:
    """Some blocks of one layout, whose rows count behind each other."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._known: dict[tuple[int, int, int], ColumnArrays] = {}

    def column(self, index: int) -> list[ColumnArrays]:
        """
        Return a column in parts, each of one kind.

        Raises
        ------
        ValueError
            When it is damaged.
        """
        return self._parts(index, 0, len(self._blocks))

    def _parts(self, index: int, start: int, stop: int) -> list[ColumnArrays]:
        columns = [block.column(index) for block in self._blocks[start:stop]]
        found = []
        for (_, like), group in itertools.groupby(columns, key=_form):
            some = list(group)
            key = index, start, start + len(some)
            if key not in self._known:
                of_like = self._parts(like, start, start + len(some)) if like >= 0 else ()
                self._known[key] = ColumnArrays(some, of_like)
            found.append(self._known[key])
            start += len(some)
        return found


def _wrapped(number: int) -> int:
    """Return the number of 64 bits that is equal modulo 2**64, as sums of arrays are."""
    return (number + 2**63) % 2**64 - 2**63


def _form(column: Column) -> tuple[str, int]:
    return column.kind, column.entry.like
