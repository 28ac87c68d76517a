"""Fixtures of the service: a harvested folder, and the application over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from serving import N_STARS, client_of

from psfharvest import Archive, Query
from psfharvest.simulator import Fault, Settings, Simulator


@pytest.fixture(scope="session")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished harvest of `N_STARS`, two of which the archive does not have."""
    folder = tmp_path_factory.mktemp("served") / "stars"

    async def harvest(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", limit=N_STARS), folder, suffixes=["flt"], via="file")

    with Simulator(
        Settings(sources=3000, seed=1), [Fault("status", code=404, service="file", nth=(5, 9))]
    ) as simulator:
        anyio.run(harvest, simulator.url)
    return folder


@pytest.fixture
async def client(stars: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, without a server between them."""
    async with client_of(stars) as made:
        yield made
