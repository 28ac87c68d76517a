"""
Kill -9 of the command as a user runs it: a fresh interpreter, default settings, the account whole each time.

Hundreds of deaths, at chosen points and anywhere, in every combination, are in ``test_crash_campaign``.
"""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from harness import check_every_file, command, rows_of, stored_bytes
from psfharvest.simulator import Simulator

N_CUTOUTS = 400
N_KILLS = 3
CONNECTIONS = 32


def kill_and_count(words: list[str], folder: Path, simulator: Simulator, after: int) -> int:
    """Start the command, kill it once `after` cutouts were asked for, and return how many were."""
    simulator.forget()
    null = subprocess.DEVNULL
    with subprocess.Popen(command(*words), cwd=folder, stdout=null, stderr=null) as busy:
        while simulator.count("file") < after and busy.poll() is None:
            time.sleep(0.001)
        busy.kill()
    return simulator.count("file")


@pytest.mark.campaign
@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
def test_the_command_is_killed_and_goes_on(simulator: Simulator, psfharvest, tmp_path: Path, sink: str) -> None:
    """Whatever was claimed is there after each kill; refetches stay few; in the end all is done and right."""
    draw = random.Random(20)
    words = ["harvest", "d", "UVIS", "--limit", str(N_CUTOUTS), "--suffix", "flt", "--archive", simulator.url]
    words += ["--sink", sink, "--quiet", "--json"]
    asked = 0
    for after in (1, *(draw.randrange(200) for _ in range(N_KILLS - 1))):
        asked += kill_and_count(words, tmp_path, simulator, after)
        status = psfharvest("status", "d", "--json").account
        assert status["total"] == sum(status[k] for k in ("done", "missing", "failed", "pending"))
        done = [r for r in rows_of(tmp_path / "d") if r["state"] == "done"]
        assert status["done"] == len(done)
        for row in done:
            assert simulator.render(row["uri"]) == stored_bytes(tmp_path / "d", row)

    simulator.forget()
    run = psfharvest(*words)
    asked += simulator.count("file")

    assert (0, N_CUTOUTS) == (run.status, run.account["done"])
    assert asked <= N_CUTOUTS + N_KILLS * (CONNECTIONS + 512)
    assert N_CUTOUTS == check_every_file(tmp_path / "d", simulator)
    names = {p.name for p in (tmp_path / "d").iterdir()}
    assert {"manifest.sqlite", ".psfharvest.lock", "WFC3PSF" if sink == "files" else sink} == names
