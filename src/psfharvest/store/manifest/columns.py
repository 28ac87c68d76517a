"""
The catalogue columns of a folder and their types, fixed for its life: each at first sight, never changed.

They stand in the setting ``columns``, a JSON object of name and type in the order of the files' columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psfharvest.store import row_schema
from psfharvest.store.manifest import settings, sources

if TYPE_CHECKING:
    from sqlite3 import Connection

NAME = "columns"
SAMPLE_ROWS = 1000
"""Rows of a layout that say its columns' types where they were not recorded."""


def read(db: Connection) -> dict[str, str]:
    """Return the folder's columns; those that are known where none were fixed yet."""
    written = settings.get(db, NAME)
    if written is None:
        return {**row_schema.known_columns(), **_of_layouts(db)}
    return {str(name): str(kind) for name, kind in json.loads(written).items()}


def is_fixed(db: Connection) -> bool:
    """Return whether the folder's columns are recorded."""
    return settings.get(db, NAME) is not None


def fix(
    db: Connection, names: Sequence[str], rows: Iterable[Sequence[Any]], kinds: Mapping[str, str] | None = None
) -> None:
    """
    Fix the types of columns that are seen for the first time; within a transaction that keeps their rows.

    Parameters
    ----------
    db
        The manifest's connection.
    names
        Columns of a catalogue.
    rows
        Their values, one sequence a row.
    kinds
        Their types, where the archive has said them; otherwise values say them, and a column without any waits.
    """
    fixed = read(db)
    new = [name for name in names if name not in fixed]
    if not new and is_fixed(db):
        return
    if new:
        seen = {**row_schema.infer(names, rows), **(kinds or {})}
        fixed |= {name: seen[name] for name in new if name in seen}
    record(db, fixed)


def record(db: Connection, kinds: Mapping[str, str]) -> None:
    """Record the folder's columns; within a transaction."""
    settings.put(db, **{NAME: json.dumps(kinds)})


def _of_layouts(db: Connection) -> dict[str, str]:
    """Return the columns of rows that were kept without recording them: by an earlier version, or in a merge."""
    kinds: dict[str, str] = {}
    known = row_schema.known_columns()
    for n, layout in sources.layouts(db).items():
        names = layout.columns
        if all(name in known or name in kinds for name in names):
            continue
        found = row_schema.infer(names, sources.sample(db, n, SAMPLE_ROWS))
        kinds |= {name: kind for name, kind in found.items() if name not in known and name not in kinds}
    return kinds
