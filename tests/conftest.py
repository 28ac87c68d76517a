"""Fixtures for all tests: both event loops, and one simulated archive a module."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness import Run, command
from psfharvest.simulator import Settings, Simulator

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test on both event loops."""
    return str(request.param)


@pytest.fixture(scope="module")
def _shared_simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=6000, seed=1)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_shared_simulator: Simulator) -> Simulator:
    """The archive on loopback, healthy and with an empty record."""
    _shared_simulator.faults = []
    _shared_simulator.forget()
    return _shared_simulator


@pytest.fixture
def psfharvest(tmp_path: Path):
    """Run the command in a folder of its own, as a user would."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PSFHARVEST_", "MAST_"))}

    def run(*words: str | Path, env: dict[str, str] | None = None, stdin: str | None = None) -> Run:
        done = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env={**clean, **(env or {})},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Run(done)

    return run
