"""The documents cannot lie: README's code runs, its tables are the code's, every command explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from psfharvest import Archive, Query
from psfharvest.cli import cli
from psfharvest.core.advice import in_shell
from psfharvest.core.catalog.detectors import DETECTORS, SUFFIX_MEANING
from psfharvest.core.fits import datauri
from psfharvest.core.reasons import REMEDY, Reason
from psfharvest.simulator import Simulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = cli.list_commands(None)  # type: ignore[arg-type]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block_with(language: str, words: str) -> str:
    (found,) = [block for block in blocks(language) if words in block]
    return str(found)


def test_the_notebooks_lines_run(simulator: Simulator, tmp_path: Path) -> None:
    """README's first Python runs as a notebook's reader types it, and draws its bar."""
    done = _python(blocks("python")[0], tmp_path, simulator.url)

    assert "300 stars match" in done.stdout
    assert "300 of 300 cutouts" in done.stdout
    assert "300/300" in done.stderr


def test_the_shell_session_runs(simulator: Simulator, psfharvest) -> None:
    """Every psfharvest line of README's session succeeds, in its order."""
    lines = [line for line in blocks("sh")[2].splitlines() if line.startswith("psfharvest")]
    assert 10 == len(lines)
    for line in lines:
        run = psfharvest(*line.split()[1:], env={"PSFHARVEST_ARCHIVE": simulator.url})
        assert 0 == run.status, (line, run.err)


@pytest.mark.campaign
def test_reading_back_and_what_follows_a_long_harvest_run(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """README's example of reading back, and its commands for long harvests, run on what the session leaves."""
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    words = ["UVIS", "filter=F606W", "n_sat_pixels=0", "--limit", "200", "--suffix", "flc"]
    assert 0 == psfharvest("harvest", "stars", *words, env=env).status
    done = _python(block_with("python", "epsf_stars"), tmp_path)
    assert 3 == len(done.stdout.splitlines())

    uris = psfharvest("status", "stars", "--uris", "done").out
    (tmp_path / "uris.txt").write_text(uris)
    (tmp_path / "stars").rename(tmp_path / "laptop")
    assert 0 == psfharvest("harvest", "cluster", *words, env=env).status
    for line in blocks("console")[0].splitlines():
        command = line.split("#")[0].split()[1:]
        if command[0] == "adopt":
            (tmp_path / "stars/manifest.sqlite").unlink()
        if command[0] != "serve":
            run = psfharvest(*command, env=env)
            assert 0 == run.status, (line, run.err)


def _python(code: str, folder: Path, archive: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PSFHARVEST_ARCHIVE"}
    env |= {} if archive is None else {"PSFHARVEST_ARCHIVE": archive}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=100)


def test_the_readme_is_short_and_its_pictures_and_pages_are_there() -> None:
    """README is under 200 lines, and every file that it links or names beside itself exists."""
    assert len(README.splitlines()) < 200
    named = re.findall(r"\]\((?!http)([^)]+)\)", README) + re.findall(
        r"`((?:docs|tests|benchmarks)/[^` ]+)`", README
    )
    assert len(named) >= 4
    for name in named:
        assert (ROOT / name).exists(), name


async def test_the_sizes_are_those_of_the_simulator(simulator: Simulator) -> None:
    """README's table of products has the bytes of the simulator's cutouts."""
    sizes: dict[tuple[str, int], set[int]] = {}
    async with Archive(simulator.url) as archive:
        for name in DETECTORS:
            for n_sat_pixels in (0, (1, None)):
                query = Query(name, n_sat_pixels=n_sat_pixels, limit=5)
                async with archive.stream(query, suffixes=DETECTORS[name].suffixes) as cutouts:
                    async for cutout in cutouts:
                        suffix = str(datauri.parse(cutout.uri).suffix)
                        sizes.setdefault((suffix, cutout.data.shape[0]), set()).add(len(cutout.raw))
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    for suffix in SUFFIX_MEANING:
        (row,) = [row for row in rows if f"`{suffix}`" in row]
        told = tuple(
            {int(word.replace(",", "")) for word in re.findall(r"[0-9,]{5,}", cell)} for cell in row.split("|")[3:5]
        )
        assert (sizes[suffix, 51], sizes[suffix, 101]) == told


def test_every_reason_is_explained() -> None:
    """The vocabulary of reasons, its remedies, and the table in .github/reasons.md are one."""
    reasons = (ROOT / ".github/reasons.md").read_text()
    assert set(Reason) == set(REMEDY)
    for reason, remedy in REMEDY.items():
        assert f"| `{reason}` | {in_shell(remedy)} |" in reasons


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
