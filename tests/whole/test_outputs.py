"""What people are told never decides the outcome; results that cannot be written do (status 74)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from harness import command, sampled
from psfharvest import Query, blocking, mast_api_psf
from psfharvest.simulator import Fault, Settings, Simulator

IGNORE = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
HARVEST = "harvest d UVIS --limit 30 --suffix flt --json"
PSFHARVEST = shlex.join(command())


@pytest.fixture(scope="module")
def archive():
    """A small archive for all tests here."""
    with Simulator(Settings(sources=500)) as simulator:
        yield simulator


def shell(script: str, folder: Path, url: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which psfharvest is a word."""
    return subprocess.run(
        ["bash", "-c", f'psfharvest() {{ {PSFHARVEST} "$@"; }}; {script}'],
        cwd=folder, env={**os.environ, "PSFHARVEST_ARCHIVE": url, **env},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def status_of(folder: Path) -> dict[str, int]:
    done = subprocess.run(
        command("status", folder, "--json"), capture_output=True, text=True, check=True, timeout=60
    )
    return {name: json.loads(done.stdout)[name] for name in ("total", "done")}


@pytest.mark.sample(1)
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(head -c 10 >/dev/null)", "2>/dev/null"])
@pytest.mark.parametrize("quiet", ["", "--quiet"])
def test_a_broken_standard_error_changes_nothing(
    archive: Simulator, tmp_path: Path, stderr: str, quiet: str
) -> None:
    """Whatever standard error is, the work is done, the status is 0 and the JSON stands on standard output."""
    done = shell(f"psfharvest {HARVEST} {quiet} {stderr}", tmp_path, archive.url)

    assert (0, 30) == (done.returncode, json.loads(done.stdout)["done"])


def fill(descriptor: int) -> None:
    """Write to a pipe or terminal until it takes no more."""
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while os.write(descriptor, b"x" * size):
                pass


@pytest.mark.campaign
@pytest.mark.sample(2)
@pytest.mark.parametrize("is_blocking", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "terminal", "stopped terminal"])
@pytest.mark.parametrize("words", [HARVEST, "count UVIS --json", "query UVIS --json", "nonsense"])
def test_a_standard_error_that_nobody_reads_blocks_nothing(
    archive: Simulator, tmp_path: Path, words: str, kind: str, is_blocking: bool
) -> None:
    """Messages that a pipe or terminal does not take are dropped; the work and its results go on."""
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    if kind == "stopped terminal":
        termios.tcflow(writer, termios.TCOOFF)
    else:
        fill(writer)
    os.set_blocking(writer, is_blocking)
    done = subprocess.run(
        command(*words.split()), cwd=tmp_path, env={**os.environ, "PSFHARVEST_ARCHIVE": archive.url},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=writer, timeout=90, check=False,
    )  # fmt: skip
    os.close(writer)
    os.close(reader)

    assert done.returncode == (2 if words == "nonsense" else 0)
    assert words == "nonsense" or json.loads(done.stdout.splitlines()[-1])


def test_results_wait_for_a_reader_also_where_the_pipe_does_not(tmp_path: Path) -> None:
    """Another process may have set a pipe not to block: a slow reader gets every byte nevertheless."""
    whole = subprocess.run(command("columns", "--json"), capture_output=True, check=True, timeout=60).stdout
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    fill(writer)
    with subprocess.Popen(
        command("columns", "--json"), cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE
    ) as busy:
        os.close(writer)
        time.sleep(0.5)
        got = b"".join(iter(lambda: os.read(reader, 1000), b""))
        os.close(reader)
        err = busy.communicate(timeout=60)[1]

    assert (0, b"") == (busy.returncode, err)
    assert whole == got.lstrip(b"x")


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize(("words", "status"), [(HARVEST, 74), ("count UVIS --json", 0), ("query UVIS", 0)])
def test_both_outputs_in_one_pipe_that_is_cut(archive: Simulator, tmp_path: Path, words: str, status: int) -> None:
    """`|& head -1` costs no work; a harvest whose JSON is not read says so by its status."""
    done = shell(f"psfharvest {words} |& head -1; exit ${{PIPESTATUS[0]}}", tmp_path, archive.url)

    assert 1 == done.stdout.count("\n")
    assert done.returncode in (status, 74)
    if words == HARVEST:
        assert {"total": 30, "done": 30} == status_of(tmp_path / "d")


@pytest.mark.sample(2)
@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "> >(exec 0<&-)"], ids=["full", "closed", "unread"])
@pytest.mark.parametrize(
    "words",
    [HARVEST, "count UVIS", "query UVIS --limit 3", "status done", "verify done --json", "fetch URI --json"],
)
def test_a_broken_standard_output_is_a_local_failure(
    archive: Simulator, tmp_path: Path, stdout: str, words: str
) -> None:
    """Results that cannot be written make status 74, without a traceback; a harvest's account is in its folder."""
    with blocking.Archive(archive.url) as client:
        client.harvest(Query("UVIS", limit=3), tmp_path / "done", suffixes=["flt"])
        (uri,) = mast_api_psf.make_dataURIs(client.query(Query("UVIS", limit=1)), "UVIS", ["flt"])
    words = words.replace("URI", shlex.quote(uri))
    done = shell(f"psfharvest {words} {stdout}", tmp_path, archive.url)

    assert 74 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    if words.startswith("harvest"):
        assert "psfharvest status d" in done.stderr
        assert {"total": 30, "done": 30} == status_of(tmp_path / "d")
    elif "exec" not in stdout:
        assert "standard output" in done.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("stdout", sampled([">&-", ">/dev/full"], [">&-"]))
def test_an_account_of_a_merge_that_is_not_taken(archive: Simulator, tmp_path: Path, stdout: str) -> None:
    """The work is done and told of, and the status says that its JSON is nowhere."""
    with blocking.Archive(archive.url) as client:
        client.harvest(Query("UVIS", limit=3), tmp_path / "done", suffixes=["flt"])
    done = shell(f"psfharvest merge done m --json {stdout}", tmp_path, archive.url)

    assert (74, True) == (done.returncode, "psfharvest status m" in done.stderr), done.stderr
    assert {"total": 3, "done": 3} == status_of(tmp_path / "m")


DROPPED = """
import os, signal, sys, time, weakref
from psfharvest.cli import interrupts
class Value: pass
interrupts.listen()
value = Value()
watched = weakref.ref(value, lambda ref: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0)))
try:
    del value
    for _ in range(3000): time.sleep(0.01)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_that_python_drops_comes_again() -> None:
    """Ctrl-C within a callback, as imports have them, prints no traceback and ends the command all the same."""
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60, check=False)

    assert (130, "") == (done.returncode, done.stderr)


@pytest.mark.sample(1)
@pytest.mark.parametrize("words", ["query UVIS --limit 400", "--help", "harvest --help"])
def test_a_reader_that_goes_early_is_no_trouble(archive: Simulator, tmp_path: Path, words: str) -> None:
    """It ends a command without a word of it: `true` is gone before there is anything to read."""
    done = shell(f"psfharvest {words} | true", tmp_path, archive.url)
    said = [line for line in done.stderr.splitlines() if not line.startswith("psfharvest: no answer from")]

    assert ([], "") == (said, done.stdout)


@pytest.mark.sample(1)
@pytest.mark.parametrize("is_hangup_ignored", [False, True])
def test_a_terminal_that_goes(archive: Simulator, tmp_path: Path, is_hangup_ignored: bool) -> None:
    """With SIGHUP ignored a harvest goes on without its terminal; else it ends with its account."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    rate = "60" if is_hangup_ignored else "5"
    words = command("harvest", "d", "UVIS", "--limit", "100", "--suffix", "flt", "--json")
    words += ["--via", "file", "--max-per-second", rate]
    if is_hangup_ignored:
        words = [sys.executable, "-c", IGNORE, *words]
    with subprocess.Popen(
        [*words, "--archive", archive.url],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    ) as busy:
        os.close(slave)
        shown = os.read(master, 1000)
        os.close(master)
        if not is_hangup_ignored:
            while not (tmp_path / "d" / "manifest.sqlite").exists():
                time.sleep(0.02)
            time.sleep(0.3)
            busy.send_signal(signal.SIGHUP)
        out, _ = busy.communicate(timeout=60)
    account = json.loads(out)

    assert shown
    if is_hangup_ignored:
        assert (0, 100) == (busy.returncode, account["done"])
    else:
        assert (129, "hung_up") == (busy.returncode, account["stopped"])
        assert account["total"] == account["done"] + account["pending"]


@pytest.mark.parametrize("delay_s", sampled([0.0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3], [0.0, 0.06, 0.2]))
def test_an_interrupt_while_starting_is_silent(tmp_path: Path, delay_s: float) -> None:
    """Ctrl-C at any moment gives no traceback of ours: before our first line it is Python's own."""
    stalled = Fault("stall", seconds=600, service="any")
    with Simulator(Settings(sources=10), faults=[stalled]) as simulator:
        words = command("count", "UVIS", "--archive", simulator.url)
        with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as busy:
            time.sleep(delay_s)
            busy.send_signal(signal.SIGINT)
            _, err = busy.communicate(timeout=20)

    assert "psfharvest/" not in err.replace("psfharvest/__init__.py", "")
    assert busy.returncode in (130, 1, -2)


POOR = {
    "home is a file, no locale, no width": {
        "HOME": "/dev/null", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "0",
        "PYTHONCOERCECLOCALE": "0", "LINES": "0",
    },
    "home is nowhere, one column, colour forced": {
        "HOME": "/proc/nowhere", "COLUMNS": "1", "FORCE_COLOR": "1", "TERM": "xterm-256color"
    },
    "no home, caches are files, twenty columns, no colour": {
        "HOME": "", "XDG_CONFIG_HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "MPLCONFIGDIR": "/dev/null",
        "COLUMNS": "20", "NO_COLOR": "1", "TERM": "dumb",
    },
}  # fmt: skip
FEW = "psfharvest harvest é UVIS --limit 5 --suffix flt && psfharvest query UVIS --limit 3 && psfharvest status é"
COMMANDS = (
    "psfharvest count UVIS && psfharvest query UVIS --limit 3 && psfharvest query UVIS --limit 3 -o t.ecsv"
    " && psfharvest harvest é UVIS --limit 5 --suffix flt --json && psfharvest resume é && psfharvest status é"
    " && psfharvest verify é && psfharvest plot é -o p.png && psfharvest export é o.npz"
    " && psfharvest --help >/dev/null && psfharvest harvest --help >/dev/null && psfharvest --version"
)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "commands"),
    [(next(iter(POOR)), FEW), *(pytest.param(name, COMMANDS, marks=pytest.mark.campaign) for name in POOR)],
)
def test_commands_work_in_a_poor_environment(archive: Simulator, tmp_path: Path, name: str, commands: str) -> None:
    """No home, no locale and no width harm a command."""
    done = shell(commands, tmp_path, archive.url, **POOR[name])

    assert (0, False) == (done.returncode, "Traceback" in done.stderr), done.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("closed", sampled(["<&- 2>&-", "<&- >/dev/null 2>&-"], ["<&- 2>&-"]))
def test_every_command_works_without_standard_streams(archive: Simulator, tmp_path: Path, closed: str) -> None:
    """A closed standard input or error harms no command, and no file of ours gets its number."""
    done = shell(f"({COMMANDS}) {closed}", tmp_path, archive.url)

    assert 0 == done.returncode, done.stderr
    assert {"total": 5, "done": 5} == status_of(tmp_path / "é")
