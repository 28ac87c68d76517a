"""The targets of a merge: what its sources were asked for becomes what the merged folder is asked for."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from psfharvest.core.catalog.partition import Part, gaps
from psfharvest.store.manifest import merge_statements as sql
from psfharvest.store.manifest import settings


def columns_of(db: sqlite3.Connection, table: str, *without: str) -> str:
    """Return the names of a table's columns, for a statement."""
    rows = db.execute(f"PRAGMA main.table_info({table})").fetchall()
    return ", ".join(name for _, name, *_ in rows if name not in without)


class _Ask(NamedTuple):
    """What the source was asked for, as its table `ask` has it."""

    n: int
    kind: str
    identity: str
    is_complete: int
    position: int
    lines: int
    spec: str
    expected: int | None


def take(db: sqlite3.Connection) -> None:
    """Take in what the source was asked for: a part of a query or list as had, of the whole."""
    for row in db.execute(f"SELECT {', '.join(_Ask._fields)} FROM s.ask ORDER BY n").fetchall():  # noqa: S608 - ours
        ask = _Ask(*row)
        spec = json.loads(ask.spec)
        if spec.get("parent") is None:
            _take_whole(db, ask)
        else:
            _take_part(db, ask.n, spec, ask.expected, is_complete=bool(ask.is_complete))


def complete(db: sqlite3.Connection) -> None:
    """Record a query as complete whose parts have all come."""
    for n, spec in db.execute("SELECT n, spec FROM ask WHERE NOT is_complete").fetchall():
        whole = json.loads(spec).get("whole")
        had = db.execute("SELECT low, high FROM part WHERE ask = ?", (n,)).fetchall()
        if whole is not None and not gaps([Part(*part) for part in had], Part(*whole)):
            db.execute("UPDATE ask SET is_complete = 1 WHERE n = ?", (n,))


def _take_whole(db: sqlite3.Connection, ask: _Ask) -> None:
    known = db.execute("SELECT n, is_complete FROM main.ask WHERE identity = ?", (ask.identity,)).fetchone()
    if known is None:
        columns = columns_of(db, "ask", "n")
        db.execute(
            f"INSERT INTO main.ask ({columns}) SELECT {columns} FROM s.ask WHERE n = ?",  # noqa: S608
            (ask.n,),
        )
        new = db.execute("SELECT last_insert_rowid()").fetchone()[0]
    else:
        new, is_complete = known
        if ask.kind == "stream":  # each is another list, though none is known by a name: all must have come whole
            both = min(is_complete, ask.is_complete)
            db.execute("UPDATE main.ask SET is_complete = ? WHERE n = ?", (both, new))
            return
        if is_complete:
            return  # all of it is known here
        if ask.is_complete:
            db.execute("DELETE FROM main.part WHERE ask = ?", (new,))
        db.execute(
            "UPDATE main.ask SET is_complete = ?, position = max(position, ?), lines = max(lines, ?) WHERE n = ?",
            (ask.is_complete, ask.position, ask.lines, new),
        )
    db.execute(sql.TAKE_PARTS, {"new": new, "old": ask.n})
    settings.put(db, **{f"lacking_{new}": settings.get(db, f"lacking_{ask.n}", 0, schema="s")})


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
