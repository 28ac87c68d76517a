"""The archive without a socket: as a client's transport, on both event loops, and mounted in a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from psfharvest import Archive, ArchiveDown, CutoutMissing, Query, RetryPolicy
from psfharvest.simulator import AsgiArchive, Fault, Settings, asgi

pytestmark = pytest.mark.anyio
QUERY = Query("UVIS", filter="F606W", limit=40)
QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, max_delay_s=0.05, patience_s=1.0)
SMALL = Settings(sources=2000)


@pytest.fixture(scope="module")
def _made() -> AsgiArchive:
    return asgi(SMALL)


@pytest.fixture
def app(_made: AsgiArchive) -> AsgiArchive:
    _made.faults = []
    _made.forget()
    return _made


def client_of(app: Any, path: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://archive.example{path}")


@pytest.mark.parametrize("via", ["file", "bundle"])
async def test_a_caller_s_client_needs_no_socket(app: AsgiArchive, tmp_path: Path, via: Any) -> None:
    """Query, harvest, stream and single request; bytes are the simulator's own."""
    async with client_of(app) as client, Archive(client=client, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], via=via)
        async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
            came = [cutout async for cutout in cutouts]
        one = await archive.fetch(came[0].uri)
        with pytest.raises(CutoutMissing):
            await archive.fetch("mast:HST/product/nothing.fits")

    assert (40, 40) == (report.done, len(came))
    assert app.render(one.uri) == one.raw
    assert report.requests <= app.count()
    assert app.requests[-1].status == 404


async def test_it_may_be_mounted(app: AsgiArchive) -> None:
    """Under a prefix of another application it is found by a base URL with that path."""
    outer = Starlette(routes=[Mount("/sky", app)])
    async with client_of(outer, "/sky") as client, Archive(client=client) as archive:
        assert 0 < await archive.count("IR")


async def test_faults_over_http_are_the_same(app: AsgiArchive, tmp_path: Path) -> None:
    """Errors and broken connections are tried again, as over a socket."""
    app.faults = [Fault("status", code=503, service="file", first=3), Fault("truncate", service="file", nth=9)]
    async with client_of(app) as client, Archive(client=client, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], via="file")

    assert 40 == report.done
    assert {"server_error": 3, "reset": 1} == report.retried


async def test_a_reset_is_an_outage(app: AsgiArchive) -> None:
    """Where every connection breaks, the archive is down; the caller sees no foreign error."""
    app.faults = [Fault("reset")]
    async with client_of(app) as client, Archive(client=client, retry=QUICK) as archive:
        with pytest.raises(ArchiveDown):
            await archive.count("UVIS")


async def test_a_caller_who_leaves_ends_the_request(app: AsgiArchive) -> None:
    """A deadline passes while the archive stalls: nothing else breaks."""
    app.faults = [Fault("stall", service="file", first=1)]
    async with client_of(app) as client, Archive(client=client, retry=QUICK) as archive:
        uri = "mast:HST/product/nothing.fits"
        with pytest.raises(TimeoutError):
            await archive.fetch(uri, deadline_s=0.3)
        app.faults = []  # the deadline may have passed before anything was asked: the next one would stall
        with pytest.raises(CutoutMissing):
            await archive.fetch(uri)


@pytest.mark.parametrize("kind", ["garbage", "endless", "gzip_bomb", "slow_head"])
def test_what_needs_a_connection_is_refused(kind: str) -> None:
    """It says what has one."""
    with pytest.raises(ValueError, match=f"{kind} needs a connection; use Simulator"):
        asgi(SMALL, [Fault(kind)])


async def test_a_server_may_ask_for_its_life() -> None:
    """The lifespan protocol is answered, so that any ASGI server can run it."""
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    answers: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(asked)}

    async def send(message: Any) -> None:
        answers.append(message["type"])

    await asgi(SMALL)({"type": "lifespan"}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == answers
