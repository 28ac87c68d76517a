"""The settings of a manifest, in its table ``meta``: what holds for the folder's life, and marks of its state."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any


def get(db: Connection, name: str, absent: Any = None, *, schema: str = "main") -> Any:
    """Return a setting of the manifest, or of the one that is attached as `schema`."""
    row = db.execute(f"SELECT value FROM {schema}.meta WHERE name = ?", (name,)).fetchone()  # noqa: S608
    return absent if row is None else row[0]


def put(db: Connection, **settings: int | str) -> None:
    """Set values."""
    for setting in settings.items():  # one by one: `execute` waits for a lock, `executemany` does not
        db.execute("INSERT OR REPLACE INTO main.meta VALUES (?, ?)", setting)


def drop(db: Connection, name: str) -> None:
    """Remove a setting."""
    db.execute("DELETE FROM main.meta WHERE name = ?", (name,))
