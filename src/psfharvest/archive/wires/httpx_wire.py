"""
Transport over an httpx client, ours or the caller's.

There are never more requests than connections, so that nothing waits inside httpx's pool, whose work grows with the
square of what waits there, and which loses slots when a waiting request is cancelled. The caller's client is used
as it is and never closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from psfharvest.archive.wires.base import Answer, Request
from psfharvest.archive.wires.httpx_call import Call
from psfharvest.archive.wires.httpx_client import check_client, make_client, pool_size
from psfharvest.archive.wires.httpx_receivers import HttpxStream, Receiver, WholeBody
from psfharvest.concurrency.loop_task import start_in_loop

SETTLE_EVERY_S = 0.02
"""How often it is looked whether requests have ended that a lowered limit waits for."""
GRACE_S = 0.04
"""How long leaving and closing wait for requests to end; those that are still connecting then end by themselves."""

TICK_S, TICK_MIN_S = 1.0, 0.05
"""How often deadlines of whole requests are looked after: a fourth of the shortest, within these."""
GAP_MIN_S = 1.0
"""A longer jump of the clock between two looks is a stop of this process."""
STOPS_MAX = 64
"""Stops remembered: one of long ago explains no deadline that passes now."""


class HttpxWire:
    """
    A wire over an httpx client.

    Parameters
    ----------
    client
        The caller's own; None makes one of ours, which `aclose` closes.
    connections
        How many requests, and connections, there may be at once; a caller's pool that holds fewer sets the limit.
    user_agent
        Sent with every request of a client of ours.
    is_private
        Whether a token goes along: then this machine is asked directly, and no proxy sees it in plain text.
    trust_env
        Whether proxies and certificates of a client of ours are what the environment's variables say.
    slots
        What a request holds while it has a connection, where connections are shared with another wire.
    is_ours
        Whether `aclose` closes the client that was given, too.
    keeps_connections
        Whether a client of ours keeps connections open that no request uses.

    Raises
    ------
    BadInput
        When the client cannot work.
    """

    depth = 0

    def __init__(
        self,
        client: Any = None,
        *,
        connections: int = 32,
        user_agent: str = "psfharvest",
        is_private: bool = False,
        trust_env: bool = True,
        slots: AbstractAsyncContextManager[Any] | None = None,
        is_ours: bool = False,
        keeps_connections: bool = True,
    ) -> None:
        self._is_ours = is_ours or client is None
        if client is None:
            client = make_client(
                connections,
                user_agent,
                is_private=is_private,
                trust_env=trust_env,
                keeps_connections=keeps_connections,
            )
        else:
            check_client(client)
        self._client = client
        pooled = pool_size(client)
        self._is_pooled = pooled is not None
        self.ceiling = max(1, connections if pooled is None else min(connections, pooled))
        """The most connections that there will ever be."""
        self._limiter = anyio.CapacityLimiter(self.ceiling)
        self._slots = self._limiter if slots is None else slots
        self._calls: set[Call] = set()
        self._is_closed = False
        self._one_ended = anyio.Event()
        self._none_left = anyio.Event()
        self._is_watching = False
        self._tick_s = TICK_S
        self._looked_at = 0.0
        self._stops: deque[tuple[float, float]] = deque(maxlen=STOPS_MAX)  # when each was over, and how long it was

    @asynccontextmanager
    async def queue(self, wake: Callable[[], None], *, is_urgent: bool = False) -> AsyncIterator[HttpxQueue]:
        """Open a queue; leaving it ends its requests. What has no slot waits in its order, urgent or not."""
        del is_urgent
        queue = HttpxQueue(self, wake)
        try:
            yield queue
        finally:
            await self._leave(queue.close())

    async def exchange(self, request: Request) -> Answer:
        """Send one request and wait for its whole answer."""
        body, ended = WholeBody(request.max_bytes), anyio.Event()
        call = self.begin(request, body, lambda _: ended.set())
        try:
            await ended.wait()
            return body.answer(call)
        finally:
            await self._leave([call])

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[HttpxStream]:
        """Send one request, follow what redirects may be followed, and read the last answer as it comes."""
        stream = HttpxStream()
        # the reader may take its time: only a stall ends a stream
        call = self.begin(request._replace(total_timeout_s=None), stream, stream.ended)
        try:
            await stream.head()
            yield stream
        finally:
            stream.leave()
            await self._leave([call])

    def begin(self, request: Request, receiver: Receiver, at_end: Callable[[Call], None]) -> Call:
        """Start a request in a task of its own."""
        if self._is_closed:
            raise RuntimeError("the wire is closed")
        call = Call(
            self._client,
            self._slots,
            request,
            receiver,
            self._ended(at_end),
            is_pooled=self._is_pooled,
            stopped_s=self._stopped_s,
        )
        self._calls.add(call)
        call.start()
        self._tick_s = min(self._tick_s, max(TICK_MIN_S, (request.total_timeout_s or TICK_S) / 4))
        if not self._is_watching:
            self._is_watching = True
            start_in_loop(self._watch, "psfharvest-deadlines")
        return call

    def set_limit(self, connections: int) -> None:
        """Use at most so many connections from now on; requests beyond them wait here."""
        self._limiter.total_tokens = max(1, min(connections, self.ceiling))

    async def settle(self, connections: int) -> None:
        """Use at most so many connections from now on; return once no more requests are under way."""
        self.set_limit(connections)
        while len(self._calls) > connections:  # noqa: ASYNC110 - rare, and calls end in many ways
            await anyio.sleep(SETTLE_EVERY_S)

    async def aclose(self) -> None:
        """
        End all requests, and close the client when it is ours.

        A request that is still connecting over a caller's client after a moment is left to end by itself.
        """
        self._is_closed = True
        calls = tuple(self._calls)
        await self._leave(calls)
        if self._is_ours:
            for call in calls:
                call.end()
            with anyio.CancelScope(shield=True):
                await self._ends_of(calls)
                await self._client.aclose()

    async def _watch(self) -> None:
        """Look after the deadlines of whole requests while there are any."""
        self._looked_at = anyio.current_time()
        while self._calls:
            planned_s = self._tick_s
            with anyio.move_on_after(planned_s):
                await self._none_left.wait()
            now = anyio.current_time()
            gap_s = now - self._looked_at - planned_s if self._stop_s(now) else 0.0
            if gap_s:
                self._stops.append((now, gap_s))
            self._looked_at = now
            for call in tuple(self._calls):
                call.watch(now, gap_s)
        self._is_watching, self._tick_s = False, TICK_S

    def _stopped_s(self, since: float) -> float:
        """Return for how long this process did not run since a time, as far as the watch has missed its time."""
        return self._stop_s(anyio.current_time()) + sum(gap_s for at, gap_s in self._stops if at >= since)

    def _stop_s(self, now: float) -> float:
        """Return the length of a stop that the watch has not seen yet; 0 for a mere delay."""
        gap_s = now - self._looked_at - TICK_S
        return gap_s if gap_s >= GAP_MIN_S else 0.0

    async def _leave(self, calls: Collection[Call]) -> None:
        """End requests, and wait a moment for their ends."""
        for call in calls:
            call.leave()
        with anyio.move_on_after(GRACE_S, shield=True):
            await self._ends_of(calls)

    async def _ends_of(self, calls: Collection[Call]) -> None:
        while not self._calls.isdisjoint(calls):
            await self._one_ended.wait()

    def _ended(self, at_end: Callable[[Call], None]) -> Callable[[Call], None]:
        def end(call: Call) -> None:
            self._calls.discard(call)
            if not self._calls:
                self._none_left.set()
                self._none_left = anyio.Event()
            self._one_ended.set()
            self._one_ended = anyio.Event()
            at_end(call)

        return end


class HttpxQueue:
    """One user's way through the wire: each request in a task, their answers taken in batches."""

    def __init__(self, wire: HttpxWire, wake: Callable[[], None]) -> None:
        self._wire = wire
        self._wake = wake
        self._under_way: dict[Call, WholeBody] = {}
        self._ended: list[tuple[Call, WholeBody]] = []
        self._unsent: list[Answer] = []

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests."""
        for request in requests:
            body = WholeBody(request.max_bytes)
            self._under_way[self._wire.begin(request, body, self._take_end)] = body

    def take(self) -> list[Answer]:
        """Return the answers that are ready, each once; raises what a hook of the caller's client raised."""
        answers, self._unsent = self._unsent, []
        ended, self._ended = self._ended, []
        return answers + [body.answer(call) for call, body in ended]

    def withdraw(self) -> None:
        """Take back what has not been sent; it comes out of `take` as such."""
        for call in [call for call in self._under_way if not call.n_sent]:
            del self._under_way[call]
            call.leave()
            self._unsent.append(Answer(call.request, n_sent=0))
        if self._unsent:
            self._wake()

    def proceed(self) -> None:
        """Do nothing: no more is submitted than can be sent."""

    def close(self) -> list[Call]:
        """Return what is under way; no answer of it comes any more."""
        calls = list(self._under_way)
        self._under_way.clear()
        return calls

    def _take_end(self, call: Call) -> None:
        body = self._under_way.pop(call, None)
        if body is not None:
            self._ended.append((call, body))
            self._wake()
