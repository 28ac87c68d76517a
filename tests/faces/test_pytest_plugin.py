"""The fixture `psf_archive`: a user's own test suite, run as they run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SUITE = """
import pytest
from psfharvest import Archive, ArchiveDown, Query, RetryPolicy, blocking
from psfharvest.simulator import Fault

QUERY = Query("UVIS", psf_x_center=(100, 102), psf_y_center=(100, 102), n_sat_pixels=0)

pytestmark = pytest.mark.anyio

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

def test_the_archive_is_healthy_again_and_forgets(psf_archive, tmp_path):
    assert psf_archive.requests == []
    with blocking.Archive() as archive:
        report = archive.harvest(QUERY, tmp_path / "stars", suffixes=["flt"], progress=False)
    assert report.done == 6

def test_trouble(psf_archive):
    psf_archive.faults = [Fault("status", code=503)]
    with blocking.Archive(retry=RetryPolicy(first_delay_s=0.01, patience_s=0.2)) as archive:
        with pytest.raises(ArchiveDown):
            archive.count(QUERY)

def test_no_fault_is_left(psf_archive):
    assert not psf_archive.faults

def test_others_do_not_see_it():
    import os
    assert "PSFHARVEST_ARCHIVE" not in os.environ
"""


OTHERS = ["-p", "no:zarr", "-p", "no:hypothesispytest"]
"""Leaves out other packages' plugins, whose imports take seconds."""


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PSFHARVEST", "MAST", "PYTEST"))}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OTHERS, "-W", "error", *words]
    return subprocess.run(
        line, cwd=folder, env={**clean, **environ}, capture_output=True, text=True, timeout=200, check=False
    )


def with_entry_point(site: Path) -> str:
    """Make a folder of installed packages with our entry point, and return a PYTHONPATH with it and ours."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    described = site / "psfharvest_entry-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: psfharvest-entry\nVersion: 1\n")
    lines = [f"{name} = {module}" for name, module in entries.items()]
    (described / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    return os.pathsep.join([str(site), os.environ.get("PYTHONPATH", str(ROOT / "src"))])


def test_a_user_s_suite_passes(tmp_path: Path) -> None:
    """With nothing but the fixture's name; the plugin is found by the entry point of the installed package."""
    (shown,) = [text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "psf_archive" in text]
    (tmp_path / "test_mine.py").write_text(SUITE + shown)
    done = run(tmp_path, PYTHONPATH=with_entry_point(tmp_path / "site"))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_a_suite_without_it_imports_nothing_of_ours(tmp_path: Path) -> None:
    """The plugin costs a suite that does not use it one small module."""
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_it():\n"
        "    found = {m for m in sys.modules if m.startswith(('psfharvest', 'uvicorn', 'astropy'))}\n"
        "    assert found <= {'psfharvest', 'psfharvest.version', 'psfharvest.pytest_plugin'}\n"
    )
    done = run(tmp_path, PYTHONPATH=with_entry_point(tmp_path / "site"))

    assert 0 == done.returncode, done.stdout + done.stderr
