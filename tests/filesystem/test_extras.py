"""What installs an extra's packages, for the Python that runs."""

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from psfharvest.filesystem import extras

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("extra", "package"),
    [("plot", "matplotlib"), ("parquet", "pyarrow"), ("zarr", "zarr"), ("photutils", "photutils"),
     ("simulator", "uvicorn")],
)  # fmt: skip
def test_the_command_names_the_extras_packages(extra: str, package: str) -> None:
    """Packages, not the extra of a package that an index may not have; with the versions that we need."""
    words = shlex.split(extras.command(extra, ["absent"]))
    required = [line.partition(";")[0].replace(" ", "") for line in PROJECT["optional-dependencies"][extra]]

    assert any(word.startswith(package) for word in words)
    assert any(word in required for word in words)
    assert not any("psfharvest[" in word for word in words)


def test_the_command_runs_here() -> None:
    """It is this interpreter's own installer, which answers."""
    words = shlex.split(extras.command("plot", ["matplotlib"]))
    at = words.index("install") if "install" in words else words.index("inject")
    done = subprocess.run([*words[:at], "--version"], capture_output=True, text=True, timeout=120, check=False)

    assert 0 == done.returncode, done.stderr
    assert sys.executable in words or "pipx" in words


def test_needs_says_what_is_absent() -> None:
    """Nothing where all is there; else what needs which module, and the command."""
    assert extras.needs("a picture", "plot", "json", "sqlite3") is None
    message = extras.needs("a picture", "plot", "json", "no_such_module")

    assert message is not None
    assert message.startswith("a picture needs no_such_module: ")
    assert "matplotlib" in message


def test_an_unknown_extra_names_the_modules() -> None:
    """Where the metadata do not say, the absent modules are named."""
    assert shlex.split(extras.command("no such extra", ["absent"]))[-1] == "absent"
