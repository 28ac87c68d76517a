"""Tasks as a worker runs them, with a board that always grants."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from parts_made import make_parts

from psfharvest import FolderRefused, Limits, Query, Report, blocking
from psfharvest.archive.session import Session
from psfharvest.cluster.order import Order
from psfharvest.cluster.tasks import PartTask, Watch
from psfharvest.cluster.worker import _run, _wake_all
from psfharvest.simulator import Fault, Simulator
from psfharvest.store.folder import Settings
from psfharvest.store.lock import folder_lock

GO: dict[str, Any] = {"word": "go", "grant": 4, "pause_s": 0.0, "per_second": None, "ttl_s": 4.0, "again_s": 1.0}


def order_of(simulator: Simulator, folder: Path) -> Order:
    return Order(folder, Settings("shards"), "file", simulator.url, Limits(), None, 40)


class UnguardedTask(PartTask):
    """A task that does not look at the holder's clock before its claims, so that only the fence can end it."""

    async def run(self, session: Session, watch: Watch, guard: Callable[[], None]) -> Report:
        del guard
        return await PartTask.run(self, session, watch, lambda: None)


@pytest.mark.campaign
def test_a_part_whose_folder_looks_held_is_waited_for(simulator: Simulator, tmp_path: Path) -> None:
    """By the lease of a process of another machine that was killed: the board has given the part away since."""
    parts = make_parts(simulator.url, tmp_path / "stars", n_harvested=0)
    task = PartTask(order_of(simulator, tmp_path / "stars"), 0)
    task.folder.mkdir(parents=True)
    ended = 0

    with ExitStack() as held:
        held.enter_context(folder_lock(task.folder))

        def say(**said: Any) -> dict[str, Any]:
            nonlocal ended
            ended += said["is_done"]
            if ended == 2:
                held.close()
            return GO

        report = anyio.run(_run, task, say)
    assert ended == 3
    assert (parts[0].n, 0) == (report.done, report.pending)


def test_a_part_of_another_harvest_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    """Nobody holds it, also at a second look: to wait would change nothing."""
    make_parts(simulator.url, tmp_path / "stars", n_harvested=0)
    task = PartTask(order_of(simulator, tmp_path / "stars"), 0)
    with blocking.Archive(simulator.url) as archive:
        other = Query("IR", limit=30)
        archive.harvest(other, task.folder, suffixes=["flt"], sink="shards", max_bytes=1, progress=False)

    ended = 0

    def say(**said: Any) -> dict[str, Any]:
        nonlocal ended
        ended += said["is_done"]
        return GO

    with pytest.raises(FolderRefused):
        anyio.run(_run, task, say)
    assert 2 == ended


@pytest.mark.campaign
def test_a_holder_that_is_woken_asks_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """Two hundred times, which take minutes where it asks once a second."""
    parts = make_parts(simulator.url, tmp_path / "stars", n_harvested=0)
    n_asked = 0

    def say(**said: Any) -> dict[str, Any]:
        nonlocal n_asked
        del said
        n_asked += 1
        _wake_all()
        return {**GO, "grant": 4 * (n_asked > 200)}

    async def work() -> Report:
        with anyio.fail_after(60):
            return await _run(PartTask(order_of(simulator, tmp_path / "stars"), 0), say)

    report = anyio.run(work)
    assert (parts[0].n, 0) == (report.done, report.pending)


def test_a_fence_waits_for_no_answer(simulator: Simulator, tmp_path: Path) -> None:
    """While a message is still unanswered the holder ends its run, closes its connections, and begins anew."""
    parts = make_parts(simulator.url, tmp_path / "stars", n_harvested=0)
    simulator.faults = [Fault("stall", seconds=600, service="file")]
    has_ended = threading.Event()
    n_asked, was_in_time = 0, False

    def say(**said: Any) -> dict[str, Any]:
        nonlocal n_asked, was_in_time
        if said["is_done"]:
            has_ended.set()
            return GO
        n_asked += 1
        if n_asked == 2:
            was_in_time = has_ended.wait(60)
            simulator.faults = []
        return GO

    report = anyio.run(_run, UnguardedTask(order_of(simulator, tmp_path / "stars"), 0), say)
    assert was_in_time
    assert (parts[0].n, 0) == (report.done, report.pending)
