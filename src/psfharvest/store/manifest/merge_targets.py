"""The targets of a merge: what its sources were asked for becomes what the merged folder is asked for."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from psfharvest.core.catalog.partition import Part, gaps
from psfharvest.store.manifest import merge_statements as sql
from psfharvest.store.manifest import settings


def columns_of(db: sqlite3.Connection, table: str, *without: str) -> str:
    """Return the names of a table's columns, for a statement."""
    rows = db.execute(f"PRAGMA main.table_info({table})").fetchall()
    return ", ".join(name for _, name, *_ in rows if name not in without)


def take(db: sqlite3.Connection) -> None:
    """Take in what the source was asked for: a part of a query or list as had, of the whole."""
    columns = columns_of(db, "ask", "n")
    asks = db.execute(
        "SELECT n, kind, identity, is_complete, position, lines, spec, expected FROM s.ask ORDER BY n"
    )
    for old, kind, identity, is_complete, position, lines, spec, expected in asks.fetchall():
        parent = json.loads(spec).get("parent")
        if parent is not None:
            _take_part(db, old, json.loads(spec), expected, is_complete=bool(is_complete))
            continue
        known = db.execute("SELECT n, is_complete FROM main.ask WHERE identity = ?", (identity,)).fetchone()
        if known is None:
            db.execute(
                f"INSERT INTO main.ask ({columns}) SELECT {columns} FROM s.ask WHERE n = ?",  # noqa: S608
                (old,),
            )
            known = (db.execute("SELECT last_insert_rowid()").fetchone()[0], 1)
        elif kind == "stream":  # each is another list, though none is known by a name: all must have come whole
            db.execute("UPDATE main.ask SET is_complete = min(is_complete, ?) WHERE n = ?", (is_complete, known[0]))
            continue
        elif known[1]:
            continue  # all of it is known here
        else:
            if is_complete:
                db.execute("DELETE FROM main.part WHERE ask = ?", (known[0],))
            db.execute(
                "UPDATE main.ask SET is_complete = max(is_complete, ?), position = max(position, ?), "
                "lines = max(lines, ?) WHERE n = ?",
                (is_complete, position, lines, known[0]),
            )
        db.execute(sql.TAKE_PARTS, {"new": known[0], "old": old})
        lacking = settings.get(db, f"lacking_{old}", 0, schema="s")
        settings.put(db, **{f"lacking_{known[0]}": lacking})


def complete(db: sqlite3.Connection) -> None:
    """Record a query as complete whose parts have all come."""
    for n, spec in db.execute("SELECT n, spec FROM ask WHERE NOT is_complete").fetchall():
        whole = json.loads(spec).get("whole")
        had = db.execute("SELECT low, high FROM part WHERE ask = ?", (n,)).fetchall()
        if whole is not None and not gaps([Part(*part) for part in had], Part(*whole)):
            db.execute("UPDATE ask SET is_complete = 1 WHERE n = ?", (n,))


def _take_part(
    db: sqlite3.Connection, old: int, spec: dict[str, Any], expected: int | None, *, is_complete: bool
) -> None:
    parent = spec["parent"]
    db.execute(
        "INSERT OR IGNORE INTO main.ask (kind, identity, spec) VALUES (?, ?, ?)",
        (parent.get("kind", "query"), parent["identity"], json.dumps(parent["spec"])),
    )
    new, is_known = db.execute(
        "SELECT n, is_complete FROM main.ask WHERE identity = ?", (parent["identity"],)
    ).fetchone()
    if is_known:
        return
    # a query that was begun as a whole may lack its range
    db.execute("UPDATE main.ask SET spec = ? WHERE n = ?", (json.dumps(parent["spec"]), new))
    if is_complete:
        low, high = spec["part"]
        db.execute("DELETE FROM main.part WHERE ask = ? AND low >= ? AND high <= ?", (new, low, high))
        n_rows = (expected or 0) // len(spec.get("suffixes", [""]))
        db.execute("INSERT OR REPLACE INTO main.part VALUES (?, ?, ?, ?)", (new, low, high, n_rows))
    else:
        db.execute(sql.TAKE_PARTS, {"new": new, "old": old})
    own, theirs = settings.get(db, f"lacking_{new}", 0), settings.get(db, f"lacking_{old}", 0, schema="s")
    lacking = int(own) + int(theirs)
    if lacking:
        settings.put(db, **{f"lacking_{new}": lacking})
