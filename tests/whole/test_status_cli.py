"""``status``: lists of cutouts by state, and a harvest under way; ``query``: JSON lines and tables that fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import command, on_terminal, rows_of
from psfharvest.simulator import Fault, Simulator


@pytest.fixture
def env(simulator: Simulator) -> dict[str, str]:
    return {"PSFHARVEST_ARCHIVE": simulator.url}


def test_lists_of_cutouts_by_state(simulator: Simulator, psfharvest, env, tmp_path: Path) -> None:
    """--failed has URI, reason and the archive's words; --uris STATE gives dataURIs that --uris takes again."""
    simulator.faults = [Fault("status", code=404, service="file", rate=0.3)]
    harvested = psfharvest(
        "harvest", "d", "UVIS", "--limit", "30", "--suffix", "flt", "--via", "file", "--json", env=env
    )
    simulator.faults = []
    rows = rows_of(tmp_path / "d")
    missing = [row["uri"] for row in rows if row["state"] == "missing"]
    lines = psfharvest("status", "d", "--failed").out.splitlines()
    objects = [json.loads(line) for line in psfharvest("status", "d", "--failed", "--json").out.splitlines()]

    assert harvested.account["missing"] == len(missing) > 0
    assert missing == [line.split("\t")[0] for line in lines] == [one["uri"] for one in objects]
    assert {"not_found"} == {line.split("\t")[1] for line in lines} == {one["reason"] for one in objects}
    assert {"uri", "state", "reason", "detail", "attempts"} == set(objects[0])
    for state in ("done", "missing", "pending", "failed"):
        run = psfharvest("status", "d", "--uris", state)
        assert (0, [r["uri"] for r in rows if r["state"] == state]) == (run.status, run.out.splitlines())

    (tmp_path / "again").write_text(psfharvest("status", "d", "--uris", "missing").out)
    again = psfharvest("harvest", "e", "--uris", "again", "--json", env=env)
    assert (0, len(missing)) == (again.status, again.account["done"])


@pytest.mark.parametrize("words", [["--uris", "gone"], ["--failed", "--uris", "done"]])
def test_other_states_are_refused(psfharvest, words: list[str]) -> None:
    """A state that does not exist, or two lists at once, are bad input."""
    assert 2 == psfharvest("status", "d", *words).status


def test_status_of_a_harvest_under_way(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """`running` has pid, host, rate and time left while the process lives, and is gone with it, kill -9, too."""
    words = ["harvest", "d", "UVIS", "--limit", "400", "--suffix", "flt", "--via", "file", "--max-per-second", "15"]
    with subprocess.Popen(command(*words, "--archive", simulator.url, "--quiet"), cwd=tmp_path) as busy:
        account: dict = {}
        ends_at = time.monotonic() + 60
        while not (account.get("running") or {}).get("left_s") and time.monotonic() < ends_at:
            time.sleep(0.3)
            run = psfharvest("status", "d", "--json")
            account = run.account if run.status == 0 else {}
        shown = psfharvest("status", "d").out
        busy.send_signal(signal.SIGKILL)
    running = account["running"]

    assert busy.pid == running["pid"]
    assert os.uname().nodename == running["host"]
    assert 0 < running["per_second"] < 40
    assert 0 < running["left_s"] < 200
    assert f"process {busy.pid}" in shown
    assert "cutouts/s" in shown
    assert "running" not in psfharvest("status", "d", "--json").account


def test_status_tells_an_outage(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """During an outage `running` says since when, until when and why; so do the lines."""
    words = ["harvest", "d", "UVIS", "--limit", "400", "--suffix", "flt", "--via", "file", "--max-per-second", "40"]
    with subprocess.Popen(
        command(*words, "--archive", simulator.url), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as busy:
        while not (tmp_path / "d/WFC3PSF").exists():
            time.sleep(0.1)
        simulator.faults = [Fault("outage", code=503, service="any", body="the database is being moved")]
        running: dict = {}
        ends_at = time.monotonic() + 60
        while not running.get("outage") and time.monotonic() < ends_at:
            time.sleep(0.3)
            running = psfharvest("status", "d", "--json").account.get("running", {})
        busy.send_signal(signal.SIGINT)
        _, err = busy.communicate(timeout=30)
    simulator.faults = []

    assert running["outage"]
    assert running["left_s"] is None
    assert running["outage_since"] < running["gives_up_at"]
    assert "archive down since" in err
    assert "trying until" in err


def test_query_as_json_lines(psfharvest, env) -> None:
    """Each row is an object, all rows come, and nothing else is on standard output; null is null."""
    run = psfharvest("query", "UVIS", "filter=F606W", "--json", env=env)
    rows = [json.loads(line) for line in run.out.splitlines()]
    n = int(psfharvest("count", "UVIS", "filter=F606W", env=env).out)

    assert (0, n) == (run.status, len(rows))
    assert n > 20
    assert {"F606W"} == {row["filter"] for row in rows}
    assert all(isinstance(row["id"], int) and isinstance(row["qfit"], float) for row in rows)
    assert None in {row["focus"] for row in rows}
    chosen = psfharvest("query", "UVIS", "--json", "--limit", "2", "--columns", "qfit,id", env=env)
    assert [["qfit", "id"]] * 2 == [list(json.loads(line)) for line in chosen.out.splitlines()]


@pytest.mark.sample(1)
@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_table_fits_the_terminal(env, tmp_path: Path, width: int) -> None:
    """On a terminal no line is wider, and the columns left out are told of."""
    out = on_terminal(["query", "UVIS", "--limit", "3"], env, tmp_path, width)
    table = [line for line in out.splitlines() if not line.startswith("psfharvest:") and "more columns" not in line]

    assert "more columns: --columns" in out.replace("\r\n", " ").replace("\n", " ")
    assert all(len(line) < width for line in table[:6])


@pytest.mark.sample(1)
@pytest.mark.parametrize("width", [0, 1, 20, 40, 80])
def test_the_bar_fits_the_terminal_and_ends_in_the_final_state(env, tmp_path: Path, width: int) -> None:
    """Every frame is narrower than the terminal, counts come first, and the last frame is the end."""
    words = ["harvest", "d", "UVIS", "--limit", "25", "--suffix", "flt"]
    out = on_terminal(words, env, tmp_path, width)
    # a slow machine says before it that nothing has answered yet
    bar = next(line for line in out.split("\n") if not line.startswith("psfharvest:"))
    frames = [frame.rstrip() for frame in bar.split("\r") if frame.strip()]

    assert all(len(frame) < (width or 80) or width == 1 for frame in frames)
    if width != 1:
        assert "25/25" in frames[-1]


def test_lines_without_a_terminal_carry_their_time(psfharvest, env) -> None:
    """Where standard error is no terminal, each line has an ISO time, and the last is the end."""
    run = psfharvest("harvest", "d", "UVIS", "--limit", "25", "--suffix", "flt", env=env)
    lines = [line.split()[1] for line in run.err.splitlines() if " in flight" in line]

    assert all(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z") for stamp in lines)
    assert "25 of 25 (100.0 %)" in run.err


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "words", [["count", "UVIS"], ["query", "UVIS"], ["harvest", "d", "UVIS", "--suffix", "flt"]], ids=" ".join
)
def test_an_archive_that_does_not_answer_is_told_early(psfharvest, words: list[str]) -> None:
    """Nobody listens at the address: standard error says where, why and until when, before the end."""
    run = psfharvest(*words, "--archive", "http://127.0.0.1:9", "--patience", "4")

    first = run.err.splitlines()[0]
    assert 75 == run.status
    assert "http://127.0.0.1:9" in first
    assert "until" in first


@pytest.mark.sample(1)
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
@pytest.mark.parametrize(
    "words",
    [
        ["count", "UVIS"],
        ["query", "UVIS", "--json"],
        ["fetch", "mast:HST/product/ibc302ioq_flt.fits", "-o", "x.fits"],
    ],
    ids=["count", "query", "fetch"],
)
def test_what_no_wait_can_mend_ends_early(psfharvest, words: list[str], url: str) -> None:
    """A host that does not exist or refuses, before any answer, ends a command that asks once after three tries."""
    began_s = time.monotonic()
    run = psfharvest(*words, "--archive", url)

    assert (75, "") == (run.status, run.out)
    assert "3 times in a row" in run.err, run.err
    assert url in run.err
    assert time.monotonic() - began_s < 45  # a minute is the patience
