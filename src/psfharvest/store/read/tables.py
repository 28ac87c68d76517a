"""
Rows of metadata as an astropy Table, built a stretch at a time: never more than the arrays and a thousand rows.

Types and fillers are astroquery's: a null text is ``""`` and a null integer -999, both masked; a null float is NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.table_column import CASTS
from psfharvest.core.errors import BadQuery
from psfharvest.store.column_types import ColumnTypes, column, kind_of, type_of, wider
from psfharvest.store.manifest.block_arrays import ColumnArrays
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import found_cutouts, pieces
from psfharvest.store.read.column_builder import ColumnBuilder, ColumnPart, constant, part_of
from psfharvest.store.read.intervals import Numbers
from psfharvest.store.read.known_columns import OURS
from psfharvest.store.read.pieces import Piece

BATCH_SIZE = 1000
_KINDS = {
    "extension": "int", "size_px": "int", "x": "float", "y": "float", "size_bytes": "int", "attempts": "int",
}  # fmt: skip


class TableBuilder:
    """
    Gather rows, then make the table.

    Parameters
    ----------
    columns
        Only these, in this order; None is all that come: ours last.
    n_rows
        How many rows come at most.
    """

    def __init__(self, columns: Sequence[str] | None, n_rows: int) -> None:
        self._wanted = None if columns is None else list(columns)
        self._among = frozenset(self._wanted or ())
        self._n_max = n_rows
        self._rows: list[Mapping[str, Any]] = []
        self._n_packed = 0
        self._columns: dict[str, ColumnBuilder] = {}
        self._kinds = ColumnTypes()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one more row."""
        self._kinds.add(row)
        self._rows.append(row)
        if len(self._rows) == BATCH_SIZE:
            self._pack()

    def add_page(self, manifest: Manifest, numbers: Numbers) -> None:
        """Take all that is known of some cutouts, ascending by number, column by column where that can be."""
        found = pieces.of(manifest, numbers)
        if not all(_is_complete(piece) for piece in found) or not _is_in_order(found):
            for row in found_cutouts.rows(manifest, numbers):
                self.add({**row.source, **row.ours})
            return
        self._pack()
        start = self._n_packed
        for piece in found:
            self._add_piece(piece)
            self._n_packed += piece.n
        self._add_ours(manifest, numbers, found, start)

    def table(self, known: Mapping[str, str]) -> Table:
        """
        Return the table.

        Parameters
        ----------
        known
            Columns of the folder, each with its kind: those that never came are there where they are wanted by
            name, and all of them where no row came.

        Raises
        ------
        BadQuery
            When a wanted column is not known.
        """
        self._pack()
        kinds = self._all_kinds()
        if self._wanted is not None or not self._n_packed:
            kinds = {**known, **kinds}
        names = [name for name in kinds if name not in OURS] + list(OURS)
        for name in self._wanted or ():
            if name not in kinds:
                raise BadQuery(f"column {name!r} is not in this harvest: it has {', '.join(names)}", field=name)
        made = Table(masked=True)
        for name in names if self._wanted is None else self._wanted:
            builder = self._columns.pop(name, None) or ColumnBuilder(self._n_max)
            made.add_column(builder.column(name, kinds[name], self._n_packed), copy=False)
        return made

    def arrays(self) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Return the columns that have come: the values of each, and which of them are null (None: none)."""
        self._pack()
        kinds = self._all_kinds()
        return {name: self._columns.pop(name).arrays(kinds[name], self._n_packed) for name in [*self._columns]}

    def _all_kinds(self) -> dict[str, str]:
        return dict.fromkeys(OURS, "str") | self._kinds.all() | _KINDS

    def _is_wanted(self, name: str) -> bool:
        return self._wanted is None or name in self._among

    def _is_wanted_of_source(self, name: str) -> bool:
        return name not in OURS and self._is_wanted(name)

    def _put(self, name: str, start: int, part: ColumnPart) -> None:
        if name not in self._columns:
            self._columns[name] = ColumnBuilder(self._n_max)
        self._columns[name].put(start, part)

    def _pack(self) -> None:
        """Turn the rows at hand into arrays."""
        rows, self._rows = self._rows, []
        for name, kind in self._kinds.all().items() if rows else ():
            if self._is_wanted(name):
                self._put(name, self._n_packed, part_of(column(rows, name, kind), kind))
        self._n_packed += len(rows)

    def _add_piece(self, piece: Piece) -> None:
        for name, spans in piece.columns(self._is_wanted_of_source):
            self._kinds.see(name, ())
            for span in spans:
                part, types = _typed(span.column, span.rows)
                self._kinds.see(name, types)
                self._put(name, self._n_packed + span.within.start, part)

    def _add_ours(self, manifest: Manifest, numbers: Numbers, found: Sequence[Piece], start: int) -> None:
        names = [name for name in OURS if self._is_wanted(name)]
        for name in OURS:
            self._kinds.see(name, ())
        direct = [name for name in names if name != "detector"]
        given = zip(direct, found_cutouts.ours(manifest, numbers, direct), strict=True) if direct else ()
        for name, values in given:
            part = _ours_part(values, _KINDS.get(name, "str"))
            if not part.is_null:
                self._kinds.see(name, {CASTS[_KINDS.get(name, "str")]})
            self._put(name, start, part)
        if "detector" in names:
            for piece in found:
                if piece.layout is not None:
                    self._kinds.see("detector", {str})
                    self._put("detector", start, constant(piece.layout.detector, piece.n))
                start += piece.n


def _is_complete(piece: Piece) -> bool:
    """Return whether the catalogue rows have every column that a dataURI would stand in for."""
    if piece.layout is None:
        return False
    there = frozenset(piece.layout.columns)
    place = detectors.DETECTORS.get(piece.layout.detector)
    return place is not None and there >= {
        "id",
        "rootname",
        place.filter_column,
        "x_raw",
        "y_raw",
        "x_cal",
        "y_cal",
    }


def _is_in_order(found: Sequence[Piece]) -> bool:
    """Return whether the pieces of a page follow on each other."""
    at = 0
    for piece in found:
        first, last = (
            (piece.places.start, piece.places.stop - 1)
            if isinstance(piece.places, slice)
            else (piece.places[0], piece.places[-1])
        )
        if (first, last) != (at, at + piece.n - 1):
            return False
        at += piece.n
    return True


def _ours_part(values: Sequence[Any], kind: str) -> ColumnPart:
    """Return a column of ours as a part; null where a place is written as no number."""
    try:
        return part_of(map(float, values) if kind == "float" else values, kind)
    except (TypeError, ValueError):
        return part_of([None if value is None else _as(value, kind) for value in values], kind)


def _as(value: Any, kind: str) -> Any:
    """Return a value of ours as one of its kind; None for a place that is written as no number."""
    try:
        return CASTS[kind](value)
    except ValueError:
        return None


def _typed(column: ColumnArrays, rows: Numbers | slice) -> tuple[ColumnPart, set[type]]:
    """Return a column's values in some rows, and the types of those that are not null."""
    values = column.array()[rows]
    if column.kind == "text":
        part = ColumnPart(values, None if values.all() else values == 0, column.texts())
        return part, set() if part.is_null else {str}
    if column.kind == "json":
        words = [column.words[code] for code in values.tolist()]
        given = [word for word in words if word is not None]
        kind = functools.reduce(wider, map(kind_of, given), "bool") if given else "str"
        return part_of([None if word is None else CASTS[kind](word) for word in words], kind), set(
            map(type_of, given)
        )
    nulls = column.nulls()
    mask = None if nulls is None else nulls[rows]
    part = ColumnPart(values, mask if mask is not None and mask.any() else None)
    types = set() if part.is_null else {CASTS["int" if column.kind == "int" else "float"]}
    wholes = column.wholes()
    if wholes is not None:
        found = wholes[rows]
        is_float = ~found if mask is None else ~found & ~mask
        types = ({int} if found.any() else set()) | ({float} if is_float.any() else set())
    return part, types
