"""
Rows of metadata as an astropy Table, built a stretch at a time: never more than the arrays and a thousand rows.

Types and fillers are astroquery's: a null text is ``""`` and a null integer -999, both masked; a null float is NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.table_column import CASTS, FILLERS, as_array, masked_column
from psfharvest.core.errors import BadQuery
from psfharvest.store.column_types import ColumnTypes, about, column, kind_of, wider
from psfharvest.store.manifest.block import Column
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import pieces, search
from psfharvest.store.read.intervals import Numbers
from psfharvest.store.read.pieces import Piece
from psfharvest.store.read.search import OURS

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
    """

    def __init__(self, columns: Sequence[str] | None = None) -> None:
        self._wanted = None if columns is None else list(columns)
        self._rows: list[Mapping[str, Any]] = []
        self._pieces: list[tuple[int, dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]]] = []
        self._kinds = ColumnTypes()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one more row."""
        self._kinds.look(row)
        self._rows.append(row)
        if len(self._rows) == BATCH_SIZE:
            self._pack()

    def add_page(self, manifest: Manifest, numbers: Numbers) -> None:
        """Take all that is known of some cutouts, ascending by number, column by column where that can be."""
        found = pieces.of(manifest, numbers)
        if not all(_is_complete(piece) for piece in found) or not _is_in_order(found):
            for row in search.rows(manifest, numbers):
                self.add({**row.source, **row.ours})
            return
        self._pack()
        for piece in found:
            self._add_piece(piece)
        self._add_ours(manifest, numbers, found)

    def table(self) -> Table:
        """
        Return the table.

        Raises
        ------
        BadQuery
            When a wanted column never came.
        """
        self._pack()
        kinds = {**dict.fromkeys(OURS, "str"), **_KINDS} | self._kinds.all()
        names = [name for name in kinds if name not in OURS] + list(OURS)
        for name in self._wanted or ():
            if name not in kinds:
                raise BadQuery(f"column {name!r} is not in this harvest: it has {', '.join(names)}", field=name)
        made = Table(masked=True)
        for name in names if self._wanted is None else self._wanted:
            made.add_column(self._column(name, kinds[name]), copy=False)
        return made

    def _pack(self) -> None:
        """Turn the rows at hand into arrays."""
        rows, self._rows = self._rows, []
        found = self._kinds.all()
        names = found if self._wanted is None else [name for name in self._wanted if name in found]
        piece = {}
        for name in names:
            piece[name] = _packed(column(rows, name, found[name]), found[name])
        if rows:
            self._pieces.append((len(rows), piece))

    def _add_piece(self, piece: Piece) -> None:
        packed = {}
        for name in piece.layout.columns if piece.layout else ():
            is_wanted = name not in OURS and (self._wanted is None or name in self._wanted)
            column = piece.column(name) if is_wanted else None
            if column is None:
                self._kinds.see(name, ())
            else:
                values, mask, types = _typed(column, piece.rows)
                self._kinds.see(name, types)
                packed[name] = values, mask
        self._pieces.append((len(piece.rows), packed))

    def _add_ours(self, manifest: Manifest, numbers: Numbers, found: Sequence[Piece]) -> None:
        names = [name for name in OURS if self._wanted is None or name in self._wanted]
        for name in OURS:
            self._kinds.see(name, ())
        direct = [name for name in names if name != "detector"]
        columns: dict[str, Sequence[Any]] = {}
        if direct:
            columns = dict(zip(direct, search.ours(manifest, numbers, direct), strict=True))
        if "detector" in names:
            columns["detector"] = [p.layout.detector for p in found if p.layout for _ in range(len(p.rows))]
        at = 0
        for n, packed in self._pieces[-len(found) :]:
            for name in names:
                kind = _KINDS.get(name, "str")
                values = [None if v is None else _as(v, kind) for v in columns[name][at : at + n]]
                self._kinds.see(name, {type(v) for v in values if v is not None})
                packed[name] = _packed(values, kind)
            at += n

    def _column(self, name: str, kind: str) -> MaskedColumn:
        parts, masks = [], []
        for n, piece in self._pieces:
            if not n:
                continue
            values, mask = piece.pop(name) if name in piece else (np.full(n, FILLERS[kind]), np.ones(n, np.bool_))
            if mask.all():  # whatever it was taken for before its first value came
                values = np.full(n, FILLERS[kind])
            elif kind == "float" and mask.any():  # some of it may have been taken for whole numbers
                values = np.where(mask, np.nan, values)
            parts.append(values.astype(np.str_) if kind == "str" else values)
            masks.append(mask)
        data = as_array(np.concatenate(parts) if parts else [], kind)
        is_null: NDArray[np.bool_] | bool = False if kind == "float" or not masks else np.concatenate(masks)
        return masked_column(name, data, is_null, *about(name))


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
        n = len(piece.places)
        if n == 0 or piece.places[0] != at or piece.places[-1] != at + n - 1:
            return False
        at += n
    return True


def _as(value: Any, kind: str) -> Any:
    """Return a value of ours as one of its kind; None for a place that is written as no number."""
    try:
        return CASTS[kind](value)
    except ValueError:
        return None


def _packed(values: Sequence[Any], kind: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    filler = FILLERS[kind]
    mask = np.array([value is None for value in values], np.bool_)
    return np.array([filler if value is None else value for value in values]), mask


def _typed(column: Column, rows: Numbers) -> tuple[NDArray[Any], NDArray[np.bool_], set[type]]:
    """Return a column's values in some rows, which are null, and the types of the others."""
    if column.words:
        codes = column.array()[rows]
        types = {type(column.words[code]) for code in np.unique(codes).tolist() if code}
        if types <= {str}:
            texts = np.array(["", *column.words[1:]], np.str_)
            return texts[codes], codes == 0, types
        kinds = [kind_of(column.words[code]) for code in np.unique(codes).tolist() if code]
        kind = functools.reduce(wider, kinds)
        values = [None if (word := column.words[code]) is None else CASTS[kind](word) for code in codes.tolist()]
        return *_packed(values, kind), types
    nulls = column.nulls()
    mask = np.zeros(len(rows), np.bool_) if nulls is None else nulls[rows]
    kind = "int" if column.kind == "int" else "float"
    values_ = column.array()[rows]
    types = {CASTS[kind]} if not mask.all() else set()
    wholes = column.wholes()
    if wholes is not None:
        found = wholes[rows]
        types = ({int} if found.any() else set()) | ({float} if (~found & ~mask).any() else set())
    return (np.where(mask, FILLERS[kind], values_) if mask.any() else values_), mask, types
