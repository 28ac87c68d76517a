"""One process a folder also where the file system has no locks, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness import command
from psfharvest.core.errors import FolderRefused
from psfharvest.filesystem import process
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.lease import LEASE_NAME, STALE_S, TAKE_OVER_NAME, holder, lease

PATIENCE_S = 60
NO_LOCKS = """
import errno, fcntl, os
def flock(fd, operation):
    number = getattr(errno, os.environ["FLOCK"])
    raise OSError(number, os.strerror(number))
fcntl.flock = flock
"""
"""Loaded at the start of an interpreter: a system call that fails as it does on such a file system."""
HOLD = (
    "import sys, time; from pathlib import Path; from psfharvest.store.lease import lease\n"
    "with lease(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(600)"
)

NO_LINKS = """
import errno, os
def link(*paths):
    raise PermissionError(errno.EPERM, "no links here")
os.link = link
"""
PAUSE = """
import os, sys
from pathlib import Path
from psfharvest.core.errors import FolderRefused
from psfharvest.store.lease import lease

def hook(frame, event, function):
    if event in ("c_call", "c_return") and function.__name__ == sys.argv[2] and function.__module__ == "posix":
        print("paused", flush=True)
        sys.stdin.readline()

sys.setprofile(hook)
try:
    with lease(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except FolderRefused:
    print("refused", flush=True)
"""
"""Takes a lease in a process of its own, and waits before and after each call of a function of `os`."""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=300)) as simulator:
        yield simulator


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a command on a file system without locks."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_LOCKS)
    return os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL"])
def test_a_harvest_without_locks(simulator: Simulator, env: dict[str, str], tmp_path: Path, error: str) -> None:
    """It runs, says once what stands in for the lock, leaves no lease behind, and goes on after a kill."""
    words = ["harvest", "stars", "UVIS", "--limit", "20", "--suffix", "flt", "--archive", simulator.url, "--json"]
    runs = [
        subprocess.run(
            command(*words), cwd=tmp_path, env=env | {"FLOCK": error}, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]

    for run in runs:
        account = json.loads(run.stdout.splitlines()[-1])
        assert account["done"] == 20
        assert len([note for note in account["notes"] if "has no file locks" in note and "lease" in note]) == 1
    assert [path.name for path in (tmp_path / "stars").glob(f"{LEASE_NAME}*")] == []


@pytest.mark.parametrize("begin", ["", NO_LINKS], ids=["links", "no links"])
def test_a_second_process_is_told_who_holds_the_lease(tmp_path: Path, begin: str) -> None:
    """The refusal names the holder; a killed holder's lease is taken over at once, and nothing else is left."""
    words = [sys.executable, "-c", begin + HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderRefused, match=f"process {other.pid} on "), lease(tmp_path):
            pass
        assert (holder(tmp_path) or {})["pid"] == other.pid
        other.send_signal(signal.SIGKILL)
    assert holder(tmp_path) is None
    with lease(tmp_path), pytest.raises(FolderRefused, match=f"process {os.getpid()} on "), lease(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "age_s", "is_free"),
    [
        ({}, 0, False),
        ({}, 10 * STALE_S, False),  # alive here: however long it was stopped
        ({"started": "1"}, 0, True),  # the number is another process's by now
        ({"pid": 2**22 + 1}, 0, True),
        ({"system": "another boot"}, 0, True),
        ({"host": "elsewhere"}, 0, False),
        ({"host": "elsewhere"}, STALE_S / 2, False),
        ({"host": "elsewhere"}, 2 * STALE_S, True),
        ({"host": "elsewhere", "pid": 1}, 2 * STALE_S, True),
    ],
)
def test_which_lease_is_abandoned(tmp_path: Path, changes: dict[str, object], age_s: float, is_free: bool) -> None:
    """Here the process tells; elsewhere only how long it was not renewed."""
    path = tmp_path / LEASE_NAME
    path.write_text(json.dumps({**process.identity(), "token": "t", **changes}))
    renewed = path.stat().st_mtime - age_s
    os.utime(path, (renewed, renewed))

    assert (holder(tmp_path) is None) == is_free
    if is_free:
        with lease(tmp_path):
            assert (holder(tmp_path) or {})["pid"] == os.getpid()
    else:
        with pytest.raises(FolderRefused, match="is being harvested by process"), lease(tmp_path):
            pass


def test_of_many_that_take_over_one_wins(tmp_path: Path) -> None:
    """Twelve processes at one abandoned lease: it is held by one of them at any time."""
    dead = {**process.identity(), "token": "t", "started": "1"}
    (tmp_path / LEASE_NAME).write_text(json.dumps(dead))
    code = (
        "import os, sys, time; from pathlib import Path; from psfharvest.store.lease import lease\n"
        "from psfharvest.core.errors import FolderRefused\n"
        "folder = Path(sys.argv[1])\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "  with lease(folder): (folder / 'one').touch(exist_ok=False); time.sleep(0.5); (folder / 'one').unlink()\n"
        "except FolderRefused: sys.exit(2)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    all_of_them = [subprocess.Popen(words, stdin=subprocess.PIPE, text=True) for _ in range(12)]
    for one in all_of_them:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.close()
    ends = [one.wait(PATIENCE_S) for one in all_of_them]

    assert set(ends) <= {0, 2}
    assert 0 in ends


@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_take_over_that_is_held_up_lets_nobody_else_in(tmp_path: Path, call: str) -> None:
    """At whatever instant of a take-over others try, too, the lease has one holder in the end."""
    (tmp_path / LEASE_NAME).write_text(json.dumps({**process.identity(), "token": "t", "started": "1"}))
    words = [sys.executable, "-c", PAUSE, str(tmp_path), call]
    n_holders, n_pauses = 0, 0
    with (
        ExitStack() as stack,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow,
    ):
        assert slow.stdin is not None
        assert slow.stdout is not None
        while (said := slow.stdout.readline()) == "paused\n":
            n_pauses += 1
            with suppress(FolderRefused):
                stack.enter_context(lease(tmp_path))
                n_holders += 1
            slow.stdin.write("go on\n")
            slow.stdin.flush()
        n_holders += said == "held\n"
    assert (1, 2) == (n_holders, n_pauses)


def test_a_lease_is_renewed(tmp_path: Path) -> None:
    """From another machine a process that is at work is seen by its file alone."""
    path = tmp_path / LEASE_NAME
    with lease(tmp_path, beat_s=0.01):
        os.utime(path, (0, 0))
        deadline_s = time.monotonic() + PATIENCE_S
        while path.stat().st_mtime == 0 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


@pytest.mark.parametrize(("age_s", "is_free"), [(0, False), (2 * STALE_S, True)])
def test_a_take_over_that_was_killed(tmp_path: Path, age_s: float, is_free: bool) -> None:
    """It keeps others off as long as it may be under way; later what it left is removed."""
    (tmp_path / LEASE_NAME).write_text(json.dumps({**process.identity(), "token": "t", "started": "1"}))
    guard = tmp_path / TAKE_OVER_NAME
    guard.touch()
    began = guard.stat().st_mtime - age_s
    os.utime(guard, (began, began))

    if is_free:
        with lease(tmp_path):
            assert (holder(tmp_path) or {})["pid"] == os.getpid()
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(FolderRefused, match="began just now"), lease(tmp_path):
            pass
        assert guard.exists()
