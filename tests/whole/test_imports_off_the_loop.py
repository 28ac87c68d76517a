"""Whatever the work: no module is imported in the event loop's own thread while it runs, which would hold it up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import sampled
from psfharvest.simulator import Simulator

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
    what, backend = case.split()
    line = [sys.executable, str(PROGRAM), simulator.url, str(tmp_path / "d"), what, backend]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)

    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [] == found["imported"]
    assert found["longest_s"] < BLOCK_MAX_S
