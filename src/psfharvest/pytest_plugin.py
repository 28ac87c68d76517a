"""
Fixture `psf_archive` of pytest: the archive, simulated on loopback, for tests of programs that use this package.

It is there wherever this package is installed (entry point ``pytest11``); nothing heavy is imported before it is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from psfharvest.simulator import Simulator

SOURCES = 2000


@pytest.fixture(scope="session")
def _psf_archive_server() -> Iterator[Simulator]:
    """One server for all tests of a session."""
    from psfharvest.filesystem import extras  # noqa: PLC0415 - on first use

    missing = extras.needs("the fixture psf_archive", "simulator", "uvicorn", "httptools")
    if missing is not None:
        pytest.fail(missing, pytrace=False)
    from psfharvest.simulator import Settings, Simulator  # noqa: PLC0415 - as above

    with Simulator(Settings(sources=SOURCES)) as simulator:
        yield simulator


@pytest.fixture
def psf_archive(_psf_archive_server: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """
    Simulate the archive on loopback: healthy and with an empty record at the beginning of each test.

    ``Archive()`` and the command find it by themselves (``PSFHARVEST_ARCHIVE``). Its `url`, `requests`, `count`,
    `faults` and `render` are those of `psfharvest.simulator.Simulator`.
    """
    _psf_archive_server.faults = []
    _psf_archive_server.forget()
    monkeypatch.delenv("MAST_API_TOKEN", raising=False)
    monkeypatch.setenv("PSFHARVEST_ARCHIVE", _psf_archive_server.url)
    return _psf_archive_server
