"""
Queries over httpx, cutouts over libcurl, and one ceiling for the connections of both.

Queries are few, and travel where a service's hooks, instrumentation and test transports see them. Each opens a
connection of its own and closes it; for that time libcurl has one less, and gives up an idle one where needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.archive.wires.base import Answer, Request, RequestQueue, Stream
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import SETTLE_EVERY_S, HttpxWire
from psfharvest.concurrency.loop_task import call_later

CLOSING_S = 0.05
"""For how long a connection that was closed here still counts: a busy server notices its end a moment later."""


class SplitWire:
    """
    A wire of two.

    Parameters
    ----------
    bulk
        Carries what is sent in queues, and streams.
    make_client
        Makes the httpx client of the queries; called in a thread at the first query, since importing takes long.
    connections
        How many connections there may be at once.
    """

    def __init__(self, bulk: CurlWire, make_client: Callable[[], Any], *, connections: int) -> None:
        self.depth = bulk.depth
        self._bulk = bulk
        self._make_client = make_client
        self._shares = _Shares(bulk, connections)
        self._queries: HttpxWire | None = None
        self._making = anyio.Lock()
        self._is_closed = False

    def queue(
        self, wake: Callable[[], None], *, is_urgent: bool = False
    ) -> AbstractAsyncContextManager[RequestQueue]:
        """Open a queue over libcurl."""
        return self._bulk.queue(wake, is_urgent=is_urgent)

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Send one request over libcurl, and read its answer as it comes."""
        return self._bulk.stream(request)

    async def exchange(self, request: Request) -> Answer:
        """Send one request over httpx and wait for its whole answer."""
        return await (await self._query_wire()).exchange(request)

    async def settle(self, connections: int) -> None:
        """Use at most so many connections from now on; return once no more are open."""
        await self._shares.settle(connections)

    def set_limit(self, connections: int) -> None:
        """Use at most so many connections from now on."""
        self._shares.set_limit(connections)

    async def aclose(self) -> None:
        """End all connections of both."""
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            if self._queries is not None:
                await self._queries.aclose()
            await self._bulk.aclose()

    async def _query_wire(self) -> HttpxWire:
        if self._queries is None:
            async with self._making:
                if self._queries is None:
                    client = await anyio.to_thread.run_sync(self._make_client)
                    self._queries = HttpxWire(client, slots=self._shares, is_ours=True)
        if self._is_closed:
            await self._queries.aclose()
        return self._queries


class _Shares:
    """Hands out connections for queries; libcurl has those that are left."""

    def __init__(self, bulk: CurlWire, connections: int) -> None:
        self._bulk = bulk
        self._limit = max(1, connections)
        self._slots = anyio.CapacityLimiter(self._limit)
        self._n_taken = 0
        self._borrowers: dict[int, object] = {}
        """What stands for a connection in `_slots`, by the number of the task that has it."""

    async def __aenter__(self) -> None:
        borrower = object()
        await self._slots.acquire_on_behalf_of(borrower)
        self._n_taken += 1
        try:
            await self._bulk.make_room(max(0, self._limit - self._n_taken))
        except BaseException:
            self._give_back(borrower)
            raise
        self._borrowers[anyio.get_current_task().id] = borrower

    async def __aexit__(self, *exc: object) -> None:
        borrower = self._borrowers.pop(anyio.get_current_task().id)
        call_later(CLOSING_S, partial(self._give_back, borrower), "psfharvest-closing")

    def set_limit(self, connections: int) -> None:
        """Hold at most so many connections from now on."""
        self._limit = max(0, connections)
        self._slots.total_tokens = max(1, connections)
        self._bulk.set_limit(max(0, self._limit - self._n_taken))

    async def settle(self, connections: int) -> None:
        """Hold at most so many connections from now on; return once no more are open."""
        self.set_limit(connections)
        while self._n_taken > connections:  # noqa: ASYNC110 - rare
            await anyio.sleep(SETTLE_EVERY_S)
        await self._bulk.settle(max(0, connections - self._n_taken))
        self.set_limit(connections)  # queries that ended have given theirs back

    def _give_back(self, borrower: object) -> None:
        self._n_taken -= 1
        self._slots.release_on_behalf_of(borrower)
        self._bulk.set_limit(max(0, self._limit - self._n_taken))
