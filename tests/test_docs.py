"""The documents cannot lie: README's code runs, its tables are the code's, every command explains itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from psfharvest.cli import cli
from psfharvest.core.advice import in_shell
from psfharvest.core.model import REMEDY, Reason
from psfharvest.simulator import Simulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = cli.list_commands(None)  # type: ignore[arg-type]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block_with(language: str, words: str) -> str:
    (found,) = [block for block in blocks(language) if words in block]
    return str(found)


def test_the_eight_lines_run_as_they_stand(tmp_path: Path) -> None:
    """README's Python runs with nothing changed."""
    code = blocks("python")[0]
    assert 8 == len([line for line in code.splitlines() if line.strip()])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "50 of 50 cutouts" in done.stdout


async def test_the_services_example_runs(simulator: Simulator) -> None:
    """README's example for authors of services runs on both loops."""
    names: dict = {}
    exec(block_with("python", "async def brightest"), names)
    n, shapes = await names["brightest"](simulator.url)

    assert (10, 10) == (n, len(shapes))


def test_the_shell_session_runs(simulator: Simulator, psfharvest) -> None:
    """Every psfharvest line of README's session succeeds, in its order."""
    lines = [line for line in blocks("sh")[2].splitlines() if line.startswith("psfharvest")]
    assert 6 == len(lines)
    for line in lines:
        run = psfharvest(*line.split()[1:], env={"PSFHARVEST_ARCHIVE": simulator.url})
        assert 0 == run.status, (line, run.err)


def test_reading_back_runs(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """README's example of reading back runs on what the shell session's harvest leaves."""
    words = ["harvest", "stars", "UVIS", "filter=F606W", "n_sat_pixels=0", "--limit", "200", "--suffix", "flc"]
    assert 0 == psfharvest(*words, env={"PSFHARVEST_ARCHIVE": simulator.url}).status
    code = block_with("python", "import Harvest")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert 3 == len(done.stdout.splitlines())


def test_every_reason_is_explained() -> None:
    """The vocabulary of reasons, its remedies, and README's table are one."""
    assert set(Reason) == set(REMEDY)
    for reason, remedy in REMEDY.items():
        assert f"| `{reason}` | {in_shell(remedy)} |" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_options_explained(psfharvest, name: str) -> None:
    """--help of each command succeeds, and stands in README."""
    run = psfharvest(name, "--help")

    assert 0 == run.status
    assert len(run.out.splitlines()) > 8
    assert f"psfharvest {name}" in README


def test_ci_runs_the_readmes_own_commands() -> None:
    """CI calls the README's set-up, test and demo commands to the letter."""
    ci = (ROOT / ".ci/run").read_text()
    demo, tests = (block.strip() for block in blocks("sh")[:2])

    assert "README.md" in ci
    assert demo.startswith("python3 -m venv")
    assert tests.startswith("python3 -m venv")
