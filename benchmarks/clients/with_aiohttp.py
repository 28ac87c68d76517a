"""aiohttp as it is best used: one session, as many workers as connections, uvloop where there is one."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from yarl import URL


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def work(session: aiohttp.ClientSession, lines: Iterator[str], out: str) -> None:
    """Download until nothing is left."""
    for line in lines:
        url, name = line.rstrip("\n").split("\t")
        async with session.get(URL(url, encoded=True)) as response:
            response.raise_for_status()
            body = await response.read()
        Path(f"{out}/{name}").write_bytes(body)


async def main(listing: str, out: str, connections: int) -> None:
    """Download all."""
    connector = aiohttp.TCPConnector(limit=connections)
    with Path(listing).open() as lines:
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(work(session, lines, out) for _ in range(connections)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
