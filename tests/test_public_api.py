"""The public names: sorted, whole, importable, and light."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import psfharvest
from psfharvest import blocking, client


def test_all_is_sorted_and_every_name_is_there() -> None:
    """Each name in ``__all__`` can be had, and the list is in order."""
    assert sorted(psfharvest.__all__) == psfharvest.__all__
    for name in psfharvest.__all__:
        assert getattr(psfharvest, name) is not None


def test_version_is_said_once() -> None:
    """The package and its metadata agree on the version."""
    assert version("psfharvest") == psfharvest.__version__


@pytest.mark.parametrize("name", ["__init__", "count", "query", "fetch", "stream", "harvest", "resume"])
def test_both_archives_take_the_same(name: str) -> None:
    """A call has the same parameters with and without await; only `progress` is shown by itself without."""
    with_await, without = (
        inspect.signature(getattr(archive, name)).parameters for archive in (client.Archive, blocking.Archive)
    )

    assert list(with_await) == list(without)
    assert [] == [n for n in with_await if with_await[n] != without[n] and n != "progress"]
    if "progress" in without:
        assert (None, True) == (with_await["progress"].default, without["progress"].default)


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
