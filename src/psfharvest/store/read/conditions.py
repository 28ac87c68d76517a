"""
Criteria, held against values: one by one, or a column of a block at once.

A range holds for numbers, and for texts that begin with a digit. A list of values holds as texts and, where both
sides are numbers, as numbers: ``0`` finds 0.0, ``2`` finds chip ``"2"``. What is null or no number is not found.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog import columns as known_columns
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion, Filter
from psfharvest.core.errors import BadQuery
from psfharvest.core.model import State
from psfharvest.store.manifest.block_arrays import ColumnArrays

Mask = NDArray[np.bool_]
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
_NEAR = 1e-14
"""Relative: numbers that are nearer to each other may read alike with 15 digits."""


class Condition:
    """
    One criterion.

    Raises
    ------
    BadQuery
        When it is of a kind that a folder is not searched by.
    """

    def __init__(self, criterion: Criterion) -> None:
        if isinstance(criterion, Filter):
            name = criterion.column
            raise BadQuery(f"{name}: a folder is searched by values or one range, not by a filter", field=name)
        self.column = criterion.column
        self._test: _Range | _Values = _Range(criterion) if isinstance(criterion, Between) else _Values(criterion)

    def holds(self, value: Any) -> bool:
        """Return whether it holds for one value of a catalogue row."""
        plain = _plain(value)
        return plain is not None and self._test.of_value(plain)

    def of_values(self, values: Sequence[Any]) -> Mask:
        """Return whether it holds, for each of some values."""
        known: dict[Any, bool] = {}
        found = np.zeros(len(values), np.bool_)
        for place, value in enumerate(values):
            if value is not None:
                holds = known.get(value)
                if holds is None:
                    holds = known[value] = self.holds(value)
                found[place] = holds
        return found

    def of_column(self, column: ColumnArrays) -> Mask:
        """Return whether it holds, for each row of a column."""
        if column.is_worded:
            found: Mask = np.array([self.holds(word) for word in column.words])[column.array()]
        else:
            found = self._test.of_numbers(column.array())
            nulls = column.nulls()
            if nulls is not None:
                found &= ~nulls
        return found


class _Range:
    def __init__(self, criterion: Between) -> None:
        self._low = -math.inf if criterion.low is None else float(criterion.low)
        self._high = math.inf if criterion.high is None else float(criterion.high)

    def of_value(self, value: float | str) -> bool:
        if isinstance(value, str):
            begin = _NUMBER.match(value)
            return begin is not None and self._low <= float(begin[0]) <= self._high
        return self._low <= float(value) <= self._high

    def of_numbers(self, values: NDArray[Any]) -> Mask:
        found: Mask = (values >= self._low) & (values <= self._high)
        return found


class _Values:
    def __init__(self, criterion: AnyOf) -> None:
        self._texts = frozenset(criterion.values)
        amounts = [n for text in criterion.values if (n := number_of(text)) is not None and not math.isnan(n)]
        self._amounts = frozenset(amounts)
        self._integers = np.array(
            [
                *(int(n) for n in amounts if n.is_integer() and abs(n) < 2**62),
                *(int(text) for text in criterion.values if _is_integer(text)),
            ],
            np.int64,
        )

    def of_value(self, value: float | str) -> bool:
        if isinstance(value, str):
            return value in self._texts
        return value in self._amounts or _text(value) in self._texts

    def of_numbers(self, values: NDArray[Any]) -> Mask:
        if values.dtype.kind == "i":
            return np.isin(values, self._integers)
        found = np.zeros(len(values), np.bool_)
        for amount in self._amounts:
            found |= values == amount
            if math.isfinite(amount):
                near = ~found & (np.abs(values - amount) <= _NEAR * abs(amount))
                for place in np.flatnonzero(near).tolist():
                    found[place] = _text(float(values[place])) in self._texts
        return found


def _plain(value: Any) -> float | str | None:
    """Return a value as SQL has it: numbers and texts."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else number_of(str(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _text(value: float) -> str:
    """Return a number's text: of a float 15 digits, and a point."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.15g}"
    mantissa, mark, exponent = text.partition("e")
    return text if "." in mantissa or not math.isfinite(value) else f"{mantissa}.0{mark}{exponent}"


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[1-9][0-9]{0,18}|0", text, re.ASCII) is not None and abs(int(text)) < 2**63


def number_of(text: str | None) -> float | None:
    """Return the number that a text is, or None."""
    try:
        return None if text is None else float(text)
    except (ValueError, OverflowError):
        return None


def check_values(criterion: Criterion) -> None:
    """
    Refuse values that would find nothing by mistake.

    Raises
    ------
    BadQuery
        For a state that is none, or a text for a column of numbers.
    """
    column = criterion.column
    entry = known_columns.COLUMNS.get(column)
    for value in criterion.values if isinstance(criterion, AnyOf) else ():
        if column == "state" and value not in list(State):
            raise BadQuery(f"state={value!r}: one of {', '.join(State)} is allowed", field=column)
        if entry is not None and entry.kind in ("int", "float") and number_of(value) is None:
            raise BadQuery(f"{column}={value!r}: a number is allowed ({entry.description})", field=column)
