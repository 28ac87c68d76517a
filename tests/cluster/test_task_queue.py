"""The queue of a harvest's tasks: its order, its size in flight, and how losses are counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio

from psfharvest import Limits
from psfharvest.cluster.order import Order
from psfharvest.cluster.task_queue import TaskQueue
from psfharvest.cluster.tasks import PartTask
from psfharvest.store.folder import Settings

ORDER = Order(Path("stars"), Settings("shards"), "file", None, Limits(), None, 20)
TASKS = [PartTask(ORDER, n) for n in range(5)]


class Link:
    """A cluster that has what is submitted, and says that it is gone after `n_alive` submissions."""

    def __init__(self, n_alive: int = 100) -> None:
        self.n_alive = n_alive
        self.submitted: list[int] = []
        self.ended: set[int] = set()
        self.cancelled: list[int] = []
        self.is_stopped = False

    def submit(self, task: Any) -> Any:
        if len(self.submitted) >= self.n_alive:
            raise OSError("the scheduler is gone")
        self.submitted.append(task.number)
        return SimpleNamespace(done=lambda: task.number in self.ended, number=task.number)

    async def stop(self) -> None:
        self.is_stopped = True

    async def cancel(self, future: Any) -> None:
        self.cancelled.append(future.number)


def queue_on(link: Link, **more: Any) -> TaskQueue:
    queue = TaskQueue(link, **more)  # type: ignore[arg-type]
    queue.add(TASKS)
    return queue


def test_tasks_are_submitted_in_their_order_and_no_more_at_once_than_asked() -> None:
    link = Link()
    queue = queue_on(link)
    done = []
    while queue:
        queue.submit(2)
        assert len(queue.names_in_flight) <= 2
        link.ended.add(link.submitted[len(done)])
        task, future = queue.pop_ended() or (None, None)
        assert task is not None
        assert task.number == future.number
        done.append(task.number)
    assert done == link.submitted == [0, 1, 2, 3, 4]


def test_a_task_whose_submission_fails_is_kept() -> None:
    link = Link(n_alive=1)
    queue = queue_on(link)
    queue.submit(3)
    assert [TASKS[0].name] == queue.names_in_flight
    link.n_alive = 100
    queue.submit(3)
    assert [0, 1, 2] == link.submitted


def test_losses_in_a_row_count_until_the_part_advances() -> None:
    queue = queue_on(Link())
    counts = [queue.requeue(TASKS[0], n_final) for n_final in (0, 0, 0, 7, 7, 8, 8)]
    assert counts == [1, 2, 3, 1, 2, 1, 2]
    assert queue.requeue(TASKS[1], 0) == 1


def test_patience_with_a_task_that_never_asks_doubles_and_begins_with_the_first_worker() -> None:
    link = Link()
    queue = queue_on(link, unasked_s=10.0)
    queue.submit(1)
    began_at = next(iter(queue._in_flight.values())).heard_at
    for after_s in (20.0, 40.0):
        queue.submit_unheard({}, began_at + after_s, has_workers=False)
    assert link.submitted == [0]
    at_s = [after_s for after_s in range(41, 130) if _is_submitted(queue, link, began_at + after_s)]
    assert at_s == [51, 72, 113]


def test_a_task_that_asks_is_left_alone() -> None:
    link = Link()
    queue = queue_on(link, unasked_s=10.0)
    queue.submit(1)
    began_at = next(iter(queue._in_flight.values())).heard_at
    for after_s in range(100):
        queue.submit_unheard({TASKS[0].name: 1.0}, began_at + after_s, has_workers=True)
    assert link.submitted == [0]


def test_every_future_is_cancelled_at_the_end() -> None:
    link = Link()
    queue = queue_on(link, unasked_s=10.0)
    queue.submit(2)
    queue.submit_unheard({}, next(iter(queue._in_flight.values())).heard_at + 100, has_workers=True)
    anyio.run(queue.cancel)
    assert link.is_stopped
    assert sorted(link.cancelled) == [0, 0, 1, 1]


def _is_submitted(queue: TaskQueue, link: Link, now: float) -> bool:
    before = len(link.submitted)
    queue.submit_unheard({}, now, has_workers=True)
    return len(link.submitted) > before
