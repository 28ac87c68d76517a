"""The manifest's file: made whole or not at all, written by one, read by any, refused when it is not ours."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psfharvest.core.errors import FolderRefused, ManifestError
from psfharvest.store.manifest import migrate

MANIFEST_NAME = "manifest.sqlite"
GROWING_NAME = ".manifest.growing"


def create(folder: Path, meta: Mapping[str, str | int]) -> None:
    """
    Make a new manifest in an existing folder.

    Raises
    ------
    ManifestError
        When it cannot be written; then there is none.
    """
    path = folder / MANIFEST_NAME
    growing = folder / GROWING_NAME
    growing.unlink(missing_ok=True)
    connection = _connect(growing, "rwc")
    with translated(path), contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN IMMEDIATE")
        migrate.create(connection)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        connection.execute("COMMIT")
    try:
        growing.replace(path)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error


def to_write(folder: Path, *, durable: bool) -> sqlite3.Connection:
    """
    Return a connection that may write; `durable` commits survive power loss, too.

    Raises
    ------
    FolderRefused
        When there is no manifest.
    ManifestError
        When it is damaged, foreign, newer, or of a version that was never published.
    """
    path = _existing(folder)
    with translated(path):
        connection = _checked(path, "rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            migrate.migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def to_read(folder: Path) -> sqlite3.Connection:
    """
    Return a connection that only reads, also while another process writes, also on a read-only medium.

    Raises
    ------
    FolderRefused
        When there is no manifest.
    ManifestError
        When it is damaged, foreign, newer, or of a version that was never published.
    """
    path = _existing(folder)
    with translated(path):
        try:
            connection = _checked(path, "ro")
        except sqlite3.OperationalError:  # a journal cannot be made there: the file is read as it is
            connection = _checked(path, "ro&immutable=1")
        try:
            migrate.stand_in(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what the database refuses as a `ManifestError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if str(error).startswith(("no such table", "no such column")):
            raise damaged(path, str(error)) from error
        if isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError)):
            words = f"{path}: {error}; mend that, then run the same command again"
            raise ManifestError(words) from error
        raise damaged(path, str(error)) from error


def damaged(path: Path, words: str) -> ManifestError:
    """Return the error of a manifest that holds what it cannot hold."""
    remedy = f"move it away, and 'psfharvest adopt {path.parent}' makes it anew from what is stored"
    return ManifestError(f"{path} is damaged ({words}); {remedy}")


def _existing(folder: Path) -> Path:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise FolderRefused(
            f"{folder} is no harvest folder: it has no {MANIFEST_NAME}; give the folder of a harvest"
        )
    return path


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with translated(path):
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)


def _checked(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode)
    try:
        migrate.check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
