"""Kill -9 at any instant: nothing claimed is lost, nothing is doubled, nothing half stands under a final name."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
from pathlib import Path

import pytest

from harness import check_every_file, command, rows_of, stored_bytes
from psfharvest.simulator import Simulator

N_CUTOUTS = 2000
N_KILLS = 20
CONNECTIONS = 8


def kill_and_count(words: list[str], folder: Path, simulator: Simulator, after: int) -> int:
    """Start the command, kill it once `after` cutouts were asked for, and return how many were."""
    simulator.forget()
    with subprocess.Popen(
        command(*words), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as busy:
        deadline = time.monotonic() + 60
        while simulator.count("file") < after and busy.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        busy.kill()
    return simulator.count("file")


@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
def test_twenty_kills(simulator: Simulator, psfharvest, tmp_path: Path, sink: str) -> None:
    """Twenty seeded kills of a 2,000-cutout harvest: the account stays whole, and refetches stay few."""
    draw = random.Random(20)
    words = ["harvest", "d", "UVIS", "--limit", str(N_CUTOUTS), "--suffix", "flt", "--archive", simulator.url]
    words += ["--max-connections", str(CONNECTIONS), "--sink", sink, "--quiet", "--json"]
    asked = 0
    for _ in range(N_KILLS):
        asked += kill_and_count(words, tmp_path, simulator, draw.choice([0, 1, draw.randrange(150)]))
        if (tmp_path / "d" / "manifest.sqlite").exists():
            status = psfharvest("status", "d", "--json").account
            assert status["total"] == sum(status[k] for k in ("done", "missing", "failed", "pending"))
            done = [r for r in rows_of(tmp_path / "d") if r["state"] == "done"]
            assert status["done"] == len(done)
            for row in done:
                assert row["sha256"] == hashlib.sha256(stored_bytes(tmp_path / "d", row)).hexdigest()

    simulator.forget()
    run = psfharvest(*words)
    asked += simulator.count("file")

    assert (0, N_CUTOUTS) == (run.status, run.account["done"])
    assert asked <= N_CUTOUTS + N_KILLS * (CONNECTIONS + 512)
    assert N_CUTOUTS == check_every_file(tmp_path / "d", simulator)
    names = {p.name for p in (tmp_path / "d").iterdir()}
    assert {"manifest.sqlite", ".psfharvest.lock", "WFC3PSF" if sink == "files" else sink} == names
