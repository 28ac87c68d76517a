"""
The rows of an answer: read from JSON without trusting it, kept small, and turned into a table.

The ``type`` of a field does not bind its values (PROTOCOL 1.3), so every value is normalised here. Types and
fillers are those that astroquery gives, so that a table from here equals one from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.core.catalog.detectors import Detector

if TYPE_CHECKING:
    from astropy.table import Table

INT_FILLER = -999
MAX_STRAYS = 100_000
"""Lists, and objects that are no rows or lack keys; more of them must at least be worth their memory in bytes."""
MIN_LIST_BYTES = MIN_STRAY_BYTES = 64
_NOT_A_ROW = frozenset({"data", "fields", "status", "paging", "pageSize", "rowsTotal"})
_KINDS = {
    "char": "str", "string": "str", "datetime": "str", "date": "str",
    "double": "float", "float": "float", "decimal": "float",
    "int": "int", "short": "int", "long": "int", "number": "int",
    "boolean": "bool", "binary": "bool",
}  # fmt: skip


def _int(value: Any) -> int:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError("a whole number of more than 64 bits")
    return number


def _text(value: Any) -> str:
    text = str(value)
    # JSON may hold half a surrogate pair, which no file, database or terminal takes
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


_CASTS: dict[str, Callable[[Any], Any]] = {"str": _text, "float": float, "int": _int, "bool": bool}
_DTYPES = {"float": "float64", "int": "int64", "bool": "bool"}


class Unreadable(ValueError):
    """Raised when an answer is not what a query's answer looks like."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Rows of a catalogue, column names apart from values.

    Attributes
    ----------
    columns, kinds
        Names, and ``str``, ``int``, ``float`` or ``bool`` for each.
    values
        One tuple a row, in the order of `columns`; None is null.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]

    @classmethod
    def none(cls, columns: Sequence[str] | None, detector: Detector) -> Rows:
        """Return no rows, with the columns asked for, or all that are known."""
        names = tuple(columns or (c.name for c in COLUMNS.values() if detector.name in c.only))
        return cls(names, tuple(COLUMNS[n].kind if n in COLUMNS else "str" for n in names), ())

    def __len__(self) -> int:
        return len(self.values)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a dict."""
        for row in self.values:
            yield dict(zip(self.columns, row, strict=True))

    def only(self, columns: Sequence[str]) -> Rows:
        """
        Return these columns in this order.

        Raises
        ------
        Unreadable
            When one is absent.
        """
        try:
            places = [self.columns.index(c) for c in columns]
        except ValueError as error:
            raise Unreadable(f"the archive left out a column: {error}") from None
        values = [tuple(row[p] for p in places) for row in self.values]
        return Rows(tuple(columns), tuple(self.kinds[p] for p in places), values)

    def distinct_by_id(self) -> Rows:
        """
        Return the rows in ascending order of ``id``, each id once.

        Raises
        ------
        Unreadable
            When a row has no whole number for an id.
        """
        if "id" not in self.columns:
            raise Unreadable("an answer without the column 'id'")
        at = self.columns.index("id")
        try:
            by_id = {int(row[at]): row for row in self.values}
        except (TypeError, ValueError, OverflowError):
            raise Unreadable("a row without an id") from None
        return Rows(self.columns, self.kinds, [by_id[key] for key in sorted(by_id)])

    def table(self) -> Table:
        """
        Return an astropy Table with astroquery's types, and units and descriptions on the known columns.

        Null texts become ``""``, null integers -999 and null booleans False, all masked; null floats become an
        unmasked NaN.
        """
        from astropy.table import MaskedColumn, Table  # noqa: PLC0415 - heavy
        from numpy import array  # noqa: PLC0415

        table = Table(masked=True)
        for at, (name, kind) in enumerate(zip(self.columns, self.kinds, strict=True)):
            filler: Any = {"str": "", "int": INT_FILLER, "float": float("nan"), "bool": False}[kind]
            plain = [filler if row[at] is None else _CASTS[kind](row[at]) for row in self.values]
            data = array(plain, dtype=_DTYPES.get(kind, "str"))
            mask: Any = [value == filler for value in plain] if kind in ("str", "int") else False
            if kind == "bool":
                mask = [row[at] is None for row in self.values]
            known = COLUMNS.get(name)
            table.add_column(
                MaskedColumn(
                    data,
                    name=name,
                    mask=mask,
                    unit=known.unit or None if known else None,
                    description=known.description if known else None,
                )
            )
        return table


def parse(body: bytes) -> dict[str, Any]:
    """
    Return an answer as a dict whose ``data`` is a list of tuples, in the order of ``fields``.

    Rows are packed while the JSON is being read, so that an answer never stands in memory as dicts.

    Raises
    ------
    Unreadable
        When it is no JSON object of that form.
    """
    if body.count(b"[") * MIN_LIST_BYTES > len(body) + MAX_STRAYS:
        raise Unreadable("more lists than a table has")
    packer = _Packer(len(body))
    try:
        answer = json.loads(body, object_hook=packer)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:200]}") from None
    if not isinstance(answer, dict):
        raise Unreadable("no JSON object")
    return answer | {"_layout": tuple(packer.layout), "_size_bytes": len(body)}


class _Packer:
    """Makes a tuple of each object that is a row; others may be many only where they are worth their memory."""

    def __init__(self, size_bytes: int) -> None:
        self.layout: list[str] = []
        self._n_strays = 0
        self._max_strays = max(MAX_STRAYS, size_bytes // MIN_STRAY_BYTES)

    def __call__(self, found: dict[str, Any]) -> Any:
        layout = self.layout
        if self._is_row(found):
            if not layout:
                layout.extend(found)
            if len(found) == len(layout) and all(key in found for key in layout):
                return tuple(found[key] for key in layout)
        self._n_strays += 1
        if self._n_strays > self._max_strays:
            raise Unreadable("too many objects that are no rows")
        return found

    @staticmethod
    def _is_row(found: dict[str, Any]) -> bool:
        is_field = "name" in found and "type" in found and "id" not in found
        return bool(found) and _NOT_A_ROW.isdisjoint(found) and not is_field


def rows_of(answer: dict[str, Any]) -> Rows:
    """
    Return the rows of an answer that `parse` gave.

    Raises
    ------
    Unreadable
        When data and fields do not fit together.
    """
    data, fields, layout = answer.get("data"), answer.get("fields"), answer["_layout"]
    if not isinstance(data, list) or not isinstance(fields, list):
        raise Unreadable("no data or no fields")
    try:
        kinds = {_text(f["name"]): _KINDS.get(str(f["type"]).lower(), "str") for f in fields}
    except (TypeError, KeyError):
        raise Unreadable("a field without name or type") from None
    kinds.pop("_selected_", None)
    names = tuple(kinds)
    if not all(isinstance(row, (tuple, dict)) for row in data):
        raise Unreadable("a row that is no object")
    if len(names) * len(data) > max(MAX_STRAYS, answer["_size_bytes"]):
        raise Unreadable(f"{len(names)} columns and {len(data)} rows, in less than a byte for each value")
    found = {_text(name): place for place, name in enumerate(layout)}
    places = [found.get(name) for name in names]
    values = [_normal(row, places, kinds, names) for row in data]
    return Rows(names, tuple(kinds.values()), values)


def _normal(
    row: tuple[Any, ...] | dict[str, Any],
    places: list[int | None],
    kinds: dict[str, str],
    names: tuple[str, ...],
) -> tuple[Any, ...]:
    if isinstance(row, dict):
        row, places = tuple(row.get(name) for name in names), list(range(len(names)))
    try:
        return tuple(
            None if place is None or row[place] is None else _CASTS[kinds[name]](row[place])
            for place, name in zip(places, names, strict=True)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"a value of the wrong type: {str(error)[:200]}") from None
