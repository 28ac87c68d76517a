"""Tables as lines of text: no wider than a terminal, or JSON objects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table


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
    for row in table:
        yield json.dumps({name: _plain(row[name]) for name in names})


def _plain(value: Any) -> Any:
    if getattr(value, "mask", False):
        return None
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
