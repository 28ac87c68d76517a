"""The migration of catalogue rows: from JSON arrays, one row each, to blocks by column."""

from __future__ import annotations

import sqlite3

from psfharvest.store.manifest import columns, sources, spans


def apply(db: sqlite3.Connection) -> None:
    """
    Make blocks of all rows, in one transaction with the migration's record; the rows' numbers stay.

    Raises
    ------
    sqlite3.DatabaseError
        When a row cannot be read: the manifest is damaged.
    """
    try:
        if sources.last(db) and not columns.is_fixed(db):  # the columns' types are found in the rows as they were
            columns.record(db, columns.read(db))
        layouts = sources.layouts(db)
        for first, layout, values in sources.earlier_pieces(db):
            sources.keep_block(db, first, layout, values, len(layouts[layout].columns))
    except (KeyError, TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a catalogue row cannot be read: {error}") from error
    db.execute("DROP TABLE source")
    spans.cover(db)
