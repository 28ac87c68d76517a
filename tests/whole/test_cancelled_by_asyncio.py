"""Cancellations by asyncio itself, which no shield holds back: nothing goes on behind them."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from astropy.table import Table

from psfharvest import Archive, Harvest, Query
from psfharvest.concurrency.thread_work import to_its_end
from psfharvest.core.fits import datauri
from psfharvest.filesystem import file_lock
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.run.catalogue_rows import fill
from psfharvest.simulator import Fault, Settings, Simulator
from psfharvest.store.manifest.database import WRITER

PATIENCE_S = 60.0
N_CUTOUTS = 40


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=400, static=True)) as simulator:
        yield simulator


@pytest.fixture
def anyio_backend() -> str:
    """Trio has only cancellations by scopes."""
    return "asyncio"


def at_work() -> list[str]:
    """Return what worker threads do in our own code."""
    found = []
    for innermost in sys._current_frames().values():
        codes = [frame.f_code for frame, _ in traceback.walk_stack(innermost)]
        if any(Path(code.co_filename).name == "disk.py" for code in codes):
            found.append(" < ".join(code.co_name for code in codes))
    return found


async def test_work_in_a_thread_is_not_left_before_its_end() -> None:
    """However often its task is cancelled; what waits begins afterwards, or never where it was cancelled."""
    limiter, may_end, order = anyio.CapacityLimiter(1), threading.Event(), []

    def work() -> None:
        order.append("begun")
        may_end.wait(PATIENCE_S)
        order.append("ended")

    first = asyncio.create_task(to_its_end(work, limiter))
    while not order:  # noqa: ASYNC110 - appended to in a thread
        await asyncio.sleep(0.001)
    never, behind = (
        asyncio.create_task(to_its_end(lambda word=word: order.append(word), limiter))
        for word in ("never", "behind")
    )
    for _ in range(3):
        first.cancel()
        never.cancel()
        await asyncio.sleep(0.01)
    assert (["begun"], False, True) == (order, first.done(), never.done())
    may_end.set()
    await asyncio.wait([first, behind])

    assert ["begun", "ended", "behind"] == order
    assert (True, True) == (first.cancelled(), never.cancelled())


async def cancelled_at(work: asyncio.Task[object], step: int, n: int) -> None:
    """Cancel a task `n` times, at a turn of the loop and those that follow."""
    for turn in range(step + n):
        if turn >= step:
            work.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([work])


@pytest.mark.parametrize("sink", ["files", "shards"])
@pytest.mark.parametrize("n", [1, 1000])
async def test_nothing_of_a_harvest_goes_on_behind_its_end(
    simulator: Simulator, tmp_path: Path, n: int, sink: str
) -> None:
    """Wherever it is cancelled: the folder is free, its account is that of its rows, and the rest comes later."""
    query = Query("UVIS", limit=N_CUTOUTS)
    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url) as archive:
            folder = tmp_path / "stars"
            for step in (3, 10, 30, 60, 100, 150, 220, 300, 400, 600):
                work = asyncio.create_task(archive.harvest(query, folder, suffixes=["flt"], sink=sink))
                await cancelled_at(work, step, n)
                assert [] == at_work()
                if (folder / "manifest.sqlite").exists():
                    check_free(folder)
            report = await archive.harvest(query, folder, suffixes=["flt"], sink=sink)

    assert (N_CUTOUTS, "") == (report.done, report.stopped)
    assert 0 == Harvest(folder).verify().broken


def check_free(folder: Path) -> None:
    with OpenFile(folder / ".psfharvest.lock") as file:
        assert file_lock.try_lock(file.number)
    with closing(sqlite3.connect(folder / "manifest.sqlite")) as db:
        rows = db.execute("SELECT state, count(*) FROM outcome GROUP BY state").fetchall()
        counted = "SELECT state, sum(n) FROM tally WHERE state IN ('done', 'missing', 'failed') GROUP BY state"
        assert rows == db.execute(counted).fetchall()


@pytest.mark.parametrize("n", [1, 1000])
async def test_an_archive_that_is_being_closed_leaves_no_connection(simulator: Simulator, n: int) -> None:
    """Wherever its closing is cancelled: no thread of it and no task stays."""
    before = left_open()
    with anyio.fail_after(PATIENCE_S):
        for step in range(8):
            closing_begins = anyio.Event()

            async def use(closing_begins: anyio.Event = closing_begins) -> None:
                async with Archive(simulator.url) as archive:
                    await asyncio.gather(*map(archive.fetch, await uris_of(archive, "UVIS")))
                    closing_begins.set()

            work = asyncio.create_task(use())
            await closing_begins.wait()
            await cancelled_at(work, step, n)
            while left_open() != before:  # noqa: ASYNC110 - a wire's thread ends by itself
                await asyncio.sleep(0.01)


def test_a_loop_that_ends_leaves_no_task(simulator: Simulator) -> None:
    """Where it ends with a query under way; asyncio would say at the program's end that it was destroyed."""
    loops = []

    async def ask() -> None:
        async with Archive(simulator.url) as archive:
            await archive.count(Query("UVIS"))

    async def leave() -> None:
        loops.append(asyncio.get_running_loop())
        asking = asyncio.create_task(ask())
        while not simulator.requests:  # noqa: ASYNC110 - appended to in a thread
            await asyncio.sleep(0.01)
        assert not asking.done()

    simulator.forget()
    simulator.faults = [Fault("stall", service="query", seconds=30)]
    try:
        asyncio.run(leave())
    finally:
        simulator.faults = []

    assert set() == asyncio.all_tasks(*loops)


def left_open() -> tuple[list[str], int]:
    """Return which threads of ours there are, and how many tasks."""
    threads = sorted(t.name for t in threading.enumerate() if t.name.startswith("psfharvest"))
    return threads, len(asyncio.all_tasks())


@pytest.mark.parametrize("is_native", [False, True])
async def test_the_search_for_catalogue_rows_closes_its_manifest(
    simulator: Simulator, tmp_path: Path, is_native: bool
) -> None:
    """Also where it is cancelled, by a scope or by asyncio itself: no mark of a writer stays in the file."""
    folder = tmp_path / "stars"
    detectors: list[str] = []

    async def ask(query: Query) -> Table:
        detectors.append(query.detector.name)
        if len(detectors) > 1:
            work.cancel() if is_native else scope.cancel()
        return await archive.query(query)

    async def search() -> None:
        with scope:
            await fill(folder, ask)

    with anyio.fail_after(PATIENCE_S):
        async with Archive(simulator.url) as archive:
            uris = [uri for name in ("UVIS", "IR") for uri in await uris_of(archive, name)]
            await archive.harvest(uris, folder)
            scope = anyio.CancelScope()
            work = asyncio.create_task(search())
            await asyncio.wait([work])

    assert ({"UVIS", "IR"}, is_native) == (set(detectors), work.cancelled())
    with closing(sqlite3.connect(folder / "manifest.sqlite")) as db:
        assert [] == db.execute("SELECT value FROM meta WHERE name = ?", (WRITER,)).fetchall()


async def uris_of(archive: Archive, detector: str) -> list[str]:
    query = Query(detector, limit=2)
    rows = await archive.query(query)
    every = [dict(zip(rows.colnames, row, strict=True)) for row in rows]
    return [str(datauri.build(row, query.detector, "flt")) for row in every]
