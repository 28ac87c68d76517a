"""
Filters of a query: which sources of a database answer it.

Rule: a filter means what the SQL behind the archive would make of it, and complains in SQL Server's
words. Discrete values are compared exactly, as text or as the column's number; ranges hold both ends; null
matches nothing.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.simulator.catalog.columns import COLUMNS, Column
from psfharvest.simulator.catalog.table import Table
from psfharvest.simulator.settings import Settings

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


class MashupError(Exception):
    """Raised when an answer is to be ``"status": "ERROR"``; its text is the ``msg``."""


def known_column(detector: str, name: str) -> Column:
    """
    Look up a column.

    Raises
    ------
    MashupError
        Where the database has no such column.
    """
    column = COLUMNS[detector].get(name)
    if column is None:
        raise MashupError(f"Invalid column name '{name}'.")
    return column


def matching(table: Table, filters: Any, settings: Settings) -> Indices:
    """
    Find the sources that answer all filters.

    Parameters
    ----------
    table
        The database.
    filters
        ``[{"paramName": p, "values": [...], "freeText": "..."}]``.
    settings
        What the archive makes of ranges.

    Returns
    -------
    ndarray of shape (n,)
        Indices in ascending order of id.

    Raises
    ------
    MashupError
        In the archive's words.
    """
    if not isinstance(filters, list):
        raise MashupError("Parameter 'filters' must be a list.")
    rules = [_Rule(table, entry, settings) for entry in filters]
    low, high = 0, len(table)
    for rule in rules:
        if rule.column.name == "id":
            first, last = rule.id_bounds()
            low, high = max(low, first), min(high, last)
    indices = np.arange(low, max(low, high), dtype=np.int64)
    for rule in rules:
        indices = indices[rule.keeps(indices)]
    return indices


class _Rule:
    """One filter, made ready."""

    def __init__(self, table: Table, entry: Any, settings: Settings) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("paramName"), str):
            raise MashupError("Incorrect syntax near 'filters': each needs 'paramName' and 'values'.")
        values = entry.get("values")
        if not isinstance(values, list):
            raise MashupError(f"Incorrect syntax near '{entry['paramName']}': 'values' must be a list.")
        self.table = table
        self.settings = settings
        self.column = known_column(table.detector, entry["paramName"])
        self.ranges = [bounds for value in values if isinstance(value, dict) for bounds in self._bounds(value)]
        self.values = [self._literal(value) for value in values if not isinstance(value, dict)]
        self.pattern = _like(entry["freeText"]) if entry.get("freeText") else None
        self.has_only_ignored = bool(values) and not self.ranges and not self.values

    def _bounds(self, value: dict[str, Any]) -> list[tuple[float, float]]:
        ends = [value.get("min"), value.get("max")]
        if None in ends:
            if self.settings.lone_bound == "error":
                raise MashupError("Incorrect syntax near the keyword 'AND'.")
            if self.settings.lone_bound == "ignore":
                return []
        low = -np.inf if ends[0] is None else _float(ends[0])
        return [(low, np.inf if ends[1] is None else _float(ends[1]))]

    def _literal(self, value: Any) -> str | float | int:
        if self.column.kind == "string":
            return str(value)
        return _int(value) if self.column.kind == "int" else _float(value)

    def _ends(self) -> tuple[bool, bool]:
        """Tell which ends of a range belong to it."""
        odd = self.settings.oddities
        is_inclusive = self.settings.ranges_inclusive and "exclusive_ends" not in odd
        return is_inclusive and "exclusive_low" not in odd, is_inclusive and "exclusive_high" not in odd

    def id_bounds(self) -> tuple[int, int]:
        """Give the slice of the sorted ids that ranges and values can reach."""
        if self.pattern is not None or not (self.ranges or self.values):
            return 0, len(self.table)
        lows = [low for low, _ in self.ranges] + [float(value) for value in self.values]
        highs = [high for _, high in self.ranges] + [float(value) for value in self.values]
        first = np.searchsorted(self.table.ids, min(lows), side="left")
        return int(first), int(np.searchsorted(self.table.ids, max(highs), side="right"))

    def keeps(self, indices: Indices) -> Mask:
        """Tell which of the sources pass."""
        if self.has_only_ignored and self.pattern is None:
            return np.ones(len(indices), dtype=bool)
        if self.table.is_shared(self.column.name):  # judged once an exposure, not once a source
            verdict = self._judge(self.table.exposure_column(self.column.name))
            return np.asarray(verdict[self.table.exposure[indices]], dtype=bool)
        return self._judge(self.table.column(self.column.name, indices))

    def _judge(self, found: NDArray[Any]) -> Mask:
        keeps = np.isin(found, np.array(self.values)) if self.values else np.zeros(len(found), dtype=bool)
        if self.ranges:
            numbers = _numbers(found)
            has_low, has_high = self._ends()
            for low, high in self.ranges:
                above = numbers >= low if has_low else numbers > low
                keeps |= above & (numbers <= high if has_high else numbers < high)
        if self.pattern is not None:
            texts, where = np.unique(found.astype(str), return_inverse=True)
            fits = np.array([self.pattern.fullmatch(str(text)) is not None for text in texts], dtype=bool)
            keeps |= fits[where] if len(found) else keeps
        if self.column.kind == "string":
            keeps &= found != ""  # null
        return keeps


def _numbers(found: NDArray[Any]) -> NDArray[np.float64]:
    if found.dtype.kind in "if":
        return found.astype(np.float64)
    try:
        return np.where(found == "", "nan", found).astype(np.float64)
    except ValueError:
        raise MashupError("Error converting data type varchar to float.") from None


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MashupError("Error converting data type varchar to float.") from None


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise MashupError(
            f"Conversion failed when converting the varchar value '{value}' to data type int."
        ) from None


def _like(text: Any) -> re.Pattern[str]:
    """Turn an SQL LIKE pattern, where ``%`` is any text, into a regular expression."""
    return re.compile(".*".join(re.escape(part) for part in str(text).split("%")), re.DOTALL)
