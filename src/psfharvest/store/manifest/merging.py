"""
The manifest of a merge: built beside the final one, from other manifests, one transaction for each step.

Each source manifest is attached: where it is when nobody writes to it any more, else as a private copy. Its items
get new numbers; an item that is known already keeps its own, and the better of both outcomes. What a claim of the
source needs before it may be claimed here, its bytes, is noted in the tables `merge_taking` and `merge_shard` until
they are stored, so that a killed merge goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from psfharvest.core.errors import ManifestError
from psfharvest.core.model import Item
from psfharvest.store.manifest import (
    database,
    items,
    merge_intake,
    merge_targets,
    settings,
    snapshot,
    sources,
)
from psfharvest.store.manifest import merge_statements as sql
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.connection import execute_all, immediate
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import MANIFEST_NAME, SIDES, Place

STATE = "merging"
"""The setting that holds how far a merge has come; a manifest with it is none yet."""
WORKING = hashlib.sha256(sql.MAKE_WORKING.encode()).hexdigest()
"""Stands for the tables of a merge under way: one of another version's is begun anew."""
CACHE_KIB = 65_536
IN_USE_WAIT_S = 5.0
_SOURCE_NAME = "source.sqlite"


class Taken(NamedTuple):
    """A cutout that the source claims: its numbers there and here, and where its bytes are."""

    old: int
    new: int
    location: str
    size_bytes: int
    sha256: str


class Placed(NamedTuple):
    """Where a cutout's bytes are stored now, by its number in the source."""

    old: int
    shard: int | None = None
    place: int | str | None = None


class SourceShard(NamedTuple):
    """A shard of the source, or the Parquet files of one number."""

    number: int
    is_whole: bool
    """Whether all its claims are taken, each under its own name."""
    end: int
    """How long a shard is at least."""
    sides_px: frozenset[int | None]


class MergedManifest:
    """
    The manifest of a merge under way; use it in a ``with`` statement.

    Parameters
    ----------
    home
        A folder of its own, in the file system of the manifest to come.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._at = Place(home, home / MANIFEST_NAME)
        self._opened = database.to_write(self._at, durable=True)
        self._db = self._opened.db
        self._rows = sources.Reader()
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    @classmethod
    def new(cls, home: Path, base: Path | None, meta: Mapping[str, Any], runs: Sequence[Any] = ()) -> Self:
        """Begin one: as a copy of a folder's manifest, or empty but for runs; `meta` is set in it."""
        if base is None:
            Manifest.create(home, **meta).close()
        else:
            partial = home / f".{MANIFEST_NAME}"
            _copy(base, partial)
            partial.replace(home / MANIFEST_NAME)
        made = cls(home)
        with made._transaction() as db:
            settings.put(db, **meta)
            settings.drop(db, "low_water")
            db.executemany(sql.ADD_RUN, runs)
        return made

    @property
    def state(self) -> dict[str, Any]:
        """How far the merge has come, as given to `new` and `absorb`."""
        return dict(json.loads(self._setting(STATE, "{}")))

    @property
    def sink(self) -> str:
        """How cutouts are stored."""
        return str(self._setting("sink"))

    @property
    def layout(self) -> str:
        """How files are laid out."""
        return str(self._setting("layout", "tree"))

    @property
    def mark(self) -> tuple[int, int]:
        """The last shard's number, and where its claims end."""
        return int(self._setting("shard", 0)), int(self._setting("shard_end", 0))

    @property
    def unused_shard(self) -> int:
        """The first number from which on no shard holds anything that is claimed."""
        shard, end = self.mark
        last = self._db.execute("SELECT coalesce(max(shard), -1) FROM main.outcome").fetchone()[0]
        return max(shard + (end > 0), int(last) + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, once its WAL is checkpointed."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("DETACH s")
        database.close_writer(self._opened)

    def attach(self, folder: Path, *, is_at_rest: bool = False) -> None:
        """
        Make a folder's manifest the source of what follows: a private copy of it, or itself when it is at rest.

        `is_at_rest`: nobody writes to it any more, and it is of today's schema.
        """
        path = self._home / _SOURCE_NAME
        at = places.find(folder)
        with database.translated(self._at):
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("DETACH s")
            for side in SIDES:
                path.with_name(f"{path.name}{side}").unlink(missing_ok=True)
            if is_at_rest and not snapshot.has_journal(at):
                source = f"{at.path.absolute().as_uri()}?mode=ro&immutable=1"
            else:
                _copy(folder, path)
                database.close_writer(database.to_write(Place(self._home, path), durable=False))  # today's schema
                source = path.absolute().as_uri()
            self._db.execute("ATTACH ? AS s", (source,))  # a name that is no UTF-8 is none for SQL, but for a URI

    def source_setting(self, name: str, absent: Any = None) -> Any:
        """Return a setting of the source."""
        return settings.get(self._db, name, absent, schema="s")

    def absorb(self, *, is_disjoint: bool = False, **state: Any) -> None:
        """
        Take in all that the source knows, but for the claims of what is done; remember `state`.

        `is_disjoint`: no source has a dataURI or file name that another has. Their names are then kept aside, and
        filled in sorted at the end.
        """
        with self._transaction() as db:
            merge_intake.take_in(db, is_disjoint=is_disjoint)
            settings.put(db, **{STATE: json.dumps({**self.state, **state})})

    def shards(self) -> list[SourceShard]:
        """Return the source's shards of which something is still to be taken, ascending."""
        rows = self._db.execute(sql.SHARDS_LEFT).fetchall()
        found = []
        for number, group in itertools.groupby(rows, key=lambda row: row[0]):
            of_side = list(group)
            is_whole, end = all(row[2] for row in of_side), max(row[3] for row in of_side)
            found.append(SourceShard(number, is_whole, end, frozenset(row[1] for row in of_side)))
        return found

    def list_shard(self, number: int) -> None:
        """Let a shard's cutouts be taken one by one."""
        with self._transaction() as db:
            stretch = self._stretch(number)
            if stretch["shift"] is not None:
                db.execute(sql.LIST_SHARD, stretch)
            db.execute("UPDATE merge_shard SET is_whole = 0, shift = NULL WHERE shard = ?", (number,))

    def taking(self, shard: int | None, limit: int) -> list[Taken]:
        """Return the next cutouts that are to be taken, from a shard or from files of their own."""
        rows = self._db.execute(
            "SELECT t.old, t.new, c.location, c.size_bytes, c.sha256 FROM merge_taking t "
            "CROSS JOIN s.cutout c ON c.n = t.old WHERE t.shard IS ? ORDER BY t.old LIMIT ?",
            (shard, limit),
        ).fetchall()
        return [Taken(*row) for row in rows]

    def n_taking(self) -> int:
        """Return how many cutouts of the source are still to be taken."""
        return int(self._db.execute(sql.COUNT_TAKING).fetchone()[0])

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """Return items by their numbers, in that order, each with its catalogue row."""
        rows = self._db.execute(
            f"SELECT {items.COLUMNS} FROM main.item WHERE n {items.AMONG}",  # noqa: S608 - no value in it
            (items.among(numbers),),
        ).fetchall()
        given = [row[items.SOURCE_AT] for row in rows]
        with database.rows_translated(self._at):
            found = self._rows.with_sources(self._db, [*map(items.item_of, rows)], given)
        return list(map({item.number: item for item in found}.__getitem__, numbers))

    def claim(self, places: Iterable[Placed], checkpoint: Mapping[str, int]) -> None:
        """Claim cutouts whose bytes are stored, and remember where the sink goes on."""
        places = list(places)
        with self._transaction() as db:
            db.executemany(
                merge_intake.outcome_sql(db, "t.new", ":shard", ":place", sql.TAKEN.format("t.old = :old")),
                [placed._asdict() for placed in places],
            )
            db.executemany("DELETE FROM merge_taking WHERE old = ?", [(placed.old,) for placed in places])
            settings.put(self._db, **checkpoint)

    def claim_shard(self, number: int, as_number: int) -> int:
        """Claim a whole shard of the source, which has another number here; return how many cutouts that are."""
        stretch = self._stretch(number)
        is_listed = stretch["shift"] is None
        new, source = ("t.new", sql.TAKEN.format("t.shard = :old")) if is_listed else ("o.n + :shift", sql.STORED)
        with self._transaction() as db:
            n = db.execute(
                merge_intake.outcome_sql(db, new, ":new", "o.place", source), {**stretch, "new": as_number}
            ).rowcount
            if is_listed:
                db.execute("DELETE FROM merge_taking WHERE shard = ?", (number,))
            db.execute("DELETE FROM merge_shard WHERE shard = ?", (number,))
            settings.put(self._db, shard=as_number + 1, shard_end=0)
        return n

    def close_shard(self) -> tuple[int, int]:
        """Let the next claim begin a new shard; return the mark."""
        shard, end = self.mark
        if end:
            with self._transaction():
                settings.put(self._db, shard=shard + 1, shard_end=0)
        return self.mark

    def leave_pending(self, numbers: Iterable[int]) -> None:
        """Give up claims of the source, by their numbers there, whose bytes are not what was claimed."""
        with self._transaction() as db:
            gone = [(number,) for number in numbers]
            db.executemany("DELETE FROM merge_taking WHERE old = ?", gone)
            state = self.state
            state["n_broken"] = state.get("n_broken", 0) + len(gone)
            settings.put(db, **{STATE: json.dumps(state)})

    def finish(self) -> None:
        """Count the account, order the runs, and drop what only the merge needed."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("DETACH s")
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'merge_name'").fetchone():
                db.execute(sql.FILL_NAMES)
            for table in sql.WORKING:
                db.execute(f"DROP TABLE IF EXISTS {table}")
            execute_all(db, sql.COUNT)
            merge_targets.complete(db)
            columns = merge_targets.columns_of(db, "run", "n")
            db.execute(f"CREATE TEMP TABLE runs AS SELECT {columns} FROM run ORDER BY started_at, n")  # noqa: S608
            db.execute("DELETE FROM run")
            execute_all(db, sql.FORGET)
            db.execute(f"INSERT INTO run ({columns}) SELECT {columns} FROM runs ORDER BY rowid")  # noqa: S608
            db.execute("DROP TABLE runs")
            settings.drop(db, STATE)
        self.close()
        for side in SIDES:
            (self._home / f"{_SOURCE_NAME}{side}").unlink(missing_ok=True)
        if any(self._at.side(side).exists() for side in snapshot.JOURNALS):
            raise ManifestError(f"{self._at.path} is in use; end what uses it, then run the same again")

    def _stretch(self, number: int) -> dict[str, int | None]:
        """Return a shard's number, shift, and its first and last item in the source."""
        shift, low, high = self._db.execute(sql.STRETCH, (number,)).fetchone()
        return {"old": number, "shift": shift, "low": low, "high": high}

    def _setting(self, name: str, absent: Any = None) -> Any:
        return settings.get(self._db, name, absent)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with database.translated(self._at), immediate(self._db):
            yield self._db


def fingerprint(folder: Path) -> str:
    """Return a text that differs when a folder's manifest has been changed."""
    with Manifest.read(folder) as manifest, manifest.connection() as db:
        seen = [
            db.execute("SELECT * FROM tally ORDER BY 1, 2").fetchall(),
            db.execute("SELECT * FROM meta ORDER BY 1").fetchall(),
            db.execute("SELECT * FROM run ORDER BY 1").fetchall(),
            db.execute("SELECT * FROM ask ORDER BY 1").fetchall(),
            db.execute("SELECT max(n) FROM item").fetchall(),
        ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def close_for_good(at: Place) -> None:
    """
    Leave a manifest without a journal, so that another one can take its name.

    Raises
    ------
    ManifestError
        When another program uses it.
    """
    with database.translated(at), contextlib.closing(database.to_write(at, durable=True).db) as db:
        db.lock_wait_s = IN_USE_WAIT_S
        settings.drop(db, database.WRITER)
        db.execute("PRAGMA journal_mode = DELETE")


def _copy(folder: Path, target: Path) -> None:
    """Copy a folder's manifest as it is at this moment, its journal included."""
    target.unlink(missing_ok=True)
    with Manifest.read(folder) as manifest, manifest.connection() as db:
        copy = sqlite3.connect(target)
        try:
            db.backup(copy)
        finally:
            copy.close()
