"""Tables as lines of text: no wider than a terminal, JSON objects, or a file in a format of astropy's."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table

ROWS_AT_ONCE = 20_000
"""Rows that stand in memory as Python's own values, which take many times an array's bytes."""


def fitting_table(table: Table, width: int | None) -> tuple[list[str], int]:
    """Return a table's lines, and how many columns they show: the first ones that fit; at least one."""
    n_columns = len(table.colnames)
    while True:
        lines = _lines(table, n_columns)
        if width is None or n_columns == 1 or max(map(len, lines)) < width:
            return lines, n_columns
        n_columns -= 1


def _lines(table: Table, n_columns: int) -> list[str]:
    return [str(line).rstrip() for line in table[table.colnames[:n_columns]].pformat(max_lines=-1, max_width=-1)]


def json_lines(table: Table) -> Iterator[str]:
    """Yield each row as a JSON object; what is masked or no number is null."""
    names = table.colnames
    for piece in pieces(table):
        for row in zip(*(map(_plain, piece[name].tolist()) for name in names), strict=True):
            yield json.dumps(dict(zip(names, row, strict=True)))


def pieces(table: Table) -> Iterator[Table]:
    """Yield a table in slices of `ROWS_AT_ONCE` rows, at least one."""
    for start in range(0, max(1, len(table)), ROWS_AT_ONCE):
        yield table[start : start + ROWS_AT_ONCE]


def write_lines(table: Table, path: Path, file_format: str) -> None:
    """Write a table in one of astropy's formats of lines, such as ``ascii.csv``, slice by slice."""
    header = _text(table[:0], file_format)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header)
        for piece in pieces(table):
            file.write(_text(piece, file_format).removeprefix(header))


def _text(table: Table, file_format: str) -> str:
    made = io.StringIO(newline="")
    table.write(made, format=file_format)
    return made.getvalue()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
