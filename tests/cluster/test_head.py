"""A head whose cluster is in this process: tasks that are lost, and what the board knows at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from parts_made import make_parts

from psfharvest import Limits, LocalError, Query, Report
from psfharvest.archive.endpoints import endpoints_for
from psfharvest.cluster.announcer import Announcer
from psfharvest.cluster.head import Head, merge_or_wait
from psfharvest.cluster.order import Order
from psfharvest.cluster.scheduler_link import SchedulerLink
from psfharvest.cluster.task_queue import TaskQueue
from psfharvest.events.hub import Hub
from psfharvest.run.plans import planned_targets
from psfharvest.simulator import Simulator
from psfharvest.store.folder import Settings
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.merge import NAME as MERGING
from psfharvest.store.merge_parts import merge_parts

QUERY = Query("UVIS", limit=60)
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def client() -> Iterator[Any]:
    """Return the client of a scheduler and a worker of many threads, all in this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            name="psfharvest-tests",
            n_workers=1,
            threads_per_worker=24,
            processes=False,
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
        ) as cluster,
        Client(cluster) as made,
    ):
        yield made


def head_of(client: Any, simulator: Simulator, folder: Path, **more: Any) -> Head:
    order = Order(folder, Settings("shards"), "file", simulator.url, Limits(max_connections=4), None, 20)
    link = SchedulerLink(client, endpoints_for(simulator.url, ""), order)
    return Head(order, TaskQueue(link, **more), None, Announcer(Hub().voice(), None))


def harvest(client: Any, simulator: Simulator, folder: Path, **more: Any) -> Report | None:
    async def work() -> Report | None:
        head = head_of(client, simulator, folder, **more)
        targets = await planned_targets(QUERY, ["flc"], unsat_size_px=51, sat_size_px=101)
        with anyio.fail_after(60):
            return await head.run(targets)

    return anyio.run(work)


GO_ON = threading.Event()


def be_stuck() -> None:
    """What a worker runs that never comes to its task."""
    GO_ON.wait(100)


class Forgetful:
    """A client of which the first task of each part runs nothing that asks the board."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.stuck: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def submit(self, run: Any, task: Any, **named: Any) -> Any:
        if task.name.endswith("plan") or task.name in self.stuck:
            return self._client.submit(run, task, **named)
        self.stuck[task.name] = self._client.submit(be_stuck, **named)
        return self.stuck[task.name]


def test_a_task_that_never_asks_the_board_is_submitted_once_more(
    client: Any, simulator: Simulator, tmp_path: Path
) -> None:
    """Its worker may be stuck before the first line of it; the second one finishes the part."""
    forgetful = Forgetful(client)
    try:
        report = harvest(forgetful, simulator, tmp_path / "stars", unasked_s=0.5)
        assert {False} == {future.done() for future in forgetful.stuck.values()}
    finally:
        GO_ON.set()
    assert report is not None
    assert (60, 0) == (report.done, report.exit_status)


def test_parts_that_cannot_be_removed_end_the_head(simulator: Simulator, tmp_path: Path) -> None:
    """It does not take its own trouble for another head that merges: that would have the folder's lock."""
    folder = tmp_path / "stars"
    make_parts(simulator.url, folder)
    for _ in merge_parts(folder):
        pass
    (folder / PARTS_NAME).mkdir()
    (folder / MERGING).write_text("no folder, so it cannot be removed as one")

    async def work() -> None:
        with anyio.fail_after(30), pytest.raises(LocalError):
            await merge_or_wait(folder)
        (folder / MERGING).unlink()
        await merge_or_wait(folder)

    anyio.run(work)
    assert not (folder / PARTS_NAME).exists()
