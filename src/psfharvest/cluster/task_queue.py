"""The tasks of a harvest: which are left, which the cluster has, and how often each was lost."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from psfharvest.cluster.scheduler_link import SchedulerLink
from psfharvest.cluster.shares import TTL_S
from psfharvest.cluster.worker import Task

UNASKED_S = 6 * TTL_S
"""A task of which the board hears nothing for so long is submitted once more; each time twice as long."""

_log = logging.getLogger("psfharvest")


@dataclass(slots=True)
class InFlight:
    """A task that is submitted: its futures, and when it was submitted or has asked the board last."""

    futures: list[Any]
    patience_s: float
    heard_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class TaskQueue:
    """
    Submits tasks, and submits again those that are lost; False when none is left or in flight.

    Attributes
    ----------
    link
        To the scheduler.
    unasked_s
        See `UNASKED_S`.
    """

    link: SchedulerLink
    unasked_s: float = UNASKED_S
    _left: deque[Task] = field(default_factory=deque)
    _in_flight: dict[Task, InFlight] = field(default_factory=dict)
    _deaths: dict[Task, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._left or self._in_flight)

    @property
    def names_in_flight(self) -> list[str]:
        """Names of the tasks that the cluster has."""
        return [task.name for task in self._in_flight]

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue tasks."""
        self._left.extend(tasks)

    def submit(self, n_at_once: int) -> None:
        """Submit tasks in their order until so many are in flight."""
        with suppress(Exception):  # the client has lost its scheduler: the head's next look finds that
            while self._left and len(self._in_flight) < n_at_once:
                self._in_flight[self._left[0]] = InFlight([self.link.submit(self._left[0])], self.unasked_s)
                self._left.popleft()

    def submit_unheard(self, silent_s: Mapping[str, float], now: float, *, has_workers: bool) -> None:
        """
        Submit tasks once more of which the board has heard nothing for too long.

        Parameters
        ----------
        silent_s
            By task that has asked the board: how long ago.
        now
            Of `time.monotonic`.
        has_workers
            Whether any could have begun.
        """
        for task, flight in self._in_flight.items():
            if not has_workers:
                flight.heard_at = now
            elif task.name in silent_s:
                flight.heard_at = max(flight.heard_at, now - silent_s[task.name])
            if now > flight.heard_at + flight.patience_s:
                _log.info("a task of %s has not begun; it is submitted once more", task.folder)
                with suppress(Exception):  # the client has lost its scheduler: the head's next look finds that
                    flight.futures.append(self.link.submit(task))
                flight.heard_at, flight.patience_s = now, 2 * flight.patience_s

    def pop_ended(self) -> tuple[Task, Any] | None:
        """Return a task that has ended with its future, if any; the cluster drops the others, unless they run."""
        for task, flight in self._in_flight.items():
            if ended := [future for future in flight.futures if future.done()]:
                del self._in_flight[task]
                return task, ended[0]
        return None

    def requeue(self, task: Task, n_final: int) -> int:
        """Queue a lost task again; return how often in a row it was lost without one more cutout (`n_final`)."""
        before, n_deaths = self._deaths.get(task, (-1, 0))
        n_deaths = 1 if n_final > before else n_deaths + 1
        self._deaths[task] = n_final, n_deaths
        self._left.append(task)
        return n_deaths

    async def cancel(self) -> None:
        """End what is in flight; claimed cutouts are kept."""
        if self:
            await self.link.stop()
        for future in (future for flight in self._in_flight.values() for future in flight.futures):
            await self.link.cancel(future)
