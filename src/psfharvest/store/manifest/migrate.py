"""
Bring a manifest of an earlier schema to today's, or let a reader see it as if it were.

Only the folder's writer migrates. A reader changes nothing, neither the file nor its journal: what the file lacks
stands in temporary views of the reader's own connection, so that `status` works on a folder of a former release,
also on a read-only medium.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection

from psfharvest.core.errors import ManifestError
from psfharvest.store.manifest.connection import execute_all, immediate
from psfharvest.store.manifest.schema import (
    APPLICATION_ID,
    FIRST_TABLES,
    FIRST_VERSION,
    MIGRATION_TABLE,
    MIGRATIONS,
    VERSION,
    VIEW,
    Migration,
)


def check(db: Connection, path: Path) -> None:
    """
    Refuse what is no manifest of this psfharvest or of an earlier one.

    Raises
    ------
    ManifestError
        When it is foreign, newer, or of a version that was never published.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise ManifestError(f"{path} is no manifest of psfharvest; nothing was changed")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    unknown = sorted(_applied(db) - {migration.name for migration in MIGRATIONS})
    if version > VERSION or unknown:
        more = f" and has been changed by {unknown[0]!r}" if unknown else ""
        raise ManifestError(
            f"{path} is of version {version}{more}, this psfharvest knows up to {VERSION}; install a newer one"
        )
    if version < FIRST_VERSION:
        raise ManifestError(
            f"{path} says that it is of version {version}, which no psfharvest has written: versions "
            f"{FIRST_VERSION} to {VERSION} can be opened; put back a copy of it, or move it away, and "
            f"'psfharvest adopt {path.parent}' makes it anew from what is stored; nothing was changed"
        )


def create(db: Connection) -> None:
    """Make all tables and the view; within a transaction."""
    execute_all(db, FIRST_TABLES)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for migration in MIGRATIONS:
        apply(db, migration)
    db.execute(VIEW)


def migrate(db: Connection) -> None:
    """Apply what is missing, each migration in a transaction with its record; the folder's lock is held."""
    while _missing(db) or not _is_view_current(db):
        with immediate(db):
            db.execute("DROP VIEW IF EXISTS cutout")  # it names columns, which would hold up a change of them
            for migration in _missing(db)[:1]:
                apply(db, migration)
            db.execute(VIEW)


def stand_in(db: Connection) -> None:
    """Give a reader's connection temporary views and tables for what the file lacks; the file is not changed."""
    missing = _missing(db)
    if not missing and _is_view_current(db):
        return
    db.execute("PRAGMA temp_store = MEMORY")
    lacking: dict[str, list[str]] = {}
    for migration in missing:
        for _, statement in migration.tables:
            db.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
        for column in migration.columns:
            lacking.setdefault(column.table, []).append(f"{column.absent} AS {column.name}")
    for table, columns in lacking.items():
        db.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(columns)} FROM main.{table}")  # noqa: S608 - ours
    db.execute(VIEW.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))


def apply(db: Connection, migration: Migration) -> None:
    """Apply one migration and record it; within a transaction."""
    db.execute(MIGRATION_TABLE)
    for column in migration.columns:
        db.execute(f"ALTER TABLE {column.table} ADD COLUMN {column.name} {column.declaration}")
    for _, statement in migration.tables:
        db.execute(statement)
    if migration.apply is not None:
        migration.apply(db)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    db.execute("INSERT INTO migration (name, applied_at) VALUES (?, ?)", (migration.name, now))
    db.execute(f"PRAGMA user_version = {FIRST_VERSION + len(_applied(db))}")


def _applied(db: Connection) -> set[str]:
    if (
        db.execute("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = 'migration'").fetchone()
        is None
    ):
        return set()
    return {name for (name,) in db.execute("SELECT name FROM main.migration")}


def _missing(db: Connection) -> Sequence[Migration]:
    applied = _applied(db)
    return [migration for migration in MIGRATIONS if migration.name not in applied]


def _is_view_current(db: Connection) -> bool:
    row = db.execute("SELECT sql FROM main.sqlite_master WHERE type = 'view' AND name = 'cutout'").fetchone()
    return row is not None and row[0] == VIEW
