"""
The metadata columns of what a folder's shards and Parquet files hold: one order and one type for the folder's life.

Every stored cutout has the same columns: what its dataURI says, then all columns of the three catalogues, then
those that this archive has beside them. A column without a value is null, never absent. A value that its column's
type cannot hold is null there and stands in `OTHER_VALUES`, so that nothing of a catalogue row is lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.columns import COLUMNS, known_names
from psfharvest.core.catalog.table_column import FILLERS
from psfharvest.core.fits import datauri, sky
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.store.column_types import kind_of, wider

FROM_URI = {
    "uri": "str", "detector": "str", "suffix": "str", "extension": "int", "size_px": "int", "x": "float",
    "y": "float",
}  # fmt: skip
"""Columns that every cutout has before those of its catalogue row."""
STORED = {"size_bytes": "int", "sha256": "str"}
"""Columns behind them, of what is stored."""
SKY = {"ra": "float", "dec": "float", sky.NAME: "int"}
"""Columns of a Parquet file from the header's WCS; what HATS sorts by is the last."""
OTHER_VALUES = "other_values"
"""Text column: a JSON object of the values that their columns cannot hold."""
NULLS = "nulls"
"""In a shard's notes, whose nulls are fillers: the names of the columns that are null, separated by commas."""
RESERVED = frozenset({*FROM_URI, *STORED, sky.NAME, OTHER_VALUES, NULLS, "header", "image", "fits"})
_IDENTITY = frozenset({"id", "rootname", "filter", "filter_1", "x_raw", "y_raw", "x_cal", "y_cal"})
"""Catalogue columns that a dataURI gives, too."""


Columns = Callable[[], Mapping[str, str]]


def known_columns() -> dict[str, str]:
    """Return the columns of the three catalogues, each with its type."""
    return {column.name: column.kind for column in COLUMNS.values()}


def infer(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """Return for each column the narrowest type that holds all its values; without those that have none."""
    kinds: dict[str, str] = {}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            if value is not None:
                kind = kind_of(value)
                kinds[name] = wider(kinds.get(name, kind), kind)
    return kinds


def of_uri(parts: CutoutURI) -> dict[str, Any]:
    """Return what a cutout's dataURI says of its catalogue row."""
    x, y = (_number(text) for text in (parts.x, parts.y))
    frame = "raw" if parts.suffix in detectors.RAW_SUFFIXES else "cal"
    name = detectors.of_cutout(parts.instrument, parts.filter).filter_column
    return {
        "id": parts.source_id,
        "rootname": parts.rootname,
        name: parts.filter,
        f"x_{frame}": x,
        f"y_{frame}": y,
    }


class RowSchema:
    """
    The columns of a folder.

    Parameters
    ----------
    catalogue
        The catalogue's columns in their order, each with its type; None: those that are known.

    Examples
    --------
    >>> schema = RowSchema({"id": "int", "rootname": "str", "qfit": "float"})
    >>> row = schema.row("mast:X/readme.txt", {"qfit": 0})
    >>> row["qfit"], row["id"], [*row][-1]
    (0.0, None, 'other_values')
    """

    def __init__(self, catalogue: Mapping[str, str] | None = None) -> None:
        columns = known_columns() if catalogue is None else catalogue
        self.catalogue = {name: kind for name, kind in columns.items() if name not in RESERVED}
        self.kinds = {**FROM_URI, **self.catalogue, OTHER_VALUES: "str"}

    def row(self, uri: str, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return all columns of one cutout; `source` is its catalogue row, with its ``detector``, or nothing."""
        parts = datauri.parts_of(uri)
        row: dict[str, Any] = dict.fromkeys(self.kinds)
        row["uri"] = uri
        given = source
        if parts is not None:
            detector = source.get("detector") or detectors.holder(parts.instrument, parts.filter)
            row |= {
                "detector": detector, "suffix": parts.suffix, "extension": parts.extension,
                "size_px": parts.size_px, "x": _number(parts.x), "y": _number(parts.y),
            }  # fmt: skip
            given = {**of_uri(parts), **source}
        odd = {}
        for name, value in given.items():
            if value is None or name == "detector":
                continue
            kind = self.catalogue.get(name)
            fitting = None if kind is None else fit(value, kind)
            if fitting is None:
                odd[name] = value
            else:
                row[name] = fitting
        if odd:
            row[OTHER_VALUES] = json.dumps(odd, sort_keys=True)
        return row

    def note(self, uri: str, source_json: str) -> bytes:
        """Return the JSON text that stands beside a cutout in a shard: every column, typed, and which are null."""
        row = self.row(uri, json.loads(source_json) if source_json else {})
        nulls = [name for name, value in row.items() if value is None]
        for name in nulls:
            row[name] = FILLERS[self.kinds[name]]
        row[NULLS] = ",".join(nulls)
        return json.dumps(row).encode()

    def row_of_note(self, note: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of the cutout that a note, of whatever version of this program, stands beside."""
        row = plain(note)
        return self.row(note["uri"], {**_source_of(row), "detector": row.get("detector")})


class RowSchemas:
    """
    Calls return the folder's schema as it is now; it is made anew when a column has come.

    Parameters
    ----------
    columns
        Returns the catalogue's columns; None: those that are known.
    """

    def __init__(self, columns: Columns | None) -> None:
        self._columns = columns
        self._made = RowSchema()

    def __call__(self) -> RowSchema:
        """Return the schema."""
        if self._columns is not None:
            columns = self._columns()
            if columns != self._made.catalogue:
                self._made = RowSchema(columns)
        return self._made


def sky_columns(cutout: Cutout) -> dict[str, Any]:
    """Return the values of `SKY`, null where the header has no celestial WCS."""
    place = sky.place(cutout)
    values = (None, None, None) if place is None else (place.ra, place.dec, sky.healpix(place))
    return dict(zip(SKY, values, strict=True))


def plain(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return a note's values with nulls in place of fillers."""
    nulls = frozenset(str(note.get(NULLS, "")).split(","))
    return {name: None if name in nulls else value for name, value in note.items() if name != NULLS}


def catalogue_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the catalogue row within a stored row, as the archive gave it; nothing where it came without one.

    Parameters
    ----------
    row
        Of a Parquet file, or `plain` of a note; of this version, or of an earlier one, which had no columns but the
        archive's beside ``uri``, ``size_bytes`` and ``sha256``.
    """
    source = _source_of(row)
    own = source if OTHER_VALUES not in row else {n: v for n, v in source.items() if n not in _IDENTITY}
    return {} if all(value is None for value in own.values()) else source


def _source_of(row: Mapping[str, Any]) -> dict[str, Any]:
    if OTHER_VALUES not in row:
        return {name: value for name, value in row.items() if name not in ("uri", *STORED)}
    own = frozenset(known_names(detectors.DETECTORS[row["detector"]]) if row["detector"] else ())
    computed = SKY if sky.NAME in row else {}
    source = {
        name: value
        for name, value in row.items()
        if name not in RESERVED and name not in computed and (value is not None or name in own)
    }
    return {**source, **json.loads(row[OTHER_VALUES] or "{}")}


def fit(value: Any, kind: str) -> Any:
    """Return a value as one of its column's type, or None where that cannot hold it."""
    if kind == "str":
        return value if isinstance(value, str) else str(value)
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value) if kind == "float" else _whole(value)
    except (ValueError, OverflowError):
        return None
    return number


def _whole(value: float | str) -> int | None:
    if isinstance(value, float) and not value.is_integer():
        return None
    number = int(value)
    return number if -(2**63) <= number < 2**63 else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
