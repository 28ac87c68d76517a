"""Large answers of the catalogue never hold the event loop up: what is made of their rows is made in threads."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest

from psfharvest import Archive, Query
from psfharvest.simulator import Settings, Simulator

pytestmark = pytest.mark.anyio
STEP_MAX_S = 0.2
"""Of processor time of the loop's thread; to sort out the rows took more than twice as much."""


@pytest.fixture(scope="module")
def large() -> Iterator[Simulator]:
    with Simulator(Settings(sources=50_000, static=True)) as simulator:
        yield simulator


@pytest.mark.parametrize("what", ["query", "stream"])
async def test_many_rows_at_once(large: Simulator, what: str) -> None:
    """Of twenty thousand rows in one answer, the loop's thread never works long without another task's turn."""
    longest_s = 0.0

    async def beat() -> None:
        nonlocal longest_s
        at = time.thread_time()
        while True:
            await anyio.sleep(0.001)
            at, before = time.thread_time(), at
            longest_s = max(longest_s, at - before)

    async with Archive(large.url) as archive:
        await archive.count("UVIS")
        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            if what == "query":
                assert 19_000 < len(await archive.query("UVIS"))
            else:
                async with archive.stream(Query("UVIS"), suffixes=["flt"]) as cutouts:
                    async for _ in cutouts:
                        break
            group.cancel_scope.cancel()

    assert longest_s < STEP_MAX_S
