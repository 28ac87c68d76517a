"""Several users of one `Archive`: fair parts, single requests first and shared, and nothing asked for in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from psfharvest import (
    Archive,
    ArchiveDown,
    BadInput,
    BadURI,
    CutoutFailed,
    CutoutMissing,
    DeadlinePassed,
    Limits,
    Query,
    RetryPolicy,
)
from psfharvest.core.fits import datauri
from psfharvest.simulator import Fault, Settings, Simulator

PATIENCE_S = 60.0
"""Against a hang; nothing here is measured by the clock."""


@pytest.fixture(scope="module")
def _slow() -> Iterator[Simulator]:
    with Simulator(Settings(sources=3000, static=True, latency_s=0.03)) as simulator:
        yield simulator


@pytest.fixture
def slow(_slow: Simulator) -> Simulator:
    """An archive whose answers take 30 ms."""
    _slow.faults = []
    _slow.forget()
    return _slow


@pytest.fixture(params=["curl", "httpx"])
async def archive(request: pytest.FixtureRequest, slow: Simulator) -> AsyncIterator[Archive]:
    """An archive with four connections, over each wire."""
    limits = Limits(max_connections=4)
    async with (
        httpx.AsyncClient() as client,
        Archive(slow.url, client=client if request.param == "httpx" else None, limits=limits) as archive,
    ):
        yield archive


async def until(is_true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - what is waited for happens in the simulator, or to a counter
            await anyio.sleep(0.01)


async def uris_of(archive: Archive, n: int, detector: str = "UVIS") -> list[str]:
    """The dataURIs of the first sources."""
    query = Query(detector, limit=n)
    rows = await archive.query(query)
    suffix = "c0m" if detector == "WFPC2" else "flt"
    return [str(datauri.build(dict(zip(rows.colnames, row, strict=True)), query.detector, suffix)) for row in rows]


async def settled(simulator: Simulator) -> int:
    """Return the number of requests for cutouts, once nothing is under way."""
    n = -1
    while n != simulator.count("file"):
        n = simulator.count("file")
        await anyio.sleep(0.3)
    return n


@pytest.mark.sample(1)
async def test_single_requests_beside_a_stream(archive: Archive, slow: Simulator) -> None:
    """A fetch beside a stream that keeps every connection busy comes within a few of the stream's cutouts."""
    uris = await uris_of(archive, 400)
    others = await uris_of(archive, 5, "IR")
    await settled(slow)  # the archive may be ending a query's long answer when its last byte has been read
    slow.forget()
    waits: list[int] = []
    n_read = 0

    async def read() -> None:
        nonlocal n_read
        async with archive.stream(uris) as cutouts:
            async for _ in cutouts:
                n_read += 1

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for uri in others:
            await until(lambda: n_read >= 40)
            before = n_read
            await archive.fetch(uri)
            waits.append(n_read - before)
        assert n_read < 400

    assert 400 == n_read
    assert max(waits) < 40
    assert slow.peak_in_flight == 4


@pytest.mark.campaign
@pytest.mark.sample(1)
async def test_a_second_stream_has_its_part(archive: Archive) -> None:
    """Of two streams each gets about as much as the other, though the first was there long before."""
    first, second = await uris_of(archive, 400), await uris_of(archive, 60, "IR")
    n_read = {"first": 0, "second": 0}
    seen: list[int] = []

    async def read(name: str, uris: list[str]) -> None:
        async with archive.stream(uris) as cutouts:
            async for _ in cutouts:
                n_read[name] += 1

    async with anyio.create_task_group() as group:
        group.start_soon(read, "first", first)
        await until(lambda: n_read["first"] >= 40)
        await read("second", second)
        seen.append(n_read["first"])

    assert {"first": 400, "second": 60} == n_read
    assert seen[0] < 40 + 60 * 2.5


@pytest.mark.campaign
async def test_single_requests_beside_a_harvest_with_bundles(slow: Simulator, tmp_path: Path) -> None:
    """Once a fetch has come, bundles leave one connection free, so that the next ones come at once."""
    with Simulator(Settings(sources=3000, latency_s=0.02, bundle_latency_s_per_cutout=0.005)) as simulator:
        async with Archive(simulator.url, limits=Limits(max_connections=3)) as archive:
            uris, others = await uris_of(archive, 900), await uris_of(archive, 8, "IR")
            pending = [len(uris)]
            async with anyio.create_task_group() as group:

                async def harvest() -> None:
                    report = await archive.harvest(
                        uris,
                        tmp_path / "h",
                        via="bundle",
                        progress=lambda p: pending.append(p.tally.pending or len(uris)),
                    )
                    assert 900 == report.done
                    pending.append(0)

                group.start_soon(harvest)
                await until(lambda: simulator.count("bundle") > 0)
                for uri in others:
                    await archive.fetch(uri)
                assert pending[-1] > 0
    assert simulator.peak_in_flight <= 3


async def test_equal_single_requests_share_one(archive: Archive, slow: Simulator) -> None:
    """Fifty calls for one dataURI are one request; one that leaves takes nothing from the others."""
    uri = (await uris_of(archive, 1))[0]
    slow.forget()
    came: list[bytes] = []

    async def fetch() -> None:
        came.append((await archive.fetch(uri)).raw)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.005):
            await fetch()
        for _ in range(50):
            group.start_soon(fetch)
        with anyio.move_on_after(0.01):
            await fetch()

    assert 1 == len(set(came))
    assert len(came) >= 50
    assert await settled(slow) <= 2


async def test_all_spellings_of_a_uri_share_one_request(archive: Archive, slow: Simulator) -> None:
    """Escaped and plain brackets and ampersands are one dataURI; each of its callers has the answer."""
    busy = await uris_of(archive, 20)
    uri = busy.pop()
    spellings = [uri.replace("[", "%5B").replace("]", "%5D"), uri, uri.replace("&", "&amp;")]
    slow.forget()
    came: list[bytes] = []

    async def fetch(spelling: str) -> None:
        came.append((await archive.fetch(spelling)).raw)

    async with anyio.create_task_group() as group:
        for other in busy:
            group.start_soon(archive.fetch, other)
        for spelling in spellings:
            group.start_soon(fetch, spelling)

    assert 3 == len(came)
    assert 1 == len(set(came))
    assert 20 == await settled(slow)


async def test_several_tasks_read_one_stream(archive: Archive) -> None:
    """Each cutout goes to one of them, and all of them come to the end."""
    uris = await uris_of(archive, 60)
    read: list[list[str]] = [[], [], [], []]

    async def work(mine: list[str]) -> None:
        mine.extend([cutout.uri async for cutout in cutouts])

    with anyio.fail_after(PATIENCE_S):
        async with archive.stream(uris) as cutouts, anyio.create_task_group() as group:
            for mine in read:
                group.start_soon(work, mine)

    assert sorted(uris) == sorted(uri for mine in read for uri in mine)


async def test_a_stream_that_was_left_is_read_no_more(archive: Archive) -> None:
    """Who reads on behind its block, or in another task, gets what had come, and then an error, not a wait."""
    uris = await uris_of(archive, 200)
    refused: list[BadInput] = []

    async def read() -> None:
        try:
            async for _ in cutouts:
                pass
        except BadInput as error:
            refused.append(error)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            async with archive.stream(uris) as cutouts:
                group.start_soon(read)
                await anyio.sleep(0.01)
            await read()

    assert ["this stream was left" in str(error) for error in refused] == [True, True]


async def test_a_call_that_leaves_takes_its_request_back(slow: Simulator) -> None:
    """What waits behind others and is left is never sent; what is sent serves the next call for it."""
    for client in (None, httpx.AsyncClient()):
        slow.forget()
        async with Archive(slow.url, client=client, limits=Limits(max_connections=1)) as archive:
            uris = await uris_of(archive, 40)
            slow.forget()
            async with anyio.create_task_group() as group:
                group.start_soon(archive.fetch, uris[0])
                await anyio.sleep(0.01)
                async with anyio.create_task_group() as leaving:
                    for uri in uris[1:30]:
                        leaving.start_soon(archive.fetch, uri)
                    await anyio.sleep(0.01)
                    leaving.cancel_scope.cancel()
                group.start_soon(archive.fetch, uris[30])
            assert await settled(slow) <= 3
        if client is not None:
            await client.aclose()


@pytest.mark.sample(1)
async def test_calls_that_leave_cost_few_requests(archive: Archive, slow: Simulator) -> None:
    """Where half of the callers leave in the middle, requests are a tenth more than what was delivered, at most."""
    uris = await uris_of(archive, 240)
    slow.forget()
    n_came = 0

    async def fetch(n: int) -> None:
        nonlocal n_came
        with anyio.move_on_after(0.002 * n if n % 2 else None):
            await archive.fetch(uris[n])
            n_came += 1

    async with anyio.create_task_group() as group:
        for n in range(len(uris)):
            group.start_soon(fetch, n)

    assert n_came >= 120
    assert await settled(slow) <= 1.1 * n_came + 4


async def test_a_deadline_is_an_error_of_its_own(archive: Archive, slow: Simulator) -> None:
    """A cutout that stalls ends with the caller's deadline, as what both kinds of caller would catch."""
    uri = (await uris_of(archive, 1))[0]
    slow.faults = [Fault("stall", seconds=600, service="file")]
    with pytest.raises(DeadlinePassed, match=r"within 0\.2 s") as caught:
        await archive.fetch(uri, deadline_s=0.2)

    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, CutoutFailed)
    assert (uri, "timeout") == (caught.value.uri, caught.value.reason)
    for nonsense in (0, -1, float("inf"), float("nan")):
        with pytest.raises(BadInput, match="deadline_s is"):
            await archive.fetch(uri, deadline_s=nonsense)


async def test_each_call_has_its_own_end(archive: Archive, slow: Simulator) -> None:
    """One bad URI, one that is missing, and others that come, all at once."""
    uris = await uris_of(archive, 20)
    ends: list[object] = []

    async def fetch(uri: str) -> None:
        try:
            ends.append((await archive.fetch(uri)).uri)
        except (BadURI, CutoutMissing) as error:
            ends.append(type(error))

    slow.faults = [Fault("status", code=404, match=uris[3].rpartition("/")[2])]
    async with anyio.create_task_group() as group:
        for uri in [*uris, "http://nowhere", uris[0].partition("&")[0]]:
            group.start_soon(fetch, uri)

    assert {uri for uri in uris if uri != uris[3]} == {end for end in ends if isinstance(end, str)}
    assert 2 == ends.count(BadURI)
    assert 1 == ends.count(CutoutMissing)


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("ahead", [None, 1, 5])
async def test_a_stream_runs_ahead_as_far_as_asked(archive: Archive, slow: Simulator, ahead: int | None) -> None:
    """A break after one cutout has cost that one and what was ahead of it; by default two a connection."""
    uris = await uris_of(archive, 300)
    await settled(slow)
    slow.forget()
    async with archive.stream(uris, ahead=ahead) as cutouts:
        async for _ in cutouts:
            await anyio.sleep(0.5)
            break

    assert await settled(slow) <= (ahead or 8) + 1
    async with archive.stream(uris, ahead=ahead) as cutouts:
        assert len(uris[:40]) <= len([c.uri async for c in cutouts])


async def test_closing_ends_every_call_in_words(archive: Archive, slow: Simulator) -> None:
    """Calls, streams and queries under way when the archive is closed end with one error that says so."""
    uris = await uris_of(archive, 200)
    errors: list[BadInput] = []

    async def fetch(uri: str) -> None:
        try:
            await archive.fetch(uri)
        except BadInput as error:
            errors.append(error)

    async def read() -> None:
        try:
            async with archive.stream(uris) as cutouts:
                async for _ in cutouts:
                    pass
        except BadInput as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for uri in uris[:100]:
            group.start_soon(fetch, uri)
        group.start_soon(read)
        await anyio.sleep(0.1)
        await archive.aclose()

    assert errors
    assert all("closed while it was at work" in str(error) for error in errors)
    with pytest.raises(BadInput, match="not open"):
        await archive.fetch(uris[0])


@pytest.mark.quiet
async def test_each_call_bears_an_outage_for_its_own_time(slow: Simulator) -> None:
    """Calls in an outage fail after their patience, later ones later; when it ends, the next call is served."""
    policy = RetryPolicy(attempts=2, first_delay_s=0.05, max_delay_s=0.1, patience_s=1.0)
    async with Archive(slow.url, limits=Limits(max_connections=2), retry=policy) as archive:
        uris = await uris_of(archive, 30)
        slow.faults = [Fault("status", code=503)]
        ends: list[str] = []

        async def fetch(uri: str, name: str) -> None:
            try:
                await archive.fetch(uri)
            except ArchiveDown:
                ends.append(name)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                for uri in uris[:15]:
                    group.start_soon(fetch, uri, "early")
                await anyio.sleep(0.6)
                for uri in uris[15:]:
                    group.start_soon(fetch, uri, "late")
            assert ["early"] * 15 + ["late"] * 15 == ends
            slow.faults = []
            assert uris[0] == (await archive.fetch(uris[0])).uri


@pytest.mark.sample(1)
async def test_a_thousand_calls_are_one_request_each(archive: Archive, slow: Simulator) -> None:
    """Many calls at once cost one request each, on as many connections as are allowed."""
    uris = await uris_of(archive, 300)
    slow.forget()
    async with anyio.create_task_group() as group:
        for uri in uris:
            group.start_soon(archive.fetch, uri)

    assert 300 == await settled(slow)
    assert 4 == slow.peak_in_flight


@pytest.mark.campaign
@pytest.mark.sample(1)
async def test_a_verdict_does_not_wait_for_a_request_that_stalls(archive: Archive, slow: Simulator) -> None:
    """Whether a caller still waits for the one that stalls, or has left."""
    slow.faults = [Fault("stall", service="file", match="stalls")]
    ended: list[str] = []

    async def stalled() -> None:
        try:
            await archive.fetch("mast:HST/product/stalls.fits")
        finally:
            ended.append("stalls")

    with pytest.raises(DeadlinePassed):
        await archive.fetch("mast:HST/product/stalls_too.fits", deadline_s=0.2)
    async with anyio.create_task_group() as group:
        group.start_soon(stalled)
        await until(lambda: slow.count("file") >= 2)
        with anyio.fail_after(PATIENCE_S), pytest.raises(CutoutMissing):
            await archive.fetch("mast:HST/product/nothing.fits")
        assert not ended
        group.cancel_scope.cancel()
