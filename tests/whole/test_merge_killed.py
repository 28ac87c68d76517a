"""Kill -9 of ``merge`` and ``convert`` at random: the target is what it was, or whole; the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import command_process
from harness import Run, files_of, rows_of
from psfharvest import Query, blocking
from psfharvest.simulator import Simulator
from standard_readers import every_file_opens

KINDS = {
    "tree": ("files", "tree"),
    "flat": ("files", "flat"),
    "shards": ("shards", None),
    "parquet": ("parquet", None),
}
A, B = Query("UVIS", filter="F606W", limit=150), Query("UVIS", limit=300)
TIMEOUT_S = 120
MOST_IN_A_ROW = 4
"""Kills of one target before it is left alone."""
VERBS = {
    "merge": ["merge", "a", "b", "target"],
    "merge-into": ["merge", "a", "target"],
    "convert-files": ["convert", "b", "target", "--sink", "files"],
    "convert-shards": ["convert", "b", "target", "--sink", "shards"],
    "convert-parquet": ["convert", "b", "target", "--sink", "parquet"],
}
NOW = [("shards", "merge-into"), ("parquet", "convert-shards")]
N_KILLS_NOW, N_KILLS = 2, 15
"""Kills of one case: in the default run, and in the campaign; that is 120 of `merge` and 180 of `convert`."""


class Command(NamedTuple):
    """The command in a folder, to be run to its end or to be killed."""

    words: list[str]
    folder: Path
    scratch: Path

    def killed(self, after_s: float) -> bool:
        """Kill it after a time; return False when it had ended by itself."""
        process = command_process.start(self.words, cwd=self.folder, env=dict(os.environ), scratch=self.scratch)
        process.join(after_s)
        is_alive = process.exitcode is None
        process.kill()
        process.join()
        return is_alive

    def run(self, *words: str) -> Run:
        """Run it, or another one, to its end."""
        env = dict(os.environ)
        done = command_process.run(
            words or self.words, cwd=self.folder, env=env, scratch=self.scratch, timeout_s=TIMEOUT_S
        )
        return Run(done)


def contents(folder: Path) -> dict[str, Any]:
    """Return what a folder knows of each cutout, apart from where; each is there once, in a place of its own."""
    rows = rows_of(folder)
    found = {row["uri"]: (row["state"], row["size_bytes"], row["sha256"], row["reason"]) for row in rows}
    places = [row["location"] for row in rows if row["state"] == "done"]
    assert (len(found), len(set(places))) == (len(rows), len(places))
    return found


@pytest.fixture(scope="module")
def made(_shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the place of two overlapping harvests, folders ``a`` and ``b``, for a way to store."""
    base = tmp_path_factory.mktemp("made")

    @cache
    def make(kind: str) -> Path:
        sink, layout = KINDS[kind]
        with blocking.Archive(_shared_simulator.url) as archive:
            for name, query in ("a", A), ("b", B):
                folder = base / kind / name
                archive.harvest(query, folder, suffixes=["flc"], sink=sink, layout=layout, progress=False)
        return base / kind

    return make


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.sample(1)
@pytest.mark.parametrize(("kind", "verb"), NOW)
def test_killed_anywhere_it_goes_on(
    made: Callable[[str], Path], tmp_path: Path, scratch: Path, kind: str, verb: str
) -> None:
    """After each kill the target is as before or whole; after the last the same command makes it whole, once."""
    kill_often(made(kind), verb, N_KILLS_NOW, tmp_path / "here", scratch)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_often_it_goes_on(
    made: Callable[[str], Path], tmp_path: Path, scratch: Path, kind: str, verb: str
) -> None:
    """Every way to store, every command, and many more kills."""
    kill_often(made(kind), verb, N_KILLS, tmp_path / "here", scratch)


def kill_often(made: Path, verb: str, n_kills: int, folder: Path, scratch: Path) -> None:
    """Kill a command so many times, at random, and hold what is there against what has to be after each."""
    shutil.copytree(made, folder)
    target = folder / "target"
    is_into = verb == "merge-into"
    sources = {name: contents(folder / name) for name in "ab"}
    whole = sources["b"] if verb.startswith("convert") else sources["a"] | sources["b"]
    before = sources["b"] if is_into else None
    command = Command([*VERBS[verb], "--json", "--quiet"], folder, scratch)
    draw = random.Random(f"{made.name} {verb}")

    prepare(target, made / "b" if is_into else None)
    began_s = time.monotonic()
    assert 0 == command.run().status
    longest_s = time.monotonic() - began_s
    check(command, target, whole)

    killed = 0
    while killed < n_kills:
        prepare(target, made / "b" if is_into else None)
        for _ in range(draw.randint(1, MOST_IN_A_ROW)):
            if not command.killed(draw.uniform(0, longest_s)):
                break
            killed += 1
            held = contents(target) if (target / "manifest.sqlite").exists() else None
            assert held in (before, whole)
        check(command, target, whole)
    assert sources == {name: contents(folder / name) for name in "ab"}


def prepare(target: Path, original: Path | None) -> None:
    """Make the target what it is before the command: absent, or a copy of a harvest folder."""
    shutil.rmtree(target, ignore_errors=True)
    if original is not None:
        shutil.copytree(original, target)


def check(command: Command, target: Path, whole: dict[str, Any]) -> None:
    """Run the command to its end, and hold the target against what it has to be, and against its bytes."""
    finished = command.run()
    assert (0, len(whole)) == (finished.status, finished.account["done"]), finished.err
    assert whole == contents(target)
    verified = command.run("verify", "target", "--json", "--quiet")
    assert (0, 0, 0) == (verified.status, verified.account["broken"], verified.account["strays"]), verified.err
    stored = [row["location"] for row in rows_of(target) if row["state"] == "done"]
    if (target / "manifest.sqlite").exists() and not any(":" in location for location in stored):
        assert set(stored) == files_of(target)
    else:
        assert len(stored) == every_file_opens(target)
    left = {path.name for path in target.iterdir()} - {"manifest.sqlite", ".psfharvest.lock"}
    assert left <= {"WFC3PSF", "WFPC2PSF", "shards", "parquet"}, left
