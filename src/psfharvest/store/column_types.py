"""The type of each column of many rows: the known one where it holds all values; found in one pass."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.core.catalog.table_column import CASTS

_OURS = {
    "x": ("pix", "x of the star in the extension, 0-based"),
    "y": ("pix", "y of the star in the extension, 0-based"),
    "size_px": ("pix", "side of the cutout"),
    "size_bytes": ("byte", "size of the file"),
    "ra": ("deg", "right ascension of the star, ICRS, from the header's WCS"),
    "dec": ("deg", "declination of the star, ICRS, from the header's WCS"),
}
"""Unit and meaning of columns that are no catalogue's."""
_KINDS = {str: "str", float: "float", int: "int", bool: "bool"}
_NONE = "str"
_INT_END = 2**63
"""Integers below it and above its negative are ``int``: the lowest of 64 bits stands for null in some formats."""


@dataclass(slots=True)
class ObservedTypes:
    """What was seen in one column; `width` is the longest text's, in characters."""

    types: set[type] = field(default_factory=set)
    width: int = 1
    n_values: int = 0


class ColumnTypes:
    """
    The types of columns, in the order in which the columns were first seen.

    Examples
    --------
    >>> kinds = ColumnTypes()
    >>> for row in ({"id": 1, "sky": None}, {"id": 2, "sky": 1.5}):
    ...     kinds.add(row)
    >>> kinds.all()
    {'id': 'int', 'sky': 'float'}
    """

    def __init__(self) -> None:
        self._seen: defaultdict[str, ObservedTypes] = defaultdict(ObservedTypes)
        self._n_rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row into account."""
        self._n_rows += 1
        for name, value in row.items():
            seen = self._seen[name]
            if value is None:
                continue
            seen.n_values += 1
            seen.types.add(type_of(value))
            if isinstance(value, str) and len(value) > seen.width:
                seen.width = len(value)

    def see(self, name: str, types: Iterable[type], n_values: int = 0, width: int = 1) -> None:
        """
        Take values of a column into account: their types, how many they are, and the longest text's characters.

        `count` says how many rows they are of; without it, and `n_values`, `has_null` knows nothing of them.
        """
        seen = self._seen[name]
        seen.n_values += n_values
        seen.types.update(types)
        seen.width = max(seen.width, width)

    def count(self, n_rows: int) -> None:
        """Take note of rows whose columns are seen."""
        self._n_rows += n_rows

    def all(self) -> dict[str, str]:
        """Return ``str``, ``int``, ``float`` or ``bool`` for each column."""
        return {name: self.kind(name) for name in self._seen}

    def kind(self, name: str) -> str:
        """Return a column's kind: the known one, or the narrowest wider one that holds all its values."""
        kinds = {_KINDS.get(type_, "str") for type_ in self._seen[name].types}
        if name in COLUMNS:
            kinds.add(COLUMNS[name].kind)
        return functools.reduce(wider, sorted(kinds)) if kinds else _NONE

    def width(self, name: str) -> int:
        """Return how many characters a column's longest text has, 1 at least."""
        return max(self._seen[name].width, 30 if len(self._seen[name].types) > 1 else 1)

    def has_null(self, name: str) -> bool:
        """Return True where a row lacks a value of the column."""
        return self._seen[name].n_values < self._n_rows


def about(name: str) -> tuple[str, str]:
    """Return a column's unit and meaning; nothing for one that is not known."""
    known = COLUMNS.get(name)
    return (known.unit, known.description) if known else _OURS.get(name, ("", ""))


def kind_of(value: object) -> str:
    """Return the kind of one value."""
    return _KINDS.get(type_of(value), "str")


def type_of(value: object) -> type:
    """Return a value's type as `ColumnTypes.see` takes it: an integer that 64 bits do not hold is an object."""
    return object if type(value) is int and not -_INT_END < value < _INT_END else type(value)


def wider(kind: str, other: str) -> str:
    """Return the narrowest kind that holds the values of both."""
    if kind == other:
        return kind
    kinds = {kind, other}
    return "str" if "str" in kinds else "float" if "float" in kinds else "int"


def column(rows: Iterable[Mapping[str, Any]], name: str, kind: str) -> list[Any]:
    """Return one column of rows as values of its kind, None where there is none."""
    cast = CASTS[kind]
    return [None if (value := row.get(name)) is None else cast(value) for row in rows]
