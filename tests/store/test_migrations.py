"""Manifests of earlier versions: read as they are, migrated by a writer, refused where no psfharvest wrote them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from psfharvest import Harvest
from psfharvest.core.errors import ManifestError
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.store.manifest import migrate, schema
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.place import MANIFEST_NAME
from psfharvest.store.read.account import account
from psfharvest.store.recover import audit

DATA = Path(__file__).parents[1] / "data"
EARLIER = sorted(DATA.glob("manifest_version_*.sql"))
"""Manifests as former releases wrote them: 3 done, 1 missing, 1 failed."""


def connected(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / MANIFEST_NAME, isolation_level=None)


def built(text: Path, folder: Path) -> Path:
    """Return a folder with the manifest that a stored text describes."""
    db = connected(folder)
    db.executescript(text.read_text())
    db.close()
    return folder


def schema_of(folder: Path) -> tuple[int, dict[str, list[tuple]], str]:
    """Return the version, every table's columns, and the view's text."""
    db = connected(folder)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in sorted(tables)}
    version = db.execute("PRAGMA user_version").fetchone()[0]
    view = db.execute("SELECT sql FROM sqlite_master WHERE name = 'cutout'").fetchone()[0]
    db.close()
    return version, columns, view


@pytest.fixture(params=EARLIER, ids=lambda path: path.stem)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a manifest of a former release."""
    return built(request.param, tmp_path)


def test_a_reader_shows_an_earlier_version_and_changes_nothing(earlier: Path) -> None:
    """Account, cutouts, search and audit work; not a byte of the folder is different."""
    before = (earlier / MANIFEST_NAME).read_bytes()

    report = account(earlier)
    stars = Harvest(earlier)
    table = stars.table(state=None)
    with Manifest.read(earlier) as manifest:
        rows = list(manifest.cutouts("uri, state, location, quirk, detail"))
        problems = {found.problem for found in audit.audit(earlier, manifest)}

    assert (5, 3, 1, 1, 0) == (report.total, report.done, report.missing, report.failed, report.pending)
    assert (3, 5) == (len(stars), len(table))
    assert [None] * 5 == [quirk for *_, quirk, _ in rows]
    assert {"missing"} == problems
    stars.close()
    assert [MANIFEST_NAME] == sorted(path.name for path in earlier.iterdir())
    assert before == (earlier / MANIFEST_NAME).read_bytes()


def test_a_writer_migrates_an_earlier_version(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Old and new folders end with one schema, each migration recorded; the account is what it was."""
    new = tmp_path_factory.mktemp("new")
    Manifest.create(new).close()
    before = account(earlier)

    with Manifest.open(earlier) as manifest:
        with manifest.transaction():
            (item,) = manifest.add([WantedURI("mast:HST/product/b.fits")])
            manifest.record([Stored(Outcome(item, State.DONE, 1, b"body", b"h" * 32, quirk="no checksum"))])
        with manifest.connection() as db:
            recorded = [name for (name,) in db.execute("SELECT name FROM migration ORDER BY n")]

    assert schema_of(new) == schema_of(earlier)
    assert [migration.name for migration in schema.MIGRATIONS] == recorded
    after = account(earlier)
    assert (before.total + 1, before.done + 1) == (after.total, after.done)
    assert {"no checksum": 1} == after.quirks


def partly(folder: Path, n: int) -> None:
    """Make a manifest with the first `n` migrations, as a death between two of them leaves it."""
    db = connected(folder)
    db.execute("BEGIN")
    for statement in schema.FIRST_TABLES.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {schema.FIRST_VERSION}")
    for migration in schema.MIGRATIONS[:n]:
        migrate.apply(db, migration)
    db.execute("INSERT INTO item (n, copy, other) VALUES (1, 0, 'mast:a')")
    db.execute("INSERT INTO tally VALUES ('asked', '', 1, 0)")
    db.execute("COMMIT")
    db.close()


@pytest.mark.parametrize("n", range(len(schema.MIGRATIONS)))
@pytest.mark.parametrize("way", [Manifest.read, Manifest.open])
def test_every_step_on_the_way_can_be_opened(tmp_path: Path, n: int, way: Callable[[Path], Manifest]) -> None:
    """Whatever prefix of the migrations a manifest has, it is read, and it is brought to today's schema."""
    partly(tmp_path, n)

    with way(tmp_path) as manifest:
        rows = list(manifest.cutouts("uri, state, quirk"))
    assert [("mast:a", "pending", None)] == rows
    with Manifest.open(tmp_path) as manifest:
        assert 1 == manifest.tally().pending
    assert schema.VERSION == schema_of(tmp_path)[0]


def test_a_migration_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    """What a migration changed is rolled back together with its record, and the error names the file."""
    partly(tmp_path, 0)
    db = connected(tmp_path)
    column = schema.MIGRATIONS[0].columns[0]
    db.execute(f"ALTER TABLE {column.table} ADD COLUMN {column.name} INTEGER")  # the step must fail
    db.close()
    before = (tmp_path / MANIFEST_NAME).read_bytes()

    with pytest.raises(ManifestError, match="duplicate column"):
        Manifest.open(tmp_path)
    db = connected(tmp_path)
    assert [(schema.FIRST_VERSION,)] == db.execute("PRAGMA user_version").fetchall()
    assert [] == db.execute("SELECT name FROM sqlite_master WHERE name = 'migration'").fetchall()
    db.close()
    assert len(before) == (tmp_path / MANIFEST_NAME).stat().st_size


@pytest.mark.parametrize("version", [0, -1, schema.VERSION + 1, 2**31 - 1])
@pytest.mark.parametrize("way", [Manifest.read, Manifest.open])
def test_versions_that_are_not_ours_are_refused(
    tmp_path: Path, version: int, way: Callable[[Path], Manifest]
) -> None:
    """A version that was never published, or is newer, is named, with what to do; nothing is changed."""
    Manifest.create(tmp_path).close()
    db = connected(tmp_path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = (tmp_path / MANIFEST_NAME).read_bytes()

    with pytest.raises(ManifestError, match=rf"of version {version}\b.*(adopt|newer)"):
        way(tmp_path)
    assert before == (tmp_path / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("way", [Manifest.read, Manifest.open])
def test_a_migration_of_a_later_release_is_refused(tmp_path: Path, way: Callable[[Path], Manifest]) -> None:
    """A change that this release does not know is refused by its name, whatever the number says."""
    Manifest.create(tmp_path).close()
    db = connected(tmp_path)
    db.execute("INSERT INTO migration (name, applied_at) VALUES ('from the future', '')")
    db.close()

    with pytest.raises(ManifestError, match=r"from the future.*install a newer"):
        way(tmp_path)


@pytest.mark.parametrize("spoil", ["ALTER TABLE run DROP COLUMN via", "DROP TABLE tally", "DROP TABLE run"])
def test_a_manifest_that_lacks_tables_is_damaged(tmp_path: Path, spoil: str) -> None:
    """A schema that does not fit its version is a damaged manifest with the way out, not a riddle of SQLite's."""
    Manifest.create(tmp_path).close()
    db = connected(tmp_path)
    db.execute(spoil)
    db.close()

    with pytest.raises(ManifestError, match=r"is damaged .*adopt"):
        account(tmp_path)
