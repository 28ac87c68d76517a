"""Wrong commands, help, version, completion, colour, and folders that are finished and cannot be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import command, on_terminal
from psfharvest.simulator import Simulator


@pytest.fixture
def env(simulator: Simulator) -> dict[str, str]:
    return {"PSFHARVEST_ARCHIVE": simulator.url}


@pytest.mark.parametrize(("wrong", "right"), [("harvst", "harvest"), ("Count", "count"), ("stauts", "status")])
def test_a_wrong_command_is_answered_with_the_right_one(psfharvest, wrong: str, right: str) -> None:
    """The nearest command is named; status 2."""
    run = psfharvest(wrong, "d")

    assert (2, True) == (run.status, f"did you mean {right}" in run.err)


def test_help_and_version(psfharvest) -> None:
    """`help`, `help COMMAND`, `version` and `-V` say what `--help` and `--version` do."""
    assert psfharvest("help").out == psfharvest("--help").out
    assert psfharvest("help", "count").out == psfharvest("count", "--help").out
    assert psfharvest("version").out == psfharvest("-V").out == psfharvest("--version").out
    assert 2 == psfharvest("help", "nonsense").status


def test_the_list_of_commands_imports_none_of_them() -> None:
    """It comes at once; each command has a line of its own that is not cut off."""
    program = (
        "import sys\nfrom psfharvest.__main__ import main\nsys.argv = ['psfharvest', '--help']\ntry:\n    main()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    imported = run.stderr.split()
    assert 0 == run.returncode
    assert "psfharvest.cli" in imported
    assert not {name for name in imported if name.startswith(("psfharvest.cli.harvest", "psfharvest.core.catalog"))}
    listed = run.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == 17
    assert all(re.fullmatch(r"  [a-z]+ +[A-Z].*\.", line) and "..." not in line for line in listed), listed


@pytest.mark.parametrize(
    "words", [["UVIS", "--suffix", "flt", "flc"], ["--suffix", "flt", "flc", "UVIS"], ["UVIS", "flt", "flc"]]
)
def test_two_suffixes_after_one_option(psfharvest, env, words: list[str]) -> None:
    """The message says how two are given."""
    run = psfharvest("harvest", "d", *words, env=env)

    assert (2, True) == (run.status, "--suffix flt,flc" in run.err), run.err


@pytest.mark.parametrize(
    ("line", "has", "lacks"),
    [("psfharvest har", "harvest", "count"), ("psfharvest count U", "UVIS", "IR"),
     ("psfharvest count UVIS psf_f", "psf_flux=", "filter="),
     ("psfharvest query UVIS filter=F60", "filter=F606W", "F814W"),
     ("psfharvest query IR filter = F16", "F160W", "F606W"), ("psfharvest count WFPC2 chip=", "chip=4", "chip=5"),
     ("psfharvest harvest d UVIS filter=F606W,F81", "filter=F606W,F814W", "F606W,F606W"),
     ("psfharvest harvest d WFPC2 --suffix c", "c0m", "flc"),
     ("psfharvest query IR --columns id,q", "id,qfit", "proptype")],
)  # fmt: skip
def test_completion(psfharvest, line: str, has: str, lacks: str) -> None:
    """Shells complete commands, detectors, columns, values and suffixes."""
    env = {"_PSFHARVEST_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    found = [word.partition(",")[2] for word in psfharvest(env=env).out.splitlines()]

    assert has in found
    assert lacks not in found


@pytest.mark.parametrize(
    ("env", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour(tmp_path: Path, env: dict[str, str], is_coloured: bool) -> None:
    """Why a command failed is in red on a terminal that has colours, unless NO_COLOR is set."""
    words = ["status", "nowhere"]
    assert is_coloured == ("\x1b[31" in on_terminal(words, {"TERM": "xterm", **env}, tmp_path, 80, status=2))


def test_no_colour_without_a_terminal(psfharvest) -> None:
    """A pipe gets no escape sequence."""
    assert "\x1b" not in psfharvest("status", "nowhere", env={"TERM": "xterm", "FORCE_COLOR": "1"}).err


@pytest.mark.sample(1)
@pytest.mark.parametrize("verb", ["harvest", "resume"])
def test_a_finished_folder_that_cannot_be_written(psfharvest, env, tmp_path: Path, verb: str) -> None:
    """Nothing is left to do, so the status is 0, with a word about the folder; with work left it is 74."""
    query = ["UVIS", "--limit", "5", "--suffix", "flt"]
    assert 0 == psfharvest("harvest", "d", *query, env=env).status
    assert 75 == psfharvest("harvest", "open", *query, "--max-bytes", "50k", env=env).status
    for name, status in (("d", 0), ("open", 74)):
        lock = tmp_path / name / ".psfharvest.lock"
        lock.unlink()
        lock.mkdir()  # nobody can write it, root neither
        words = [verb, name, *(query if verb == "harvest" else []), "--json"]
        run = psfharvest(*words, env=env)
        assert status == run.status, run.err
        assert 5 == run.account["total"]
        assert ("nothing was left to do" in run.err) == (status == 0)


def test_another_query_on_a_finished_folder_that_cannot_be_written(psfharvest, env, tmp_path: Path) -> None:
    """What was not asked for before is work that is left."""
    assert 0 == psfharvest("harvest", "d", "UVIS", "--limit", "5", "--suffix", "flt", env=env).status
    (tmp_path / "d/.psfharvest.lock").unlink()
    (tmp_path / "d/.psfharvest.lock").mkdir()

    assert 74 == psfharvest("harvest", "d", "UVIS", "--limit", "6", "--suffix", "flt", env=env).status


def test_completion_script() -> None:
    """The line of the help text gives a script for the shell."""
    done = subprocess.run(
        command(), env={**os.environ, "_PSFHARVEST_COMPLETE": "bash_source"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert "complete" in done.stdout
