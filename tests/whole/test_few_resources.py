"""Few files that may be open, no room at the very start, no inodes: 74, the account, and what to do, in words."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness import Run, command, sampled
from psfharvest.filesystem import failures, open_limit
from psfharvest.simulator import Simulator

LOCAL = 74


def limited(folder: Path, *words: str, limit: Callable[[], None]) -> Run:
    """Run a command in a process whose limits are set first."""
    done = subprocess.run(
        command(*words), cwd=folder, capture_output=True, text=True, timeout=120, preexec_fn=limit, check=False
    )
    return Run(done)


def open_files(soft: int, hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def words_of(simulator: Simulator, folder: str, sink: str) -> list[str]:
    words = ["harvest", folder, "UVIS", "--limit", "60", "--suffix", "flt", "--sink", sink, "--via", "file"]
    return [*words, "--archive", simulator.url, "--json"]


@pytest.mark.campaign
@pytest.mark.parametrize("sink", sampled(["files", "shards", "parquet"], ["shards"]))
@pytest.mark.parametrize("n", sampled([6, 11, 14, 18, 22, 32, 48], [14, 32]))
def test_a_low_limit_of_open_files(simulator: Simulator, tmp_path: Path, sink: str, n: int) -> None:
    """However few files may be open: the account as JSON, never a traceback; from 32 on all is stored."""
    run = limited(tmp_path, *words_of(simulator, "d", sink), limit=partial(open_files, n, n))
    assert "Traceback" not in run.err, (n, run.err)
    assert {"total", "done", "pending"} <= run.account.keys()
    assert run.status in ((0,) if n >= 32 else (0, LOCAL)), (n, run.err)
    if run.status == LOCAL:
        assert "ulimit -n" in run.err or "unable to open" in run.err, (n, run.err)
        assert "disk" not in run.err.replace("on disk", "")
    else:
        assert 60 == run.account["done"]


def test_the_soft_limit_is_raised(simulator: Simulator, tmp_path: Path) -> None:
    """A command takes what the hard limit allows: 32 connections, for which the soft limit leaves no room."""
    run = limited(tmp_path, *words_of(simulator, "d", "files"), limit=partial(open_files, 12, 4096))

    assert (0, 60) == (run.status, run.account["done"])
    assert "connections instead of" not in run.err


def test_connections_leave_files_for_the_rest() -> None:
    """Few connections where few files may be open; all that were asked for where there is room."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len([*Path("/proc/self/fd").iterdir()]) if Path("/proc/self/fd").exists() else 40
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + open_limit.RESERVE + 20, before[1]))
        assert 8 <= open_limit.connections_at_most(32) <= 10
        assert 4 == open_limit.connections_at_most(4)
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 3, before[1]))
        assert 1 == open_limit.connections_at_most(32)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("sink", sampled(["files", "shards", "parquet"], ["files"]))
def test_no_room_at_the_very_start(simulator: Simulator, psfharvest, tmp_path: Path, sink: str) -> None:
    """Where not one byte can be written: 74, the account as JSON, the path; and later the same command goes on."""
    words = words_of(simulator, "d", sink)
    run = limited(tmp_path, *words, limit=no_room)

    assert (LOCAL, 0, "local_error") == (run.status, run.account["total"], run.account["stopped"])
    assert str(Path("d")) in run.err
    assert "Traceback" not in run.err
    again = psfharvest(*words)
    assert (0, 60) == (again.status, again.account["done"])


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", [".psfharvest.lock", ".manifest.growing", ".staging", "manifest.sqlite"])
@pytest.mark.parametrize("target", sampled(["/dev/full", "/nowhere/at/all", "folder"], ["/nowhere/at/all"]))
def test_whatever_stands_in_the_way(
    simulator: Simulator, psfharvest, tmp_path: Path, name: str, target: str
) -> None:
    """A device, a link into nothing or a folder in place of a file of ours: 0, 2 or 74; never a traceback."""
    folder = tmp_path / "d"
    folder.mkdir()
    if target == "folder":
        (folder / name).mkdir()
        (folder / name / "content").write_text("mine")
    else:
        (folder / name).symlink_to(target)
    run = psfharvest(*words_of(simulator, "d", "files"))

    assert "Traceback" not in run.err, run.err
    assert run.status in (0, 2, LOCAL), run.err
    if run.status == LOCAL:
        assert json.loads(run.out.splitlines()[-1])["stopped"] == "local_error"
        assert name in run.err or "d" in run.err


@pytest.mark.parametrize("name", ["loop", "x" * 300], ids=["loop", "long"])
def test_a_folder_that_cannot_be_looked_at(psfharvest, simulator: Simulator, tmp_path: Path, name: str) -> None:
    """A link to itself, or a name that is too long: 74, the reason once, and the account as JSON."""
    (tmp_path / "loop").symlink_to("loop")
    run = psfharvest(*words_of(simulator, name, "files"))

    assert (LOCAL, 0, "local_error") == (run.status, run.account["total"], run.account["stopped"])
    assert 1 == sum("symbolic links" in line or "too long" in line for line in run.err.splitlines()), run.err


def test_what_is_merged_or_converted_into_a_link_to_nothing(
    psfharvest, simulator: Simulator, tmp_path: Path
) -> None:
    """The refusal names where the link leads; nothing is made there."""
    assert 0 == psfharvest(*words_of(simulator, "d", "files")).status
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for words in (["merge", "d", "link"], ["convert", "d", "link", "--sink", "shards"]):
        run = psfharvest(*words)
        assert (2, True) == (run.status, "is a link to" in run.err), run.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["loop", "x" * 300], ids=["loop", "long"])
def test_what_is_merged_or_converted_cannot_be_looked_at(
    psfharvest, simulator: Simulator, tmp_path: Path, name: str
) -> None:
    """A link to itself, or a name that is too long, as source or target: 74 with the reason, no traceback."""
    assert 0 == psfharvest(*words_of(simulator, "d", "files")).status
    (tmp_path / "loop").symlink_to("loop")
    for words in (
        ["merge", name],
        ["merge", "d", name],
        ["merge", name, "into"],
        ["convert", "d", name, "--sink", "shards"],
        ["convert", name, "into", "--sink", "shards"],
    ):
        run = psfharvest(*words)
        assert LOCAL == run.status, run.err
        assert "symbolic links" in run.err or "too long" in run.err, run.err
        assert "Traceback" not in run.err, run.err
    assert not (tmp_path / "into").exists()


@pytest.fixture
def few_inodes(tmp_path: Path):
    """A disk with room for some bytes and 60 files, where the machine lets one be mounted; else None."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=40m,nr_inodes=60", "none", str(folder)]
    is_there = shutil.which("mount") and not subprocess.run(words, capture_output=True, check=False).returncode
    yield folder if is_there else None
    if is_there:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.campaign
def test_no_inodes_are_told_apart_from_no_room(simulator: Simulator, tmp_path: Path, few_inodes) -> None:
    """Where bytes are free but no inodes, the message says so, and advises shards, which then work."""
    with pytest.raises(OSError, match="No space") as raised:
        Path("/dev/full").write_bytes(b"x")
    assert "inodes" not in failures.describe(raised.value, tmp_path)
    if few_inodes is None:
        return
    folder = str(few_inodes / "d")
    run = limited(tmp_path, *words_of(simulator, folder, "files"), limit=lambda: None)
    assert LOCAL == run.status
    assert 60 == run.account["total"]
    assert "no inodes" in run.err
    assert "--sink shards" in run.err

    shutil.rmtree(folder)
    assert 0 == limited(tmp_path, *words_of(simulator, folder, "shards"), limit=lambda: None).status


@pytest.mark.parametrize("n_left", sampled([0, 1, 2, 3, 4, 5, 6, 8], [2]))
def test_the_last_inodes(psfharvest, simulator: Simulator, few_inodes, n_left: int) -> None:
    """Wherever a harvest into shards meets the last one, the message says so; with more of them it goes on."""
    if few_inodes is None:
        return
    ballast = few_inodes / "ballast"
    ballast.mkdir()
    with contextlib.suppress(OSError):
        for n in range(100):
            (ballast / str(n)).touch()
    for path in sorted(ballast.iterdir())[:n_left]:
        path.unlink()
    words = words_of(simulator, str(few_inodes / "d"), "shards")
    run = psfharvest(*words)
    if run.status:
        assert LOCAL == run.status, run.err
        assert "no inodes" in run.err, run.err
        assert "local_error" == run.account["stopped"]
    shutil.rmtree(ballast)
    again = psfharvest(*words)

    assert (0, 60) == (again.status, again.account["done"])
