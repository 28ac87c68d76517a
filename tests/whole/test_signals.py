"""Ctrl-C and SIGTERM: the run ends at once, with the account, and goes on later."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import command, sampled
from psfharvest import Query, blocking
from psfharvest.simulator import Fault, Settings, Simulator

ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CASES = [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGTERM, True)]


@pytest.mark.parametrize("case", sampled(CASES, CASES[:2]), ids=lambda case: f"{case[0].name}-{case[1]}")
def test_a_signal_ends_the_run_with_its_account(
    tmp_path: Path, psfharvest, case: tuple[signal.Signals, bool]
) -> None:
    """The status tells the signal, the account adds up, and the same command finishes the work."""
    signum, stalled = case
    status, word = ENDS[signum]
    with Simulator(Settings(sources=2000, latency_s=0.02)) as simulator:
        if stalled:
            simulator.faults = [Fault("stall", seconds=600, service="file", start=100)]
        words = ["harvest", "d", "UVIS", "--limit", "300", "--suffix", "flt", "--archive", simulator.url, "--json"]
        words += ["--via", "file"]
        with subprocess.Popen(
            command(*words), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as busy:
            while simulator.count("file") < 120:
                assert busy.poll() is None
            busy.send_signal(signum)
            out, err = busy.communicate(timeout=10)
        account = json.loads(out.splitlines()[-1])

        assert status == busy.returncode, err
        assert word == account["stopped"]
        assert account["total"] == account["done"] + account["pending"]
        assert account["done"] >= 60
        assert "the same command continues" in err

        simulator.faults = []
        simulator.forget()
        again = psfharvest(*words)
        assert (0, 300) == (again.status, again.account["done"])
        assert 300 - account["done"] == simulator.count("file")


@pytest.mark.parametrize(
    "words", [["count", "UVIS"], ["fetch", "mast:HST/x.fits"], ["harvest", "d", "IR", "--suffix", "raw"]]
)
def test_an_interrupt_before_the_first_answer(tmp_path: Path, words: list[str]) -> None:
    """Commands that wait for their first answer end with 130 and leave nothing behind."""
    stalled = Fault("stall", seconds=600, service="any")
    with (
        Simulator(Settings(sources=100), faults=[stalled]) as simulator,
        subprocess.Popen(command(*words, "--archive", simulator.url), cwd=tmp_path, stderr=subprocess.PIPE) as busy,
    ):
        while not simulator.count("any"):
            assert busy.poll() is None
        busy.send_signal(signal.SIGINT)
        busy.communicate(timeout=10)

    assert 130 == busy.returncode
    assert [] == list(tmp_path.iterdir())


def test_an_interrupt_while_waiting_for_standard_input(tmp_path: Path) -> None:
    """A pipe that gives nothing more does not hold an interrupt back."""
    with Simulator(Settings(sources=100)) as simulator:
        words = command("harvest", "d", "--uris", "-", "--archive", simulator.url, "--json")
        with subprocess.Popen(
            words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as busy:
            assert busy.stdin is not None
            busy.stdin.write("mast:HST/nothing.fits\n")
            busy.stdin.flush()
            while not simulator.count("file"):
                assert busy.poll() is None
            busy.send_signal(signal.SIGINT)
            assert 130 == busy.wait(timeout=10)
            account = json.loads(busy.stdout.read().splitlines()[-1])

    assert 1 == account["total"]


BUSY = """
import os, signal, sys
from psfharvest.cli import interrupts, loop
async def work():
    os.kill(os.getpid(), {signum})
    return 3
interrupts.listen()
before = [signal.getsignal(signum) for signum in interrupts.ENDS]
try:
    print(loop.run(work, is_final={is_final}))
except loop.Interrupted as interrupted:
    print(interrupted.code)
assert before == [signal.getsignal(signum) for signum in interrupts.ENDS]
"""


@pytest.mark.parametrize("signum", ALL)
@pytest.mark.parametrize("is_final", [False, True])
def test_a_signal_that_comes_with_the_end_of_the_work(signum: signal.Signals, is_final: bool) -> None:
    """It counts, where more is to follow after the loop; and the next one finds the handlers of before."""
    program = BUSY.format(signum=int(signum), is_final=is_final)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (f"{3 if is_final else 128 + signum}\n", "") == (done.stdout, done.stderr)


STARTING = """
import os, signal, sys
from psfharvest.cli import interrupts, loop
async def work():
    return 3
def kill(frame, event, arg):
    code = frame.f_code
    if event == "call" and code.co_name == "__init__" and code.co_filename.endswith("base_events.py"):
        sys.setprofile(None)
        os.kill(os.getpid(), {signum})
interrupts.listen()
sys.setprofile(kill)
try:
    loop.run(work)
except loop.Interrupted as interrupted:
    sys.exit(interrupted.code)
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("signum", ALL)
def test_a_signal_while_the_event_loop_is_made(signum: signal.Signals) -> None:
    """The loop is made, and then ended: of half a loop its finalizer would complain."""
    program = STARTING.format(signum=int(signum))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (128 + signum, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("signum", ALL)
@pytest.mark.parametrize("ending", ["fits", "h5", "npz", "parquet", "zarr"])
def test_what_is_half_exported_is_removed(tmp_path: Path, signum: signal.Signals, ending: str) -> None:
    """Whatever ends an export, no file of it is left."""
    with Simulator(Settings(sources=1000)) as simulator, blocking.Archive(simulator.url) as archive:
        archive.harvest(Query("UVIS", limit=200, n_sat_pixels=0), tmp_path / "d", suffixes=["flt"])
    before = sorted(tmp_path.iterdir())
    with subprocess.Popen(
        command("export", "d", f"d.{ending}"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as busy:
        while sorted(tmp_path.iterdir()) == before:
            assert busy.poll() is None
        busy.send_signal(signum)
        _, err = busy.communicate(timeout=30)

    assert (128 + signum, before, "") == (busy.returncode, sorted(tmp_path.iterdir()), err.strip())
