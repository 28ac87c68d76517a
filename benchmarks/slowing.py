"""
An archive that tires: how many connections it is given, and what it gives, drawn over time.

Usage: ``python -m benchmarks.slowing [OUT.png]``. A server on loopback gives 600 answers a second, then 3 for two
minutes, then 600 again, however many are asked at once: what is beyond waits. A harvest of 16 connections runs
against it meanwhile.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from anyio.abc import SocketStream

from benchmarks import asks, plot, server
from psfharvest import Archive, Limits
from psfharvest.core.model import Progress

CONNECTIONS = 16
FRESH_PER_S, TIRED_PER_S = 600.0, 3.0
TIRED_FROM_S, TIRED_UNTIL_S, END_S = 20.0, 140.0, 170.0
STEP = 5
"""Looks that one rate spans."""
_END_OF_HEAD = re.compile(rb"\r\n\r\n")


class Tiring:
    """A server with one queue: each answer takes its share of what it can give."""

    def __init__(self) -> None:
        self._body = server.cutout()
        self._began = time.monotonic()
        self._free_at = 0.0

    def age_s(self) -> float:
        """Return for how long it has been up."""
        return time.monotonic() - self._began

    async def serve(self, client: SocketStream) -> None:
        """Answer one connection's requests, one after the other."""
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._body)}\r\n\r\n".encode()
        waiting = b""
        async with client:
            while True:
                try:
                    waiting += await client.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                if _END_OF_HEAD.search(waiting):
                    waiting = b""
                    await self._queue()
                    await client.send(head + self._body)

    async def _queue(self) -> None:
        now = self.age_s()
        is_tired = TIRED_FROM_S < now < TIRED_UNTIL_S
        self._free_at = max(now, self._free_at) + 1 / (TIRED_PER_S if is_tired else FRESH_PER_S)
        await anyio.sleep(self._free_at - now)


async def measure() -> list[tuple[float, int, int]]:
    """Harvest until the end, and return time, connections and cutouts done, several times a second."""
    tiring = Tiring()
    seen: list[tuple[float, int, int]] = []

    def watch(progress: Progress) -> None:
        seen.append((tiring.age_s(), progress.connections, progress.tally.done))

    async def endless() -> AsyncIterator[str]:
        for uri in asks.uris(10**7):
            if tiring.age_s() > END_S:
                return
            yield uri
            await anyio.sleep(1 / FRESH_PER_S / 2)

    async with (
        await anyio.create_tcp_listener(local_host=server.HOST) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, tiring.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with tempfile.TemporaryDirectory() as folder:
            async with Archive(
                f"http://{server.HOST}:{port}", limits=Limits(max_connections=CONNECTIONS)
            ) as archive:
                with anyio.move_on_after(END_S + 5):
                    await archive.harvest(endless(), folder, via="file", sink="shards", progress=watch)
        group.cancel_scope.cancel()
    return seen


def draw(seen: list[tuple[float, int, int]], path: Path) -> None:
    """Draw connections and rate over time."""
    at_s = [t for t, _, _ in seen]
    steps = list(zip(seen[::STEP], seen[STEP::STEP], strict=False))
    rates = [(b[0], (b[2] - a[2]) / (b[0] - a[0])) for a, b in steps]
    with plot.panels(path, 2, 1, (8, 4.6), sharex=True) as (above, below):
        above.step(at_s, [c for _, c, _ in seen], where="post")
        above.set(ylabel="connections", ylim=(0, CONNECTIONS + 1))
        below.plot([t for t, _ in rates], [max(r, 0.1) for _, r in rates])
        below.set(ylabel="cutouts/s", xlabel="seconds", yscale="log")
        for panel in (above, below):
            panel.axvspan(TIRED_FROM_S, TIRED_UNTIL_S, color="0.92")


if __name__ == "__main__":
    draw(anyio.run(measure), Path(sys.argv[1] if len(sys.argv) > 1 else "slowing.png"))
