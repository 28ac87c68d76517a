"""
Trouble that is no death: no room, no files left to open, no right to write, a second process.

Each ends the run with a clear word and the account whole; and when the trouble is over, the same call continues.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import sampled
from psfharvest.simulator import Fault
from whole.crash_campaign import KILLED, Combination, Trial
from whole.crash_world import World, open_world

LOCAL = 74
SINKS = ("files", "shards", "parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 4 MB, and say whether that could be done: it takes root, and not all roots may."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    is_there = (
        shutil.which("mount") is not None and not subprocess.run(words, capture_output=True, check=False).returncode
    )
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", str(folder)], check=True)


def is_told(trial: Trial, *words: str) -> bool:
    """Whether the last life ended with one of these words in a `LocalError`."""
    return re.search(rf"^(Sink|Manifest)Error: .*({'|'.join(words)})", trial.log(), re.MULTILINE) is not None


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", sampled(["list", "query"], ["query"]))
def test_files_that_may_not_grow(world: World, tmp_path: Path, sink: str, source: str) -> None:
    """A write that finds no room, wherever it is, ends the run with 74; the account stays whole; work goes on."""
    trial = Trial(world, Combination("curl", sink, "file", source), tmp_path, seed=3)
    stops = 0
    for _ in range(12):
        status = trial.live({"limits": {"RLIMIT_FSIZE": trial.room()}}, ends=[0, LOCAL])
        assert status == 0 or is_told(trial, "File too large", "disk I/O error", "disk is full"), trial.log()
        stops += status == LOCAL
    trial.finish()

    assert stops > 3


@pytest.mark.campaign
@pytest.mark.parametrize("sink", SINKS)
def test_a_disk_that_fills_up(world: World, tmp_path: Path, sink: str) -> None:
    """The same with a real disk, where one can be had; elsewhere with files that may not grow."""
    draw = random.Random(sink)
    disk = tmp_path / "disk"
    with small_disk(disk) as is_there:
        trial = Trial(world, Combination("curl", sink, "file", "list"), tmp_path, seed=4, disk=disk)
        for _ in range(8):
            limits = {} if is_there else {"RLIMIT_FSIZE": trial.room()}
            ballast = disk / "ballast"
            if is_there:
                free = shutil.disk_usage(disk).free
                ballast.write_bytes(bytes(max(0, free - int(1_500_000 * draw.random() ** 2))))
            trial.live({"limits": limits}, ends=[0, LOCAL])
            ballast.unlink(missing_ok=True)
        trial.finish()


@pytest.mark.campaign
@pytest.mark.parametrize("wire", ["curl", "httpx"])
@pytest.mark.parametrize("sink", SINKS)
def test_few_files_may_be_open(world: World, tmp_path: Path, wire: str, sink: str) -> None:
    """With few descriptors a run does its work, or ends with a clear word; with more the same call goes on."""
    trial = Trial(world, Combination(wire, sink, "file", "list"), tmp_path, seed=5)
    for spare in (18, 20, 22, 40):
        status = trial.live({"spare_files": spare}, ends=[0, LOCAL])
        assert status == 0 or is_told(trial, "files open", "more files", "unable to open"), trial.log()
    trial.finish()


@pytest.mark.parametrize("sink", SINKS)
def test_a_folder_that_may_only_be_read(world: World, tmp_path: Path, sink: str) -> None:
    """A harvest there ends with 74 and changes nothing; status and verify read; later the same call goes on."""
    trial = Trial(world, Combination("curl", sink, "file", "list"), tmp_path, seed=6)
    world.simulator.faults = [Fault("stall", seconds=600, service="file", start=40)]  # so that some work is left
    assert KILLED == trial.live({"point": "after a claim's commit", "nth": 1, "rolls": False}, ends=[KILLED])
    world.simulator.faults = []
    everything = [trial.folder, *trial.folder.rglob("*")]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in everything}
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        trial.live({"is_plain": True}, ends=[LOCAL])
        assert is_told(trial, "denied", "readonly", "read-only", "unable to open"), trial.log()
        for command in ("status", "verify"):
            words = [command, str(trial.folder), "--json"]
            assert 0 == world.zygote.live({"words": words, "log": str(tmp_path / "log"), "is_plain": True})
    finally:
        for path in everything:
            path.chmod(before[path][1])
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_mode) for p in [trial.folder, *trial.folder.rglob("*")]}
    trial.finish()


def test_a_new_folder_where_none_may_be_made(world: World, tmp_path: Path) -> None:
    """The refusal is 74 with the folder's name, and nothing appears."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    trial = Trial(world, Combination("curl", "files", "file", "list"), tmp_path, seed=7, disk=closed)
    trial.live({"is_plain": True}, ends=[LOCAL])

    assert is_told(trial, f"{closed}/.*denied")
    assert [] == list(closed.iterdir())


@pytest.mark.campaign
def test_a_second_process_is_refused_and_harms_nothing(world: World, tmp_path: Path) -> None:
    """While one life harvests, another is told who it is (status 2); once the first is killed, it may."""
    trial = Trial(world, Combination("curl", "shards", "file", "list"), tmp_path, seed=8)
    world.simulator.faults = [Fault("stall", seconds=600, service="file", start=40)]
    first = {"folder": str(trial.folder), "url": world.simulator.url, "log": str(tmp_path / "first")}
    first |= {"wire": "curl", "sink": "shards", "via": "file", "list": str(world.list)}
    world.simulator.forget()
    number = world.zygote.begin(first)
    while world.simulator.count("file") < 40:
        assert world.zygote.wait(number, 0.005) is None, Path(first["log"]).read_text()
    second = first | {"log": str(tmp_path / "second")}
    assert 2 == world.zygote.live(second)
    assert re.search(r"FolderRefused: .* being harvested by process \d+ on ", Path(second["log"]).read_text())
    repair = {"words": ["status", str(trial.folder), "--json"], "log": str(tmp_path / "third")}
    assert 0 == world.zygote.live(repair)
    world.zygote.kill(number)
    assert KILLED == world.zygote.wait(number)
    world.simulator.faults = []
    trial.finish()


@pytest.mark.campaign
@pytest.mark.parametrize("sink", sampled(SINKS, ["files", "shards"]))
def test_two_at_once_on_a_new_folder(world: World, tmp_path: Path, sink: str) -> None:
    """Of two that begin together one harvests; the other is refused, or finds all done; none is fetched twice."""
    for n in range(4):
        trial = Trial(world, Combination("curl", sink, "file", "list"), tmp_path / str(n), seed=9)
        (tmp_path / str(n)).mkdir()
        world.settle()
        world.simulator.forget()
        life = {
            "folder": str(trial.folder),
            "url": world.simulator.url,
            "wire": "curl",
            "sink": sink,
            "via": "file",
        }
        life |= {"list": str(world.list)}
        numbers = [world.zygote.begin(life | {"log": str(tmp_path / f"{n}-{k}")}) for k in range(2)]
        ends = sorted(world.zygote.wait(number) for number in numbers)

        assert ends in ([0, 0], [0, 2])
        assert sorted(world.bodies) == sorted(world.asked())
        trial.finish()
