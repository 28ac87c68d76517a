"""
The rows of whatever a notebook holds as a table: an astropy Table of any kind of columns, or rows one by one.

A masked value stays masked, bytes become text, and only the columns wanted are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table


def rows_of(obs: Table | Iterable[Any], columns: Sequence[str]) -> tuple[Iterable[Mapping[str, Any]], int]:
    """
    Return the rows with those of `columns` that are there, and how many rows there are.

    Raises
    ------
    TypeError
        When `obs` is neither a table nor made of rows.
    """
    from astropy.table import Row, Table  # noqa: PLC0415 - heavy
    from numpy import ndarray  # noqa: PLC0415

    if isinstance(obs, ndarray) and obs.dtype.names:
        obs = Table(obs)
    if isinstance(obs, Table):
        there = [name for name in columns if name in obs.colnames]
        return _table_rows(obs, there), len(obs)
    if isinstance(obs, (str, bytes, Mapping, Row)) or not isinstance(obs, Iterable):
        raise TypeError(f"obs must be a Table or a list of its rows, not {type(obs).__name__}")
    rows = list(obs)
    for row in rows:
        if not isinstance(row, (Mapping, Row)):
            raise TypeError(f"a row of obs must be a Row or a dict, not {type(row).__name__}")
    return (_row(row, columns) for row in rows), len(rows)


def _table_rows(table: Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    from numpy import ma  # noqa: PLC0415 - heavy

    arrays = [ma.asanyarray(getattr(table[name], "value", table[name])) for name in columns]
    for values in zip(*(array.tolist() for array in arrays), strict=True):
        yield {name: _plain(value) for name, value in zip(columns, values, strict=True)}


def _row(row: Any, columns: Sequence[str]) -> dict[str, Any]:
    names = set(row.keys())
    return {name: _plain(getattr(row[name], "value", row[name])) for name in columns if name in names}


def _plain(value: Any) -> Any:
    if value is None:  # so a masked one leaves an array
        from numpy import ma  # noqa: PLC0415 - heavy

        return ma.masked
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
