"""
How runs went, kept in the manifest: a pulse a second, and the last notes; for `status` and the page.

Long runs keep no more than `PULSES_MAX` pulses: when there are more, every second one goes, and later ones are kept
half as often. The newest one is always kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from psfharvest.store.manifest.manifest import Manifest

if TYPE_CHECKING:
    from sqlite3 import Connection

PULSES_MAX = 4096
"""Pulses that are kept of a run."""
NOTES_MAX = 1000
"""Notes that are kept of a folder."""


class Pulse(NamedTuple):
    """How a run stood at one time; the columns of the table `pulse`."""

    run: int
    at: float
    """Seconds since 1970, as all times here."""
    pid: int
    done: int
    missing: int
    failed: int
    pending: int
    expected: int
    """Cutouts to come to in the end, as far as is known."""
    arrived: int
    bytes: int
    requests: int
    """Of this run."""
    in_flight: int
    waiting: int
    connections: int
    per_second: float
    bytes_per_s: float
    left_s: float | None
    outage: str
    """The archive's words while it is down, or nothing."""
    outage_since: float | None
    gives_up_at: float | None
    disk_s: float
    loop_lag_s: float


class Note(NamedTuple):
    """Something worth a sentence; the columns of the table `note`."""

    run: int
    at: float
    level: str
    """As in `logging`: ``INFO``, ``WARNING``."""
    event: str
    """Name of the event in `psfharvest.events`."""
    words: str


_PULSE = ", ".join(Pulse._fields)
_NOTE = ", ".join(Note._fields)


class History:
    """
    Writes the history of one run; each method within `Manifest.transaction`.

    Parameters
    ----------
    n_max
        Pulses to keep of a run.
    """

    def __init__(self, n_max: int = PULSES_MAX) -> None:
        self._n_max = n_max
        self._n = 0
        self._n_kept = 0
        self._step = 1

    def add_pulse(self, db: Connection, pulse: Pulse) -> None:
        """Keep a pulse; the one before it stays when it is on the grid of those that are kept."""
        if (self._n - 1) % self._step:
            db.execute("DELETE FROM pulse WHERE run = ? AND n = ?", (pulse.run, self._n - 1))
            self._n_kept -= 1
        marks = ", ".join("?" * (len(pulse) + 1))
        db.execute(f"INSERT INTO pulse (n, {_PULSE}) VALUES ({marks})", (self._n, *pulse))  # noqa: S608 - our names
        self._n += 1
        self._n_kept += 1
        if self._n_kept > self._n_max:
            self._step *= 2
            thinned = db.execute(
                "DELETE FROM pulse WHERE run = ? AND n % ? AND n < ?", (pulse.run, self._step, self._n - 1)
            )
            self._n_kept -= thinned.rowcount

    @staticmethod
    def add_notes(db: Connection, notes: Iterable[Note]) -> None:
        """Keep notes, and let go of the oldest."""
        rows = list(notes)
        if rows:
            db.executemany(f"INSERT INTO note ({_NOTE}) VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608 - as above
            db.execute("DELETE FROM note WHERE n <= (SELECT max(n) FROM note) - ?", (NOTES_MAX,))


def last_pulse(manifest: Manifest) -> Pulse | None:
    """Return the newest pulse of the last run, or None where there is none."""
    with manifest.connection() as db:
        row = db.execute(
            f"SELECT {_PULSE} FROM pulse WHERE run = (SELECT max(n) FROM run) ORDER BY n DESC LIMIT 1"  # noqa: S608
        ).fetchone()
    return None if row is None else Pulse(*row)


def pulses(manifest: Manifest, limit: int = PULSES_MAX) -> list[Pulse]:
    """Return pulses of all runs, the oldest first: `limit` at most, evenly taken, the newest among them."""
    with manifest.connection() as db:
        n = db.execute("SELECT count(*) FROM pulse").fetchone()[0]
        step = max(1, -(-n // limit))
        rows = db.execute(
            f"SELECT {_PULSE} FROM (SELECT *, row_number() OVER (ORDER BY run, n) AS k FROM pulse) "  # noqa: S608
            "WHERE (? - k) % ? = 0 ORDER BY run, n",
            (n, step),
        ).fetchall()
    return [Pulse(*row) for row in rows]


def notes(manifest: Manifest, limit: int = NOTES_MAX) -> list[Note]:
    """Return the last notes, the oldest first."""
    with manifest.connection() as db:
        rows = db.execute(f"SELECT {_NOTE} FROM note ORDER BY n DESC LIMIT ?", (limit,)).fetchall()  # noqa: S608
    return [Note(*row) for row in reversed(rows)]


def last_note(manifest: Manifest) -> int:
    """Return the number of the last note, or 0."""
    with manifest.connection() as db:
        return int(db.execute("SELECT coalesce(max(n), 0) FROM note").fetchone()[0])
