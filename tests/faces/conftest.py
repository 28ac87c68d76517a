"""Fixtures of the faces: a folder of the user's own, and the archive that the environment names."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from psfharvest.simulator import Simulator


@pytest.fixture
def here(tmp_path: Path, simulator: Simulator) -> Iterator[Path]:
    """A notebook's surroundings: an empty current folder, and the simulator as the archive."""
    before = os.environ.get("PSFHARVEST_ARCHIVE")
    os.environ["PSFHARVEST_ARCHIVE"] = simulator.url
    try:
        with contextlib.chdir(tmp_path):
            yield tmp_path
    finally:
        os.environ.pop("PSFHARVEST_ARCHIVE")
        if before is not None:
            os.environ["PSFHARVEST_ARCHIVE"] = before


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Every test ends with the threads of ours that it began with: none."""
    yield
    deadline = time.monotonic() + 10
    while ours() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [] == ours()


def ours() -> list[str]:
    """The threads of psfharvest that are running; anyio's workers belong to a loop of ours."""
    names = [thread.name for thread in threading.enumerate()]
    return [n for n in names if n in ("psfharvest-blocking", "psfharvest-curl") or n.startswith("AnyIO")]
