"""What a caller's own code raises: display callbacks never end the work, everything else comes out bare."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import httpx
import pytest

from psfharvest import Archive, ArchiveDown, BadInput, Harvest, Query, RetryPolicy, blocking
from psfharvest.core.model import Progress
from psfharvest.simulator import Fault, Settings, Simulator

PATIENCE_S = 60.0
QUERY = Query("UVIS", limit=30)
URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size=51&x=99.4127&y=100.2683&format=fits"
    "/ibc302ioq_8184981_F814W_flt_cutout.fits"
)


class Own(Exception):
    """The caller's."""


class Stop(BaseException):
    """The caller's, and no mere error."""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=300)) as simulator:
        yield simulator


def bad(_: object) -> None:
    raise Own("mine")


def uris() -> Iterator[str]:
    yield URI
    raise Own("mine")


async def uris_async() -> AsyncIterator[str]:
    yield URI
    raise Own("mine")


HOOK_ERRORS = [Own("mine"), PermissionError("mine"), OSError(5, "mine"), RuntimeError("mine")]
VERBS = ["count", "query", "fetch", "stream", "harvest", "bundle"]


def verb(archive: Archive, name: str, folder: Path) -> Awaitable[object]:
    async def stream() -> None:
        async with archive.stream([URI]) as cutouts:
            async for _ in cutouts:
                pass

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "count": lambda: archive.count(QUERY),
        "query": lambda: archive.query(QUERY),
        "fetch": lambda: archive.fetch(URI),
        "stream": stream,
        "harvest": lambda: archive.harvest([URI], folder / "stars"),
        "bundle": lambda: archive.harvest([URI, URI.replace("size=51", "size=53")], folder / "stars", via="bundle"),
    }
    return calls[name]()


async def test_a_display_that_fails_never_ends_the_work(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once in each call, and everything comes."""
    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url) as archive:
            report = await archive.harvest(QUERY, tmp_path / "stars", suffixes=["flt"], progress=bad)
            again = await archive.resume(tmp_path / "stars", progress=bad)
            table = await archive.query(QUERY, progress=bad)
            async with archive.stream(QUERY, suffixes=["flt"], progress=bad) as cutouts:
                n = len([cutout async for cutout in cutouts])

    assert (report.done, report.stopped, again.done, len(table), n) == (30, "", 30, 30, 30)
    assert [record.name for record in caplog.records if "not shown any more" in record.message] == [
        "psfharvest.run"
    ] * 4
    with closing(sqlite3.connect(tmp_path / "stars/manifest.sqlite")) as db:
        assert {row[0] for row in db.execute("SELECT stopped FROM run")} <= {"", None}


def test_the_same_without_await(simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the calling thread, too."""
    with blocking.Archive(simulator.url) as archive:
        assert archive.harvest(QUERY, tmp_path / "stars", suffixes=["flt"], progress=bad).done == 30
        assert len(archive.query(QUERY, progress=bad)) == 30
        assert len(list(archive.stream(QUERY, suffixes=["flt"], progress=bad))) == 30
    assert len([record for record in caplog.records if "not shown any more" in record.message]) == 3


async def test_an_interrupt_in_a_display_passes(simulator: Simulator, tmp_path: Path) -> None:
    """A callback may end the work by what is no mere error; and one that must be awaited is refused."""

    def stop(_: Progress) -> None:
        raise Stop

    async def later(_: Progress) -> None: ...

    async with Archive(simulator.url) as archive:
        with pytest.raises(BadInput, match="progress is"):
            await archive.query(QUERY, progress=later)  # type: ignore[arg-type]
        with pytest.raises(Stop):
            await archive.query(QUERY, progress=stop)


@pytest.mark.parametrize("make", [uris, uris_async])
@pytest.mark.parametrize("name", ["stream", "harvest"])
async def test_what_a_source_raises_comes_out_bare(
    simulator: Simulator, tmp_path: Path, make: Callable[[], Iterator[str]], name: str
) -> None:
    """Of a generator of dataURIs, plain or asynchronous."""

    async def stream(archive: Archive) -> None:
        async with archive.stream(make()) as cutouts:
            async for cutout in cutouts:
                assert cutout.uri == URI

    async with Archive(simulator.url) as archive:
        with pytest.raises(Own, match="mine"):
            await (stream(archive) if name == "stream" else archive.harvest(make(), tmp_path / "stars"))


async def cancelled_task() -> None:
    """Await a task of the caller's own that somebody has cancelled."""
    task = asyncio.create_task(asyncio.sleep(PATIENCE_S))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def uris_of_a_cancelled_task() -> AsyncIterator[str]:
    yield URI
    await cancelled_task()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", ["stream", "harvest"])
async def test_the_cancellation_of_a_sources_own_task_is_its_error(
    simulator: Simulator, tmp_path: Path, name: str
) -> None:
    """It ends neither the list as if it were whole nor the work as if it were done; what came before is kept."""
    came = []

    async def stream(archive: Archive) -> None:
        async with archive.stream(uris_of_a_cancelled_task()) as cutouts:
            async for cutout in cutouts:
                came.append(cutout.uri)

    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url) as archive:
            with pytest.raises(asyncio.CancelledError):
                await (
                    stream(archive)
                    if name == "stream"
                    else archive.harvest(uris_of_a_cancelled_task(), tmp_path / "stars")
                )
    if name == "harvest":
        with Harvest(tmp_path / "stars") as stars:
            came = list(stars.table()["uri"])
            assert not stars.status().is_fully_asked
    assert [URI] == came


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of tasks of anyio's, and its sockets
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("n_turns", [0, 1, 2, 3, 5, 8])
def test_an_archive_can_be_closed_after_all_tasks_were_cancelled(
    simulator: Simulator, tmp_path: Path, name: str, n_turns: int
) -> None:
    """As `asyncio.run` does at its end: a task that has not begun ends without running a line."""

    async def main() -> list[bool]:
        archive = await Archive(simulator.url, retry=RetryPolicy(patience_s=1.0)).__aenter__()
        task = asyncio.ensure_future(verb(archive, name, tmp_path))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        for other in asyncio.all_tasks():
            if other is not asyncio.current_task():
                other.cancel()
        await asyncio.wait([task], timeout=PATIENCE_S)
        closing = asyncio.ensure_future(archive.aclose())
        await asyncio.wait([closing], timeout=PATIENCE_S)
        return [task.done(), closing.done()]

    loop = asyncio.new_event_loop()  # `asyncio.run` would wait for what hangs
    try:
        assert [True, True] == loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("when", ["request", "response"])
async def test_the_cancellation_of_a_hooks_own_task_is_its_error(
    simulator: Simulator, tmp_path: Path, name: str, when: str
) -> None:
    """No verb takes it for an answer of the archive's, nor for its own end."""

    async def hook(_: object) -> None:
        await cancelled_task()

    with anyio.fail_after(PATIENCE_S):
        async with (
            httpx.AsyncClient(event_hooks={when: [hook]}) as client,
            Archive(simulator.url, client=client) as archive,
        ):
            with pytest.raises(asyncio.CancelledError):
                await verb(archive, name, tmp_path)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("mine"), Stop("mine")], ids=repr)
@pytest.mark.parametrize("name", ["stream", "harvest"])
def test_what_is_no_mere_error_of_a_source_comes_out_without_await(
    simulator: Simulator, tmp_path: Path, error: BaseException, name: str
) -> None:
    """The thread that reads it must not end in silence: nobody would be told, and the call would wait for ever."""

    def source() -> Iterator[str]:
        yield URI
        raise error

    with blocking.Archive(simulator.url) as archive, pytest.raises(type(error)):
        list(archive.stream(source())) if name == "stream" else archive.harvest(source(), tmp_path / "stars")


async def test_a_streams_error_comes_out_bare_beside_its_progress(simulator: Simulator) -> None:
    """The count that the progress needs fails, too, and says nothing of it."""

    async def read(archive: Archive) -> None:
        async with archive.stream(QUERY, suffixes=["flt"], progress=lambda _: None) as cutouts:
            async for _ in cutouts:
                pass

    simulator.faults = [Fault("status", service="query", code=404)]
    try:
        with anyio.fail_after(PATIENCE_S):
            async with Archive(simulator.url, retry=RetryPolicy(patience_s=0.0)) as archive:
                with pytest.raises(ArchiveDown):
                    await read(archive)
    finally:
        simulator.faults = []


@pytest.mark.parametrize(
    "error",
    [
        Own("mine"),
        ExceptionGroup("mine", [Own("1"), Own("2")]),
        Stop("mine"),
        SystemExit("mine"),
        KeyboardInterrupt("mine"),
        GeneratorExit("mine"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_body_of_a_stream_raises_comes_out_bare(simulator: Simulator, error: BaseException) -> None:
    """An error of whoever reads the stream, also a group of their own, and what is no `Exception`."""

    async def read() -> None:
        async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
            async for _ in cutouts:
                raise error

    async with Archive(simulator.url) as archive:
        with pytest.raises(type(error), match="mine") as raised:
            await read()
        assert raised.value is error


@pytest.mark.parametrize("n_read", [0, 3])
async def test_a_generator_around_a_stream_may_be_closed_by_another_task(simulator: Simulator, n_read: int) -> None:
    """As the event loop does with one that a `break` has left: the reader's own task goes on."""

    async def peaks(archive: Archive) -> AsyncGenerator[float, None]:
        async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
            yield 0.0
            async for cutout in cutouts:
                yield float(cutout.data.max())

    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url) as archive:
            found = peaks(archive)
            for _ in range(n_read + 1):
                await anext(found)
            async with anyio.create_task_group() as group:
                group.start_soon(found.aclose)
            await anyio.sleep(0.01)
            assert 30 == await archive.count(QUERY)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stream_is_ended_when_its_reader_is_cancelled_twice(simulator: Simulator) -> None:
    """asyncio's own cancellations pass through shields: leaving still waits for the work's end."""
    started = asyncio.Event()

    async def read(archive: Archive) -> None:
        async with archive.stream(QUERY, suffixes=["flt"]):
            started.set()
            await asyncio.sleep(PATIENCE_S)

    async with Archive(simulator.url) as archive:
        before = asyncio.all_tasks()
        task = asyncio.create_task(read(archive))
        await started.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not {t for t in asyncio.all_tasks() - before if t.get_name() == "psfharvest-stream"}


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("when", ["request", "response"])
@pytest.mark.parametrize(
    "error", [Own("mine"), PermissionError("mine"), OSError(5, "mine"), RuntimeError("mine")], ids=repr
)
async def test_what_a_hook_raises_comes_out_bare(
    simulator: Simulator, tmp_path: Path, name: str, when: str, error: Exception
) -> None:
    """A hook of the caller's client: its own error at once, no trouble of the archive's."""

    async def hook(_: object) -> None:
        raise error

    with anyio.fail_after(PATIENCE_S):
        async with (
            httpx.AsyncClient(event_hooks={when: [hook]}) as client,
            Archive(simulator.url, client=client) as archive,
        ):
            with pytest.raises(type(error), match="mine") as raised:
                await verb(archive, name, tmp_path)
    assert raised.value is error


@pytest.mark.parametrize("name", VERBS)
async def test_a_client_closed_meanwhile(simulator: Simulator, tmp_path: Path, name: str) -> None:
    """It is said at once, by every verb."""
    client = httpx.AsyncClient()
    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url, client=client) as archive:
            await client.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await verb(archive, name, tmp_path)


async def test_what_a_hook_raises_at_a_control_request_comes_out_bare(simulator: Simulator, tmp_path: Path) -> None:
    """The request that decides between bad cutouts and an archive that is down is not the caller's own."""
    n_failed = 0

    async def hook(response: httpx.Response) -> None:
        nonlocal n_failed
        if response.status_code == 200:
            raise Own("mine")
        n_failed += 1

    uris = [URI.replace("size=51", f"size={side}") for side in range(53, 93, 2)]
    simulator.faults = [Fault("status", service="file", code=500)]
    try:
        with anyio.fail_after(PATIENCE_S):
            async with (
                httpx.AsyncClient(event_hooks={"response": [hook]}) as client,
                Archive(simulator.url, client=client) as archive,
            ):
                with pytest.raises(Own, match="mine"):
                    await archive.harvest(uris, tmp_path / "stars", via="file")
    finally:
        simulator.faults = []
    assert n_failed >= 10


@pytest.mark.parametrize("make", [httpx.Client, object, lambda: "http://127.0.0.1"])
async def test_a_client_that_cannot_work_is_refused_where_it_is_given(
    simulator: Simulator, make: Callable[[], object]
) -> None:
    """Before any verb; a closed one, too."""
    closed = httpx.AsyncClient()
    await closed.aclose()
    for client in (make(), closed):
        with pytest.raises(BadInput, match=r"^client"):
            async with Archive(simulator.url, client=client):
                raise AssertionError
