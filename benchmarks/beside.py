"""
A single request beside a stream, and beside a harvest with bundles, of the same `Archive`.

Usage: ``python -m benchmarks.beside [asyncio|trio]``. In turns with each `fetch`, another client asks the same
server for a cutout over a connection of its own: what that takes is the server's part.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import httpx

from benchmarks.embedding import LATENCY_S, say, served, uris_of
from psfharvest import Archive, Limits

CONNECTIONS = 8
N_OTHERS, N_TURNS = 5000, 40
SETTLING_S = 1.5
"""How long the other work is under way before the first turn."""


async def turns(archive: Archive, url: str, uris: list[str]) -> str:
    """Return the medians and the longest of `fetch` and of another client's plain GET, in turns."""
    ours, theirs = [], []
    async with httpx.AsyncClient(timeout=60) as other:

        async def plain(uri: str) -> None:
            (await other.get(f"{url}/api/v0.1/Download/file", params={"uri": uri})).raise_for_status()

        for mine, its in zip(uris[::2], uris[1::2], strict=True):
            ours.append(await timed_ms(archive.fetch(mine)))
            theirs.append(await timed_ms(plain(its)))
    return (
        f"fetch {statistics.median(ours):.0f} ms (at most {max(ours):.0f}), another client's GET "
        f"{statistics.median(theirs):.0f} ms (at most {max(theirs):.0f})"
    )


async def timed_ms(work: Awaitable[object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    await work
    return 1e3 * (time.perf_counter() - began)


async def stream(archive: Archive, uris: list[str]) -> None:
    """Read streams that keep all connections busy, one after the other."""
    while True:
        async with archive.stream(uris) as cutouts:
            async for _ in cutouts:
                pass


async def bundles(archive: Archive, uris: list[str]) -> None:
    """Harvest in bundles, again and again."""
    while True:
        with tempfile.TemporaryDirectory() as folder:
            await archive.harvest(uris, Path(folder) / "stars", via="bundle", sink="shards")


async def beside(url: str, work: Callable[[Archive, list[str]], Awaitable[None]] | None) -> str:
    """Measure single requests while `work` goes on."""
    async with Archive(url, limits=Limits(max_connections=CONNECTIONS)) as archive:
        uris = await uris_of(archive, N_OTHERS + 2 * N_TURNS)
        async with anyio.create_task_group() as group:
            if work is not None:
                group.start_soon(work, archive, uris[2 * N_TURNS :])
                await anyio.sleep(SETTLING_S)
            found = await turns(archive, url, uris[: 2 * N_TURNS])
            group.cancel_scope.cancel()
    return found


def main(words: list[str]) -> None:
    """Measure on each backend."""
    with served(LATENCY_S) as server:
        for backend in words or ["asyncio", "trio"]:
            for name, work in (("alone", None), ("beside a stream", stream), ("beside bundles", bundles)):
                say(f"{backend}, {name}: {anyio.run(partial(beside, server.url, work), backend=backend)}")


if __name__ == "__main__":
    main(sys.argv[1:])
