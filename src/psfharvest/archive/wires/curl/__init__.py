"""
Transport over libcurl, for many cutouts.

One thread holds libcurl's multi interface; the event loop hands it requests in batches and gets answers in batches,
so that nothing is awaited, and no task or event is made, once a cutout. It serves asyncio and trio alike, and
several event loops at once.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from psfharvest.archive.wires.base import Answer, Request
from psfharvest.archive.wires.curl.port import CurlQueue, CurlStream, UrgentQueue, loop_caller
from psfharvest.archive.wires.curl.transfer import common_settings
from psfharvest.archive.wires.curl.worker import CurlThread


class CurlWire:
    """
    A wire over libcurl.

    Its thread begins with the first request and ends with `aclose`; a wire that is forgotten ends its thread when
    it is collected, or at the interpreter's exit.

    Parameters
    ----------
    connections
        How many transfers, and connections, there may be at once: queues, queries and streams together.
    user_agent
        Sent with every request.
    is_private
        Whether a token goes along: then this machine is asked directly, and no proxy sees it in plain text.
    trust_env
        Whether proxies and certificates are what the environment's variables say.
    """

    depth = 128

    def __init__(
        self,
        *,
        connections: int = 32,
        user_agent: str = "psfharvest",
        is_private: bool = False,
        trust_env: bool = True,
    ) -> None:
        self._settings = common_settings(user_agent, is_private=is_private, trust_env=trust_env)
        self._limit = max(1, connections)
        self._thread: CurlThread | None = None
        self._is_closed = False

    @asynccontextmanager
    async def queue(self, wake: Callable[[], None], *, is_urgent: bool = False) -> AsyncIterator[CurlQueue]:
        """Open a queue; leaving it ends its requests at once."""
        queue = (UrgentQueue if is_urgent else CurlQueue)(self._started(), wake)
        try:
            yield queue
        finally:
            queue.close()

    async def exchange(self, request: Request) -> Answer:
        """Send one request and wait for its whole answer."""
        event = anyio.Event()
        queue = UrgentQueue(self._started(), event.set)
        try:
            queue.submit((request,))
            await event.wait()
            return queue.take()[0]
        finally:
            queue.close()

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[CurlStream]:
        """Send one request, follow what redirects may be followed, and read the last answer as it comes."""
        stream = CurlStream(self._started())
        stream.submit(request)
        try:
            await stream.head()
            yield stream
        finally:
            stream.close()

    def set_limit(self, connections: int) -> None:
        """Use at most so many connections from now on; those above end with the transfers on them."""
        connections = max(0, connections)
        if connections != self._limit:
            self._limit = connections
            if self._thread is not None:
                self._thread.set_limit(connections)

    async def make_room(self, connections: int) -> None:
        """Use at most so many connections from now on; idle ones beyond them are closed when this returns."""
        self._limit = max(0, connections)
        if self._thread is not None:
            done, caller = anyio.Event(), loop_caller()
            self._thread.make_room(self._limit, lambda: caller(done.set))
            with anyio.CancelScope(shield=True):
                await done.wait()

    async def settle(self, connections: int) -> None:
        """Use at most so many connections from now on; return once no more are open."""
        self._limit = max(0, connections)
        if self._thread is not None:
            done, caller = anyio.Event(), loop_caller()
            self._thread.settle(self._limit, lambda: caller(done.set))
            await done.wait()

    async def aclose(self) -> None:
        """End all transfers and the thread; what still waits for an answer gets a failure."""
        self._is_closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ended = anyio.Event()
        caller = loop_caller()
        thread.close(lambda: caller(ended.set))
        with anyio.CancelScope(shield=True):
            await ended.wait()
        thread.join()

    def _started(self) -> CurlThread:
        if self._is_closed:
            raise RuntimeError("the wire is closed")
        if self._thread is None:
            self._thread = CurlThread(self._settings, self._limit)
            weakref.finalize(self, _end, self._thread)
        return self._thread


def _end(thread: CurlThread) -> None:
    thread.close()
    thread.join()
