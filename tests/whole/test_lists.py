"""Lists of dataURIs as people give them: files, pipes, other newlines and encodings."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from harness import command, rows_of, sampled
from psfharvest import Query, blocking, mast_api_psf
from psfharvest.concurrency.threaded_iterator import READ_AHEAD, read_aside
from psfharvest.run import uri_lists
from psfharvest.simulator import Simulator


@pytest.fixture
def uris(simulator: Simulator) -> list[str]:
    """Some dataURIs of the simulated archive."""
    with blocking.Archive(simulator.url) as archive:
        return mast_api_psf.make_dataURIs(archive.query(Query("UVIS", limit=8)), "UVIS", ["flt"])


def bash(script: str, folder: Path, simulator: Simulator) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which psfharvest is a word."""
    words = " ".join(command())
    return subprocess.run(
        ["bash", "-c", f'psfharvest() {{ {words} "$@"; }}; {script}'],
        cwd=folder, env={**os.environ, "PSFHARVEST_ARCHIVE": simulator.url},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


WAYS = {
    "substitution": "psfharvest harvest d --json --uris <(cat uris.txt)",
    "slow substitution": "psfharvest harvest d --json --uris <(sleep 1; cat uris.txt)",
    "stdin by name": "cat uris.txt | psfharvest harvest d --json --uris /dev/stdin",
    "descriptor": "psfharvest harvest d --json --uris /dev/fd/5 5< uris.txt",
    "file as stdin": "psfharvest harvest d --json --uris /dev/stdin < uris.txt",
    "named pipe": "mkfifo ff; cat uris.txt > ff & psfharvest harvest d --json --uris ff; wait",
    "late writer": "mkfifo ff; (sleep 1; cat uris.txt > ff) & psfharvest harvest d --json --uris ff; wait",
    "adopt": "psfharvest harvest d --uris uris.txt; rm d/man*; psfharvest adopt d --json --uris <(cat uris.txt)",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("script", WAYS.values(), ids=WAYS)
def test_what_is_no_file_is_read_once(script: str, simulator: Simulator, tmp_path: Path, uris: list[str]) -> None:
    """Whatever stands behind the name of the list, each of its lines is asked for."""
    (tmp_path / "uris.txt").write_text("".join(f"{uri}\n" for uri in uris))
    done = bash(script, tmp_path, simulator)

    assert (0, done.stderr) == (done.returncode, done.stderr)
    assert set(uris) == {row["uri"] for row in rows_of(tmp_path / "d") if row["state"] == "done"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
@pytest.mark.parametrize("is_written", [False, True], ids=["no writer", "silent writer"])
def test_a_silent_pipe_hears_a_signal(simulator: Simulator, tmp_path: Path, signum: int, is_written: bool) -> None:
    """A pipe that nobody writes to, or whose writer is silent, keeps no process from ending."""
    os.mkfifo(tmp_path / "ff")
    words = command("harvest", "d", "--uris", "ff", "--archive", simulator.url, "--json")
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as busy:
        writer = None
        if is_written:
            writer = os.open(tmp_path / "ff", os.O_RDWR)  # which never waits
        deadline = time.monotonic() + 30
        while not holds(busy.pid, tmp_path / "ff") and time.monotonic() < deadline:
            time.sleep(0.05)
        busy.send_signal(signum)
        out, err = busy.communicate(timeout=20)
        if writer is not None:
            os.close(writer)

    assert (128 + signum, '"total": 0' in out) == (busy.returncode, True), err
    assert "Traceback" not in err


def holds(pid: int, path: Path) -> bool:
    """True when a process has a file open."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(entry.readlink())
        except OSError:
            continue
    return path in found


ENCODINGS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "utf-16": (lambda text: text.encode("utf-16"), "UTF-16"),
    "utf-16-be": (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), "UTF-16"),
    "utf-16 without a mark": (lambda text: text.encode("utf-16-le"), "UTF-16"),
    "utf-32": (lambda text: text.encode("utf-32"), "UTF-32"),
    "gzip": (lambda text: gzip.compress(text.encode()), "gzip"),
    "binary": (lambda text: b"\x7fELF\0" + text.encode(), "binary"),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize(("encode", "name"), ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("door", sampled(["list", "-", "/dev/stdin"], ["-"]))
def test_other_encodings_are_refused_by_name(
    psfharvest, simulator: Simulator, tmp_path: Path, uris: list[str], encode, name: str, door: str
) -> None:
    """A list that is no UTF-8 is refused with what it is, and nothing is left behind."""
    raw = encode("".join(f"{uri}\n" for uri in uris))
    (tmp_path / "list").write_bytes(raw)
    words = command("harvest", "d", "--uris", door, "--archive", simulator.url, "--json")
    with (tmp_path / "list").open("rb") as file:
        done = subprocess.run(
            words, cwd=tmp_path, stdin=file, capture_output=True, text=True, timeout=60, check=False
        )

    assert (2, True, "") == (done.returncode, name in done.stderr, done.stdout)
    assert "-c standard input" not in done.stderr, "no file is called that"
    assert ["list"] == [path.name for path in tmp_path.iterdir()]


NEWLINES = {
    "unix": lambda uris: "".join(f"{uri}\n" for uri in uris),
    "windows": "\r\n".join,
    "macintosh": lambda uris: "".join(f"{uri}\r" for uri in uris),
    "bom": lambda uris: "\ufeff" + "\r\n".join(["# list", "", *uris]),
    "last line open": "\n".join,
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("write", NEWLINES.values(), ids=NEWLINES)
@pytest.mark.parametrize("door", sampled(["list", "-"], ["list"]))
def test_newlines_of_every_system(simulator: Simulator, tmp_path: Path, uris: list[str], write, door: str) -> None:
    """A list is cut into lines as any editor would."""
    (tmp_path / "list").write_bytes(write(uris).encode())
    done = bash(f"psfharvest harvest d --uris {door} < list", tmp_path, simulator)

    assert 0 == done.returncode, done.stderr
    assert set(uris) == {row["uri"] for row in rows_of(tmp_path / "d") if row["state"] == "done"}


REFUSED = {
    "absent": ["--uris", "absent"],
    "a folder": ["--uris", "."],
    "closed descriptor": ["--uris", "/dev/fd/77"],
    "dangling": ["--uris", "link"],
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_a_refused_list_leaves_nothing(psfharvest, simulator: Simulator, tmp_path: Path, words: list[str]) -> None:
    """No folder and no manifest is made for a list that cannot be read."""
    (tmp_path / "link").symlink_to("nowhere")
    run = psfharvest("harvest", "d", *words, "--archive", simulator.url)

    assert (2, ["link"]) == (run.status, [path.name for path in tmp_path.iterdir()])
    assert words[1] in run.err


def test_a_list_goes_on_at_the_byte_where_it_stopped(tmp_path: Path) -> None:
    """Whatever ends its lines and however many bytes a character has, none is read twice or left out."""
    uris = [f"mast:HST/product/{'é' * (n % 3)}{n}.fits" for n in range(2 * uri_lists.BATCH_LINES + 5)]
    path = tmp_path / "list"
    path.write_bytes("".join(f"{uri}\r\n" if n % 2 else f"{uri}\n" for n, uri in enumerate(uris)).encode())
    found, position, lines = [], 0, 0
    while batch := next(uri_lists.from_file(path, position, lines), None):
        found += [line.uri for line in batch.asked]
        position, lines = batch.position, batch.lines

    assert uris == found
    assert (path.stat().st_size, len(uris)) == (position, lines)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_callers_iterable_is_read_a_little_ahead_only() -> None:
    """One without an end, or one that makes each item at a cost, is not read faster than its items are used."""
    n_given = 0

    def endless() -> Iterator[int]:
        nonlocal n_given
        while n_given < 20 * READ_AHEAD:
            n_given += 1
            yield n_given

    async with aclosing(read_aside(endless())) as items:
        assert 1 == await anext(items)
        seen = -1
        while seen != n_given:
            seen = n_given
            await anyio.sleep(0.05)
    assert n_given <= READ_AHEAD + 2
