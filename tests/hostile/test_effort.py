"""No input makes its reader work or grow out of proportion: each in a process that the system stops otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.heavy import HEAVY

MAX_GROWTH_MIB = 500


@pytest.fixture(scope="module")
def ends() -> dict[str, dict[str, int]]:
    """How the reading of each heavy input ended."""
    program = Path(__file__).with_name("heavy.py")
    done = subprocess.run([sys.executable, str(program)], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.campaign
@pytest.mark.parametrize("name", list(HEAVY))
def test_effort_is_in_proportion(ends: dict[str, dict[str, int]], name: str) -> None:
    """It ends within its minute of processor time, which once was many, and within a few times its input."""
    assert 0 == ends[name]["status"], ends[name]
    assert 0 <= ends[name]["growth_mib"] < MAX_GROWTH_MIB
