"""`--log-file` and `-v`: what happened, as lines of JSON and on standard error."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from psfharvest.simulator import Fault, Simulator

WORDS = ["UVIS", "--limit", "30", "--suffix", "flt", "--via", "file"]


def test_a_log_file_holds_the_account(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """One JSON object a line; times in UTC; what was settled adds up to the account; a second run appends."""
    simulator.faults = [Fault("status", code=404, every=10)]
    log = tmp_path / "events.jsonl"
    words = ["harvest", "d", *WORDS, "--archive", simulator.url, "--token", "canary-token", "--log-file", str(log)]
    run = psfharvest(*words, "--json")
    events = [json.loads(line) for line in log.read_text().splitlines()]

    settled = [e for e in events if e["event"] == "Settled"]
    assert run.account["done"] == sum(e["done"] for e in settled)
    assert run.account["missing"] == sum(e["missing"] for e in settled)
    assert {"Queried", "Started"} >= {e["event"] for e in events[:2]}
    assert "Ended" == events[-1]["event"]
    assert {"0:00:00"} == {str(datetime.fromisoformat(e["at"]).utcoffset()) for e in events}
    assert "canary-token" not in log.read_text()

    simulator.faults = []
    psfharvest(*words)
    assert 2 == log.read_text().count('"Ended"')


@pytest.mark.parametrize("flag", ["-v", "-vv"])
def test_verbose_logs_on_standard_error(psfharvest, simulator: Simulator, flag: str) -> None:
    """The beginning of the run is on standard error; nothing but the account is on standard output."""
    run = psfharvest("harvest", "d", *WORDS, "--archive", simulator.url, flag, "--json", "--quiet")

    assert 30 == run.account["done"]
    assert "begins" in run.err
    assert 1 == len(run.out.splitlines())


def test_a_log_file_that_cannot_be_written_is_bad_input(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """Status 2, and nothing was made."""
    words = ["--archive", simulator.url, "--log-file", "no/such/folder/log"]
    run = psfharvest("harvest", "d", *WORDS, *words)

    assert 2 == run.status
    assert "--log-file" in run.err
    assert not (tmp_path / "d").exists()
