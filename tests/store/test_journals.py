"""The manifest and its journal: never read apart, folded in at the end, bounded under readers."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from psfharvest import Harvest
from psfharvest.core.errors import ManifestError
from psfharvest.core.model import Item, Outcome, State, WantedURI
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.place import MANIFEST_NAME
from psfharvest.store.read import search
from psfharvest.store.read.account import account
from psfharvest.store.recover import audit

NOBODY = 65534
WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from psfharvest.core.model import WantedURI
from psfharvest.store.manifest.manifest import Manifest
manifest = Manifest.open(Path(sys.argv[1]))
with manifest.transaction():
    manifest.add([WantedURI(f"mast:late/{k}.fits") for k in range(50)])
os._exit(0)
"""
WAL_BYTES = 2**26
"""Above what a journal may have: it is folded in at 16 MB, and by force at 32 MB."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may look into, with 100 cutouts asked for and folded in."""
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    with Manifest.create(home, sink="files", layout="tree") as manifest, manifest.transaction():
        manifest.add([WantedURI(f"mast:early/{k}.fits") for k in range(100)])
    yield home
    for path in (home, *home.iterdir()):
        path.chmod(0o755)
    shutil.rmtree(home)


def die_after_writing(folder: Path) -> None:
    """Ask for 50 more in a process that dies without closing: they are in the journal only."""
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(folder)], check=True, timeout=60)
    assert (folder / f"{MANIFEST_NAME}-wal").stat().st_size > 0


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Look at the folder as someone who may not write there; root gives up its rights for that."""
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode & 0o444)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        assert not os.access(folder, os.W_OK, effective_ids=True)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize("has_index", [True, False], ids=["with -shm", "without -shm"])
def test_claims_in_the_journal_are_seen_where_nobody_may_write(folder: Path, has_index: bool) -> None:
    """A killed harvest's last claims are in its journal: a read-only copy of the folder shows them."""
    die_after_writing(folder)
    if not has_index:
        (folder / f"{MANIFEST_NAME}-shm").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with read_only(folder):
        assert 150 == account(folder).total
        with Harvest(folder) as stars:
            assert 150 == sum(1 for _ in stars.rows(only_done=False))
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_journal_that_cannot_be_read_is_refused_in_words(folder: Path) -> None:
    """Nor is an old account told when the journal is there and may not be read."""
    die_after_writing(folder)
    (folder / f"{MANIFEST_NAME}-wal").chmod(0)
    (folder / f"{MANIFEST_NAME}-shm").unlink()

    with read_only(folder), pytest.raises(ManifestError, match=r"manifest\.sqlite-wal.*copy manifest\.sqlite and"):
        account(folder)


def test_a_lost_journal_is_told(folder: Path) -> None:
    """A killed harvest's folder without its journal: each account says that it may be an old one."""
    die_after_writing(folder)
    for side in ("-wal", "-shm"):
        (folder / f"{MANIFEST_NAME}{side}").unlink()

    with read_only(folder):
        assert [True] == [f"{MANIFEST_NAME} lacks its journal" in note for note in account(folder).notes]
    for _ in range(2):  # the first look leaves an empty journal behind
        report = account(folder)
        assert report.total == 100
        assert "the account may be an old one" in " ".join(report.notes)
    with Manifest.open(folder) as manifest:
        assert "the account may be an old one" in manifest.note
    assert account(folder).notes == ()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_journal_that_is_there_or_was_folded_in_is_no_doubt(folder: Path, is_killed: bool) -> None:
    """After a clean end, also of a reader's; while a harvest writes; after a kill."""
    assert account(folder).notes == ()
    with Manifest.open(folder) as manifest:
        assert (manifest.note, account(folder).notes) == ("", ())
    if is_killed:
        die_after_writing(folder)
    for _ in range(2):
        assert account(folder).notes == ()
    with Manifest.open(folder) as manifest:
        assert manifest.note == ""
    for side in ("-wal", "-shm"):
        (folder / f"{MANIFEST_NAME}{side}").unlink(missing_ok=True)
    assert account(folder).notes == ()


def test_a_journal_that_was_emptied_at_work_is_no_doubt(folder: Path, tmp_path: Path) -> None:
    """A writer that truncates a large journal and works on is no lost journal; what comes after it can be lost."""
    wal = folder / f"{MANIFEST_NAME}-wal"
    with Manifest.open(folder) as manifest:
        with manifest.transaction() as db:
            db.execute("CREATE TABLE ballast (b)")
            db.execute("INSERT INTO ballast VALUES (zeroblob(40000000))")
        assert wal.stat().st_size == 0
        assert account(folder).notes == ()
        claim(manifest, "late", 10)
        assert account(folder).notes == ()
        shutil.copy(folder / MANIFEST_NAME, tmp_path)
    assert ["lacks its journal" in note for note in account(tmp_path).notes] == [True]


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from psfharvest.core.errors import ManifestError
from psfharvest.core.model import WantedURI
from psfharvest.store.manifest.manifest import Manifest
with Manifest.open(Path(sys.argv[1])) as manifest:
    for k in range(60):
        with manifest.transaction():
            manifest.add([WantedURI(f"mast:late/{k}.fits")])
    size_bytes = Path(f"{manifest.path}-wal").stat().st_size
    assert size_bytes > 2 * manifest.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
    try:
        with manifest.transaction():
            manifest.add([WantedURI("mast:more.fits")])
        sys.exit("there was room")
    except ManifestError:
        pass
"""


def test_a_full_disk_is_no_lost_journal(folder: Path) -> None:
    """Where the journal cannot grow, its writer still ends without a mark."""
    subprocess.run([sys.executable, "-c", FILL_THE_DISK, str(folder)], check=True, timeout=60)
    report = account(folder)
    assert (160, ()) == (report.total, report.notes)


def test_a_lost_journal_of_a_cluster_part_is_told(tmp_path: Path) -> None:
    """Its manifest is read as a copy: with the journal that is no doubt, without it there is one."""
    with Manifest.create(tmp_path, sink="shards", layout="tree", unshared=1) as manifest, manifest.transaction():
        manifest.add([WantedURI("mast:early/0.fits")])
    assert account(tmp_path).notes == ()
    die_after_writing(tmp_path)
    for _ in range(2):
        report = account(tmp_path)
        assert (51, ()) == (report.total, report.notes)
    (tmp_path / f"{MANIFEST_NAME}-wal").unlink()
    assert (1, [True]) == ((report := account(tmp_path)).total, ["lacks its journal" in n for n in report.notes])


def test_a_transaction_that_was_cut_off_is_rolled_back_where_nobody_may_write(folder: Path) -> None:
    """A file without WAL has half a transaction in it after a death; its journal takes that back."""
    hot = folder / "hot"
    hot.mkdir()
    db = sqlite3.connect(folder / MANIFEST_NAME, isolation_level=None)
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE tally SET n = 77 WHERE state = 'asked'")
    db.execute("WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 20000) "
               "INSERT INTO block SELECT n, 1, 1, 'x' FROM k")  # fmt: skip
    for side in ("", "-journal"):
        shutil.copy(folder / f"{MANIFEST_NAME}{side}", hot)
    db.close()
    assert (hot / f"{MANIFEST_NAME}-journal").stat().st_size > 0

    with read_only(hot):
        assert 100 == account(hot).total


def test_a_file_that_is_read_in_place_is_opened_again_when_it_changes(folder: Path) -> None:
    """A reader without locks sees a harvest that goes on meanwhile, and no half of it."""
    with contextlib.ExitStack() as stack:
        with read_only(folder):
            reader = stack.enter_context(Manifest.read(folder))
            assert 100 == sum(1 for _ in reader.cutouts())
        for path in folder.iterdir():
            path.chmod(0o644)
        with Manifest.open(folder) as manifest, manifest.transaction():
            manifest.add([WantedURI(f"mast:more/{k}.fits") for k in range(5000)])
        with read_only(folder):
            assert 5100 == sum(1 for _ in reader.cutouts())


def claim(manifest: Manifest, name: str, n: int) -> None:
    with manifest.transaction():
        items: list[Item] = manifest.add([WantedURI(f"mast:HST/product/{name}_{k}.fits") for k in range(n)])
    manifest.give(items)
    with manifest.transaction():
        manifest.record([Stored(Outcome(item, State.DONE, 1, b"x", b"y" * 32), None, item.key) for item in items])


def test_the_file_alone_tells_all_after_a_harvest(folder: Path) -> None:
    """The writer folds its journal in when it ends, also when a reader has the manifest open."""
    with Manifest.read(folder) as reader:
        rows = reader.cutouts(at_once=10)
        next(rows)
        with Manifest.open(folder) as writer:
            claim(writer, "late", 300)
        alone = folder / "alone"
        alone.mkdir()
        shutil.copy(folder / MANIFEST_NAME, alone)

        assert (400, 300) == (account(alone).total, account(alone).done)
        assert 399 == sum(1 for _ in rows)


def audited(folder: Path, manifest: Manifest) -> Iterator[object]:
    return audit.audit(folder, manifest, workers=1)


def rows_of_a_harvest(folder: Path, manifest: Manifest) -> Iterator[object]:
    del manifest
    yield from Harvest(folder).rows(only_done=False)


def numbers_of_a_search(folder: Path, manifest: Manifest) -> Iterator[object]:
    del folder
    yield from search.number_pages(manifest, "SELECT n FROM item i WHERE i.n > ? LIMIT ?", [], at_once=100)


@pytest.mark.sample(1)
@pytest.mark.parametrize("look", [audited, rows_of_a_harvest, numbers_of_a_search])
def test_the_journal_stays_small_under_a_slow_reader(
    folder: Path, look: Callable[[Path, Manifest], Iterator[object]]
) -> None:
    """Whoever holds an iterator over a manifest holds no transaction: what is written beside it is folded in."""
    wal = folder / f"{MANIFEST_NAME}-wal"
    with Manifest.open(folder) as writer, Manifest.read(folder) as reader:
        claim(writer, "first", 4000)
        slow = look(folder, reader)
        next(slow)
        with writer.transaction() as db:
            db.execute("CREATE TABLE IF NOT EXISTS ballast (n INTEGER PRIMARY KEY, b)")
        for n in range(48):
            with writer.transaction() as db:
                db.execute("INSERT OR REPLACE INTO ballast VALUES (?, zeroblob(2000000))", (n % 4,))
        assert wal.stat().st_size < WAL_BYTES
        next(slow)


@pytest.mark.campaign
def test_the_journal_is_cut_when_somebody_elses_long_look_ends(folder: Path) -> None:
    """Another program's transaction holds the journal up; once it has ended, the next claims fold it in."""
    wal = folder / f"{MANIFEST_NAME}-wal"
    with Manifest.open(folder) as writer:
        other = sqlite3.connect(folder / MANIFEST_NAME, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM item").fetchone()
        with writer.transaction() as db:
            db.execute("CREATE TABLE ballast (n INTEGER PRIMARY KEY, b)")
        for n in range(50):
            with writer.transaction() as db:
                db.execute("INSERT OR REPLACE INTO ballast VALUES (?, zeroblob(2000000))", (n % 4,))
        assert wal.stat().st_size > WAL_BYTES
        other.close()
        for n in range(50):
            with writer.transaction() as db:
                db.execute("INSERT OR REPLACE INTO ballast VALUES (?, zeroblob(2000000))", (n % 4,))
        assert wal.stat().st_size < WAL_BYTES
