"""
Rows of metadata as an astropy Table, built a stretch at a time: never more than the arrays and a thousand rows.

Types and fillers are astroquery's: a null text is ``""`` and a null integer -999, both masked; a null float is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from psfharvest.core.errors import BadQuery
from psfharvest.store.column_types import FILLERS, ColumnTypes, about, column
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
            made.add_column(self._column(name, kinds[name]))
        return made

    def _pack(self) -> None:
        """Turn the rows at hand into arrays."""
        rows, self._rows = self._rows, []
        found = self._kinds.all()
        names = found if self._wanted is None else [name for name in self._wanted if name in found]
        piece = {}
        for name in names:
            values = column(rows, name, found[name])
            filler = FILLERS[found[name]]
            mask = np.array([value is None for value in values], np.bool_)
            piece[name] = np.array([filler if value is None else value for value in values]), mask
        self._pieces.append((len(rows), piece))

    def _column(self, name: str, kind: str) -> MaskedColumn:
        parts, masks = [], []
        for n, piece in self._pieces:
            if not n:
                continue
            values, mask = piece.get(name) or (np.full(n, FILLERS[kind]), np.ones(n, np.bool_))
            if mask.all():  # whatever it was taken for before its first value came
                values = np.full(n, FILLERS[kind])
            elif kind == "float" and mask.any():  # some of it may have been taken for whole numbers
                values = np.where(mask, np.nan, values)
            parts.append(values.astype(np.str_) if kind == "str" else values)
            masks.append(mask)
        dtype = {"str": np.str_, "int": np.int64, "float": np.float64, "bool": np.bool_}[kind]
        data: NDArray[Any] = np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
        unit, description = about(name)
        return MaskedColumn(
            data,
            name=name,
            mask=False if kind == "float" or not masks else np.concatenate(masks),
            unit=unit or None,
            description=description or None,
        )
