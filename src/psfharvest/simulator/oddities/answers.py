"""
Oddities of the query service: how counts, rows and their frame differ.

Rule: an answer is changed as JSON, after it has been worked out; which rows are hit is a function of their id.
"""

import json
import math
from collections.abc import Callable, Collection
from typing import Any, Final

SQL_TYPES: Final = {"int": "bigint", "float": "real", "string": "nvarchar"}
WIDTH: Final = 14
Row = dict[str, Any]


def columns_without(oddities: Collection[str], detector: str) -> frozenset[str]:
    """Give the columns that a database lacks."""
    gone = {"no_subarray_column": "subarray"}
    if detector == "IR":
        gone["no_chip_column"] = "chip"
    return frozenset(column for oddity, column in gone.items() if oddity in oddities)


def changed(text: bytes, oddities: Collection[str], detector: str, *, is_count: bool) -> bytes:
    """Change an answer in the form ``json``."""
    answer = json.loads(text)
    for name, change in (_COUNTS if is_count else _ROWS).items():
        if name in oddities:
            change(answer, detector)
    if "lower_status" in oddities:
        answer["status"] = "complete"
    return json.dumps(answer).encode()


def _count(change: Callable[[int], Row]) -> Callable[[Row, str], None]:
    def apply(answer: Row, _: str) -> None:
        answer["data"] = [change(answer["data"][0]["Column1"])]

    return apply


def _each(change: Callable[[Row, str], None]) -> Callable[[Row, str], None]:
    def apply(answer: Row, detector: str) -> None:
        for row in answer["data"]:
            change(row, detector)

    return apply


def _set(column: str, value: Any, one_of: int, *, only: str = "") -> Callable[[Row, str], None]:
    def change(row: Row, detector: str) -> None:
        name = "filter_1" if column == "filter" and detector == "WFPC2" else column
        is_hit = _number(row) % one_of == 0 and (not only or detector == only)
        if name in row and is_hit:
            row[name] = value

    return _each(change)


def _number(row: Row) -> int:
    """Give what decides whether a row is hit: its id, or, where that is not there, the length of its text."""
    value = row.get("id")
    return value if isinstance(value, int) else len(str(row))


def _chip(change: Callable[[str, str], Any]) -> Callable[[Row, str], None]:
    def apply(row: Row, detector: str) -> None:
        if row.get("chip") is not None:
            row["chip"] = change(row["chip"], detector)

    return _each(apply)


def _named(chip: str, detector: str) -> str:
    wfpc2 = "PC1" if chip == "1" else f"WF{chip}"
    return {"UVIS": f"UVIS{chip}", "WFPC2": wfpc2}.get(detector, chip)


def _padded(row: Row, _: str) -> None:
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = value.ljust(WIDTH)


def _typed(answer: Row, _: str) -> None:
    for field in answer["fields"]:
        field["type"] = SQL_TYPES[field["type"]]


def _selected(answer: Row, _: str) -> None:
    for row in answer["data"]:
        row["_selected_"] = None
    answer["fields"].append({"name": "_selected_", "type": "boolean"})


def _new(answer: Row, _: str) -> None:
    for row in answer["data"]:
        row["gaia_id"] = "none"
    answer["fields"].append({"name": "gaia_id", "type": "string"})


def _null_keys(row: Row, _: str) -> None:
    if _number(row) % 20 == 0:
        row.update({name: None for name in ("x_cal", "x_raw") if name in row})


def _without_fields(answer: Row, _: str) -> None:
    del answer["fields"]


_COUNTS: Final[dict[str, Callable[[Row, str], None]]] = {
    "count_selected": _count(lambda n: {"Column1": n, "_selected_": None}),
    "count_text": _count(lambda n: {"Column1": str(n)}),
    "count_decimal": _count(lambda n: {"Column1": float(n)}),
    "count_renamed": _count(lambda n: {"COUNT_BIG(*)": n}),
    "count_two_columns": _count(lambda n: {"Column1": n, "page": 1}),
}
_ROWS: Final[dict[str, Callable[[Row, str], None]]] = {
    "chip_null": _set("chip", None, 1, only="IR"),
    "chip_ir": _set("chip", "IR", 1, only="IR"),
    "chip_named": _chip(_named),
    "chip_decimal": _chip(lambda chip, _: f"{chip}.0"),
    "chip_number": _chip(lambda chip, _: int(chip)),
    "qfit_null": _set("qfit", None, 7),
    "qfit_nan": _set("qfit", math.nan, 7),
    "filter_null": _set("filter", None, 7),
    "filter_blank": _set("filter", "", 7),
    "subarray_null": _set("subarray", None, 7),
    "padded_texts": _each(_padded),
    "null_keys": _each(_null_keys),
    "sql_types": _typed,
    "rows_selected": _selected,
    "new_column": _new,
    "no_fields": _without_fields,
}
