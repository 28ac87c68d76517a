"""
What a claim rests on: a manifest that is damaged, and what has been synced to the disk, when, before power is lost.

Synced are, for shards and Parquet always: each batch, and the names of its files, before the manifest's commit,
which SQLite syncs itself; a journal goes only after what became of it, and its names, are synced. For files with
``fsync``: each file before it has its name, each folder up to the harvest's before the commit. Without it files are
not synced: a power loss may take the last seconds' files although they are claimed (``verify --repair`` finds
them), and the last commits of the manifest, but never a part of one. The harvest folder's own name in its parent is
never synced.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from psfharvest.store.folder import Settings, new_folder, old_folder
from whole.crash_campaign import KILLED, Combination, Trial
from whole.crash_world import World, open_world

LOCAL = 74
SINKS = ("files", "shards", "parquet")
PAGE = 4096
ROUNDS = 12
"""Damages for each sink: one in each way, and again."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


def damage(folder: Path, way: str, draw: random.Random) -> None:
    """Change the manifest, or SQLite's journal beside it, as a bad disk or a clumsy copy would."""
    main, journal = folder / "manifest.sqlite", folder / "manifest.sqlite-wal"
    has_journal = journal.exists() and journal.stat().st_size > 0
    path = journal if has_journal and (way == "bits" or draw.random() < 0.3) else main
    body = bytearray(path.read_bytes())
    page = draw.randrange(0, len(body), PAGE)
    n = len(body[page : page + PAGE])
    if way == "bits" and has_journal:
        for _ in range(draw.choice((1, 8))):
            body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    elif way == "cut":
        del body[draw.randrange(len(body)) :]
    else:
        body[page : page + PAGE] = bytes(n) if way == "empty page" else b"\xff" * n
    path.write_bytes(body)


def stored_now(folder: Path, sink: str) -> dict[Path, bytes]:
    """Return the files that hold cutouts: none of them may shrink or change."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.fits" if sink == "files" else "*.tar")}


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
def test_a_damaged_manifest_is_told_or_harmless(world: World, tmp_path: Path, sink: str) -> None:
    """
    Damage ends in a `ManifestError`, or in an account that adds up; what is stored stays.

    A bit that changes in a value of the main file is beyond SQLite's own checks, and is not tried.
    """
    draw = random.Random(f"damage {sink}")
    trial = Trial(world, Combination("curl", sink, "file", "list"), tmp_path, seed=10)
    trial.live({"point": "before a claim's commit", "nth": 2, "rolls": False}, ends=[KILLED, 0])
    kept = stored_now(trial.folder, sink)
    ends = []
    for n in range(ROUNDS):
        folder = tmp_path / f"damaged-{n}"
        shutil.copytree(trial.folder, folder)
        damage(folder, ("bits", "cut", "empty page", "worn page")[n % 4], draw)
        more = {"folder": str(folder), "url": world.simulator.url, "wire": "curl", "sink": sink, "via": "file"}
        harvest = more | {"list": str(world.list)}
        for life in ({"words": ["status", str(folder), "--json"]}, harvest):
            log = tmp_path / "log"
            ends.append(world.zygote.live(life | {"log": str(log)}))
            said = log.read_text()
            assert "Traceback" not in said, said
            assert ends[-1] in (0, LOCAL), said
            if ends[-1] == LOCAL:
                assert "manifest.sqlite" in said
            else:
                account = json.loads(said.splitlines()[-1])
                assert account["total"] == sum(account[k] for k in ("done", "missing", "failed", "pending"))
        now = stored_now(folder, sink)
        if sink != "parquet":  # a journal that became a file has gone
            assert all(now[path].startswith(body) or sink == "shards" for path, body in kept.items())
        shutil.rmtree(folder)
    trial.finish()

    assert {0, LOCAL} <= set(ends), "damage was never harmful, or never harmless"


def trail_of(world: World, folder: Path, sink: str, events: list[tuple[str, str, str, str]], **more: object) -> str:
    """Return which of the events happened, in their order, in a harvest from its beginning to its end."""
    life = {"folder": str(folder / "d"), "url": world.simulator.url, "wire": "curl", "sink": sink, "via": "file"}
    life |= {"list": str(world.list), "log": str(folder / "log"), "events": events, "trail": str(folder / "trail")}
    assert 0 == world.zygote.live(life | more), (folder / "log").read_text()
    return (folder / "trail").read_text()


COMMIT = ("commit", "before", "COMMIT", "Run._keep")


@pytest.mark.parametrize("fsync", [True, False])
def test_files_are_synced_before_their_claim_when_asked(world: World, tmp_path: Path, fsync: bool) -> None:
    """With fsync: each file before its name, each folder before the commit. Without: nothing is."""
    events = [
        ("write", "after", "write", "FileSink._write_body"),
        ("sync", "after", "fsync", "FileSink._write_body"),
        ("name", "before", "rename", "FileSink._rename"),
        ("folder", "after", "fsync", "FileSink._sync_folders"),
        COMMIT,
    ]
    trail = trail_of(world, tmp_path, "files", events, fsync=fsync)

    pattern = "(((write )+sync name )+(folder ){4,}commit )+" if fsync else "(((write )+name )+commit )+"
    assert re.fullmatch(pattern, trail), trail
    assert len(world.bodies) == trail.count("name")


def test_shards_are_synced_before_their_claim(world: World, tmp_path: Path) -> None:
    """Each batch is synced before its commit; a shard that is left, and the next one's name, before it is used."""
    events = [
        ("write", "after", "pwritev", "ShardSink._append"),
        ("sync", "after", "fdatasync", "ShardSink._append"),
        ("end", "after", "write", "ShardSink._roll"),
        ("synced", "after", "fsync", "ShardSink._roll"),
        ("name", "after", "replace", "ShardSink._roll"),
        COMMIT,
    ]
    trail = trail_of(world, tmp_path, "shards", events, rolls=True)

    assert re.fullmatch("((((write )*sync )?end synced name synced )*(write )+sync commit )+", trail), trail
    assert 2 < trail.count("end")


def test_a_journal_goes_after_what_became_of_it_is_synced(world: World, tmp_path: Path) -> None:
    """A journal is synced before its claim, a Parquet file before its name, all names before the journal goes."""
    events = [
        ("write", "after", "pwritev", "ShardSink._append"),
        ("sync", "after", "fdatasync", "ShardSink._append"),
        ("synced", "after", "fsync", "convert"),
        ("name", "before", "replace", "convert"),
        ("gone", "before", "unlink", "ParquetSink._finish"),
        COMMIT,
    ]
    trail = trail_of(world, tmp_path, "parquet", events, rolls=True)

    turned = "(synced name synced )+synced gone "
    assert re.fullmatch(f"(({turned})?(write )+sync commit )+{turned}", trail), trail


@pytest.mark.parametrize(
    ("sink", "fsync", "level"), [("files", False, 1), ("files", True, 2), ("shards", False, 2)]
)
def test_the_manifest_syncs_its_commits_where_bytes_are_synced(
    tmp_path: Path, sink: str, fsync: bool, level: int
) -> None:
    """SQLite syncs every commit (FULL, 2) where claims survive power loss, else at its checkpoints (NORMAL, 1)."""
    settings = Settings(sink=sink, fsync=fsync)
    for opened in (new_folder, old_folder):
        with opened(tmp_path, settings) as manifest, manifest.connection() as db:
            assert [("wal",), (level,)] == [
                db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
            ]
