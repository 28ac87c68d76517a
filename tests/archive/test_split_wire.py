"""Queries over httpx and cutouts over libcurl: who carries what, and one ceiling for both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

import anyio
import httpx
import pytest
from wire_server import Pause, WireServer, reply

from psfharvest import Archive, Limits, Query
from psfharvest.archive.wires.base import Request
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_client import make_client
from psfharvest.archive.wires.split_wire import SplitWire
from psfharvest.simulator import Simulator

PATIENCE_S = 30.0


@pytest.fixture
def server() -> Iterator[WireServer]:
    """Answers at once, after a while, or never."""
    script = {"/ok": (reply(b"ok"),), "/50ms": (Pause(0.05), reply(b"ok")), "/silence": (Pause(60),)}
    with WireServer(script) as found:
        yield found


async def open_wire(stack: AsyncExitStack, connections: int) -> SplitWire:
    make = partial(make_client, connections, "me", keeps_connections=False)
    wire = SplitWire(CurlWire(connections=connections), make, connections=connections)
    stack.push_async_callback(wire.aclose)
    return wire


async def drive(wire: SplitWire, requests: list[Request], width: int) -> None:
    """Send all through one queue, `width` at once."""
    n_sent = n_taken = 0
    woken = anyio.Event()
    async with wire.queue(lambda: woken.set()) as queue:  # noqa: PLW0108 - each time another event
        while n_taken < len(requests):
            woken = anyio.Event()
            n_taken += len(queue.take())
            new = requests[n_sent : n_taken + width]
            queue.submit(new)
            n_sent += len(new)
            if n_taken < len(requests):
                with anyio.fail_after(PATIENCE_S):
                    await woken.wait()


@pytest.mark.parametrize("connections", [1, 2, 6])
async def test_a_query_takes_the_place_of_an_idle_connection(server: WireServer, connections: int) -> None:
    """With libcurl's connections kept, a query makes one of them go, and gives its place back."""
    async with AsyncExitStack() as stack:
        wire = await open_wire(stack, connections)
        for _ in range(3):
            await drive(wire, [Request(server.url("/50ms"))] * 12, connections)
            assert server.open == connections
            async with anyio.create_task_group() as group:
                for _ in range(connections):
                    group.start_soon(wire.exchange, Request(server.url("/50ms")))
            with anyio.fail_after(PATIENCE_S):
                while server.open:  # noqa: ASYNC110 - a server in another thread tells nobody
                    await anyio.sleep(0.01)

    assert server.peak == connections


async def test_a_stream_that_nobody_reads_keeps_its_connection(server: WireServer) -> None:
    """A paused stream is not taken for an idle connection."""
    size = 8 * 2**20
    server.script["/large"] = (reply(bytes(size)),)
    async with AsyncExitStack() as stack:
        wire = await open_wire(stack, 2)
        await drive(wire, [Request(server.url("/ok"))] * 4, 2)
        async with wire.stream(Request(server.url("/large"))) as stream:
            await anyio.sleep(0.2)
            for _ in range(3):
                assert (await wire.exchange(Request(server.url("/ok")))).body == b"ok"
            n = sum([len(chunk) async for chunk in stream.chunks()])

    assert n == size


async def test_a_left_query_gives_its_place_back(server: WireServer) -> None:
    """Cancelled queries leave libcurl all its connections."""
    async with AsyncExitStack() as stack:
        wire = await open_wire(stack, 2)
        for _ in range(6):
            with anyio.move_on_after(0.05):
                await wire.exchange(Request(server.url("/silence")))
        with anyio.fail_after(PATIENCE_S):
            while server.open:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
        server.peak = 0
        await drive(wire, [Request(server.url("/50ms"))] * 8, 2)

    assert server.peak == 2


async def test_queries_meet_what_watches_httpx(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instrumentation of httpx's transport, as tracing tools do it, sees the queries and no cutout."""
    seen: list[str] = []
    inner = httpx.AsyncHTTPTransport.handle_async_request

    async def watched(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return await inner(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", watched)
    async with Archive(simulator.url) as archive:
        query = Query("UVIS", limit=3)
        assert await archive.count(query) == 3
        assert len(await archive.query(query)) == 3
        async with archive.stream(query, suffixes=["flt"]) as cutouts:
            assert len([cutout async for cutout in cutouts]) == 3

    assert len(seen) >= 3
    assert all(path.endswith("/invoke") for path in seen)


async def test_a_test_transport_answers_queries(simulator: Simulator) -> None:
    """A client whose transport answers by itself serves a whole query without a socket."""

    async def answer(request: httpx.Request) -> httpx.Response:
        body = '{"status": "COMPLETE", "data": [{"Column1": 42}], "fields": [{"name": "Column1", "type": "int"}]}'
        return httpx.Response(200, text=body, request=request)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        Archive(simulator.url, client=client) as archive,
    ):
        assert await archive.count(Query("UVIS")) == 42


@pytest.mark.sample(1)
@pytest.mark.parametrize("connections", [1, 3])
async def test_one_ceiling_for_both(simulator: Simulator, tmp_path, connections: int) -> None:
    """A harvest with many parts, queried while cutouts come, stays within its connections."""
    limits = Limits(max_connections=connections, page_rows=20)
    async with Archive(simulator.url, limits=limits) as archive:
        report = await archive.harvest(Query("UVIS", limit=120), tmp_path / "stars", suffixes=["flt"])

    assert report.done == 120
    assert simulator.peak_connections <= connections + 1  # as above


def test_help_imports_no_http_library() -> None:
    """Commands that send nothing do not wait for httpx or libcurl."""
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from psfharvest.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('httpx', 'httpcore', 'pycurl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_httpx2_serves_where_httpx_is_not(simulator: Simulator) -> None:
    """Without httpx its successor carries the queries; the package never imports the one that is missing."""
    code = f"""
import sys, importlib.util, anyio
real = importlib.util.find_spec
class Hidden:
    def find_spec(self, name, *_):
        if name in ("httpx", "httpcore"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
importlib.util.find_spec = lambda name, *a: None if name in ("httpx", "httpcore") else real(name, *a)
from psfharvest import Archive, Query
async def main():
    async with Archive({simulator.url!r}) as archive:
        print(await archive.count(Query("UVIS", limit=3)), "httpx2" in sys.modules, "httpx" in sys.modules)
anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout.strip(), done.stderr) == ("3 True False", "")
