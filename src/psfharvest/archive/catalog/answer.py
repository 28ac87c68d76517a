"""
Parsing of an answer of the query service; every value is checked.

The ``type`` of a field does not bind its values (floats come as strings, integers as floats), and names of types,
the case of the status and the name of a count are not known for sure: each is read by what it must mean, and
refused only where it means nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from psfharvest.archive.catalog.rows import Rows, Unreadable
from psfharvest.core.catalog.columns import COLUMNS

MAX_COUNT = 2**53
MAX_STRAYS = 100_000
"""Lists, and objects that are no rows or lack keys; more of them must at least be worth their memory in bytes."""
MIN_LIST_BYTES = MIN_STRAY_BYTES = 64
LOOK_EVERY = 1024
"""Objects between two calls of `look` while an answer is read."""
SELECTED = "_selected_"
"""A column that the service adds for the web portal's own use."""
_NOT_A_ROW = frozenset({"data", "fields", "status", "paging", "pageSize", "rowsTotal"})
_KINDS = {
    "char": "str", "string": "str", "datetime": "str", "date": "str",
    "double": "float", "float": "float", "decimal": "float", "real": "float", "numeric": "float",
    "float64": "float", "float32": "float", "money": "float",
    "int": "int", "short": "int", "long": "int", "number": "int", "bigint": "int", "smallint": "int",
    "tinyint": "int", "integer": "int", "int64": "int", "int32": "int",
    "boolean": "bool", "binary": "bool", "bit": "bool", "bool": "bool",
}  # fmt: skip
_NESTED = frozenset({tuple, list, dict})
_FALSE = frozenset({"", "0", "f", "false", "n", "no"})
_IS_COUNT = re.compile(r"column1|.*count.*|", re.IGNORECASE)


def parse(body: bytes, look: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """
    Return an answer as a dict whose ``data`` is a list of tuples, in the order of ``_layout``.

    Rows are packed while the JSON is being read, so that an answer never stands in memory as dicts. What `look`
    raises, which is called now and then, ends it: 50,000 rows take up to a second.

    Raises
    ------
    Unreadable
        When it is no JSON object of that form.
    """
    if body.count(b"[") * MIN_LIST_BYTES > len(body) + MAX_STRAYS:
        raise Unreadable("more lists than a table has")
    packer = _Packer(len(body), look)
    try:
        answer = json.loads(_decoded(body), object_hook=packer)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:200]}") from None
    if not isinstance(answer, dict):
        raise Unreadable("no JSON object")
    return answer | {"_layout": tuple(packer.layout), "_size_bytes": len(body)}


def status_of(answer: Mapping[str, Any]) -> str:
    """Return ``COMPLETE``, ``EXECUTING``, ``ERROR``, or whatever else stands there, in capitals."""
    return str(answer.get("status")).strip().upper()


def count_of(answer: Mapping[str, Any]) -> int:
    """
    Return the count of an answer to a count: one row, whose number may bear any name and be a text.

    Raises
    ------
    Unreadable
        When there is none, or several that could be it.
    """
    data = answer.get("data")
    row = data[0] if isinstance(data, list) and len(data) == 1 else None
    if isinstance(row, tuple):
        row = dict(zip(answer["_layout"], row, strict=True))
    if not isinstance(row, dict):
        raise Unreadable("no count in the answer to a count")
    numbers = {str(name): _whole(value) for name, value in row.items() if name != SELECTED}
    found = {name: number for name, number in numbers.items() if number is not None}
    if len(found) > 1:
        found = {name: number for name, number in found.items() if _IS_COUNT.fullmatch(name)}
    if len(found) != 1:
        raise Unreadable("no count in the answer to a count")
    (count,) = found.values()
    if not 0 <= count <= MAX_COUNT:
        raise Unreadable(f"a count of {str(count)[:40]}")
    return count


def total_of(answer: Mapping[str, Any]) -> int:
    """
    Return how many rows the whole result has, as the answer's ``paging`` says.

    Raises
    ------
    Unreadable
        When it does not say so.
    """
    paging = answer.get("paging")
    if isinstance(paging, tuple):
        paging = dict(zip(answer["_layout"], paging, strict=True))
    said = [_whole(paging.get(name)) for name in ("rowsTotal", "rowsFiltered")] if isinstance(paging, dict) else []
    totals = [n for n in said if n is not None and 0 <= n <= MAX_COUNT]
    if not totals:
        raise Unreadable("neither a count nor a total in the answer")
    return max(totals)


def rows_of(answer: Mapping[str, Any]) -> Rows:
    """
    Return the rows of an answer that `parse` gave.

    A value that does not fit its field's type makes the whole column one of texts: no row is lost for it.

    Raises
    ------
    Unreadable
        When there is no table in it.
    """
    data, layout = answer.get("data"), answer["_layout"]
    if not isinstance(data, list):
        raise Unreadable("no data")
    if not all(isinstance(row, (tuple, dict)) for row in data):
        raise Unreadable("a row that is no object")
    kinds = _kinds(answer.get("fields"), data, layout)
    names = tuple(kinds)
    if len(names) * len(data) > max(MAX_STRAYS, answer["_size_bytes"]):
        raise Unreadable(f"{len(names)} columns and {len(data)} rows, in less than a byte for each value")
    column_of = _columns(data, layout)
    columns = []
    for name, kind in kinds.items():
        values = column_of(name)
        types = set(map(type, values))
        if types & _NESTED:
            raise Unreadable(f"a list or an object where a value belongs, in {name[:100]!r}")
        try:
            columns.append(_cast_all(values, types, _cast(name, kind), kind))
        except (TypeError, ValueError, OverflowError):
            kinds[name] = "str"
            columns.append(_cast_all(values, types, _cast(name, "str"), "str"))
    rows = list(zip(*columns, strict=True)) if columns else [()] * len(data)
    return Rows(names, tuple(kinds.values()), rows)


def catalogue_rows_of(answer: Mapping[str, Any]) -> Rows:
    """Return `rows_of` with our names of known columns: a database takes a name in any case, and gives its own."""
    rows = rows_of(answer)
    counts = Counter(name.lower() for name in rows.columns)
    names = (low if (low := name.lower()) in COLUMNS and counts[low] == 1 else name for name in rows.columns)
    return Rows(tuple(names), rows.kinds, rows.values)


def _decoded(body: bytes) -> str:
    """Return the text of an answer: one byte of another encoding costs neither the row nor all the others."""
    try:
        return body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError:
        return body.decode("latin-1")


class _Packer:
    """Makes a tuple of each object that is a row; others may be many only where they are worth their memory."""

    def __init__(self, size_bytes: int, look: Callable[[], object]) -> None:
        self.layout: list[str] = []
        self._look = look
        self._n = 0
        self._n_strays = 0
        self._max_strays = max(MAX_STRAYS, size_bytes // MIN_STRAY_BYTES)

    def __call__(self, found: dict[str, Any]) -> Any:
        layout = self.layout
        self._n += 1
        if not self._n % LOOK_EVERY:
            self._look()
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


def _kinds(fields: Any, data: Sequence[Any], layout: Sequence[str]) -> dict[str, str]:
    """Return each column's kind: as its field says, else as the values are."""
    if fields is None:
        named: dict[str, Any] = dict.fromkeys(_text(name) for name in _names(data, layout))
    else:
        try:
            named = {_text(f["name"]): f.get("type") for f in fields}
        except (TypeError, KeyError, AttributeError):
            raise Unreadable("a field without a name") from None
    named.pop(SELECTED, None)
    places = {_text(name): place for place, name in enumerate(layout)}
    return {
        name: _inferred(name, data, places.get(name)) if type_ is None else _kind(str(type_))
        for name, type_ in named.items()
    }


def _names(data: Sequence[Any], layout: Sequence[str]) -> Iterable[str]:
    if any(isinstance(row, tuple) for row in data):
        return layout
    return dict.fromkeys(name for row in data for name in row)


def _kind(type_: str) -> str:
    return _KINDS.get(type_.partition("(")[0].strip().lower(), "str")


def _inferred(name: str, data: Sequence[Any], place: int | None) -> str:
    if (low := name.lower()) in COLUMNS:
        return COLUMNS[low].kind
    types = {type(_value(row, name, place)) for row in data} - {type(None)}
    if types and types <= {bool}:
        return "bool"
    if types and types <= {int}:
        return "int"
    return "float" if types and types <= {int, float} else "str"


def _value(row: tuple[Any, ...] | dict[str, Any], name: str, place: int | None) -> Any:
    if isinstance(row, dict):
        return row.get(name)
    return None if place is None else row[place]


def _columns(
    data: Sequence[tuple[Any, ...] | dict[str, Any]], layout: Sequence[str]
) -> Callable[[str], Sequence[Any]]:
    """Return a function that gives the values of a column, by its name."""
    places = {_text(name): place for place, name in enumerate(layout)}
    tuples = [row for row in data if isinstance(row, tuple)]
    if len(tuples) < len(data):
        return lambda name: [_value(row, name, places.get(name)) for row in data]

    def values(name: str) -> list[Any]:
        place = places.get(name)
        return [None] * len(tuples) if place is None else [row[place] for row in tuples]

    return values


def _cast_all(values: Sequence[Any], types: set[type], cast: Callable[[Any], Any], kind: str) -> Sequence[Any]:
    """Return the values of a column, of these types, as values of its kind; None stays."""
    types = types - {NoneType}
    if types <= {float} and kind == "float":
        return values
    if types == {str}:  # few texts differ
        casts = {value: cast(value) for value in set(values) if value is not None} | {None: None}
        return [casts[value] for value in values]
    return [None if value is None else cast(value) for value in values]


def _cast(name: str, kind: str) -> Callable[[Any], Any]:
    return _stripped if kind == "str" and name.lower() in COLUMNS else _CASTS[kind]


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
        return int(value) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        pass
    try:  # "30.0" is a whole number, too
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _int(value: Any) -> int | None:
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError("a whole number of more than 64 bits")
    return number


def _float(value: Any) -> float | None:
    return None if value == "" else float(value)


def _bool(value: Any) -> bool:
    return value.strip().lower() not in _FALSE if isinstance(value, str) else bool(value)


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list, dict)):
        raise Unreadable("a list or an object where a value belongs")
    text = str(value)
    # JSON may hold half a surrogate pair, which no file, database or terminal takes
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _stripped(value: Any) -> str:
    return _text(value).strip()


_CASTS: dict[str, Callable[[Any], Any]] = {"str": _text, "float": _float, "int": _int, "bool": _bool}
