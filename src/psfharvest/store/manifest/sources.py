"""Catalogue rows in the manifest: the values of one row as a JSON array, its columns' names once a layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.store.manifest import items

if TYPE_CHECKING:
    from sqlite3 import Connection


def keep(
    db: Connection, detector: str, columns: Sequence[str], values: Sequence[Sequence[Any]], first: int
) -> list[int]:
    """Keep rows, numbered from `first`, and return their numbers; within a transaction."""
    names = json.dumps(list(columns))
    db.execute("INSERT OR IGNORE INTO layout (detector, columns) VALUES (?, ?)", (detector, names))
    layout = db.execute("SELECT n FROM layout WHERE detector = ? AND columns = ?", (detector, names)).fetchone()[0]
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    rows = [(n, layout, encode(row)) for n, row in enumerate(values, first)]
    db.executemany("INSERT INTO source VALUES (?, ?, ?)", rows)
    return list(range(first, first + len(rows)))


def texts(db: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Return rows as JSON objects, by number; their ``detector`` is the database that they are from."""
    rows = db.execute(
        f"SELECT n, layout, vals FROM source WHERE n {items.AMONG}",  # noqa: S608 - no value in it
        (items.among(numbers),),
    ).fetchall()
    layouts = {
        n: (json.loads(names), detector)
        for n, names, detector in db.execute("SELECT n, columns, detector FROM layout")
    }
    found = {}
    for n, layout, vals in rows:
        names, detector = layouts[layout]
        row = dict(zip(names, json.loads(vals), strict=True))
        found[n] = json.dumps({**row, "detector": detector})
    return found


def lacking(db: Connection, after: int, limit: int) -> list[tuple[int, CutoutURI]]:
    """Return cutouts with a number above `after` that have no row, with their parts, in the order of asking."""
    rows = db.execute(
        f"SELECT {items.columns_of('i')} FROM item i "  # noqa: S608 - names of our own
        "WHERE i.n > ? AND i.source IS NULL AND i.other IS NULL ORDER BY i.n LIMIT ?",
        (after, limit),
    ).fetchall()
    return [(row[0], parts) for row in rows if (parts := items.uri_of(row)[1]) is not None]
