"""A SQLite connection whose waits for a lock end at an interrupt or a cancellation; and how it is used."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio import from_thread

LOCK_WAIT_S = 30.0
"""How long another program may hold the manifest before the statement fails."""
LOCK_WAIT_WHEN_STOPPING_S = 0.2
"""The same once the run is stopping."""
ONE_WAIT_S = 0.1
"""SQLite's own wait, in which Python handles no signal."""
RETRY_PAUSE_S = 0.005


class PatientConnection(sqlite3.Connection):
    """
    A connection that waits for locks in short steps.

    Between two steps a signal's exception is raised, and the cancellation of the task for which this thread works.
    A statement that met a lock has done nothing, so that it can be tried again as a whole.
    """

    lock_wait_s = LOCK_WAIT_S
    is_stopping = False
    """Set (from any thread) when the run is stopping: locks are then waited for no longer than an instant."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute one statement; wait for a lock, and no longer than `lock_wait_s`."""
        started_s = time.monotonic()
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                limit_s = LOCK_WAIT_WHEN_STOPPING_S if self.is_stopping else self.lock_wait_s
                if not is_lock(error) or time.monotonic() - started_s > limit_s:
                    raise
            with contextlib.suppress(RuntimeError):  # not a thread of an event loop
                from_thread.check_cancelled()
            time.sleep(RETRY_PAUSE_S)  # some locks are refused without a wait


@contextmanager
def immediate(db: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing of what happens within, in one transaction."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def pages(page_after: Callable[[int], list[Any]], size: int, *, after: int = 0) -> Iterator[list[Any]]:
    """
    Yield the rows that a query finds, a page at a time, with no statement open between two of them.

    Parameters
    ----------
    page_after
        Returns the first `size` rows behind a number, ascending; the first value of a row is its number.
    after
        The number behind which to begin.
    """
    while True:
        rows = page_after(after)
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = rows[-1][0]


def execute_all(db: sqlite3.Connection, statements: str) -> None:
    """Execute statements one by one, each but the last ended by a semicolon and a line break."""
    for statement in statements.split(";\n"):
        db.execute(statement)


def is_lock(error: BaseException | None) -> bool:
    """Return True when a statement failed since another connection holds a lock."""
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF == sqlite3.SQLITE_BUSY
