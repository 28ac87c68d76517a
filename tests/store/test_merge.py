"""Merged folders hold the union of their accounts; a death at any instant loses and doubles nothing."""

from __future__ import annotations

import hashlib
import itertools
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sink_contract import cutout_uri
from test_mend import open_sink as open_rolling
from test_parquet import fits_bytes, image_of

from psfharvest.core.fits import datauri
from psfharvest.core.model import BadLine, Outcome, Reason, State, WantedURI
from psfharvest.store.folder import Settings, old_folder
from psfharvest.store.manifest import spans, targets
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.schema import FIRST_TABLES, MIGRATIONS
from psfharvest.store.manifest.targets import Target
from psfharvest.store.merge import convert, merge, result
from psfharvest.store.read import found_cutouts
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.verification import verify
from psfharvest.store.sinks.files import FileSink
from standard_readers import every_file_opens

LONG = "mast:" + "x" * 150 + "/y.dat"
URIS = [cutout_uri(k, size=size) for k in range(1, 9) for size in (51, 101)] + [LONG, "mast:a/b", "mast:a/b/c"]
"""Pairs of one file name; a path that is a step of another's."""
BODIES = {uri: fits_bytes(image_of(k, 51 if k % 2 else 101)) for k, uri in enumerate(URIS[:16], 1)}
BODIES |= {uri: b"no image of " + uri.encode() * 9 for uri in URIS[16:]}
BAD = "no dataURI"
SINKS = ("files", "shards", "parquet")
RANKS = [None, "failed", "missing", "done"]
ATTEMPTS = {"done": 1, "missing": 2, "failed": 5}

Wish = Mapping[str, str | None]
"""dataURI to state; None is pending."""


def fill(folder: Path, sink: str, wish: Wish) -> Path:
    """Make a harvest folder in which each cutout is in the wanted state, in several shards or files."""
    folder.mkdir(parents=True)
    Manifest.create(folder, sink=sink, layout="tree").close()
    with old_folder(folder, Settings()) as manifest:
        run = manifest.begin_run()
        store = FileSink(folder) if sink == "files" else open_rolling(folder, sink, manifest)
        with manifest.transaction():
            rows = manifest.sources("UVIS", ["id", "name"], [[k, uri[-20:]] for k, uri in enumerate(wish)])
            lines = [
                BadLine(uri, "it says nothing") if uri == BAD else WantedURI(uri, row, datauri.parts_of(uri))
                for uri, row in zip(wish, rows, strict=True)
            ]
            manifest.add(lines)
        items = [item for item in manifest.pending(0, 1000, with_source=True) if wish[item.uri]]
        random.Random(len(items)).shuffle(items)  # shards hold what has come, not what was asked for next
        for start in range(0, len(items), 3):
            some = items[start : start + 3]
            done = store.store(
                [
                    Outcome(item, State.DONE, 1, BODIES[item.uri], hashlib.sha256(BODIES[item.uri]).digest())
                    for item in some
                    if wish[item.uri] == "done"
                ]
            )
            others = [
                Stored(Outcome(item, State(state), ATTEMPTS[state], reason=Reason.NOT_FOUND))
                for item in some
                if (state := wish[item.uri]) not in (None, "done")
            ]
            with manifest.transaction():
                manifest.record([*done, *others])
                manifest.set(**store.checkpoint())
        with manifest.transaction():
            manifest.update_run(run, elapsed_s=random.random(), requests=7, stopped="")
        store.close()
    return folder


def found_in(folder: Path) -> dict[str, tuple[Any, ...]]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = db.execute("SELECT uri, state, size_bytes, sha256, attempts, source IS NULL FROM cutout").fetchall()
        numbers = [n for (n,) in db.execute("SELECT n FROM item ORDER BY n")]
    db.close()
    assert numbers == list(range(1, len(numbers) + 1)), "readers count on numbers without holes"
    assert len(rows) == len({row[0] for row in rows})
    return {uri: rest for uri, *rest in rows}


def check(folder: Path, sink: str, wishes: Sequence[Wish]) -> None:
    """Hold a merged folder against what went into it."""
    best: dict[str, str | None] = {}
    for wish in wishes:
        for uri, state in wish.items():
            best[uri] = max(best.get(uri), state, key=RANKS.index)
    if BAD in best:
        best[BAD] = "failed"
    found = found_in(folder)
    assert {uri: state or "pending" for uri, state in best.items()} == {u: row[0] for u, row in found.items()}
    done = [uri for uri, state in best.items() if state == "done"]
    report = result(folder)
    counts = {state: list(best.values()).count(state) for state in RANKS}
    assert (len(best), counts["done"], counts["missing"], counts["failed"], counts[None]) == (
        report.total, report.done, report.missing, report.failed, report.pending,
    )  # fmt: skip
    assert sum(len(BODIES[uri]) for uri in done) == report.bytes
    assert 7 * len(wishes) == report.requests
    checked = verify(folder)
    assert (len(done), 0, 0, ()) == (checked.checked, checked.broken, checked.strays, checked.files)
    with Manifest.read(folder) as manifest, Reader(folder) as reader:
        rows = list(manifest.cutouts("uri, location, size_bytes", "state = 'done'"))
        assert {uri: reader.read(at, size) for uri, at, size in rows} == {uri: BODIES[uri] for uri in done}
        assert sum(1 for _ in manifest.pending(0, 1000)) == counts[None]
    assert sink == "files" or len(done) == every_file_opens(folder, with_tar=False)
    assert not (folder / ".merging").exists()


WISHES = st.lists(
    st.dictionaries(st.sampled_from([*URIS, BAD]), st.sampled_from(["done", "done", "missing", "failed", None])),
    min_size=2,
    max_size=3,
)


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
@settings(max_examples=5)
@given(wishes=WISHES, is_base=st.booleans(), other=st.sampled_from(SINKS))
def test_the_merged_account_is_the_union(
    tmp_path_factory: pytest.TempPathFactory, sink: str, wishes: list[Wish], is_base: bool, other: str
) -> None:
    """Each cutout is there once, in its best state, with its bytes; converted, too, and merged once more."""
    base = tmp_path_factory.mktemp("merge")
    folders = [fill(base / str(n), sink, wish) for n, wish in enumerate(wishes)]
    into = folders.pop() if is_base else base / "into"

    list(merge(folders, into, is_partial=True))

    check(into, sink, wishes)
    list(merge(folders, into, is_partial=True))
    check(into, sink, wishes)
    list(convert(into, base / "other", other))
    check(base / "other", other, wishes)


@pytest.mark.parametrize("sink", ["shards", "parquet"])
def test_shards_hold_cutouts_in_the_order_they_came(tmp_path: Path, sink: str) -> None:
    """The numbers of two shards' cutouts overlap; each is claimed in its own shard."""
    wish = dict.fromkeys(URIS, "done")
    source = fill(tmp_path / "source", sink, wish)
    with Manifest.read(source) as manifest, manifest.connection() as db:
        stretches = db.execute("SELECT min(n), max(n) FROM outcome GROUP BY shard ORDER BY shard").fetchall()
    assert any(before[1] > after[0] for before, after in itertools.pairwise(stretches))

    list(merge([source], tmp_path / "into"))

    check(tmp_path / "into", sink, [wish])


MERGED_TABLES = frozenset(
    {
        "meta", "ask", "part", "layout", "block", "source_span", "item", "name", "outcome", "tally", "run",
        "migration", "refusal", "pulse", "note",
    }
)  # fmt: skip
"""All tables of a manifest: merged, made anew, or left out: refusals (one more attempt of each), pulses, notes."""


def test_every_table_is_merged() -> None:
    """A table that a migration adds has its place in a merge, too."""
    first = {words.split()[0] for words in FIRST_TABLES.split("CREATE TABLE ")[1:]}
    later = {name for migration in MIGRATIONS for name, _ in migration.tables}
    assert first - {"source"} | later | {"migration"} == MERGED_TABLES


def rows_by_uri(folder: Path) -> dict[str, Any]:
    """Return each cutout's catalogue row."""
    with Manifest.read(folder) as manifest:
        return {found.ours["uri"]: found.source for found in found_cutouts.rows(manifest, np.arange(1, 1000))}


def blobs(folder: Path) -> list[tuple[int, bytes]]:
    with Manifest.read(folder) as manifest, manifest.connection() as db:
        return db.execute("SELECT n, data FROM block ORDER BY first").fetchall()


@pytest.mark.parametrize(("n_known", "n_bare"), [(0, 9), (4, 9), (4, 0)])
def test_catalogue_rows_are_merged_as_they_are_stored(tmp_path: Path, n_known: int, n_bare: int) -> None:
    """Blocks are taken in byte by byte, and each cutout keeps its row, also of what a list had asked for before."""
    uris = [cutout_uri(k) for k in range(1, 900)]
    folders = [tmp_path / name for name in "abc"]
    for folder, some in zip(folders, (uris[:300], uris[300 - n_known : 600], uris[600:]), strict=True):
        folder.mkdir()
        Manifest.create(folder, sink="shards").close()
        with Manifest.open(folder) as manifest, manifest.transaction():
            numbers = manifest.sources("UVIS", ["id", "name"], [[uris.index(uri), uri] for uri in some])
            pairs = zip(some, numbers, strict=True)
            manifest.add(
                [
                    WantedURI(uri, None if folder.name == "a" and k >= 300 - n_bare else n)
                    for k, (uri, n) in enumerate(pairs)
                ]
            )

    list(merge(folders, tmp_path / "into", is_partial=True))

    found = rows_by_uri(tmp_path / "into")
    assert uris == list(found)
    named = {uri: row["name"] for uri, row in found.items() if "name" in row}
    assert all(uri == name for uri, name in named.items())
    assert len(uris) - max(0, n_bare - n_known) == len(named)
    assert [pair for folder in folders for pair in blobs(folder)] == blobs(tmp_path / "into")
    with Manifest.read(tmp_path / "into") as manifest, manifest.connection() as db:
        pairs = db.execute("SELECT n, source FROM item ORDER BY n").fetchall()
        of_stretches = spans.sources_of(db, np.array([n for n, _ in pairs]))
        assert [source or 0 for _, source in pairs] == of_stretches.tolist()


KILLER = """
import os, signal, sqlite3, sys
from pathlib import Path
from psfharvest.store.merge import convert, merge

at, what, *words = sys.argv[1:]
NAMES = {"link", "rename", "replace", "unlink", "mkdir", "rmdir", "pwritev", "fsync", "fdatasync", "ftruncate",
         "execute", "executemany", "backup", "close", "write"}
n = 0

def hook(frame, event, function):
    global n
    if event in ("c_call", "c_return") and function.__name__ in NAMES:
        n += 1
        if n == int(at):
            os.kill(os.getpid(), signal.SIGKILL)

if what == "merge":
    steps = merge([Path(word) for word in words[:-1]], Path(words[-1]))
else:
    steps = convert(Path(words[0]), Path(words[1]), what)
sys.setprofile(hook)
for _ in steps:
    pass
sys.setprofile(None)
print(n)
"""
"""Counts what touches disk and manifest, and dies at a given one; prints their number at the end."""


def live(at: int, what: str, *folders: Path) -> int | None:
    """Merge or convert in a process of its own, which dies at a point; return how many points it passed."""
    words = [sys.executable, "-c", KILLER, str(at), what, *map(str, folders)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode in (0, -9), ended.stderr
    return int(ended.stdout) if ended.returncode == 0 else None


def die_at_points(base: Path, sink: str, what: str, *, n_kills: int, seed: int) -> None:
    """Kill a merge or conversion at points chosen at random, one life after the other, then let it end."""
    draw = random.Random(seed)
    wishes = [
        dict.fromkeys(URIS[:12], "done"),
        dict.fromkeys(URIS[5:], "done"),
        dict.fromkeys(URIS[:3], "done"),
    ]
    made = [fill(base / "made" / name, sink, wish) for name, wish in zip("abc", wishes, strict=True)]
    used = wishes if what == "merge" else wishes[:1]
    n_points = live(0, what, *made[: len(used)], base / "counted")
    assert n_points is not None
    for k in range(n_kills):
        home = base / str(k)
        shutil.copytree(base / "made", home)
        sources, into = [home / "a", home / "b"], home / "c"
        if what != "merge" or draw.random() < 0.5:
            sources, into = [home / name for name in "abc"][: len(used)], home / "into"
        before = {folder: found_in(folder) for folder in (*sources, into) if folder.exists()}
        for _ in range(1 + k % 3):
            live(draw.randint(1, n_points), what, *sources, into)
            for folder, known in before.items():
                is_merged = folder == into and len(known) < len(found_in(folder))
                assert is_merged or known == found_in(folder)
                assert 0 == verify(folder).broken
            if into not in before and (into / "manifest.sqlite").exists():
                assert 0 == verify(into).broken
                assert {uri for wish in used for uri in wish} == found_in(into).keys()
        assert live(0, what, *sources, into) is not None
        check(into, sink if what == "merge" else what, used)
        shutil.rmtree(home)


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
def test_killed_at_some_points(tmp_path: Path, sink: str) -> None:
    """Until the last rename the folders are as they were; afterwards everything is there, once."""
    die_at_points(tmp_path, sink, "merge", n_kills=2, seed=len(sink))


@pytest.mark.campaign
def test_converting_killed_at_some_points(tmp_path: Path) -> None:
    """A conversion goes on after a death, too."""
    die_at_points(tmp_path, "files", "shards", n_kills=1, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("what", ["merge", "files", "shards", "parquet"])
@pytest.mark.parametrize("sink", SINKS)
def test_killed_at_many_points(tmp_path: Path, sink: str, what: str) -> None:
    """The same with fifty deaths."""
    die_at_points(tmp_path, sink, what, n_kills=50, seed=random.randrange(2**32))


@pytest.mark.parametrize("order", [("cut", "whole"), ("whole", "cut")])
def test_a_list_that_was_cut_off_stays_known_as_such(tmp_path: Path, order: tuple[str, str]) -> None:
    """Lists that came as streams are told apart by nothing; another one's end is not that of the one cut off."""
    wishes = {"cut": {URIS[0]: "done"}, "whole": {URIS[1]: "done"}}
    for name in order:
        folder = fill(tmp_path / name, "files", wishes[name])
        with old_folder(folder, Settings()) as manifest:
            (target,) = targets.find_or_add(manifest, [Target("stream", "stream", {})], extend=True)
            if name == "whole":
                targets.complete(manifest, target)

    list(merge([tmp_path / name for name in order], tmp_path / "into", is_partial=True))

    report = result(tmp_path / "into")
    assert (2, 2, False) == (report.total, report.done, report.is_fully_asked)
