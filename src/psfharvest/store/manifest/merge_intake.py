"""Take what the source of a merge, attached as ``s``, knows into the merged manifest, but for stored bytes."""

from __future__ import annotations

import json
import sqlite3

from psfharvest.store.manifest import merge_statements as sql
from psfharvest.store.manifest import merge_targets, settings, sources, spans
from psfharvest.store.manifest.connection import execute_all
from psfharvest.store.manifest.merge_targets import columns_of


def take_in(db: sqlite3.Connection, *, is_disjoint: bool) -> None:
    """
    Take in the source; within a transaction.

    Parameters
    ----------
    is_disjoint
        No source has a dataURI or file name that another has: names are then kept aside, to be filled in sorted.
    """
    execute_all(db, sql.MAKE_WORKING)
    shift = db.execute("SELECT coalesce(max(n), 0) FROM main.item").fetchone()[0]
    if not is_disjoint:
        db.execute(sql.FIND_KNOWN)
        db.execute(sql.FIND_RENAMED)
    is_any_known = _is_any(db, "merge_number")
    numbering = sql.SHIFTED
    if is_any_known or _is_any(db, "merge_renamed") or db.execute(sql.HAS_HOLES).fetchone()[0]:
        numbering = sql.LISTED
        db.execute(sql.NUMBER_NEW, {"shift": shift})
    source_shift = sources.last(db)
    _take_sources(db, source_shift, all_of_them=not is_any_known)
    _take_items(db, numbering, shift, source_shift)
    if is_any_known:
        spans.cover(db)
    else:
        db.execute(sql.TAKE_SPANS, {"items": shift, "sources": source_shift})
    if is_disjoint:
        db.execute(sql.MAKE_NAMES)
    _take_names(db, "merge_name" if is_disjoint else "main.name", numbering, shift)
    _find_claims(db, numbering, shift)
    merge_targets.take(db)
    _take_runs(db)
    _take_checks(db)


def outcome_sql(db: sqlite3.Connection, new: str, shard: str, place: str, source: str) -> str:
    """Return a statement that takes in outcomes: their number, shard and place here, and which of the source."""
    columns = columns_of(db, "outcome", "n", "shard", "place")
    chosen = ", ".join(f"o.{column}" for column in columns.split(", "))
    return (
        f"INSERT OR REPLACE INTO main.outcome (n, shard, place, {columns}) "  # noqa: S608
        f"SELECT {new}, {shard}, {place}, {chosen} FROM {source}"
    )


def _take_sources(db: sqlite3.Connection, shift: int, *, all_of_them: bool) -> None:
    """Take in blocks of catalogue rows as they are: their rows' numbers are shifted."""
    db.execute("INSERT OR IGNORE INTO main.layout (detector, columns) SELECT detector, columns FROM s.layout")
    where = "" if all_of_them else sql.WANTED_BLOCKS
    db.execute(
        "INSERT INTO main.block (first, n, layout, data) SELECT b.first + :shift, b.n, "  # noqa: S608
        "(SELECT g.n FROM s.layout old JOIN main.layout g ON g.detector = old.detector "
        "AND g.columns = old.columns "
        f"WHERE old.n = b.layout), b.data FROM s.block b {where}",
        {"shift": shift},
    )
    db.execute(sql.GIVE_SOURCES, {"shift": shift})


def _take_items(db: sqlite3.Connection, numbering: sql.Numbering, shift: int, source_shift: int) -> None:
    columns = columns_of(db, "item", "n", "copy", "source")
    new, join, copy = (part.format("si") for part in numbering)
    db.execute(
        f"INSERT INTO main.item (n, copy, source, {columns}) "  # noqa: S608
        f"SELECT {new}, {copy}, si.source + :sources, {columns} FROM s.item si {join} ORDER BY si.n",
        {"shift": shift, "sources": source_shift},
    )


def _take_names(db: sqlite3.Connection, table: str, numbering: sql.Numbering, shift: int) -> None:
    new, join, _ = (part.format("sn") for part in numbering)
    db.execute(
        f"INSERT INTO {table} SELECT sn.digest, {new} FROM s.name sn {join}",  # noqa: S608
        {"shift": shift},
    )


def _find_claims(db: sqlite3.Connection, numbering: sql.Numbering, shift: int) -> None:
    """Note what is to be claimed once its bytes are stored, and take in all other outcomes."""
    if numbering is sql.SHIFTED:
        db.execute(sql.FIND_WHOLE_SHARDS, {"shift": shift})
        db.execute(sql.TAKE_FILES, {"shift": shift})
        db.execute(outcome_sql(db, "o.n + :shift", "o.shard", "o.place", sql.UNSTORED), {"shift": shift})
    else:
        db.execute(sql.FIND_TAKING)
        db.execute(sql.FIND_SHARDS)
        db.execute(outcome_sql(db, "t.new", "o.shard", "o.place", sql.TAKEN.format("o.state <> 'done'")))
        db.execute("DELETE FROM merge_taking WHERE old IN (SELECT n FROM s.outcome WHERE state <> 'done')")


def _take_runs(db: sqlite3.Connection) -> None:
    columns = columns_of(db, "run", "n")
    same = " AND ".join(f"g.{column} IS r.{column}" for column in columns.split(", "))
    db.execute(
        f"INSERT INTO main.run ({columns}) SELECT {columns} FROM s.run r "  # noqa: S608
        f"WHERE NOT EXISTS (SELECT 1 FROM main.run g WHERE {same}) ORDER BY n"
    )


def _take_checks(db: sqlite3.Connection) -> None:
    """Add which deviations of cutouts the source accepts, and of what it has proof that checks are right."""
    for name in ("accept", "proven"):
        both = [json.loads(settings.get(db, name, schema=schema) or "[]") for schema in ("main", "s")]
        values = {value for found in both for value in found}
        if values:
            settings.put(db, **{name: json.dumps(sorted(values))})


def _is_any(db: sqlite3.Connection, table: str) -> bool:
    return db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608
