"""
The manifest: a SQLite database in which every asked cutout is in exactly one state, with the counts of each.

One writer; every change is one transaction that carries the counts with it, so that the account is read, never
counted. Readers (another process's ``status``) may look at any time. They hold no transaction between two pages of
rows, since the WAL cannot be reused, and grows, while a read transaction is open.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from psfharvest.core.errors import ManifestError
from psfharvest.core.model import BadLine, Item, Outcome, Reason, State, Tally, WantedURI
from psfharvest.store.manifest import columns as columns_of_folder
from psfharvest.store.manifest import database, items, settings, snapshot, sources, spans
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.connection import immediate, pages
from psfharvest.store.manifest.database import Opened, translated
from psfharvest.store.manifest.low_water import LowWater
from psfharvest.store.manifest.place import MANIFEST_NAME, Place
from psfharvest.store.manifest.tally import ASKED, QUIRK, Counted, Counts

ROWS_AT_ONCE = 2000
_OUTCOME = "n, state, size_bytes, sha256, attempts, shard, place, reason, detail, quirk"


class Stored(NamedTuple):
    """An outcome, and where its bytes went; `shard` None and `place` None is the layout's own place."""

    outcome: Outcome
    shard: int | None = None
    place: int | str | None = None


class Claim(NamedTuple):
    """A cutout that is claimed in a shard or a Parquet file: its number, side, and offset or row."""

    n: int
    size_px: int | None
    place: int


class Manifest:
    """
    An open manifest.

    Use `create`, `open` or `read`; each raises `ManifestError` for a file that is damaged, foreign or newer.
    """

    def __init__(self, opened: Opened, at: Place, *, is_writer: bool) -> None:
        self._opened = opened
        self._db = opened.db
        self._at = at
        self._is_writer = is_writer
        self._is_marked = False
        self._held_up_bytes = 0
        self._rows = sources.Reader()
        self._counts = Counts()
        self._low_water = LowWater()
        self._next_item = 1
        self._next_source = 1
        try:
            self._load()
        except BaseException:
            self._db.close()
            raise
        self.lock_note = ""
        """What the user should know of how the folder is kept for one process at a time, or nothing."""

    @classmethod
    def create(cls, folder: Path, at: Place | None = None, /, **meta: str | int) -> Self:
        """Make a new manifest for an existing folder, whole or not at all; `meta` holds for its life."""
        chosen = at or Place(folder, folder / MANIFEST_NAME)
        places.record(chosen)
        database.create(chosen, {**meta, "id": chosen.id} if chosen.id else meta)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, durable: bool = False) -> Self:
        """Open an existing manifest to write; `durable` commits survive power loss, too."""
        at = places.existing(folder)
        return cls(database.to_write(at, durable=durable), at, is_writer=True)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open an existing manifest to read, also while another process writes, also on a read-only medium."""
        at = places.existing(folder)
        return cls(database.to_read(at), at, is_writer=False)

    @property
    def path(self) -> Path:
        """The manifest's file."""
        return self._at.path

    @property
    def folder(self) -> Path:
        """The harvest folder."""
        return self._at.folder

    @property
    def note(self) -> str:
        """What the user should know of how the manifest is kept, or of its account; or nothing."""
        return "; ".join(filter(None, (self._opened.note, self._opened.doubt)))

    def stop_waiting(self) -> None:
        """Stop waiting for what another program has locked, since the run is stopping; from any thread."""
        self._db.is_stopping = True

    def interrupt(self) -> None:
        """Make the statement that runs now, if any, fail at once; from any thread."""
        self._db.interrupt()

    def refresh(self) -> None:
        """Read the account anew, which another process may have changed; for a manifest that is only read."""
        with self.connection() as db:
            self._claimed = Counts(db.execute("SELECT state, reason, n, bytes FROM tally")).tally()

    def close(self) -> None:
        """Close the file; a writer first checkpoints the WAL."""
        if self._is_writer:
            database.close_writer(self._opened)
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._opened = self._opened._replace(copy=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Run statements that read, or that belong to a transaction opened around them."""
        with translated(self._at):
            self._see_changes()
            yield self._db

    @contextmanager
    def rows(self) -> Iterator[sources.Reader]:
        """Read catalogue rows, over the connection of `connection`; a `ManifestError` for one that is damaged."""
        with database.rows_translated(self._at):
            yield self._rows

    def damaged(self, words: str) -> ManifestError:
        """Return the error of a manifest that holds what it cannot hold."""
        return database.damaged(self._at, words)

    # -- settings

    def setting(self, name: str, absent: Any = None) -> Any:
        """Return a value of the folder's life, such as ``sink`` or ``layout``."""
        with self.connection() as db:
            return settings.get(db, name, absent)

    def set(self, **values: int | str) -> None:
        """Set values of the folder's life; within `transaction`."""
        settings.put(self._db, **values)

    @property
    def sink(self) -> str:
        """How cutouts are stored, fixed for the folder's life."""
        return str(self.setting("sink"))

    @property
    def mark(self) -> tuple[int, int]:
        """The number of the last shard or journal, and where its claims end; (0, 0) before the first."""
        return int(self.setting("shard", 0)), int(self.setting("shard_end", 0))

    # -- asking

    def columns(self) -> dict[str, str]:
        """Return the catalogue columns of the folder's files, each with its type, fixed at first sight."""
        with self.connection() as db:
            try:
                return columns_of_folder.read(db)
            except (AttributeError, TypeError, ValueError) as error:
                raise self.damaged(f"the folder's columns cannot be read: {error}") from error

    def sources(
        self,
        detector: str,
        columns: Sequence[str],
        values: Sequence[Sequence[Any]],
        kinds: Mapping[str, str] | None = None,
    ) -> list[int]:
        """
        Keep the catalogue rows of a part, and return their numbers; call within `transaction`.

        Parameters
        ----------
        detector, columns, values
            The rows: names of the columns, and a sequence of values for each row.
        kinds
            The columns' types, where the archive has said them.
        """
        columns_of_folder.fix(self._db, columns, values, kinds)
        numbers = sources.keep(self._db, detector, columns, values, self._next_source)
        self._next_source += len(numbers)
        return numbers

    def add(self, asked: Sequence[WantedURI | BadLine]) -> list[Item]:
        """Ask for dataURIs, each once in the manifest's life; return those that are new. Within `transaction`."""
        new: list[Item] = []
        rows: list[tuple[int, int | None]] = []
        for start in range(0, len(asked), items.LOOK_UP_AT_ONCE):
            added = items.add(self._db, asked[start : start + items.LOOK_UP_AT_ONCE], self._next_item)
            n_new = len(added.items) + added.n_refused
            self._next_item += n_new
            self._counts.add(ASKED, "", n_new)
            if added.n_refused:
                self._counts.add(State.FAILED, Reason.BAD_URI, added.n_refused)
            new += added.items
            rows += added.sources
        spans.record(self._db, rows)
        return new

    # -- runs

    def begin_run(self) -> int:
        """Open the record of a run, and return its number."""
        with self.transaction() as db:
            return int(db.execute("INSERT INTO run (started_at) VALUES (?)", (now_text(),)).lastrowid or 0)

    def update_run(self, n: int, **columns: Any) -> None:
        """Bring a run's record up to date; within `transaction`."""
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE run SET {names} WHERE n = ?", (*columns.values(), n))  # noqa: S608 - our names

    def runs(self) -> list[dict[str, Any]]:
        """Return the record of all runs, the oldest first."""
        names = ("n", "started_at", "elapsed_s", "requests", "retried", "via", "stopped")
        with self.connection() as db:
            rows = db.execute(f"SELECT {', '.join(names)} FROM run ORDER BY n").fetchall()  # noqa: S608
        return [dict(zip(names, row, strict=True)) for row in rows]

    # -- items and their outcomes

    def pending(
        self, after: int, limit: int, *, with_source: bool = False, among: Iterable[int] | None = None
    ) -> list[Item]:
        """
        Return pending items with a number above `after`, in the order of asking, and hold them for given out.

        Parameters
        ----------
        after
            0, or the number of the last item of the batch before.
        limit
            Items at most.
        with_source
            Whether to fill in the catalogue row, as a JSON object; its ``detector`` is the database it is from.
        among
            The numbers that are wanted; None: all.
        """
        with self.connection() as db:
            rows = items.pending_rows(db, max(after, self._low_water.mark), limit, among)
            found = [items.item_of(row) for row in rows]
            if with_source:
                with self.rows() as reader:
                    found = reader.with_sources(db, found, [row[items.SOURCE_AT] for row in rows])
            found = items.with_refusals(self._db, found)
        self.give(found)
        return found

    def give(self, given: Sequence[Item]) -> None:
        """Take note of items on their way, so that the low-water mark stays below them; from any thread."""
        self._low_water.give(given)

    def record(self, batch: Sequence[Stored]) -> None:
        """
        Claim outcomes, whose bytes are stored; within `transaction`.

        Raises
        ------
        ManifestError
            When one of them has an outcome already: then nothing of the batch is claimed.
        """
        rows = [
            (
                s.outcome.item.number,
                s.outcome.state,
                None if s.outcome.body is None else len(s.outcome.body),
                s.outcome.sha256 or None,
                s.outcome.attempts,
                s.shard,
                s.place,
                s.outcome.reason,
                s.outcome.detail or None,
                s.outcome.quirk or None,
            )
            for s in batch
        ]
        self._db.executemany(f"INSERT INTO outcome ({_OUTCOME}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows)  # noqa: S608
        items.keep_refusals(self._db, [s.outcome.item for s in batch if s.outcome.state is State.FAILED])
        for state, n in Counter((r[1], r[7] or "") for r in rows).items():
            self._counts.add(*state, n)
        for quirk, n in Counter(r[9] for r in rows if r[9]).items():
            self._counts.add(QUIRK, quirk, n)
        self._counts.add(State.DONE, "", 0, sum(r[2] or 0 for r in rows))
        self._low_water.settle(r[0] for r in rows)

    def retract(self, numbers: Sequence[int]) -> None:
        """Take claims back: what of these items was recorded is pending again; within `transaction`."""
        for number in numbers:
            row = self._db.execute(
                "DELETE FROM outcome WHERE n = ? RETURNING state, reason, coalesce(size_bytes, 0), quirk", (number,)
            ).fetchone()
            if row is not None:
                if row[3]:
                    self._counts.add(QUIRK, row[3], -1)
                self._counts.add(row[0], row[1] or "", -1)
                self._counts.add(State.DONE, "", 0, -row[2])
            self._low_water.take_back(number)

    def reopen(self, states: Sequence[State]) -> int:
        """Make what is `missing` or `failed` pending again; return how many. Bad lines stay what they are."""
        marks = ",".join("?" * len(states))
        where = f"state IN ({marks}) AND state IN ('missing', 'failed') AND reason <> 'bad_uri'"
        with self.transaction():
            reasons = self._db.execute(
                f"SELECT state, reason, count(*), min(n) FROM outcome WHERE {where} GROUP BY 1, 2",  # noqa: S608
                states,
            ).fetchall()
            self._db.execute(f"DELETE FROM outcome WHERE {where}", states)  # noqa: S608
            for state, reason, n, first in reasons:
                self._counts.add(state, reason, -n)
                self._low_water.reopen(first)
        return sum(n for _, _, n, _ in reasons)

    def tally(self) -> Tally:
        """Return the account as it was last claimed; safe to ask from any thread."""
        return self._claimed

    def counts(self) -> Mapping[Counted, tuple[int, int]]:
        """Return number and bytes of each state and reason, as last claimed; safe to ask from any thread."""
        return self._claimed_by_kind

    def known_good(self, limit: int) -> list[Item]:
        """Return items that are done, at most `limit`: the archive is known to have them."""
        with translated(self._at):
            return items.done(self._db, limit)

    def examples(self) -> dict[str, str]:
        """Return one dataURI for each reason, with its detail."""
        with self.connection() as db:
            return items.examples(db)

    def cutouts(
        self, columns: str = "uri, state, location", where: str = "1", *, at_once: int = ROWS_AT_ONCE
    ) -> Iterator[tuple[Any, ...]]:
        """
        Yield rows of the view `cutout` in the order of asking, with no transaction open between two pages of them.

        Parameters
        ----------
        columns, where
            SQL of our own, never a user's.
        at_once
            Rows that one look takes.
        """
        sql = f"SELECT n, {columns} FROM cutout WHERE ({where}) AND n > ? ORDER BY n LIMIT ?"  # noqa: S608
        for page in self.pages(sql, size=at_once):
            for row in page:
                yield row[1:]

    def pages(
        self, sql: str, values: Sequence[Any] = (), *, size: int = ROWS_AT_ONCE
    ) -> Iterator[list[tuple[Any, ...]]]:
        """
        Yield what a statement finds, page by page, with no transaction open between two of them.

        Parameters
        ----------
        sql
            Finds rows by ascending number, their first column; its last parameters are the number behind which
            to begin and the rows of a page.
        values
            Its other parameters.
        size
            Rows of a page.
        """

        def page_after(after: int) -> list[tuple[Any, ...]]:
            with self.connection() as db:
                return db.execute(sql, (*values, after, size)).fetchall()

        return pages(page_after, size)

    def shards_of(self, numbers: Iterable[int]) -> frozenset[int]:
        """Return the shards that cutouts are claimed in; without those that are claimed elsewhere."""
        with self.connection() as db:
            return items.shards_of(db, numbers)

    def claims_in(self, shard: int) -> list[Claim]:
        """Return the claims in a shard, or in the Parquet files of that number."""
        with self.connection() as db:
            return [Claim(*row) for row in items.claims_in(db, shard)]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Do all or nothing of what happens within, and carry the counts with it.

        Raises
        ------
        ManifestError
            When the database refuses; nothing happened then.
        """
        before = (self._counts.copy(), self._next_item, self._next_source)
        mark = self._low_water.mark
        try:
            with translated(self._at):
                if not self._is_marked:
                    database.mark_writer(self._opened)
                    self._is_marked = True
                with immediate(self._db):
                    yield self._db
                    self._db.executemany("INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)", self._counts.rows())
                    self.set(low_water=self._low_water.advance())
            database.refuse_removed(self._at)
            self._low_water.commit()
            self._claimed = self._counts.tally()
            self._claimed_by_kind = self._counts.by_kind()
            self._bound_journal()
        except BaseException:
            self._counts, self._next_item, self._next_source = before
            self._low_water.roll_back(mark)
            self._rows = sources.Reader()  # it may hold what is taken back now
            raise

    def _bound_journal(self) -> None:
        """Truncate a WAL that a long read has let grow, each time that it has grown by as much again."""
        try:
            size_bytes = self._at.side("-wal").stat().st_size
        except OSError:
            return
        if size_bytes < self._held_up_bytes + database.WAL_BYTES_MAX:
            return
        with contextlib.suppress(sqlite3.Error):
            self._is_marked = False
            self._held_up_bytes = 0 if database.truncate_wal(self._opened, patience_s=0.05) else size_bytes

    def _see_changes(self) -> None:
        """Open a file anew that is read without locks and has changed since."""
        if self._opened.signature is not None and snapshot.signature(self._at) != self._opened.signature:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._opened = database.to_read(self._at)
            self._db = self._opened.db
            self._rows = sources.Reader()

    def _load(self) -> None:
        with translated(self._at):
            self._counts = Counts(self._db.execute("SELECT state, reason, n, bytes FROM tally"))
            self._next_item = 1 + (self._db.execute("SELECT max(n) FROM item").fetchone()[0] or 0)
            self._next_source = 1 + sources.last(self._db)
            self._claimed = self._counts.tally()
            self._claimed_by_kind = self._counts.by_kind()
            mark = int(settings.get(self._db, "low_water", 0))
            if not self._claimed.pending or items.is_any_pending(self._db, mark):
                self._low_water.mark = mark  # else it is wrong: nothing pending may lie below it


def now_text() -> str:
    """Return the time as the manifest writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
