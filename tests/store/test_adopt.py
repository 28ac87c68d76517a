"""A lost manifest, made anew from what is stored: what is right is done, what is broken is pending, all is kept."""

from __future__ import annotations

import html
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sink_contract import outcome_of

from harness import check_every_file, rows_of, stored_bytes
from psfharvest import Harvest, Query
from psfharvest.blocking import Archive
from psfharvest.core.catalog.detectors import UVIS
from psfharvest.core.errors import BadInput, FolderRefused, ManifestError
from psfharvest.core.fits import datauri
from psfharvest.core.model import UriBatch, WantedURI
from psfharvest.core.tar import END
from psfharvest.run import uri_lists
from psfharvest.simulator import Simulator
from psfharvest.store.folder import Settings, new_folder
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest.targets import Target
from psfharvest.store.readers import shard_scan
from psfharvest.store.recover import page_list
from psfharvest.store.recover.adopt import Adopted, AdoptProgress, UriList, adopt
from psfharvest.store.recover.detect_layout import recognise
from psfharvest.store.sinks.files import FileSink
from psfharvest.store.sinks.parquet import ParquetSink
from psfharvest.store.sinks.shards import ShardSink
from sampling import examples

KINDS = {
    "tree": {"sink": "files", "layout": "tree"},
    "flat": {"sink": "files", "layout": "flat"},
    "shards": {"sink": "shards"},
    "parquet": {"sink": "parquet"},
}
QUERY = Query("UVIS", limit=60)
PAGE = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>"


def harvest(simulator: Simulator, folder: Path, kind: str, what: Query | Path = QUERY, **more: object):
    """Harvest sixty cutouts of the simulator's, as a user would."""
    suffixes = ["flt"] if isinstance(what, Query) else []
    with Archive(simulator.url) as archive:
        return archive.harvest(what, folder, suffixes=suffixes, via="file", **KINDS[kind], **more)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, _shared_simulator: Simulator) -> Path:
    """Folders of sixty cutouts of each kind, to be copied, as harvests left them."""
    home = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        harvest(_shared_simulator, home / kind, kind)
    return home


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, _shared_simulator: Simulator) -> Path:
    """The same with fourteen cutouts."""
    home = tmp_path_factory.mktemp("few")
    for kind in KINDS:
        harvest(_shared_simulator, home / kind, kind, Query("UVIS", limit=14))
    return home


def copied(home: Path, tmp_path: Path, kind: str) -> Path:
    return Path(shutil.copytree(home / kind, tmp_path / "d"))


def lose_manifest(folder: Path) -> None:
    for path in folder.glob("manifest.sqlite*"):
        path.unlink()


def list_of(path: Path, uris: list[str]) -> Path:
    path.write_text("".join(f"{uri}\n" for uri in uris))
    return path


def listed(path: Path) -> UriList:
    """The list as the command line has it."""
    identity = uri_lists.identity(path)
    return UriList(
        identity, partial(uri_lists.from_file, path), Target("file", identity, {"path": str(path.absolute())})
    )


def adopted(folder: Path, kind: str, rows: list[dict], **more: object) -> Adopted:
    """Adopt a folder, with the list where its sink needs one."""
    path = list_of(folder.parent / "uris.txt", [row["uri"] for row in rows])
    return adopt(folder, listed(path) if kind in ("tree", "flat") else None, **more)


def by_uri(folder: Path, *columns: str) -> dict[str, tuple]:
    return {row["uri"]: tuple(row[column] for column in columns) for row in rows_of(folder)}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file but the folder's own."""
    found = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    return {name: path.read_bytes() for name, path in found if not name.startswith((".", "manifest"))}


def check_sound(folder: Path) -> None:
    """The account that was read equals the account that is counted."""
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        counted = dict(db.execute("SELECT state, count(*) FROM cutout GROUP BY 1").fetchall())
        told = dict(db.execute("SELECT state, n FROM tally WHERE state NOT IN ('asked', 'quirk')").fetchall())
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        settled = {name for (name,) in db.execute("SELECT name FROM meta")}
    db.close()
    assert {state: n for state, n in counted.items() if state != "pending"} == {s: n for s, n in told.items() if n}
    assert not {"broken"} & tables
    assert not {"adopting"} & settled


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_manifest_is_what_it_was(stores: Path, simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """Places, sizes, hashes and catalogue rows come back; no cutout is touched, none is asked for again."""
    folder = copied(stores, tmp_path, kind)
    before = by_uri(folder, "state", "location", "size_bytes", "sha256")
    table = Harvest(folder).table(["id", "psf_flux", "chip", "exptime", "detector"])
    rows, files = rows_of(folder), snapshot(folder)
    lose_manifest(folder)

    made = adopted(folder, kind, rows)

    assert (60, 60, 0, 0) == (made.report.total, made.report.done, made.broken, made.strays)
    assert KINDS[kind]["sink"] == made.kind.sink
    assert before == by_uri(folder, "state", "location", "size_bytes", "sha256")
    assert files == snapshot(folder)
    check_sound(folder)
    if kind in ("shards", "parquet"):
        again = Harvest(folder).table(["id", "psf_flux", "chip", "exptime", "detector"])
        table.sort("id")
        again.sort("id")
        assert [tuple(row) for row in table] == [tuple(row) for row in again]

    simulator.forget()
    # a list is what a folder of files was asked for; a folder that knows no more takes the query as its own
    report = harvest(simulator, folder, kind, extend=kind in ("tree", "flat"))
    assert (60, 60, 0) == (report.total, report.done, simulator.count("file"))
    assert 60 == check_every_file(folder, simulator)


@pytest.mark.parametrize("kind", ["tree", "flat"])
def test_exactly_the_broken_are_fetched_again(
    stores: Path, simulator: Simulator, tmp_path: Path, kind: str
) -> None:
    """Cut, replaced, emptied and absent files are pending, and the harvest of the list fetches only those."""
    folder = copied(stores, tmp_path, kind)
    rows = rows_of(folder)
    damage: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:-2880]),
        lambda path: path.write_bytes(PAGE),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(
            (folder / rows[40]["location"]).read_bytes().replace(b"NAXIS1", b"NAXIX1", 1)
        ),
        lambda path: path.unlink(),
    ]
    for do, row in zip(damage, rows, strict=False):
        do(folder / row["location"])
    lose_manifest(folder)
    damaged = snapshot(folder)

    made = adopted(folder, kind, rows)

    assert {"truncated": 2, "html_page": 1, "empty": 1, "trailing_bytes": 1, "not_fits": 1} == made.problems
    assert (60, 53, 7) == (made.report.total, made.report.done, made.report.pending)
    assert {row["uri"] for row in rows[:6]} == {example.uri for example in made.examples}
    assert {row["uri"] for row in rows[:7]} == {r["uri"] for r in rows_of(folder) if r["state"] == "pending"}
    assert damaged == snapshot(folder)
    check_sound(folder)

    simulator.forget()
    report = harvest(simulator, folder, kind, tmp_path / "uris.txt")
    assert (60, 60, 7) == (report.total, report.done, simulator.count("file"))
    assert 60 == check_every_file(folder, simulator)


def test_a_changed_pixel_is_beyond_a_look_at_the_structure(
    stores: Path, simulator: Simulator, tmp_path: Path
) -> None:
    """Without a hash beside it, a flipped bit among the pixels is taken for the cutout: the limit of adopting."""
    folder = copied(stores, tmp_path, "tree")
    rows = rows_of(folder)
    path = folder / rows[0]["location"]
    body = bytearray(path.read_bytes())
    body[-5000] ^= 1
    path.write_bytes(body)
    lose_manifest(folder)

    made = adopted(folder, "tree", rows)

    assert (60, 0) == (made.report.done, made.broken)
    assert rows[0]["sha256"] != by_uri(folder, "sha256")[rows[0]["uri"]][0]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "offset", "n_asked"),
    [("truncated body", 3000, 60), ("header", -512 + 10, 60), ("note", 20160 + (-20160 % 512) + 520, 59)],
)
def test_a_damaged_place_of_a_shard_costs_one_cutout(
    stores: Path, simulator: Simulator, tmp_path: Path, name: str, offset: int, n_asked: int
) -> None:
    """Damage to a body, its header or its note leaves all others done; the harvest asks for that one alone."""
    folder = copied(stores, tmp_path, "shards")
    row = next(row for row in rows_of(folder)[20:] if row["size_bytes"] == 20160)
    path, _, start = row["location"].partition(":")
    with (folder / path).open("r+b") as shard:
        shard.seek(int(start) + offset)
        shard.write(b"END".ljust(80) * 90 if name == "truncated body" else b"\xff" * 80)
    lose_manifest(folder)

    made = adopt(folder)

    assert (n_asked, 59, 1) == (made.report.total, made.report.done, made.broken)
    check_sound(folder)
    simulator.forget()
    report = harvest(simulator, folder, "shards")
    assert (60, 60, 1) == (report.total, report.done, simulator.count("file"))
    assert 60 == check_every_file(folder, simulator)


@pytest.mark.parametrize("place", ["body", "padding"])
def test_a_torn_shard_goes_on_behind_its_last_whole_cutout(
    stores: Path, simulator: Simulator, tmp_path: Path, place: str
) -> None:
    """A shard that was cut anywhere gives all that is whole before the cut, and is a whole tar again later."""
    folder = copied(stores, tmp_path, "shards")
    path = folder / "shards/000000.tar"
    records = list(shard_scan.scan(path))
    os.truncate(path, records[30].start + 7000 if place == "body" else records[30].end - 1)
    lose_manifest(folder)

    made = adopt(folder)

    assert (30, 30, 1) == (made.report.total, made.report.done, made.broken)
    report = harvest(simulator, folder, "shards")
    assert (60, 60) == (report.total, report.done)
    assert 60 == check_every_file(folder, simulator)
    notes = [record.note for record in shard_scan.scan(path)]
    assert 60 == len(notes)
    assert None not in notes


def test_a_later_copy_counts_also_far_behind(tmp_path: Path) -> None:
    """Hundreds of cutouts between two copies make no difference."""
    folder = tmp_path / "d"
    folder.mkdir()
    sink = ShardSink(folder)
    sink.store([outcome_of("mast:twice", b"\x00first")])
    sink.store([outcome_of(f"mast:other/{k}", b"\x00other") for k in range(1200)])
    sink.store([outcome_of("mast:twice", b"\x00second")])
    sink.close()

    assert 1201 == adopt(folder).report.done
    (row,) = [row for row in rows_of(folder) if row["uri"] == "mast:twice"]
    assert b"\x00second" == stored_bytes(folder, row)
    check_sound(folder)


def test_of_two_copies_in_shards_the_last_right_one_counts(
    stores: Path, simulator: Simulator, tmp_path: Path
) -> None:
    """What was repaired stands twice: the dead bytes neither count nor come back."""
    folder = copied(stores, tmp_path, "shards")
    rows = rows_of(folder)[:2]
    for row in rows:
        path, _, start = row["location"].partition(":")
        with (folder / path).open("r+b") as shard:
            shard.seek(int(start) + (4 if row is rows[0] else row["size_bytes"] - 3000))
            shard.write(b"\xff")  # one is broken in its structure, the other in a pixel
    with Archive(simulator.url) as archive:
        from psfharvest.store.manifest.manifest import Manifest
        from psfharvest.store.recover import audit, mend

        with Manifest.read(folder) as manifest:
            broken = [found.number for found in audit.audit(folder, manifest) if found.problem]
        mend.repair(folder, [number for number in broken if number])
        archive.resume(folder, via="file")
    before = by_uri(folder, "state", "location", "sha256")
    lose_manifest(folder)

    made = adopt(folder)

    assert (60, 60, 0) == (made.report.total, made.report.done, made.broken)
    assert before == by_uri(folder, "state", "location", "sha256")
    check_sound(folder)


def test_parquet_tells_a_changed_pixel(stores: Path, simulator: Simulator, tmp_path: Path) -> None:
    """A row whose pixels give another hash than stands beside them is broken, the others are done."""
    import pyarrow.parquet as pq

    folder = copied(stores, tmp_path, "parquet")
    n_101 = sum(row["size_px"] == 101 for row in rows_of(folder))
    path = folder / "parquet/51/000000.parquet"
    table = pq.read_table(path)
    hashes = table["sha256"].to_pylist()
    hashes[7] = "0" * 64
    at = table.schema.get_field_index("sha256")
    pq.write_table(table.set_column(at, table.schema.field(at), [hashes]), path)
    (folder / "parquet/101/000000.parquet").write_bytes(b"PAR1 no more")
    lose_manifest(folder)

    made = adopt(folder)

    assert {"changed": 1, "unreadable": 1} == made.problems
    assert (60 - n_101, 59 - n_101) == (made.report.total, made.report.done)
    simulator.forget()
    report = harvest(simulator, folder, "parquet")
    assert (60, 60, n_101 + 1) == (report.total, report.done, simulator.count("file"))
    assert b"PAR1 no more" == (folder / "parquet/101/000000.parquet").read_bytes()
    assert all(row["state"] == "done" for row in rows_of(folder))
    for row in rows_of(folder):
        assert simulator.render(row["uri"]) == stored_bytes(folder, row)


def outcomes_of(simulator: Simulator, uris: list[str]):
    return [outcome_of(uri, simulator.render(uri), n) for n, uri in enumerate(uris, 1)]


@pytest.fixture
def uris(simulator: Simulator) -> list[str]:
    """Forty dataURIs of the archive's."""
    with Archive(simulator.url) as archive:
        rows = archive.query(Query("UVIS", limit=40))
        return [str(datauri.build(dict(zip(rows.colnames, row, strict=True)), UVIS, "flt")) for row in rows]


@pytest.mark.sample(1)
@pytest.mark.parametrize("torn", [0, 700, 25_000])
def test_a_journal_that_no_file_came_of_is_adopted(
    simulator: Simulator, tmp_path: Path, uris: list[str], torn: int
) -> None:
    """After a kill, Parquet's rows wait in the journal; they are found there, up to a torn end."""
    folder = tmp_path / "d"
    folder.mkdir()
    sink = ParquetSink(folder)
    sink.store(outcomes_of(simulator, uris[:30]))
    journal = folder / "parquet/.journal/000000.tar"
    os.truncate(journal, journal.stat().st_size - (torn and torn + len(END)))
    n_whole = 30 - (torn > 0) - (torn > 24_000)

    made = adopt(folder)

    assert (n_whole, n_whole) == (made.report.total, made.report.done)
    assert (torn > 0) == made.broken
    simulator.forget()
    report = harvest(simulator, folder, "parquet", list_of(tmp_path / "uris.txt", uris))
    assert (40, 40, 40 - n_whole) == (report.total, report.done, simulator.count("file"))
    for row in rows_of(folder):
        assert simulator.render(row["uri"]) == stored_bytes(folder, row)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_journal_beside_its_files_is_believed_if_it_is_whole(
    simulator: Simulator, tmp_path: Path, uris: list[str], is_whole: bool
) -> None:
    """A death between file and journal's end leaves both: nothing is lost, whichever is damaged."""
    folder = tmp_path / "d"
    folder.mkdir()
    sink = ParquetSink(folder)
    sink.store(outcomes_of(simulator, uris[:30]))
    shutil.copytree(folder / "parquet/.journal", tmp_path / "kept")
    sink.close()
    shutil.copytree(tmp_path / "kept", folder / "parquet/.journal")
    if not is_whole:
        os.truncate(folder / "parquet/.journal/000000.tar", 100_000)

    assert (30, 0) == (adopt(folder).report.done, adopt_is_refused(folder))
    report = harvest(simulator, folder, "parquet", list_of(tmp_path / "uris.txt", uris))
    assert (40, 40) == (report.total, report.done)
    for row in rows_of(folder):
        assert simulator.render(row["uri"]) == stored_bytes(folder, row)


def adopt_is_refused(folder: Path) -> int:
    with pytest.raises(FolderRefused, match="is sound"):
        adopt(folder)
    return 0


class Fate(NamedTuple):
    """What happens to a stored file, and whether it is right after that."""

    do: Callable[[Path, int], object]
    is_right: bool


FATES = {
    "kept": Fate(lambda path, at: None, True),
    "cut": Fate(os.truncate, False),
    "page": Fate(lambda path, at: path.write_bytes(PAGE[: at + 1]), False),
    "gone": Fate(lambda path, at: path.unlink(), False),
    "folder": Fate(lambda path, at: (path.unlink(), path.mkdir()), False),
    "grown": Fate(lambda path, at: path.write_bytes(path.read_bytes() + b"x" + bytes(at)), False),
}


@pytest.mark.campaign
@settings(max_examples=examples(25))
@given(
    fates=st.lists(st.tuples(st.sampled_from(sorted(FATES)), st.integers(0, 17_000)), max_size=14),
    kind=st.sampled_from(["tree", "flat"]),
    n_listed=st.integers(1, 14),
)
def test_any_damage_to_files_is_told_exactly(
    few: Path,
    tmp_path_factory: pytest.TempPathFactory,
    fates: list[tuple[str, int]],
    kind: str,
    n_listed: int,
) -> None:
    """Whichever files are cut, replaced, gone: the right ones of the list are done, the account adds up."""
    folder = tmp_path_factory.mktemp("any") / "d"
    shutil.copytree(few / kind, folder)
    rows = rows_of(folder)
    lose_manifest(folder)
    for (name, at), row in zip(fates, rows, strict=False):
        FATES[name].do(folder / row["location"], at)
    wanted = dict(itertools.zip_longest([row["uri"] for row in rows], fates, fillvalue=("kept", 0)))
    before = snapshot(folder)

    try:
        made = adopted(folder, kind, rows[:n_listed])
    except BadInput:
        assert not before
        return

    right = {uri for uri, (name, _) in list(wanted.items())[:n_listed] if FATES[name].is_right}
    there = [name for name, _ in list(wanted.values())[:n_listed] if name not in ("gone", "folder")]
    assert right == {row["uri"] for row in rows_of(folder) if row["state"] == "done"}
    assert (n_listed, len(right)) == (made.report.total, made.report.done)
    assert len(there) - len(right) == made.broken
    assert len(before) - len(there) == made.strays
    assert before == snapshot(folder)
    check_sound(folder)


@pytest.mark.campaign
@settings(max_examples=examples(40))
@given(data=st.data())
def test_any_damage_to_a_shard_costs_only_what_it_hits(
    few: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Blocks overwritten anywhere, a cut anywhere: every untouched cutout is done, and none has others' bytes."""
    folder = tmp_path_factory.mktemp("any") / "d"
    shutil.copytree(few / "shards", folder)
    rows = {row["uri"]: row for row in rows_of(folder)}
    lose_manifest(folder)
    path = folder / "shards/000000.tar"
    records = list(shard_scan.scan(path))
    n_blocks = path.stat().st_size // 512
    hit = data.draw(st.sets(st.integers(0, n_blocks - 1), max_size=4))
    junk = data.draw(st.sampled_from([b"\xff" * 512, bytes(512), b"ustar" * 102 + b"us"]))
    cut = data.draw(st.one_of(st.none(), st.integers(512 * 40, path.stat().st_size)))
    with path.open("r+b") as shard:
        for block in hit:
            shard.seek(512 * block)
            shard.write(junk)
        if cut is not None:
            shard.truncate(cut)
    starts = [0, *(record.end for record in records[:-1])]
    untouched = {
        record.note["uri"]
        for start, record in zip(starts, records, strict=True)
        if not any(start <= 512 * block < record.end for block in hit) and (cut is None or record.end <= cut)
    }

    made = adopt(folder)

    done = {row["uri"]: row for row in rows_of(folder) if row["state"] == "done"}
    assert untouched <= set(done)
    assert all(rows[uri]["location"] == row["location"] for uri, row in done.items())
    assert all(rows[uri]["sha256"] == done[uri]["sha256"] for uri in untouched)
    assert made.report.total <= 14
    check_sound(folder)


def test_files_without_their_list_are_refused(few: Path, tmp_path: Path) -> None:
    """The error says that a list is needed, and nothing appears in the folder."""
    shutil.copytree(few / "tree", tmp_path / "d")
    lose_manifest(tmp_path / "d")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(BadInput, match=r"--uris FILE"):
        adopt(tmp_path / "d")
    assert before == sorted(tmp_path.rglob("*"))


def test_two_kinds_are_refused_by_name(few: Path, tmp_path: Path) -> None:
    """A mixture is told with an example of each, whichever kinds meet."""
    for one, other in itertools.combinations(KINDS, 2):
        folder = tmp_path / f"{one}-{other}"
        shutil.copytree(few / one, folder)
        shutil.copytree(few / other, folder, dirs_exist_ok=True)
        lose_manifest(folder)
        with pytest.raises(FolderRefused, match="two kinds") as refused:
            recognise(folder)
        assert all(KINDS[kind]["sink"] in str(refused.value) for kind in (one, other))


@pytest.mark.parametrize(
    ("place", "asked_for", "hint"),
    [
        ("MAST_x/WFC3PSF", "", "give the folder {}/MAST_x"),
        ("WFC3PSF", "WFC3PSF", "give the folder above it"),
        ("", "", "move them there"),
        ("psf", "", "give their folder that name"),
        (None, "", "holds no cutouts"),
        (None, "absent", "is no folder"),
    ],
)
def test_a_wrong_folder_names_the_right_one(
    few: Path, tmp_path: Path, place: str | None, asked_for: str, hint: str
) -> None:
    """Cutouts beside their place are refused with the way out."""
    if place is not None:
        shutil.copytree(few / "flat/WFC3PSF", tmp_path / place, dirs_exist_ok=True)

    with pytest.raises(BadInput, match=hint.format(tmp_path)):
        recognise(tmp_path / asked_for)


def test_a_linked_instrument_folder_is_walked(few: Path, tmp_path: Path) -> None:
    """Cutouts on another disk, behind a link, are found; a link that leads in circles is not followed."""
    shutil.copytree(few / "flat/WFC3PSF", tmp_path / "disk")
    (tmp_path / "disk/again").symlink_to(tmp_path / "disk")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/WFC3PSF").symlink_to(tmp_path / "disk")
    uris = [row["uri"] for row in rows_of(few / "flat")]

    made = adopt(tmp_path / "d", listed(list_of(tmp_path / "uris.txt", uris)))

    assert (14, 0, "flat") == (made.report.done, made.strays, made.kind.layout)


def test_a_sound_manifest_is_left_alone(few: Path, tmp_path: Path) -> None:
    """The folder is refused and stays as it was."""
    shutil.copytree(few / "shards", tmp_path / "d")
    before = (tmp_path / "d/manifest.sqlite").read_bytes()

    with pytest.raises(FolderRefused, match="verify"):
        adopt(tmp_path / "d")
    assert before == (tmp_path / "d/manifest.sqlite").read_bytes()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda body: b"\xff" * len(body),
    "a page in its middle": lambda body: body[:8192] + b"\xff" * 8192 + body[16384:],
    "cut": lambda body: body[: len(body) // 2],
    "empty": lambda body: b"",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_manifest_is_set_aside(few: Path, tmp_path: Path, name: str) -> None:
    """It keeps its bytes under another name, with its journal; two of them do not meet."""
    folder = tmp_path / "d"
    shutil.copytree(few / "shards", folder)
    (folder / "manifest.sqlite-damaged-1-wal").write_bytes(b"of an earlier time")
    damaged = DAMAGE[name]((folder / "manifest.sqlite").read_bytes())
    (folder / "manifest.sqlite").write_bytes(damaged)

    made = adopt(folder)

    assert 14 == made.report.done
    kept = [path.read_bytes() for path in folder.glob("manifest.sqlite-damaged-*")]
    assert b"of an earlier time" in kept
    assert damaged in kept or not damaged
    assert ("manifest.sqlite-damaged-2" if damaged else "") == made.set_aside
    check_sound(folder)


@pytest.mark.parametrize(
    ("pragma", "words"), [("user_version = 99", "newer"), ("application_id = 5", "no manifest")]
)
def test_a_manifest_that_is_not_ours_to_judge_is_left(few: Path, tmp_path: Path, pragma: str, words: str) -> None:
    """A newer or foreign manifest is no damage: it stays, and so does the folder."""
    folder = tmp_path / "d"
    shutil.copytree(few / "shards", folder)
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        db.execute(f"PRAGMA {pragma}")
    db.close()
    before = (folder / "manifest.sqlite").read_bytes()

    with pytest.raises(ManifestError, match=words):
        adopt(folder)
    assert before == (folder / "manifest.sqlite").read_bytes()
    assert not list(folder.glob("*damaged*"))


def test_a_stale_journal_is_not_played_into_a_new_manifest(simulator: Simulator, tmp_path: Path, few: Path) -> None:
    """A journal whose manifest was removed mixes with nothing, whether the folder is adopted or harvested."""
    folder = tmp_path / "d"
    harvest(simulator, folder, "shards", Query("IR", limit=20))
    with sqlite3.connect(folder / "manifest.sqlite", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("UPDATE tally SET n = n + 1000 WHERE state = 'asked'")
        stale = (folder / "manifest.sqlite-wal").read_bytes()
    db.close()
    assert stale
    for name in ("adopted", "harvested"):
        shutil.copytree(few / "shards", tmp_path / name)
        lose_manifest(tmp_path / name)
        (tmp_path / name / "manifest.sqlite-wal").write_bytes(stale)
    shutil.rmtree(tmp_path / "harvested/shards")

    assert 14 == adopt(tmp_path / "adopted").report.done
    assert 20 == harvest(simulator, tmp_path / "harvested", "tree", Query("IR", limit=20)).total
    for name in ("adopted", "harvested"):
        check_sound(tmp_path / name)
        assert stale in [path.read_bytes() for path in (tmp_path / name).glob("manifest.sqlite-damaged-*")]


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_a_harvest_does_not_drop_cutouts_whose_manifest_is_lost(few: Path, tmp_path: Path, kind: str) -> None:
    """A new harvest of the same sink is refused, and sent to adopt, with every byte as it was."""
    folder = tmp_path / "d"
    shutil.copytree(few / kind, folder)
    lose_manifest(folder)
    before = snapshot(folder)

    with (
        pytest.raises(FolderRefused, match="psfharvest adopt"),
        new_folder(folder, Settings(sink=KINDS[kind]["sink"])),
    ):
        pass
    assert before == snapshot(folder)


def test_the_folders_lock_is_held(few: Path, tmp_path: Path) -> None:
    """A folder in use is refused."""
    shutil.copytree(few / "shards", tmp_path / "d")
    lose_manifest(tmp_path / "d")

    with folder_lock(tmp_path / "d"), pytest.raises(FolderRefused, match="being harvested"):
        adopt(tmp_path / "d")
    assert 14 == adopt(tmp_path / "d").report.done


def in_tens(path: Path) -> UriList:
    """A list that comes ten lines at a time."""

    def batches(position: int, lines: int) -> Iterator[UriBatch]:
        every = path.read_text().splitlines()
        for at in range(lines, len(every), 10):
            asked = [WantedURI(uri, None, datauri.parse(uri)) for uri in every[at : at + 10]]
            yield UriBatch(asked, position + 1, at + len(asked))

    return UriList(f"tens of {path.name}", batches)


class Stopped(Exception):
    """Raised in the middle of it."""


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["tree", "shards"])
def test_what_was_stopped_goes_on(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """What was looked at before is not looked at again, and the account is that of one try."""
    folder = tmp_path / "d"
    harvest(simulator, folder, kind, Query("UVIS", limit=1100 if kind == "shards" else 60))
    rows = rows_of(folder)
    path = list_of(tmp_path / "uris.txt", [row["uri"] for row in rows])
    before = by_uri(folder, "state", "location", "sha256")
    broken = rows[0]["location"].partition(":")
    with (folder / broken[0]).open("r+b") as file:
        file.seek(int(broken[2] or 0))
        file.write(b"XX")
    lose_manifest(folder)
    seen: list[AdoptProgress] = []

    def stop(looked: AdoptProgress) -> None:
        seen.append(looked)
        raise Stopped

    with pytest.raises(Stopped):
        adopt(folder, None if kind == "shards" else in_tens(path), watch=stop)
    assert not (folder / "manifest.sqlite").exists()
    made = adopt(folder, None if kind == "shards" else in_tens(path), watch=seen.append)

    assert len(rows) == seen[0].n_read + seen[-1].n_read
    assert (len(rows), len(rows) - 1, 1) == (made.report.total, made.report.done, made.broken)
    after = by_uri(folder, "state", "location", "sha256")
    assert {**before, rows[0]["uri"]: ("pending", None, "")} == after
    check_sound(folder)


def test_another_list_begins_anew(few: Path, tmp_path: Path) -> None:
    """What was grown from one list is of no use for another: nothing of it stays."""
    folder = tmp_path / "d"
    shutil.copytree(few / "tree", folder)
    uris = [row["uri"] for row in rows_of(folder)]
    lose_manifest(folder)
    first, second = list_of(tmp_path / "one.txt", uris), list_of(tmp_path / "two.txt", uris[:3])

    def stop(looked: AdoptProgress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        adopt(folder, in_tens(first), watch=stop)
    made = adopt(folder, in_tens(second))

    assert (3, 3, 11) == (made.report.total, made.report.done, made.strays)
    assert not (folder / ".adopting").exists()


def test_two_sizes_of_one_source_find_their_own_files(
    simulator: Simulator, tmp_path: Path, uris: list[str]
) -> None:
    """In the order of asking both are done; in another order, neither takes the other's file for its own."""
    pair = [uris[0], uris[0].replace("size=51", "size=31")]
    harvest(simulator, tmp_path / "d", "flat", list_of(tmp_path / "pair.txt", pair))
    lose_manifest(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "e")

    assert 2 == adopt(tmp_path / "d", listed(tmp_path / "pair.txt")).report.done
    made = adopt(tmp_path / "e", listed(list_of(tmp_path / "swapped.txt", pair[::-1])))
    assert (0, {"wrong_shape": 2}) == (made.report.done, made.problems)


ODD = ["mast:a", "mast:a/b.fits", "mast:x/" + "long" * 60 + ".fits", "mast:HST/product/x.fits?y=1"]


@pytest.mark.parametrize("kind", KINDS)
def test_other_dataURIs_are_adopted_too(simulator: Simulator, tmp_path: Path, uris: list[str], kind: str) -> None:  # noqa: N802
    """Whole files of any dataURI, also where one's path is a step of another's, and names too long for a header."""
    folder = tmp_path / "d"
    folder.mkdir()
    body = simulator.render(uris[0])
    sinks = {"shards": ShardSink, "parquet": ParquetSink}
    sink = sinks[kind](folder) if kind in sinks else FileSink(folder, layout=kind)
    everything = ODD if kind != "flat" else [*ODD, uris[0]]
    sink.store([outcome_of(uri, body, n) for n, uri in enumerate(everything, 1)])
    sink.close()

    made = adopt(folder, listed(list_of(tmp_path / "uris.txt", everything)))

    assert (len(everything), 0, 0) == (made.report.done, made.broken, made.strays)
    for row in rows_of(folder):
        assert body == stored_bytes(folder, row)


def test_bad_lines_of_a_list_stay_accounted_for(few: Path, tmp_path: Path) -> None:
    """A line that is no dataURI is failed, as in a harvest of the list."""
    shutil.copytree(few / "flat", tmp_path / "d")
    uris = [row["uri"] for row in rows_of(tmp_path / "d")]
    lose_manifest(tmp_path / "d")

    made = adopt(tmp_path / "d", listed(list_of(tmp_path / "uris.txt", ["# mine", "no uri", *uris, uris[0]])))

    assert (15, 14, {"bad_uri": 1}) == (made.report.total, made.report.done, made.report.reasons)


@given(
    uris=st.lists(st.text("aZ9é&=?./_[]%;-'", min_size=1, max_size=300), max_size=40),
    depth=st.integers(1, 2),
    padding=st.one_of(st.integers(0, 70_000), st.integers(65_200, 65_500)),  # a read ends within a row
    skip=st.integers(0, 5),
)
def test_a_bundles_page_gives_its_dataURIs(  # noqa: N802
    tmp_path_factory: pytest.TempPathFactory, uris: list[str], depth: int, padding: int, skip: int
) -> None:
    """However often they are escaped and wherever a read ends; other cells are no dataURIs."""
    uris = [datauri.canonical(f"mast:{text}") for text in uris]
    rows = " " * padding
    for uri in uris:
        cell = html.escape(html.escape(uri, quote=False) if depth == 2 else uri, quote=False)
        rows += f"<tr>\n  <td>{cell}</td>\n <td>mast:file</td><td>OK</td></tr>\n"
    path = tmp_path_factory.mktemp("page") / "MANIFEST.HTML"
    path.write_text(f"<html><table><tr><td><b>URI</b></td></tr>{rows}</table></html>", encoding="utf-8")

    found = [asked.uri for page in page_list.read(path, 0, skip) for asked in page.asked]

    assert uris[skip:] == found
