"""A caller's httpx client: its pool is whole after any cancellation, and is never asked for more than it has."""

from __future__ import annotations

import contextlib
import gc
import importlib
import random
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from wire_server import Pause, WireServer, reply

from psfharvest import Archive, BadInput, Limits
from psfharvest.archive.wires.base import Answer, Request
from psfharvest.archive.wires.httpx_wire import HttpxWire

POOL = 8
URIS = [f"mast:HST/product/file{n}.bin" for n in range(200)]
PATIENCE_S = 60.0
LATE_S = 5.0
"""Generous beside the 0.1 s that a cancellation may take, since the machine may be busy."""


@pytest.fixture
def server() -> Iterator[WireServer]:
    """An archive that takes 10 ms for a file."""
    files = {"/api/v0.1/Download/file": (Pause(0.01), reply(bytes(9000)))}
    with WireServer({**files, "/silence": (Pause(60),), "/ok": (reply(b"ok"),)}) as found:
        yield found


@contextlib.asynccontextmanager
async def client_of(library: str, size: int = POOL) -> AsyncIterator[Any]:
    module = importlib.import_module(library)
    limits = module.Limits(max_connections=size, max_keepalive_connections=size)
    async with module.AsyncClient(limits=limits) as client:
        yield client


async def settled(pool: Any) -> None:
    """Wait until no request is left in a pool."""
    with anyio.fail_after(PATIENCE_S):
        while pool._requests:  # noqa: ASYNC110 - the pool tells nobody
            await anyio.sleep(0.01)


async def cancel_at_random(archive: Archive, n: int, seed: int, pool: Any) -> int:
    """Stream, fetch, and leave at random moments; return the most requests that the pool ever held."""
    draw, most = random.Random(seed), 0
    for _ in range(n):
        with anyio.move_on_after(draw.choice([0.0, 0.002, 0.02, 0.06]) * draw.random()):
            if draw.random() < 0.3:
                await archive.fetch(draw.choice(URIS))
            else:
                async with archive.stream(draw.sample(URIS, 40)) as cutouts:
                    async for _ in cutouts:
                        most = max(most, len(pool._requests))
        most = max(most, len(pool._requests))
    return most


async def check_slots(server: WireServer, library: str, n: int) -> None:
    """The heart of the tests: `n` cancellations, then every slot free and every socket accounted for."""
    async with client_of(library) as client:
        pool = client._transport._pool
        async with Archive(server.url(""), client=client) as archive:
            most = await cancel_at_random(archive, n, 3, pool)
            await settled(pool)
            assert all(connection.is_idle() for connection in pool.connections), pool.connections
        assert most <= POOL
        n_idle = len(pool.connections)
        with anyio.fail_after(PATIENCE_S):
            while server.open > n_idle:  # noqa: ASYNC110 - a server in another thread tells nobody
                await anyio.sleep(0.01)
        async with anyio.create_task_group() as group:  # all slots can be used at once
            for _ in range(POOL):
                group.start_soon(client.get, server.url("/ok"))
        await settled(pool)


@pytest.mark.sample(1)
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_cancellations_leave_every_slot_free(server: WireServer, library: str) -> None:
    """However many callers leave, and whenever, the pool's slots and the server's sockets come back."""
    await check_slots(server, library, 60)


@pytest.mark.campaign
@pytest.mark.quiet
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_two_thousand_cancellations_leave_every_slot_free(server: WireServer, library: str) -> None:
    """The same, 2,000 times."""
    await check_slots(server, library, 2000)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_nothing_is_left_to_the_garbage_collector(server: WireServer, library: str) -> None:
    """No socket and no asynchronous generator is forgotten: trio and asyncio would warn of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await check_slots(server, library, 20)
        gc.collect()

    assert [] == [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]


async def test_a_connecting_request_survives_its_caller() -> None:
    """A caller leaves at once while a connection is still coming about; the slot comes back when it has come."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as stack:
        port = deaf.getsockname()[1]
        for _ in range(4):  # fills the backlog: who comes after is kept waiting by the system
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        async with client_of("httpx", 2) as client:
            pool = client._transport._pool
            wire = HttpxWire(client)
            request = Request(f"http://127.0.0.1:{port}/", connect_timeout_s=1.0)
            for _ in range(5):
                began_at = anyio.current_time()
                with anyio.move_on_after(0.05):
                    await wire.exchange(request)
                assert anyio.current_time() - began_at < LATE_S
                assert len(pool._requests) <= 2
            await wire.aclose()
            await settled(pool)
            assert [] == pool.connections


async def test_a_request_goes_on_only_until_it_is_connected(server: WireServer) -> None:
    """A request that its caller has left is ended once the pool bears it: nobody waits for a silent server."""
    async with client_of("httpx", 1) as client:
        wire = HttpxWire(client)
        for _ in range(5):
            with anyio.move_on_after(0.05):
                await wire.exchange(Request(server.url("/silence")))
        with anyio.fail_after(PATIENCE_S / 2):
            answer = await wire.exchange(Request(server.url("/ok")))
        await wire.aclose()

    assert answer.body == b"ok"


async def test_a_task_cancelled_by_its_event_loop_leaves_every_slot_free(
    server: WireServer, anyio_backend: str
) -> None:
    """The loop's own cancellation, which no shield keeps off, reaches the caller and not the request."""
    if anyio_backend != "asyncio":
        return
    import asyncio

    draw = random.Random(5)
    async with client_of("httpx") as client:
        pool = client._transport._pool
        async with Archive(server.url(""), client=client) as archive:
            for _ in range(60):
                tasks = [asyncio.create_task(archive.fetch(uri)) for uri in draw.sample(URIS, 12)]
                await asyncio.sleep(draw.random() * 0.02)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await settled(pool)
        assert all(connection.is_idle() for connection in pool.connections)


@pytest.mark.parametrize(("asked", "used"), [(None, 3), (2, 2), (50, 3)])
async def test_no_more_is_asked_than_the_pool_holds(server: WireServer, asked: int | None, used: int) -> None:
    """The smaller of our ceiling and the pool's size is the limit, also behind a transport of the caller's."""

    class Wrapped(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self.inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=3))

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await self.inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self.inner.aclose()

    transport = Wrapped()
    async with (
        httpx.AsyncClient(transport=transport) as client,
        Archive(server.url(""), client=client, limits=Limits(max_connections=asked)) as archive,
        archive.stream(URIS[:60]) as cutouts,
    ):
        async for _ in cutouts:
            assert len(transport.inner._pool._requests) <= used

    assert server.peak == used


async def test_what_waits_for_a_slot_is_taken_back(server: WireServer) -> None:
    """Requests that have no connection yet come back unsent when they are withdrawn."""
    answers: list[Answer] = []
    wire = HttpxWire(connections=2)
    async with wire.queue(lambda: None) as queue:
        queue.submit([Request(server.url("/silence"), tag=n, timeout_s=0.3) for n in range(6)])
        with anyio.fail_after(PATIENCE_S):
            while len(server.seen) < 2:  # noqa: ASYNC110 - a server in another thread tells nobody
                await anyio.sleep(0.01)
            queue.withdraw()
            while len(answers) < 6:
                answers += queue.take()
                await anyio.sleep(0.01)
    await wire.aclose()

    assert sorted(answer.n_sent for answer in answers) == [0, 0, 0, 0, 1, 1]
    assert 2 == len(server.seen)


async def test_a_client_that_cannot_work_is_refused(server: WireServer) -> None:
    """A closed client and a synchronous one are refused by name, before anything is sent."""
    closed = httpx.AsyncClient()
    await closed.aclose()
    with httpx.Client() as synchronous:
        for client, words in [(closed, "closed"), (synchronous, "httpx.Client is no asynchronous")]:
            with pytest.raises(BadInput, match=words):
                async with Archive(server.url(""), client=client):
                    pass


async def test_a_callers_own_exception_comes_out_as_it_is(server: WireServer) -> None:
    """What a hook of the client raises is no failure of the archive's."""

    async def refuse(_: httpx.Response) -> None:
        raise PermissionError("not today")

    async with (
        httpx.AsyncClient(event_hooks={"response": [refuse]}) as client,
        Archive(server.url(""), client=client) as archive,
    ):
        with pytest.raises(PermissionError, match="not today"):
            await archive.fetch(URIS[0])
