"""The ledger against a plain dict, and against damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from psfharvest.core.errors import FolderRefused, ManifestError
from psfharvest.core.model import BadLine, Item, Outcome, Reason, State, WantedURI
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.place import MANIFEST_NAME
from psfharvest.store.manifest.targets import read_targets
from sampling import examples


def uri(k: int, size: int = 51) -> str:
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size={size}&x={k}.5&y=40.0"
        f"&format=fits/ibc302ioq_{k}_F814W_flt_cutout.fits"
    )


OTHERS = ["mast:HST/product/a.fits", "mast:HST/product/A.fits", "mast:other", uri(3, 31), uri(3, 71)]
URIS = st.one_of(st.integers(1, 40).map(uri), st.sampled_from(OTHERS))


class Ledger(RuleBasedStateMachine):
    """Ask, take, record, reopen and reopen the file in any order: the account equals that of a dict."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        Manifest.create(self.path, sink="files", layout="tree").close()
        self.manifest = Manifest.open(self.path)
        self.states: dict[str, State] = {}
        self.given: list[Item] = []
        self.after = 0

    @rule(uris=st.lists(URIS, max_size=30))
    def target(self, uris: list[str]) -> None:
        new = len(set(uris) - set(self.states))
        with self.manifest.transaction():
            added = self.manifest.add([WantedURI(u) for u in uris])

        assert new == len(added)
        for u in uris:
            self.states.setdefault(u, State.PENDING)

    @rule(line=st.text(min_size=1, max_size=20).map(lambda t: f"bad {t}").filter(lambda t: "\x00" not in t))
    def ask_nonsense(self, line: str) -> None:
        with self.manifest.transaction():
            self.manifest.add([BadLine(line, "line 1")])
        self.states[line] = State.FAILED

    @rule(limit=st.integers(1, 20))
    def take(self, limit: int) -> None:
        batch = self.manifest.pending(self.after, limit)
        self.after = batch[-1].number if batch else self.after
        for item in batch:
            assert State.PENDING is self.states[item.uri]
        self.given += batch

    @precondition(lambda self: self.given)
    @rule(data=st.data(), state=st.sampled_from([State.DONE, State.MISSING, State.FAILED]))
    def record(self, data: st.DataObject, state: State) -> None:
        n = data.draw(st.integers(1, len(self.given)))
        batch, self.given = self.given[:n], self.given[n:]
        body, reason = (b"x" * 10, None) if state is State.DONE else (None, Reason.NOT_FOUND)
        outcomes = [Outcome(item, state, 1, body, b"h" * 32 if body else b"", reason) for item in batch]
        with self.manifest.transaction():
            self.manifest.record([Stored(o) for o in outcomes])
        for item in batch:
            self.states[item.uri] = state

    @precondition(lambda self: not self.given)
    @rule(state=st.sampled_from([State.MISSING, State.FAILED]))
    def try_again(self, state: State) -> None:
        self.manifest.reopen([state])
        self.after = 0
        for u, was in self.states.items():
            if was is state and not u.startswith("bad "):
                self.states[u] = State.PENDING

    @rule()
    def die_and_come_back(self) -> None:
        self.manifest.close()
        self.manifest = Manifest.open(self.path)
        self.given, self.after = [], 0

    @rule()
    def fail_in_a_transaction(self) -> None:
        def add_and_fail() -> None:
            with self.manifest.transaction():
                self.manifest.add([WantedURI(uri(k)) for k in range(500, 520)])
                raise LookupError

        with pytest.raises(LookupError):
            add_and_fail()

    @invariant()
    def the_account_is_the_dict(self) -> None:
        tally = self.manifest.tally()
        values = list(self.states.values())

        assert len(values) == tally.total
        assert values.count(State.DONE) == tally.done
        assert values.count(State.MISSING) == tally.missing
        assert values.count(State.FAILED) == tally.failed
        assert values.count(State.PENDING) == tally.pending
        assert 10 * tally.done == tally.bytes
        assert tally.missing + tally.failed == sum(tally.reasons.values())

    @invariant()
    def the_view_is_the_dict(self) -> None:
        rows = list(self.manifest.cutouts("uri, state"))

        assert self.states == dict(rows)
        assert len(self.states) == len(rows)

    def teardown(self) -> None:
        self.manifest.close()
        self.folder.cleanup()


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=examples(60), stateful_step_count=25, deadline=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Manifest.create(tmp_path, sink="files", layout="tree").close()
    return tmp_path


def test_a_manifest_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """What an earlier death left of a growing manifest does not matter, and nothing of it stays."""
    (tmp_path / ".manifest.growing").write_bytes(b"half")
    Manifest.create(tmp_path).close()

    assert [MANIFEST_NAME] == [p.name for p in tmp_path.iterdir()]


def done(item: Item) -> Stored:
    return Stored(Outcome(item, State.DONE, 1, b"body", b"h" * 32))


def test_an_outcome_is_recorded_once(folder: Path) -> None:
    """A second outcome for an item is refused, and nothing of its batch is claimed."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            manifest.add([WantedURI(uri(1)), WantedURI(uri(2))])
        first, second = manifest.pending(0, 10)
        with manifest.transaction():
            manifest.record([done(first)])
        with pytest.raises(ManifestError), manifest.transaction():
            manifest.record([done(second), done(first)])

        assert (manifest.tally().done, manifest.tally().pending) == (1, 1)


def test_two_uris_with_one_file_name_have_their_own_keys(folder: Path) -> None:
    """Sizes of one source, and names that differ in case only, get keys of their own."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            manifest.add([WantedURI(u) for u in (uri(3), uri(3, 31), uri(3, 71), *OTHERS[:2])])
        keys = [item.key for item in manifest.pending(0, 10)]

        assert len(keys) == len({key.casefold() for key in keys})
        assert keys[0] == "WFC3PSF/ibc302ioq_3_F814W_flt_cutout.fits"


def test_readers_look_while_a_writer_writes(folder: Path) -> None:
    """Another connection reads the claimed account during an open transaction."""
    with Manifest.open(folder) as writer:
        with writer.transaction():
            writer.add([WantedURI(uri(1))])
        with writer.transaction():
            writer.add([WantedURI(uri(2))])
            with Manifest.read(folder) as reader:
                assert reader.tally().total == 1


def test_a_manifest_of_a_newer_version_is_left_alone(folder: Path) -> None:
    """A manifest that a later psfharvest wrote is refused with the way out, unchanged."""
    path = folder / MANIFEST_NAME
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()

    with pytest.raises(ManifestError, match="install a newer one"):
        Manifest.open(folder)
    assert before == path.read_bytes()


@pytest.mark.parametrize(
    "text", [b"not a database, but long enough to be read as one" * 100, b"SQLite format 3\0" * 300]
)
def test_a_damaged_manifest_is_told_and_left_alone(tmp_path: Path, text: bytes) -> None:
    """A file that is no database is refused, unchanged."""
    (tmp_path / MANIFEST_NAME).write_bytes(text)

    for way in (Manifest.open, Manifest.read):
        with pytest.raises(ManifestError):
            way(tmp_path)
    assert text == (tmp_path / MANIFEST_NAME).read_bytes()


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    """A database of another program is not taken for a manifest."""
    with sqlite3.connect(tmp_path / MANIFEST_NAME) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()

    with pytest.raises(ManifestError, match="no manifest of psfharvest"):
        Manifest.open(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    """A folder that holds no harvest is bad input."""
    with pytest.raises(FolderRefused, match="no harvest folder"):
        Manifest.read(tmp_path)


def test_sources_come_back_with_their_items(folder: Path) -> None:
    """An item's catalogue row is given as JSON when it is wanted."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            (n,) = manifest.sources("UVIS", ["id", "chip", "focus"], [(1, "2", None)])
            manifest.add([WantedURI(uri(1), n), WantedURI(uri(2))])
        with_row, without = manifest.pending(0, 10, with_source=True)

        assert with_row.source == '{"id": 1, "chip": "2", "focus": null, "detector": "UVIS"}'
        assert not without.source


def test_a_resume_starts_where_work_is_left(folder: Path) -> None:
    """The low-water mark passes what is settled, and never what was given out and not recorded."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            manifest.add([WantedURI(uri(k)) for k in range(1, 101)])
        given = manifest.pending(0, 60)
        with manifest.transaction():
            manifest.record([done(item) for item in given if item.number != 7])

    with Manifest.open(folder) as manifest:
        assert int(manifest.setting("low_water")) == 6
        assert [7, *range(61, 101)] == [item.number for item in manifest.pending(0, 100)]


def test_a_query_tells_the_row_of_what_was_asked_before(folder: Path) -> None:
    """A dataURI of a list has no catalogue row; it gets one when a query finds it, too, and keeps it."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            manifest.add([WantedURI(uri(1)), WantedURI(uri(2))])
        with manifest.transaction():
            first, other = manifest.sources("UVIS", ["id"], [(1,), (7,)])
            assert not manifest.add([WantedURI(uri(1), first)])
        with manifest.transaction():
            manifest.add([WantedURI(uri(1), other)])
        known, unknown = manifest.pending(0, 10, with_source=True)

    assert ('{"id": 1, "detector": "UVIS"}', "") == (known.source, unknown.source)


def test_a_low_water_mark_above_pending_items_is_not_believed(folder: Path) -> None:
    """What is pending is found again, wherever the mark stands."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction():
            manifest.add([WantedURI(uri(1)), WantedURI(uri(2))])
        with manifest.transaction():
            manifest.set(low_water=2)
    with sqlite3.connect(folder / MANIFEST_NAME) as db:
        db.execute("UPDATE meta SET value = 2 WHERE name = 'low_water'")
    db.close()

    with Manifest.open(folder) as manifest:
        assert 2 == len(manifest.pending(0, 10))


BREAK_THE_COMMIT = "INSERT INTO orphan VALUES (1)"
"""A row without its parent, which SQLite notices in the commit, as it notices a full disk."""


@pytest.mark.parametrize("breaks", ["SELECT nonsense", BREAK_THE_COMMIT], ids=["within", "at the commit"])
def test_a_claim_that_failed_leaves_its_items_to_be_found(folder: Path, breaks: str) -> None:
    """Items whose claim was rolled back stay below no low-water mark, whatever is committed after them."""
    with Manifest.open(folder) as manifest:
        with manifest.connection() as db:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("CREATE TEMP TABLE parent (n INTEGER PRIMARY KEY)")
            db.execute("CREATE TEMP TABLE orphan (n REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
        with manifest.transaction():
            manifest.add([WantedURI(uri(1)), WantedURI(uri(2))])
        one, two = manifest.pending(0, 10)

        def claim_and_break() -> None:
            with manifest.transaction() as db:
                manifest.record([done(one), done(two)])
                db.execute(breaks)

        with pytest.raises(ManifestError):
            claim_and_break()
        with manifest.transaction():
            pass
        assert 0 == manifest.setting("low_water")
        assert [one.uri, two.uri] == [item.uri for item in manifest.pending(0, 10)]


@pytest.mark.parametrize("spoil", ["UPDATE ask SET spec = '{'", "UPDATE ask SET spec = '7'"])
def test_what_cannot_be_read_is_told_with_the_way_out(folder: Path, spoil: str) -> None:
    """A value that no psfharvest has written is a damaged manifest, not a traceback."""
    with Manifest.open(folder) as manifest, manifest.transaction() as db:
        db.execute("INSERT INTO ask (kind, identity, spec) VALUES ('stream', 'stream', '{}')")
        db.execute(spoil)
    with Manifest.open(folder) as manifest, pytest.raises(ManifestError, match="adopt"):
        read_targets(manifest)


def test_a_catalogue_row_that_cannot_be_read_is_told(folder: Path) -> None:
    """Nor is a damaged row a traceback."""
    with Manifest.open(folder) as manifest:
        with manifest.transaction() as db:
            (n,) = manifest.sources("UVIS", ["id"], [(1,)])
            manifest.add([WantedURI(uri(1), n)])
            db.execute("UPDATE block SET data = substr(data, 1, length(data) - 1)")
        with pytest.raises(ManifestError, match="adopt"):
            manifest.pending(0, 10, with_source=True)
