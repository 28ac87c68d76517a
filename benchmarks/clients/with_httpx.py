"""httpx as it is best used: one client, never more tasks than connections, uvloop where there is one."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def work(client: httpx.AsyncClient, lines: Iterator[str], out: str) -> None:
    """Download until nothing is left."""
    for line in lines:
        url, name = line.rstrip("\n").split("\t")
        response = await client.get(url)
        response.raise_for_status()
        Path(f"{out}/{name}").write_bytes(response.content)


async def main(listing: str, out: str, connections: int) -> None:
    """Download all."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    with Path(listing).open() as lines:
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            await asyncio.gather(*(work(client, lines, out) for _ in range(connections)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
