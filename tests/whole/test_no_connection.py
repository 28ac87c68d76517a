"""In Python, as in the shell: what asks once ends soon where no connection ever comes about; a harvest waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from psfharvest import Archive, Limits, Query, RetryPolicy, blocking
from psfharvest.core.errors import ArchiveDown
from psfharvest.simulator import Settings, Simulator

URI = "mast:HST/product/ibc302ioq_flt.fits"
PATIENCE_S = 60
SOON_S = PATIENCE_S - 15
QUERY = Query("UVIS", limit=5)


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port where nobody listens, and which nobody else is given meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Yield an address that refuses every connection."""
    with silent_port() as port:
        yield f"http://127.0.0.1:{port}"


async def every_part(archive: Archive) -> None:
    async for _ in archive.plan(QUERY):
        pass


ASKED_ONCE: dict[str, Callable[[Archive], Awaitable[Any]]] = {
    "count": lambda archive: archive.count(QUERY),
    "query": lambda archive: archive.query(QUERY),
    "fetch": lambda archive: archive.fetch(URI),
    "plan": every_part,
}


@pytest.mark.parametrize("name", ASKED_ONCE)
async def test_what_asks_once_ends_after_three_tries(nowhere: str, name: str) -> None:
    """The error names address, cause and what to do, in Python's words, long before patience ends."""
    async with Archive(nowhere) as archive:
        with anyio.fail_after(SOON_S), pytest.raises(ArchiveDown) as caught:
            await ASKED_ONCE[name](archive)

    words = str(caught.value)
    assert f"cannot reach {nowhere}" in words
    assert "3 times in a row" in words
    assert "RetryPolicy(patience_s=" in words
    assert "--" not in words


async def test_a_host_that_does_not_exist_ends_it_too() -> None:
    """An unknown name is no outage to be waited for."""
    async with Archive("http://no-such-host.invalid") as archive:
        with anyio.fail_after(SOON_S), pytest.raises(ArchiveDown, match=r"no-such-host\.invalid"):
            await archive.count("UVIS")


def test_blocking_says_the_same(nowhere: str) -> None:
    """A notebook's user gets the same error."""
    began_s = time.monotonic()
    with blocking.Archive(nowhere) as archive, pytest.raises(ArchiveDown, match="3 times in a row"):
        archive.count("UVIS")

    assert time.monotonic() - began_s < SOON_S


class LateServer(httpx.AsyncBaseTransport):
    """A network on which `n` requests sent together find nobody; whatever is sent later is answered."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._n_sent = 0
        self._are_sent = anyio.Event()
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._n_sent += 1
        if self._n_sent > self._n:
            return await self._inner.handle_async_request(request)
        if self._n_sent == self._n:
            self._are_sent.set()
        await self._are_sent.wait()
        raise httpx.ConnectError("nobody listens")

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.campaign
async def test_requests_sent_together_are_one_try(simulator: Simulator) -> None:
    """Dozens of fetches at once do not use up the three tries at once: a server that starts answers all."""
    uri = await anyio.to_thread.run_sync(_any_uri, simulator.url)
    n_answered = 0

    async def fetch(archive: Archive, number: int) -> None:
        nonlocal n_answered
        await archive.fetch(uri.replace("&format", f"{number}&format"))  # else they would be one request
        n_answered += 1

    async with (
        httpx.AsyncClient(transport=LateServer(32)) as client,
        Archive(simulator.url, client=client, limits=Limits(max_connections=32)) as archive,
    ):
        with anyio.fail_after(SOON_S):
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(fetch, archive, number)

    assert 200 == n_answered


@pytest.mark.campaign
async def test_a_later_call_tries_anew(tmp_path: Path) -> None:
    """After the error the network is mended: the next calls of the same `Archive` are answered."""
    with silent_port() as port:
        archive = Archive(f"http://127.0.0.1:{port}")
        async with archive:
            for ask in (ASKED_ONCE["count"], ASKED_ONCE["fetch"]):
                with anyio.fail_after(SOON_S), pytest.raises(ArchiveDown, match="3 times in a row"):
                    await ask(archive)
            with Simulator(Settings(sources=1000), port=port) as simulator:
                uri = await anyio.to_thread.run_sync(_any_uri, simulator.url)
                with anyio.fail_after(SOON_S):
                    assert 5 == await archive.count(QUERY)
                    assert uri == (await archive.fetch(uri)).uri


def _any_uri(url: str) -> str:
    with blocking.Archive(url) as archive, archive.stream(QUERY, suffixes=["flt"], progress=False) as cutouts:
        return str(next(cutouts).uri)


@pytest.mark.campaign
async def test_given_patience_is_kept(nowhere: str) -> None:
    """A policy of the caller's own is waited for to its end."""
    began_s = anyio.current_time()
    retry = RetryPolicy(first_delay_s=0.01, max_delay_s=0.1, patience_s=3)
    async with Archive(nowhere, retry=retry) as archive:
        for ask in (ASKED_ONCE["count"], ASKED_ONCE["fetch"]):
            with pytest.raises(ArchiveDown) as caught:
                await ask(archive)
            assert "in a row" not in str(caught.value)

    assert anyio.current_time() - began_s > 4  # the last delay would have ended past it


async def test_a_harvest_waits_with_patience(nowhere: str, tmp_path: Path) -> None:
    """A harvest still waits where a count has given up."""
    async with Archive(nowhere) as archive:
        with pytest.raises(ArchiveDown, match="3 times in a row"):
            await archive.count(QUERY)
        with anyio.move_on_after(6) as waited:
            await archive.harvest(QUERY, tmp_path / "stars", suffixes=["flt"])

    assert waited.cancelled_caught
