"""
The manifest's schema, as data: the first version's tables, the named migrations since, and the public view.

What is asked (`item`) and what became of it (`outcome`) are two tables that only grow at their ends, so that no
page is rewritten; an item without an outcome is pending. A cutout's dataURI is kept in its parts, a third of its
length, and put together again in the view `cutout`, which is the public face of the manifest.

To change a table, append a `Migration`; never edit `FIRST_TABLES`, which users' folders hold. A new manifest is the
first tables and all migrations, so that an old folder and a new one end with the same schema. The view is no state:
it is made anew whenever its text differs from `VIEW`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from psfharvest.store.manifest import block_migration, sources, spans

if TYPE_CHECKING:
    from sqlite3 import Connection

APPLICATION_ID = 0x50534648
FIRST_VERSION = 1
"""Of a manifest without migrations; each migration makes ``PRAGMA user_version`` one more."""

FIRST_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- what was asked for: a query, a list, an iterable
CREATE TABLE ask (
    n INTEGER PRIMARY KEY, kind TEXT NOT NULL, identity TEXT NOT NULL UNIQUE, spec TEXT NOT NULL,
    expected INTEGER, position INTEGER NOT NULL DEFAULT 0, lines INTEGER NOT NULL DEFAULT 0,
    is_complete INTEGER NOT NULL DEFAULT 0
);
-- the finished parts of a query: closed ranges of ids
CREATE TABLE part (
    ask INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, n_rows INTEGER NOT NULL,
    PRIMARY KEY (ask, low)
) WITHOUT ROWID;
-- the names of a source's columns; the values of one source, as a JSON array
CREATE TABLE layout (
    n INTEGER PRIMARY KEY, detector TEXT NOT NULL, columns TEXT NOT NULL, UNIQUE (detector, columns)
);
CREATE TABLE source (n INTEGER PRIMARY KEY, layout INTEGER NOT NULL, vals TEXT NOT NULL);
CREATE TABLE item (
    n INTEGER PRIMARY KEY, instrument TEXT, rootname TEXT, suffix TEXT, extension INTEGER, size_px INTEGER,
    x TEXT, y TEXT, id INTEGER, filter TEXT, copy INTEGER NOT NULL, source INTEGER,
    other TEXT -- the whole text, where it is no cutout's dataURI
);
-- which items bear a name: finds doubles, and gives each of two dataURIs with one file name its own key
CREATE TABLE name (digest BLOB NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (digest, n)) WITHOUT ROWID;
CREATE TABLE outcome (
    n INTEGER PRIMARY KEY, state TEXT NOT NULL, size_bytes INTEGER, sha256 BLOB, attempts INTEGER,
    shard INTEGER, place, -- an offset in the shard, a row of the Parquet file; or a path, not the layout's
    reason TEXT, detail TEXT
);
CREATE INDEX trouble ON outcome (state, n) WHERE state IN ('missing', 'failed');
CREATE TABLE tally (
    state TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (state, reason)
) WITHOUT ROWID;
CREATE TABLE run (
    n INTEGER PRIMARY KEY, started_at TEXT NOT NULL, elapsed_s REAL NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0, retried TEXT NOT NULL DEFAULT '{}', via TEXT NOT NULL DEFAULT '{}',
    stopped TEXT NOT NULL DEFAULT 'unfinished'
);
"""

MIGRATION_TABLE = """
CREATE TABLE IF NOT EXISTS migration (n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, applied_at TEXT NOT NULL)
"""


class Column(NamedTuple):
    """A column that a migration adds; `absent` is what a reader of a manifest without it sees (SQL)."""

    table: str
    name: str
    declaration: str
    absent: str = "NULL"


@dataclass(frozen=True, slots=True)
class Migration:
    """
    One change of the schema, applied in one transaction together with its record.

    Parameters
    ----------
    name
        Recorded in the table `migration`; never changed, never used again.
    columns
        Added to existing tables.
    tables
        Names of new tables, and the statement that makes each; a reader of a manifest without them sees them empty.
    apply
        Whatever else it takes, after columns and tables.
    """

    name: str
    columns: Sequence[Column] = ()
    tables: Sequence[tuple[str, str]] = ()
    apply: Callable[[Connection], object] | None = None


MIGRATIONS: tuple[Migration, ...] = (
    Migration("outcome has a quirk", columns=[Column("outcome", "quirk", "TEXT")]),
    # what the archive last refused an item with: the same answer in a later run is final at once
    Migration(
        "refusals are remembered",
        tables=[("refusal", "CREATE TABLE refusal (n INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL)")],
    ),
    # how runs went, for who looks on from another process; times are seconds since 1970
    Migration(
        "runs have pulses and notes",
        tables=[
            (
                "pulse",
                (
                    "CREATE TABLE pulse (run INTEGER NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL, "
                    "pid INTEGER NOT NULL, done INTEGER NOT NULL, missing INTEGER NOT NULL, "
                    "failed INTEGER NOT NULL, "
                    "pending INTEGER NOT NULL, expected INTEGER NOT NULL, arrived INTEGER NOT NULL, "
                    "bytes INTEGER NOT NULL, requests INTEGER NOT NULL, in_flight INTEGER NOT NULL, "
                    "waiting INTEGER NOT NULL, connections INTEGER NOT NULL, per_second REAL NOT NULL, "
                    "bytes_per_s REAL NOT NULL, left_s REAL, outage TEXT NOT NULL, outage_since REAL, "
                    "gives_up_at REAL, disk_s REAL NOT NULL, loop_lag_s REAL NOT NULL, "
                    "PRIMARY KEY (run, n)) WITHOUT ROWID"
                ),
            ),
            (
                "note",
                (
                    "CREATE TABLE note (n INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL, "
                    "level TEXT NOT NULL, event TEXT NOT NULL, words TEXT NOT NULL)"
                ),
            ),
        ],
    ),
    # before, each row was a JSON array in the table `source`, which this one drops
    Migration(
        "catalogue rows are kept by column",
        tables=[("block", sources.TABLE), ("source_span", spans.TABLE)],
        apply=block_migration.apply,
    ),
)
"""In the order in which they are applied; append only."""

VERSION = FIRST_VERSION + len(MIGRATIONS)

VIEW = """CREATE VIEW cutout AS
SELECT
    item.n AS n,
    coalesce(item.other, 'mast:' || instrument || 'PSF/url/cgi-bin/fitscut.cgi?red=' || rootname || '_' || suffix
        || '[' || extension || ']&size=' || size_px || '&x=' || x || '&y=' || y || '&format=fits/' || rootname
        || '_' || id || '_' || filter || '_' || suffix || '_cutout.fits') AS uri,
    coalesce(outcome.state, 'pending') AS state,
    CASE
        WHEN outcome.state IS NOT 'done' THEN NULL
        WHEN outcome.shard IS NOT NULL THEN CASE (SELECT value FROM meta WHERE meta.name = 'sink')
            WHEN 'parquet'
            THEN printf('parquet/%s/%06d.parquet:%d', coalesce(item.size_px, 'other'), outcome.shard, outcome.place)
            ELSE printf('shards/%06d.tar:%d', outcome.shard, outcome.place) END
        WHEN outcome.place IS NOT NULL THEN outcome.place
        ELSE instrument || 'PSF/'
            || CASE (SELECT value FROM meta WHERE meta.name = 'layout')
                WHEN 'flat' THEN '' ELSE substr(rootname, 1, 4) || '/' || rootname || '/' END
            || rootname || '_' || id || '_' || filter || '_' || suffix || '_cutout'
            || CASE copy WHEN 0 THEN '' ELSE '-' || (copy + 1) END || '.fits'
    END AS location,
    outcome.size_bytes AS size_bytes,
    lower(hex(outcome.sha256)) AS sha256,
    coalesce(outcome.attempts, 0) AS attempts,
    outcome.reason AS reason,
    outcome.detail AS detail,
    outcome.quirk AS quirk,
    item.size_px AS size_px,
    item.source AS source
FROM item LEFT JOIN outcome ON outcome.n = item.n"""
