"""Whatever the work: no module is imported in the event loop's own thread while it runs, which would hold it up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import sampled
from psfharvest.simulator import Settings, Simulator

PROGRAM = Path(__file__).parent / "import_program.py"
BLOCK_MAX_S = 0.5
"""Of processor time in one go; an import of pyarrow takes more. Nothing here takes a tenth of it."""
KINDS = ("parquet", "shards+", "files", "stream", "query")
CASES = [f"{what} {loop}" for what in KINDS for loop in ("asyncio", "trio")]
NOW = ["parquet asyncio", "shards+ trio", "stream asyncio"]


@pytest.mark.campaign
@pytest.mark.parametrize("case", sampled(CASES, NOW))
def test_the_loop_imports_nothing(simulator: Simulator, tmp_path: Path, case: str) -> None:
    """In a fresh process, from the opening of an archive on: runs, a resumed one, a stream, a query."""
    _assert_free(simulator.url, tmp_path / "d", *case.split())


@pytest.mark.campaign
@pytest.mark.parametrize(("what", "backend"), [("files", "asyncio"), ("shards+", "trio"), ("stream", "trio")])
def test_bodies_that_take_long_to_check(tmp_path: Path, what: str, backend: str) -> None:
    """Tile-compressed cutouts, which astropy has to read: it is imported, and works, in a thread."""
    with Simulator(Settings(oddities=("tile_compressed",))) as simulator:
        _assert_free(simulator.url, tmp_path / "d", what, backend)


def _assert_free(url: str, folder: Path, what: str, backend: str) -> None:
    line = [sys.executable, str(PROGRAM), url, str(folder), what, backend]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False, env=bare)

    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [] == found["imported"]
    assert found["longest_s"] < BLOCK_MAX_S
