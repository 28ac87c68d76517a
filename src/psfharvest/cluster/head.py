"""
The head of a harvest on a cluster: submits its parts as tasks, polls them, and merges the parts.

The head polls: every call of the cluster has a deadline. A task that is lost is submitted again under a new key for
as long as its part advances. Several heads may work on one folder: the plan is on disk, a part has one holder.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.archive.session import LONG_PATIENCE_S, Session
from psfharvest.cluster.board import Board
from psfharvest.cluster.local import OWN
from psfharvest.cluster.order import Order, task_of
from psfharvest.cluster.planning import plan_of, planned_targets
from psfharvest.cluster.shares import TTL_S
from psfharvest.cluster.worker import Ending, harvest_part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, FolderRefused, LocalError, PsfharvestError, SinkError
from psfharvest.core.model import Progress, Report, Tally
from psfharvest.run.parts import plan as parts_of
from psfharvest.run.targets import What
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import is_harvest
from psfharvest.store.lock import holder
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.merge_parts import merge_parts
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget
from psfharvest.store.read.account import account

POLL_S = 0.1
LOOK_S = 1.0
CALL_S = 5.0
"""Deadline of one message to the scheduler."""
GONE_S = 30.0
"""A scheduler that has not answered for so long is gone."""
DEATHS_MAX = 3
"""Deaths of a part's tasks in a row, without one more cutout of it, that end the harvest."""
CLOSING_S = 1.0
"""Deadline of the messages that a head sends while it ends."""

Watch = Callable[[Progress], None]


async def harvest_in_parts(
    client: Any, session: Session, order: Order, what: What | Path, suffixes: Sequence[str], watch: Watch | None,
    **sizes: int,
) -> Report | None:  # fmt: skip
    """
    Harvest in parts on a cluster, and merge them; None where there is nothing to do in parts.

    Raises
    ------
    BadInput
        When that cannot be done; nothing was changed.
    LocalError
        When a disk fails, here or where a worker runs, or a part's tasks die without advancing.
    """
    if is_harvest(order.folder):
        return None  # it is merged: what is left of it is an ordinary harvest
    order.check()
    head = Head(client, session, order, watch)
    targets = await planned_targets(what, suffixes, **sizes)
    await head.open_board()
    plan = await plan_of(order, targets, what, head.count_parts)
    if plan is None:
        return None
    head.order = replace(order, settings=replace(order.settings, sink=plan.sink))
    return await head.run(plan)


@dataclass(slots=True)
class Head:
    """The parts of one harvest that are left, submitted and finished, and what the scheduler last answered."""

    client: Any
    session: Session
    order: Order
    watch: Watch | None
    _began_at: float = field(default_factory=time.monotonic)
    _flying: dict[int, Any] = field(default_factory=dict)
    _left: deque[int] = field(default_factory=deque)
    _done: dict[int, Report] = field(default_factory=dict)
    _deaths: dict[int, tuple[int, int]] = field(default_factory=dict)
    _n_threads: int = 0
    _seen_at: float = field(default_factory=time.monotonic)
    _looked_at: float = 0.0
    _stopped: str = ""
    _words: str = ""

    @property
    def ceiling(self) -> int:
        """Connections for all workers together."""
        return self.order.limits.connections(is_public=self.session.endpoints.is_public)

    async def open_board(self) -> None:
        """Register the board, unless the scheduler has it, and name the archive's ceiling."""
        is_first = str(getattr(self.client.cluster, "name", "")).startswith(OWN)
        await self._call(self.client.register_plugin, Board(is_first=is_first))
        said = {"ceiling": self.ceiling, "per_second": self.order.limits.max_per_second}
        if await self._say("open", **said) is None:
            raise BadInput("the cluster's scheduler does not answer; is psfharvest installed where it runs?")

    async def count_parts(self, targets: Sequence[PlannedTarget]) -> AsyncIterator[PlannedPart]:
        """Yield the parts of queries, counted over one connection that the board grants."""
        async with self._holding():
            with self.session.share() as share:
                mashup = self.session.mashup(share, LONG_PATIENCE_S)
                for n, target in enumerate(targets):
                    query = Query.from_dict(target.spec["query"])
                    async for part in parts_of(mashup, query, self.order.part_rows):
                        yield PlannedPart(n, part.low, part.high, part.n)

    async def run(self, plan: Plan) -> Report:
        """Submit the parts that are not finished until all are; merge them; return the account."""
        folder = self.order.folder
        begun = await anyio.to_thread.run_sync(in_parts.begun, folder, plan)
        for n in range(len(plan.parts)):
            if n not in begun or not await anyio.to_thread.run_sync(self._is_finished, n):
                self._left.append(n)
        try:
            await self._hand_out(plan)
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                if self._left or self._flying:
                    await self._say("stop", folder=self.order.prefix)
                for future in self._flying.values():
                    with suppress(Exception):  # the scheduler may be gone: then there is nothing to cancel
                        await self._call(future.cancel)
        if not self._stopped:
            await self._merge()
        return await anyio.to_thread.run_sync(self._report)

    async def _hand_out(self, plan: Plan) -> None:
        while (self._left or self._flying) and not self._stopped:
            await self._look(plan)
            now = time.monotonic()
            if now > self._seen_at + GONE_S:
                self._stop("scheduler_gone", f"the cluster's scheduler has not answered for {GONE_S:g} s")
            elif now < self._seen_at + 2 * LOOK_S + CALL_S:
                with suppress(Exception):  # the client has lost its scheduler: the next look finds that
                    while self._left and len(self._flying) < min(self.ceiling, self._n_threads):
                        self._flying[self._left[0]] = self._submit(plan, self._left[0])
                        self._left.popleft()
                for n, future in list(self._flying.items()):
                    if future.done():
                        del self._flying[n]
                        await self._take(n, future)
            await anyio.sleep(POLL_S)

    def _submit(self, plan: Plan, n: int) -> Any:
        """Submit a part under a new key: the cluster does not run a key again that it has a result for."""
        key = f"psfharvest-part-{n:06d}-{uuid.uuid4().hex[:12]}"
        return self.client.submit(harvest_part, task_of(self.order, plan, n), key=key, pure=False)

    async def _take(self, n: int, future: Any) -> None:
        """Record how a task has ended."""
        ending = await self._ending(future)
        if not isinstance(ending, Ending):
            ending = Ending("over", words="its result was lost")
        if ending.kind == "done":
            self._done |= {n: ending.report} if ending.report is not None else {}
        elif ending.kind == "local":
            self._stop("local_error", f"part {n:06d}: {ending.words}")
        elif ending.kind == "stopped":
            notes = ending.report.notes if ending.report is not None else ()
            self._stop(ending.words, f"part {n:06d} has stopped ({ending.words}) {' '.join(notes)}".rstrip())
        else:
            await self._died(n, ending.words)

    async def _ending(self, future: Any) -> Any:
        """Return a task's result, or an ending ``over`` with the error that the cluster reports."""
        try:
            if future.status == "finished":
                return await self._call(future.result)
            if future.status == "error":
                return Ending("over", words=repr(await self._call(future.exception)))
        except Exception as error:  # noqa: BLE001 - whatever the cluster says instead of a result
            return Ending("over", words=repr(error))
        return Ending("over", words=f"the task was {future.status}")

    async def _died(self, n: int, words: str) -> None:
        """Queue a part again, unless its tasks died several times in a row without advancing."""
        come = await anyio.to_thread.run_sync(self._come, n)
        before, deaths = self._deaths.get(n, (-1, 0))
        deaths = 1 if come > before else deaths + 1
        self._deaths[n] = (come, deaths)
        if deaths >= DEATHS_MAX:
            place = in_parts.folder_of(self.order.folder, n)
            self._stop("local_error", f"{place}: its task died {deaths} times without advancing: {words}")
        self._left.append(n)

    def _come(self, n: int) -> int:
        """Return how many cutouts of a part have a final state."""
        try:
            report = account(in_parts.folder_of(self.order.folder, n))
        except PsfharvestError:
            return -1
        return report.done + report.missing + report.failed

    def _is_finished(self, n: int) -> bool:
        try:
            return in_parts.is_finished(in_parts.folder_of(self.order.folder, n))
        except PsfharvestError:  # merged by another head just now: its task finds that and ends
            return False

    def _stop(self, word: str, words: str) -> None:
        if not self._stopped:
            self._stopped, self._words = word, words

    async def _look(self, plan: Plan) -> None:
        """Once in `LOOK_S`, ask the scheduler for its threads and the progress of the parts."""
        if time.monotonic() < self._looked_at + LOOK_S:
            return
        seen = await self._say("look", folder=self.order.prefix)
        self._looked_at = time.monotonic()
        if seen is None:
            if getattr(self.client, "status", "") == "running":  # a new scheduler has no board yet
                with suppress(Exception):
                    await self._call(self.client.register_plugin, Board())
                    await self._say("open", ceiling=self.ceiling, per_second=self.order.limits.max_per_second)
            return
        self._seen_at, self._n_threads = self._looked_at, seen["threads"]
        if self.watch is not None:
            self.watch(self._progress(plan, list(seen["come"].values()), seen["in_use"]))

    def _progress(self, plan: Plan, come: list[dict[str, int]], connections: int) -> Progress:
        reports = self._done.values()

        def total(name: str) -> int:
            of_done: list[int] = [getattr(report, name) for report in reports]
            return sum(one.get(name, 0) for one in come) + sum(of_done)

        done, missing, failed = total("done"), total("missing"), total("failed")
        pending = max(0, total("total") - done - missing - failed)
        suffixes = [len(target.spec.get("suffixes", [""])) for target in plan.targets]
        return Progress(
            Tally(done, missing, failed, pending, total("bytes")),
            sum(part.n * suffixes[part.target] for part in plan.parts),
            in_flight=0,
            waiting=0,
            connections=connections,
            requests=total("requests"),
            elapsed_s=time.monotonic() - self._began_at,
        )

    async def _merge(self) -> None:
        """Merge the parts; where another head does, wait until it has."""
        while not is_harvest(self.order.folder) or (self.order.folder / PARTS_NAME).exists():
            try:
                steps = await anyio.to_thread.run_sync(merge_parts, self.order.folder)
                while await anyio.to_thread.run_sync(next, steps, None) is not None:
                    pass
            except (FolderRefused, LocalError):
                if not await anyio.to_thread.run_sync(self._is_busy):
                    raise
                await anyio.sleep(LOOK_S)  # another head merges, or has merged just now

    def _is_busy(self) -> bool:
        return holder(self.order.folder) is not None or is_harvest(self.order.folder)

    def _report(self) -> Report:
        folder = self.order.folder
        report = account(folder) if is_harvest(folder) else in_parts.summed(folder)
        report = replace(
            report,
            requests=self.session.limiter.requests + sum(report.requests for report in self._done.values()),
            elapsed_s=time.monotonic() - self._began_at,
            stopped=self._stopped,
            notes=(self._words,) if self._words else (),
        )
        if self._stopped == "local_error":
            error = SinkError(self._words)
            error.report = report
            raise error
        return report

    async def _say(self, word: str, **said: Any) -> dict[str, Any] | None:
        try:
            answer = await self._call(
                self.client.sync if not self.client.asynchronous else _direct,
                self.client.scheduler.psfharvest_board,
                word=word,
                archive=self.session.endpoints.root,
                **said,
            )
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return None
        return answer if isinstance(answer, dict) else None

    async def _call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a function of the client, which may block or return an awaitable, within a deadline."""
        with anyio.move_on_after(CALL_S):
            if self.client.asynchronous:
                result = call(*args, **named)
                return await result if inspect.isawaitable(result) else result
            return await anyio.to_thread.run_sync(lambda: call(*args, **named), abandon_on_cancel=True)
        return None

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        """Hold one connection of the board's for the head's own queries."""
        said: dict[str, Any] = {
            "holder": uuid.uuid4().hex,
            "part": f"{self.order.prefix}plan-{uuid.uuid4().hex}",
            "worker": self.client.id,
            "slot": uuid.uuid4().hex,
            "epoch": 0,
            "wanted": 1,
        }
        until = time.monotonic() + GONE_S + TTL_S
        seq = 0
        await self.session.limit(0)
        while True:
            seq += 1
            answer = await self._say("ask", seq=seq, held=0, **said)
            if answer is not None and answer["grant"]:
                break
            if time.monotonic() > until:
                raise BadInput("the cluster's scheduler grants no connection to plan with")
            await anyio.sleep(POLL_S)
        await self.session.limit(1)
        try:
            yield
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await self.session.limit(0)
                await self._say("ask", seq=seq + 1, held=0, is_done=True, **said)
                await self.session.limit(self.ceiling)


async def _direct(call: Callable[..., Any], **named: Any) -> Any:
    return await call(**named)
