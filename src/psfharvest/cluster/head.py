"""
The head of a harvest on a cluster: submits its parts as tasks, polls them, and merges the parts.

The head polls: every call of the cluster has a deadline. A task that is lost is submitted again under a new key for
as long as its part advances; so is one that never asks the board, beside the first. Several tasks of one part, and
several heads, may work on one folder: the plan is on disk, a part has one holder.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.session import LONG_PATIENCE_S
from psfharvest.cluster.announcer import Announcer
from psfharvest.cluster.order import Order
from psfharvest.cluster.scheduler_link import CALL_S, GONE_S, SchedulerLink
from psfharvest.cluster.task_queue import TaskQueue
from psfharvest.cluster.tasks import PartTask, PlanTask, Watch
from psfharvest.cluster.worker import Task
from psfharvest.concurrency.thread_work import to_its_end
from psfharvest.core.errors import ArchiveDown, BadInput, FolderRefused, LocalError, SinkError
from psfharvest.core.model import Progress, Report, Tally
from psfharvest.events.hub import Voice
from psfharvest.run.plans import cut_list, planned_targets, write_plan
from psfharvest.run.targets import What
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import is_harvest
from psfharvest.store.lock import holder
from psfharvest.store.manifest.place import PARTS_NAME, is_in_parts
from psfharvest.store.merge_parts import merge_parts
from psfharvest.store.parts import Plan, PlannedTarget
from psfharvest.store.read.account import account

POLL_S = 0.05
LOOK_S = 1.0
WORKLESS_S = 10.0
"""After so long without workers, the user is informed."""
DEATHS_MAX = 3
"""Deaths of a part's tasks in a row, without one more cutout of it, that end the harvest."""
CLOSING_S = 1.0
"""Deadline of the messages that a head sends while it ends."""

_log = logging.getLogger("psfharvest")
COUNTED = ("total", "done", "missing", "failed", "bytes", "requests")


async def harvest_in_parts(
    client: Any, archive: Endpoints, order: Order, what: What | Path, suffixes: Sequence[str], watch: Watch | None,
    voice: Voice, **sizes: int,
) -> Report | None:  # fmt: skip
    """
    Harvest in parts on a cluster, and merge them; None where there is nothing to do in parts.

    Raises
    ------
    BadInput
        When that cannot be done; nothing was changed.
    ArchiveDown
        When nobody answers before there is a plan.
    LocalError
        When a disk fails, here or where a worker runs, or a part's tasks die without advancing.
    """
    if is_harvest(order.folder):
        return None  # it is merged: what is left of it is an ordinary harvest
    order.check()
    targets = await planned_targets(what, suffixes, **sizes)
    before = await anyio.to_thread.run_sync(in_parts.summed, order.folder) if is_in_parts(order.folder) else None
    queue = TaskQueue(SchedulerLink(client, archive, order))
    head = Head(order, queue, watch, Announcer(voice, before))
    try:
        return await head.run(targets)
    except BaseException as error:
        await head.failed(error)
        raise


@dataclass(slots=True)
class Head:
    """
    Runs one harvest: works the tasks off, adds up what they have done, records why it stopped.

    Attributes
    ----------
    order
        What is harvested.
    queue
        Submits the tasks.
    watch, announcer
        Get its progress once in `LOOK_S`.
    """

    order: Order
    queue: TaskQueue
    watch: Watch | None
    announcer: Announcer
    _plan: Plan | None = None
    _began_at: float = field(default_factory=time.monotonic)
    _done: Counter[str] = field(default_factory=Counter)
    _n_threads: int = 0
    _looked_at: float = -LOOK_S
    _up_at: float = field(default_factory=time.monotonic)
    _manned_at: float = field(default_factory=time.monotonic)
    _stopped: str = ""
    _words: str = ""

    @property
    def link(self) -> SchedulerLink:
        """To the cluster's scheduler."""
        return self.queue.link

    async def run(self, targets: list[PlannedTarget]) -> Report | None:
        """Plan, work the parts off, merge them; return the account, None where there is nothing to harvest."""
        await self.link.open_board()
        try:
            if (plan := await self._planned(targets)) is None:
                return None
            self.announcer.started(
                folder=str(self.order.folder),
                archive=self.link.archive.root,
                sink=plan.sink,
                via=self.order.via,
                expected=plan.n_cutouts,
                connections=self.link.ceiling,
            )
            await self._work_off([PartTask(self.order, n) for n in range(len(plan.parts))])
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await self.queue.cancel()
        if not self._stopped:
            await merge_or_wait(self.order.folder)
        report = await anyio.to_thread.run_sync(self._report)
        self.announcer.ended(report)
        if self._stopped == "local_error":
            error = SinkError(self._words)
            error.report = report
            raise error
        return report

    async def failed(self, error: BaseException) -> None:
        """Announce the end of a harvest that was interrupted, or that an error has ended."""
        is_interrupt = not isinstance(error, Exception)
        word = "local_error" if isinstance(error, LocalError) else f"error ({type(error).__name__})"
        self._stop("interrupted" if is_interrupt else word, "" if is_interrupt else str(error))
        with anyio.move_on_after(CLOSING_S, shield=True), suppress(LocalError, BadInput):
            self.announcer.ended(await anyio.to_thread.run_sync(self._report, abandon_on_cancel=True))

    async def _planned(self, targets: list[PlannedTarget]) -> Plan | None:
        """Return the folder's plan, made now where it has none; None where there is nothing to harvest."""
        folder, sink = self.order.folder, self.order.settings.sink
        if await anyio.to_thread.run_sync(in_parts.read_plan, folder) is None:
            if targets[0].kind == "file":
                await anyio.to_thread.run_sync(self._plan_list, targets[0])
            else:
                await self._work_off([PlanTask(self.order, targets)])
            if self._stopped:
                raise (SinkError if self._stopped == "local_error" else ArchiveDown)(self._words)
        self._plan = plan = await anyio.to_thread.run_sync(in_parts.read_plan, folder)
        if plan is None:
            return None
        if [target.identity for target in plan.targets] != [target.identity for target in targets]:
            raise FolderRefused(f"{folder} holds another harvest in parts; choose another folder")
        if sink not in (None, plan.sink):
            raise FolderRefused(f"{folder} is kept with sink {plan.sink!r}; leave sink=… away")
        return plan

    def _plan_list(self, target: PlannedTarget) -> None:
        """Cut a list, which the head alone may see, into parts that the workers see."""
        parts = cut_list(self.order.folder, target, self.order.part_rows)
        write_plan(self.order.folder, self.order.plan([target], parts))

    async def _work_off(self, tasks: Sequence[Task]) -> None:
        self.queue.add(tasks)
        while self.queue and not self._stopped:
            await self._look()
            silent_s = time.monotonic() - self.link.answered_at
            if silent_s > GONE_S:
                self._stop("scheduler_gone", f"the cluster's scheduler has not answered for {GONE_S:g} s")
            elif silent_s < 2 * LOOK_S + CALL_S:
                while (ended := self.queue.pop_ended()) is not None:
                    await self._take(*ended)
                if not self._stopped:
                    self.queue.submit(min(self.link.ceiling, self._n_threads))
            await anyio.sleep(POLL_S)

    async def _take(self, task: Task, future: Any) -> None:
        """Record how a task has ended."""
        ended = await self.link.outcome(future)
        if isinstance(ended, Report) and not ended.stopped and not ended.pending and ended.is_fully_asked:
            self._done.update({name: getattr(ended, name) for name in COUNTED})
        elif isinstance(ended, LocalError):
            self._stop("local_error", f"{task.folder}: {ended}")
        elif isinstance(ended, ArchiveDown):
            self._stop("archive_down", f"{task.folder}: {ended}")
        elif isinstance(ended, BadInput) and isinstance(task, PlanTask):
            raise ended
        elif isinstance(ended, Report) and ended.stopped:
            self._stop(
                ended.stopped, f"{task.folder} has stopped ({ended.stopped}) {' '.join(ended.notes)}".rstrip()
            )
        else:
            await self._died(task, "its work is not finished" if isinstance(ended, Report) else repr(ended))

    async def _died(self, task: Task, words: str) -> None:
        """Queue a task again; the harvest ends where it died several times in a row without advancing."""
        n_deaths = self.queue.requeue(task, await anyio.to_thread.run_sync(task.n_final))
        if n_deaths >= DEATHS_MAX:
            self._stop("local_error", f"{task.folder}: its task died {n_deaths} times without advancing: {words}")

    def _stop(self, word: str, words: str) -> None:
        if not self._stopped:
            self._stopped, self._words = word, words

    async def _look(self) -> None:
        """Once in `LOOK_S`, ask the scheduler for its threads and the progress of the parts."""
        if time.monotonic() < self._looked_at + LOOK_S:
            return
        seen = await self.link.look(self.queue.names_in_flight)
        self._looked_at = time.monotonic()
        if seen is None:
            return
        self._n_threads = seen["threads"]
        self._note_workers()
        self.queue.submit_unheard(seen["silent_s"], self._looked_at, has_workers=self._n_threads > 0)
        if not seen["trouble"]:
            self._up_at = self._looked_at
        if self._plan is not None or seen["trouble"]:
            progress = self._progress(seen["come"], seen["in_use"], seen["trouble"])
            self.announcer.progress(progress)
            if self.watch is not None:
                self.watch(progress)

    def _note_workers(self) -> None:
        if self._n_threads:
            self._manned_at = self._looked_at
        elif self._looked_at > self._manned_at + WORKLESS_S:
            self._manned_at = float("inf")  # it is said once
            _log.warning("the cluster has no workers; the harvest goes on once it has some")

    def _progress(self, come: list[dict[str, int]], in_use: int, trouble: str) -> Progress:
        sums = Counter(self._done)
        for one in come:
            sums.update(one)
        done, missing, failed = sums["done"], sums["missing"], sums["failed"]
        pending = max(0, sums["total"] - done - missing - failed)
        patience_s = LONG_PATIENCE_S if self.order.retry is None else self.order.retry.patience_s
        return Progress(
            Tally(done, missing, failed, pending, sums["bytes"]),
            None if self._plan is None else self._plan.n_cutouts,
            in_flight=0,
            waiting=0,
            connections=in_use,
            requests=sums["requests"],
            elapsed_s=time.monotonic() - self._began_at,
            outage=trouble,
            outage_s=self._looked_at - self._up_at,
            patience_s=patience_s,
        )

    def _report(self) -> Report:
        folder = self.order.folder
        report = account(folder) if is_harvest(folder) else in_parts.summed(folder)
        return replace(
            report,
            requests=self._done["requests"],
            elapsed_s=time.monotonic() - self._began_at,
            stopped=self._stopped,
            notes=(self._words,) if self._words else (),
        )


async def merge_or_wait(folder: Path) -> None:
    """Merge the parts; where another head does, wait until it has."""
    has_waited = False
    while not is_harvest(folder) or (folder / PARTS_NAME).exists():
        try:
            steps = await to_its_end(partial(merge_parts, folder))
            while await to_its_end(partial(next, steps, None)) is not None:
                pass
        except (FolderRefused, LocalError):
            is_held = await anyio.to_thread.run_sync(holder, folder) is not None
            if not is_held and (has_waited or not is_harvest(folder)):
                raise
            has_waited = not is_held  # another head has merged just now, or the parts cannot be removed
            await anyio.sleep(LOOK_S)
