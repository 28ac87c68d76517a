"""The public names: sorted, whole, importable, and light."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import psfharvest


def test_all_is_sorted_and_every_name_is_there() -> None:
    """Each name in ``__all__`` can be had, and the list is in order."""
    assert sorted(psfharvest.__all__) == psfharvest.__all__
    for name in psfharvest.__all__:
        assert getattr(psfharvest, name) is not None


def test_version_is_said_once() -> None:
    """The package and its metadata agree on the version."""
    assert version("psfharvest") == psfharvest.__version__


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not public is refused as Python refuses it."""
    assert not hasattr(psfharvest, "no_such_name")


def test_importing_the_package_and_its_help_stays_light() -> None:
    """Neither the package nor ``--help`` imports what is heavy."""
    code = (
        "import sys; sys.argv = ['psfharvest', '--help']\n"
        "import psfharvest, psfharvest.cli\n"
        "try: psfharvest.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'astropy', 'httpx', 'pycurl', 'matplotlib', 'uvicorn', 'sqlite3', 'tqdm', 'tenacity'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
