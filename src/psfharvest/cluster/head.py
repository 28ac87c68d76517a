"""
The head of a harvest on a cluster: submits its parts as tasks, polls them, and merges the parts.

The head polls: every call of the cluster has a deadline. A task that is lost is submitted again under a new key for
as long as its part advances; so is one that never asks the board, beside the first. Several tasks of one part, and
several heads, may work on one folder: the plan is on disk, a part has one holder.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.session import LONG_PATIENCE_S
from psfharvest.cluster.announcer import Announcer
from psfharvest.cluster.board import Board
from psfharvest.cluster.local import OWN
from psfharvest.cluster.order import Order
from psfharvest.cluster.shares import TTL_S
from psfharvest.cluster.tasks import PartTask, PlanTask, Watch
from psfharvest.cluster.worker import Task, run_task
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
CALL_S = 5.0
"""Deadline of one message to the scheduler."""
GONE_S = 30.0
"""A scheduler that has not answered for so long is gone."""
WORKLESS_S = 10.0
"""After so long without workers, the user is informed."""
UNASKED_S = 6 * TTL_S
"""A task of which the board hears nothing for so long is submitted once more; each time twice as long."""
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
    head = Head(client, archive, order, watch, Announcer(voice, before))
    try:
        return await head.run(targets)
    except BaseException as error:
        await head.failed(error)
        raise


@dataclass(slots=True)
class Flight:
    """A task that is submitted: its futures, and when it was submitted or has asked the board last."""

    futures: list[Any]
    patience_s: float
    heard_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Head:
    """The tasks of one harvest that are left and submitted, what the finished ones did, and why it stopped."""

    client: Any
    archive: Endpoints
    order: Order
    watch: Watch | None
    announcer: Announcer
    unasked_s: float = UNASKED_S
    _plan: Plan | None = None
    _began_at: float = field(default_factory=time.monotonic)
    _flying: dict[Task, Flight] = field(default_factory=dict)
    _left: deque[Task] = field(default_factory=deque)
    _done: Counter[str] = field(default_factory=Counter)
    _deaths: dict[Task, tuple[int, int]] = field(default_factory=dict)
    _n_threads: int = 0
    _seen_at: float = field(default_factory=time.monotonic)
    _looked_at: float = -LOOK_S
    _up_at: float = field(default_factory=time.monotonic)
    _manned_at: float = field(default_factory=time.monotonic)
    _stopped: str = ""
    _words: str = ""

    async def run(self, targets: list[PlannedTarget]) -> Report | None:
        """Plan, work the parts off, merge them; return the account, None where there is nothing to harvest."""
        await self._open_board()
        try:
            if (plan := await self._planned(targets)) is None:
                return None
            self.announcer.started(
                folder=str(self.order.folder),
                archive=self.archive.root,
                sink=plan.sink,
                via=self.order.via,
                expected=plan.n_cutouts,
                connections=self._ceiling,
            )
            await self._work_off([PartTask(self.order, n) for n in range(len(plan.parts))])
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                if self._left or self._flying:
                    await self._say("stop", folder=self.order.prefix)
                for future in (future for flight in self._flying.values() for future in flight.futures):
                    with suppress(Exception):  # the scheduler may be gone: then there is nothing to cancel
                        await self._call(future.cancel)
        if not self._stopped:
            await self._merge()
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
        self._left.extend(tasks)
        while (self._left or self._flying) and not self._stopped:
            await self._look()
            now = time.monotonic()
            if now > self._seen_at + GONE_S:
                self._stop("scheduler_gone", f"the cluster's scheduler has not answered for {GONE_S:g} s")
            elif now < self._seen_at + 2 * LOOK_S + CALL_S:
                for task, flight in list(self._flying.items()):
                    if ended := [future for future in flight.futures if future.done()]:
                        del self._flying[task]  # the cluster drops the others, unless they run already
                        await self._take(task, ended[0])
                with suppress(Exception):  # the client has lost its scheduler: the next look finds that
                    while self._left and len(self._flying) < self._n_at_once:
                        self._flying[self._left[0]] = Flight([self._submit(self._left[0])], self.unasked_s)
                        self._left.popleft()
            await anyio.sleep(POLL_S)

    def _submit(self, task: Task) -> Any:
        """Submit a task under a new key: the cluster does not run a key again that it has a result for."""
        key = f"psfharvest-{task.name.rpartition('#')[2]}-{uuid.uuid4().hex[:12]}"
        return self.client.submit(run_task, task, key=key, pure=False)

    async def _take(self, task: Task, future: Any) -> None:
        """Record how a task has ended."""
        try:
            ended = await self._call(future.result if future.status == "finished" else future.exception)
        except Exception as error:  # noqa: BLE001 - whatever the cluster says instead of a result
            ended = error
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
        """Queue a task again, unless it died several times in a row without advancing."""
        come = await anyio.to_thread.run_sync(task.n_final)
        before, deaths = self._deaths.get(task, (-1, 0))
        deaths = 1 if come > before else deaths + 1
        self._deaths[task] = (come, deaths)
        if deaths >= DEATHS_MAX:
            self._stop("local_error", f"{task.folder}: its task died {deaths} times without advancing: {words}")
        self._left.append(task)

    def _stop(self, word: str, words: str) -> None:
        if not self._stopped:
            self._stopped, self._words = word, words

    @property
    def _ceiling(self) -> int:
        """Connections for all workers together."""
        return self.order.limits.connections(is_public=self.archive.is_public)

    @property
    def _n_at_once(self) -> int:
        """Tasks in flight, at most."""
        return 0 if self._stopped else min(self._ceiling, self._n_threads)

    async def _open_board(self) -> None:
        """Register the board, unless the scheduler has it; a busy one imports its module for seconds."""
        is_first = str(getattr(self.client.cluster, "name", "")).startswith(OWN)
        words = "it does not answer"
        until = time.monotonic() + GONE_S
        while await self._ask() is None:
            if time.monotonic() > until:
                raise BadInput(f"the cluster's scheduler has no psfharvest ({words}): install it where that runs")
            try:
                await self._call(self.client.register_plugin, Board(is_first=is_first))
            except Exception as error:  # noqa: BLE001 - whatever the scheduler says to it
                words = repr(error)
                await anyio.sleep(POLL_S)
        self._seen_at = time.monotonic()

    async def _look(self) -> None:
        """Once in `LOOK_S`, ask the scheduler for its threads and the progress of the parts."""
        if time.monotonic() < self._looked_at + LOOK_S:
            return
        seen = await self._ask()
        self._looked_at = time.monotonic()
        if seen is None:
            if getattr(self.client, "status", "") == "running":  # a new scheduler has no board yet
                with suppress(Exception):
                    await self._call(self.client.register_plugin, Board())
            return
        self._seen_at, self._n_threads = self._looked_at, seen["threads"]
        self._note_workers()
        self._submit_unasked(seen["silent_s"])
        if not seen["trouble"]:
            self._up_at = self._looked_at
        if self._plan is not None or seen["trouble"]:
            progress = self._progress(seen["come"], seen["in_use"], seen["trouble"])
            self.announcer.progress(progress)
            if self.watch is not None:
                self.watch(progress)

    def _submit_unasked(self, silent_s: dict[str, float]) -> None:
        """Submit a task once more of which the board has heard nothing for too long."""
        for task, flight in self._flying.items():
            if not self._n_threads:
                flight.heard_at = self._looked_at
            elif task.name in silent_s:
                flight.heard_at = max(flight.heard_at, self._looked_at - silent_s[task.name])
            if self._looked_at > flight.heard_at + flight.patience_s:
                _log.info("a task of %s has not begun; it is submitted once more", task.folder)
                with suppress(Exception):  # the client has lost its scheduler: the next look finds that
                    flight.futures.append(self._submit(task))
                flight.heard_at, flight.patience_s = self._looked_at, 2 * flight.patience_s

    def _note_workers(self) -> None:
        if self._n_threads:
            self._manned_at = self._looked_at
        elif self._looked_at > self._manned_at + WORKLESS_S:
            self._manned_at = float("inf")  # it is said once
            _log.warning("the cluster has no workers; the harvest goes on once it has some")

    async def _ask(self) -> dict[str, Any] | None:
        said = {"ceiling": self._ceiling, "per_second": self.order.limits.max_per_second}
        parts = [task.name for task in self._flying]
        return await self._say("look", folder=self.order.prefix, parts=parts, **said)

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

    async def _merge(self) -> None:
        """Merge the parts; where another head does, wait until it has."""
        has_waited = False
        while not is_harvest(self.order.folder) or (self.order.folder / PARTS_NAME).exists():
            try:
                steps = await anyio.to_thread.run_sync(merge_parts, self.order.folder)
                while await anyio.to_thread.run_sync(next, steps, None) is not None:
                    pass
            except (FolderRefused, LocalError):
                is_held = await anyio.to_thread.run_sync(holder, self.order.folder) is not None
                if not is_held and (has_waited or not is_harvest(self.order.folder)):
                    raise
                has_waited = not is_held  # another head has merged just now, or the parts cannot be removed
                await anyio.sleep(LOOK_S)

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

    async def _say(self, word: str, **said: Any) -> dict[str, Any] | None:
        try:
            board = self.client.scheduler.psfharvest_board
            answer = await self._call(board, word=word, archive=self.archive.root, **said)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return None
        return answer if isinstance(answer, dict) else None

    async def _call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a function of the client in the client's loop, as it likes it, within a deadline."""

        async def in_its_loop() -> Any:
            result = call(*args, **named)
            return await result if inspect.isawaitable(result) else result

        coming = asyncio.run_coroutine_threadsafe(in_its_loop(), self.client.loop.asyncio_loop)
        try:
            return await anyio.to_thread.run_sync(coming.result, CALL_S, abandon_on_cancel=True)
        finally:
            coming.cancel()
