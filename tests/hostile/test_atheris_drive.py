"""The coverage-guided driver says what it needs before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("atheris_drive.py")


@pytest.mark.parametrize(
    ("words", "told"), [((), "usage"), (("pixels",), "usage"), (("fits",), "is not installed")]
)
def test_it_ends_with_a_plain_message(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """An unknown target and a missing atheris are told in one line, with the way out."""
    (tmp_path / "atheris.py").write_text("raise ImportError")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=env, capture_output=True, text=True, check=False
    )

    assert 2 == done.returncode
    assert told in done.stderr
    assert 1 == len(done.stderr.splitlines())
