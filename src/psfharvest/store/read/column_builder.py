"""One column of a table, gathered in parts: numbers in one array of their final length, texts as codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from astropy.table import MaskedColumn
from numpy.typing import NDArray

from psfharvest.core.catalog.table_column import CASTS, FILLERS, as_array, masked_column
from psfharvest.store.column_types import about

Mask = NDArray[np.bool_]
_DTYPES = {"int": np.dtype(np.int64), "float": np.dtype(np.float64)}


class ColumnPart(NamedTuple):
    """
    Values of some rows that follow on each other.

    `mask` says which are null, None for none of them. Where there are `words`, `values` are positions in them.
    """

    values: NDArray[Any]
    mask: Mask | None = None
    words: NDArray[np.str_] | None = None

    @property
    def is_null(self) -> bool:
        """Whether no row has a value."""
        return self.mask is not None and bool(self.mask.all())

    def taken(self) -> NDArray[Any]:
        """Return the values, texts as themselves."""
        return self.values if self.words is None else self.words[self.values]


def part_of(values: Iterable[Any], kind: str) -> ColumnPart:
    """Return plain values of one kind as a part; None is null."""
    listed = list(values)
    if kind == "float":
        found = np.array(listed, np.float64)  # None is NaN
        mask = np.array([value is None for value in listed], np.bool_) if np.isnan(found).any() else None
        return ColumnPart(found, mask)
    if None not in listed:
        return ColumnPart(np.array(listed, _DTYPES.get(kind)))
    filler = FILLERS[kind]
    mask = np.array([value is None for value in listed], np.bool_)
    return ColumnPart(np.array([filler if value is None else value for value in listed]), mask)


def constant(text: str, n: int) -> ColumnPart:
    """Return a text that all rows have as a part."""
    return ColumnPart(np.zeros(n, np.int8), None, np.array([text], np.str_))


class ColumnBuilder:
    """Gather a column."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._end = 0
        self._nulls: Mask | None = None
        self._numbers: list[tuple[int, int, NDArray[Any]]] = []
        """First row, the one behind the last, and an array of which as many are filled: one for each type."""
        self._texts: list[tuple[int, ColumnPart]] = []

    def put(self, start: int, part: ColumnPart) -> None:
        """Take the values of the rows from `start` on; rows that are left out are null."""
        if part.is_null:
            return
        self._close(start)
        n = len(part.values)
        if part.mask is not None:
            self._masked()[start : start + n] |= part.mask
        if part.words is not None or part.values.dtype.kind not in "ifb":
            self._texts.append((start, _narrowed(part)))
        else:
            self._put_numbers(start, part)
        self._end = start + n

    def arrays(self, kind: str, n_rows: int) -> tuple[NDArray[Any], Mask | None]:
        """
        Return values and nulls (None where there are none), of as many rows as there were in the end.

        What stands for a null is the kind's filler. The numbers' array is given away.
        """
        self._n_rows, self._nulls = n_rows, None if self._nulls is None else self._nulls[:n_rows]
        self._close(n_rows)
        data = self._data(kind)
        if self._nulls is not None:
            data[self._nulls] = FILLERS[kind]
        return data, self._nulls

    def column(self, name: str, kind: str, n_rows: int) -> MaskedColumn:
        """Return the column of a table; null floats are NaN and not masked."""
        data, nulls = self.arrays(kind, n_rows)
        return masked_column(name, data, False if kind == "float" or nulls is None else nulls, *about(name))

    def _put_numbers(self, start: int, part: ColumnPart) -> None:
        first, end, array = self._numbers[-1] if self._numbers else (0, -1, None)
        if array is None or end != start or array.dtype != part.values.dtype:
            first, array = start, np.empty(self._n_rows - start, part.values.dtype)
            self._numbers.append((first, start, array))
        n = len(part.values)
        array[start - first : start - first + n] = part.values
        self._numbers[-1] = first, start + n, array

    def _data(self, kind: str) -> NDArray[Any]:
        numbers, self._numbers = self._numbers, []
        texts, self._texts = self._texts, []
        if len(numbers) == 1 and not texts and numbers[0][:2] == (0, self._n_rows):
            return as_array(numbers[0][2][: self._n_rows], kind)
        if kind != "str":
            found = np.full(self._n_rows, FILLERS[kind], _DTYPES.get(kind, np.bool_))
            for first, end, array in numbers:
                found[first:end] = array[: end - first]
            for first, part in texts:
                found[first : first + len(part.values)] = [CASTS[kind](value) for value in part.taken().tolist()]
            return found
        written = [(first, array[: end - first].astype(np.str_)) for first, end, array in numbers]
        sizes = [array.dtype.itemsize for _, array in written] + [_item_bytes(part) for _, part in texts]
        found = np.zeros(self._n_rows, f"U{max(1, max(sizes, default=4) // 4)}")
        for first, array in written:
            found[first : first + len(array)] = array
        for first, part in texts:
            found[first : first + len(part.values)] = part.taken()
        return found

    def _close(self, start: int) -> None:
        """Note that the rows between the last that came and `start` are null."""
        if start > self._end:
            self._masked()[self._end : start] = True
            self._end = start

    def _masked(self) -> Mask:
        if self._nulls is None:
            self._nulls = np.zeros(self._n_rows, np.bool_)
        return self._nulls


def _narrowed(part: ColumnPart) -> ColumnPart:
    """Return a part that is kept: few words are taken up again by codes of two bytes."""
    if part.words is None or len(part.words) > 2**15:
        return part._replace(values=part.values.copy())
    return ColumnPart(part.values.astype(np.int16), None, part.words)


def _item_bytes(part: ColumnPart) -> int:
    """Return how many bytes each text takes; of values of other types, which become texts."""
    values = part.values if part.words is None else part.words
    return values.dtype.itemsize if values.dtype.kind == "U" else values.astype(np.str_).dtype.itemsize
