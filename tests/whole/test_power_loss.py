"""What was claimed is there after a power loss: shards and Parquet always, files with ``fsync``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from psfharvest.simulator import Settings, Simulator

PROGRAM = Path(__file__).with_name("power_loss.py")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=6000, static=True)) as simulator:
        yield simulator


def cut(simulator: Simulator, sink: str, folder: Path, *more: str, seed: int, cuts: int, n: int) -> dict[str, Any]:
    """Harvest with power losses; return what was looked at and found."""
    words = [sys.executable, str(PROGRAM), simulator.url, sink, str(seed), str(cuts), str(folder), str(n), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert found["done"] == n
    return found


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["shards", "files", "parquet"])
def test_what_was_claimed_is_there(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """At seeded moments of a harvest, whichever unsynced writes and names the disk had kept."""
    found = cut(simulator, sink, tmp_path / "stars", seed=1, cuts=12, n=400)

    assert found["broken"] == []
    assert found["cuts"] >= 5
    assert found["claims"] >= 400


@pytest.mark.campaign
def test_the_harness_sees_what_was_not_synced(simulator: Simulator, tmp_path: Path) -> None:
    """Files that are claimed without a sync are lost in some of its images."""
    assert cut(simulator, "files", tmp_path / "stars", "unsynced", seed=1, cuts=12, n=400)["broken"]


@pytest.mark.campaign
@pytest.mark.parametrize("sink", ["shards", "files", "parquet"])
def test_what_was_claimed_is_there_at_two_hundred_moments(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """The same, until two hundred moments were looked at."""
    n_cuts = seed = 0
    while n_cuts < 200:
        seed += 1
        found = cut(simulator, sink, tmp_path / f"stars-{seed}", seed=seed, cuts=200 - n_cuts, n=1200)
        assert found["broken"] == []
        n_cuts += found["cuts"]
