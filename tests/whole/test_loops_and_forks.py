"""An `Archive` belongs to the process and the event loop that opened it; one without await goes on in any."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
import trio

from psfharvest import Archive, BadInput, Limits, Query, blocking
from psfharvest.simulator import Settings, Simulator

PATIENCE_S = 60
QUERY = Query("UVIS", limit=5)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=200)) as simulator:
        yield simulator


def in_child(work: Callable[[], object]) -> str:
    """Do something in a forked child, and return what came of it: a value, or an exception."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(PATIENCE_S)
        try:
            said = repr(work())
        except Exception as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.parametrize("is_used", [True, False])
def test_an_archive_without_await_goes_on_in_a_forked_child(simulator: Simulator, is_used: bool) -> None:
    """A child, and a child of that, have connections of their own; the parent's go on."""
    with blocking.Archive(simulator.url) as archive, blocking.Archive(share=archive) as other:
        n = blocking.Archive(simulator.url).count(QUERY)
        if is_used:
            assert [archive.count(QUERY), other.count(QUERY)] == [n, n]

        assert in_child(lambda: (other.count(QUERY), archive.count(QUERY))) == repr((n, n))
        assert in_child(lambda: in_child(lambda: archive.count(QUERY))) == repr(repr(n))
        assert in_child(lambda: len(list(archive.stream(QUERY, suffixes=["flt"])))) == "5"
        assert in_child(archive.close) == "None"
        assert [archive.count(QUERY), other.count(QUERY)] == [n, n]


async def test_a_forked_child_is_refused_in_words(simulator: Simulator) -> None:
    """What an asynchronous archive does in a child that was forked inside its loop is refused at once."""
    async with Archive(simulator.url) as archive:
        await archive.count(QUERY)

        def use() -> None:
            archive.hold(1.0)

        assert in_child(use).startswith("BadInput: this Archive was opened in another process")


def use_in(run: Callable[..., object], verb: Callable[[], object]) -> BaseException | None:
    """Use an archive in a loop of another thread, and return what that raised."""
    raised: list[BaseException | None] = []

    async def use() -> None:
        await verb()  # type: ignore[misc]

    def target() -> None:
        try:
            run(use)
            raised.append(None)
        except BaseException as error:  # noqa: BLE001 - looked at by the caller
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(PATIENCE_S)
    return raised[0]


async def stream(archive: Archive) -> None:
    async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
        assert [cutout async for cutout in cutouts]


@pytest.mark.parametrize("run", [lambda use: asyncio.run(use()), trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize("verb", ["count", "query", "fetch", "stream", "harvest", "resume", "limit", "share"])
async def test_another_loop_is_refused_in_words(
    simulator: Simulator, tmp_path: Path, run: Callable[..., object], verb: str
) -> None:
    """Every verb, in another loop and thread: `BadInput` at once, and the first loop's work goes on."""
    async with Archive(simulator.url) as archive:
        verbs: dict[str, Callable[[], object]] = {
            "count": lambda: archive.count(QUERY),
            "query": lambda: archive.query(QUERY),
            "fetch": lambda: archive.fetch("mast:HST/x.fits"),
            "stream": lambda: stream(archive),
            "harvest": lambda: archive.harvest(QUERY, tmp_path / "stars", suffixes=["flt"]),
            "resume": lambda: archive.resume(tmp_path),
            "limit": lambda: archive.limit(2),
            "share": lambda: Archive(share=archive).__aenter__(),
        }
        error = await anyio.to_thread.run_sync(use_in, run, verbs[verb])

        assert isinstance(error, BadInput)
        assert "another event loop" in str(error)
        assert list(tmp_path.iterdir()) == []
        await stream(archive)


@pytest.mark.parametrize("run", [lambda use: asyncio.run(use()), trio.run], ids=["asyncio", "trio"])
async def test_a_stream_is_read_in_its_own_loop(simulator: Simulator, run: Callable[..., object]) -> None:
    """Another loop and thread that goes on reading one is refused in words; the first loop gets every cutout."""
    async with (
        Archive(simulator.url, limits=Limits(max_connections=2)) as archive,
        archive.stream(QUERY, suffixes=["flt"]) as cutouts,
    ):
        n = len([await anext(cutouts)])
        error = await anyio.to_thread.run_sync(use_in, run, lambda: anext(cutouts))
        n += len([cutout async for cutout in cutouts])

    assert isinstance(error, BadInput)
    assert "another event loop" in str(error)
    assert 5 == n


@pytest.mark.parametrize("run", [lambda use: asyncio.run(use()), trio.run], ids=["asyncio", "trio"])
async def test_events_are_awaited_in_the_loop_of_their_archive(
    simulator: Simulator, run: Callable[..., object]
) -> None:
    """Another loop and thread that waits for an event is refused in words; what has come is read there, too."""
    async with Archive(simulator.url) as archive:
        events = archive.events()
        error = await anyio.to_thread.run_sync(use_in, run, lambda: anext(events))
        assert isinstance(error, BadInput)
        assert "another event loop" in str(error)

        await archive.count(QUERY)
        await archive.count(QUERY)
        assert await anyio.to_thread.run_sync(use_in, run, lambda: anext(events)) is None

    assert [event async for event in events]


def test_closed_archives_open_again_in_another_loop(simulator: Simulator) -> None:
    """What was closed belongs to no loop: it may be opened in the next one."""
    archive = Archive(simulator.url)

    async def use() -> int:
        async with archive:
            return await archive.count(QUERY)

    assert asyncio.run(use()) == asyncio.run(use()) == trio.run(use)


async def test_of_two_tasks_that_open_it_at_once_one_is_refused(simulator: Simulator) -> None:
    """The other one's stays open, and nothing is left of the first when it is closed."""
    archive = Archive(simulator.url)
    refused: list[BadInput] = []

    async def enter() -> None:
        try:
            await archive.__aenter__()
        except BadInput as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(enter)
    n = await archive.count(QUERY)
    await archive.aclose()

    assert 2 == len(refused)
    assert 5 == n


async def test_nested_twice_is_refused(simulator: Simulator) -> None:
    """The inner ``async with`` is refused; the outer one goes on."""
    async with Archive(simulator.url) as archive:
        with pytest.raises(BadInput, match="open already"):
            async with archive:
                pass
        await archive.count(QUERY)


def test_shared_without_await(simulator: Simulator) -> None:
    """Archives without await share connections and thread; closed in any order they end what is theirs."""
    first = blocking.Archive(simulator.url, limits=Limits(max_connections=2))
    with blocking.Archive(share=first) as second:
        assert first.count(QUERY) == second.count(QUERY)
    first.count(QUERY)
    with pytest.raises(BadInput, match="closed"):
        second.count(QUERY)
    third = blocking.Archive(share=first)
    third.count(QUERY)
    first.close()
    third.close()
    with pytest.raises(BadInput, match="closed"):
        third.count(QUERY)
