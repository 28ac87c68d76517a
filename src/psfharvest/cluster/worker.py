"""
What a worker runs: a task, within the connections that the board grants; it ends when the board is silent.

One task is one part or the plan, in an event loop of its own thread. Its holder asks the board once a second;
without a good answer for three quarters of `ttl_s` it ends its run with all claimed work kept, closes its
connections, and begins anew as another holder that has nothing open.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from distributed import Worker, get_worker
from distributed.utils import sync

from psfharvest.archive.endpoints import endpoints_for
from psfharvest.archive.session import Session
from psfharvest.cluster.board import HANDLER, NEWS
from psfharvest.cluster.shares import ASK_EVERY_S, GO, OVER, TTL_S
from psfharvest.cluster.tasks import PartTask, PlanTask
from psfharvest.core.errors import FolderRefused, PsfharvestError
from psfharvest.core.model import Progress, Report
from psfharvest.events.hub import Hub
from psfharvest.events.model import Down, Event, Paused
from psfharvest.run import learnt_cache
from psfharvest.run.results import limits_now, slots_for
from psfharvest.store.lease import STALE_S
from psfharvest.store.lock import holder as holder_of

ANSWER_S = 2.0
"""An answer that takes longer is none: a busy scheduler, or a machine that does more than it can."""
FENCE = 0.75
"""Of `ttl_s`: without a good answer for so long a holder ends its run."""
SILENCE_MAX_S = 120.0
"""A task that has waited so long for any answer fails; the cluster runs it elsewhere."""
HELD_MAX_S = STALE_S + 30.0
"""For how long a part's folder may look held: by the lease of a process of another machine that was killed."""

Task = PlanTask | PartTask
Say = Callable[..., dict[str, Any] | None]
"""Sends the board a message; None where no good answer came in time, or to a last message, which has none."""

_WAKES: dict[str, Callable[[], object]] = {}
"""Of the holders of this process: what makes each ask at once; callable from any thread."""


class Lost(PsfharvestError):
    """Raised by a task that may not go on, or could not begin; what it has claimed is kept."""


class Fenced(PsfharvestError):
    """Raised in place of a write when the board has been silent for too long: others may hold the part by now."""


def run_task(task: Task) -> Report:
    """Do a task within the connections that the board grants; what the cluster runs."""
    worker: Worker = get_worker()
    worker.stream_handlers[NEWS] = _wake_all  # before the board knows of this process
    root = endpoints_for(task.order.base, "").root

    def say(**said: Any) -> dict[str, Any] | None:
        said = {"word": "ask", "archive": root, "worker": worker.address, "process": worker.id, **said}
        if said["is_done"]:
            worker.loop.add_callback(worker.batched_send, {"op": HANDLER, **said})
            return None
        try:
            answer = sync(worker.loop, worker.scheduler.psfharvest_board, callback_timeout=ANSWER_S, **said)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return None
        return answer if isinstance(answer, dict) and "word" in answer else None

    return anyio.run(_run, task, say)


def _wake_all(**_: Any) -> None:
    for wake in list(_WAKES.values()):
        with suppress(RuntimeError):  # its loop has just ended
            wake()


async def _run(task: Task, say: Say) -> Report:
    until, was_free = time.monotonic() + HELD_MAX_S, False
    while True:
        try:
            report = await _Holder(task, say).work()
        except FolderRefused:
            is_free = await anyio.to_thread.run_sync(holder_of, task.folder) is None
            if (is_free and was_free) or time.monotonic() > until:
                raise  # it is not for its lock that it was refused
            was_free = is_free
            await anyio.sleep(ASK_EVERY_S)
        else:
            if report is not None:
                return report


@dataclass(slots=True)
class _Holder:
    """One attempt at a task."""

    task: Task
    say: Say
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    epoch: int = field(default_factory=time.monotonic_ns)
    ttl_s: float = TTL_S
    _seq: int = 0
    _held: int = 0
    _granted: int = 0
    _again_s: float = ASK_EVERY_S
    _answered_at: float = field(default_factory=time.monotonic)
    _come: dict[str, int] = field(default_factory=dict)
    _session: Session | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _setting: anyio.CancelScope | None = None
    _is_fenced: bool = False

    async def work(self) -> Report | None:
        """Wait until nobody else has the task, and do it, unless it is done; None: begin anew as another holder."""
        if (found := await anyio.to_thread.run_sync(self.task.found)) is not None:
            return found
        try:
            first = await self._begin()
            found = await anyio.to_thread.run_sync(self.task.found)  # another may have done it meanwhile
            return await self._work(first) if found is None else found
        finally:
            self.say(**self._said(is_done=True))

    async def _begin(self) -> dict[str, Any]:
        while time.monotonic() < self._answered_at + SILENCE_MAX_S:
            answer = await self._ask()
            if answer is not None and answer["word"] == GO:
                return answer
            if answer is not None and answer["word"] == OVER:
                raise Lost("the board has given it to another")
            await anyio.sleep(ASK_EVERY_S)
        raise Lost("the scheduler does not answer")

    async def _work(self, first: dict[str, Any]) -> Report | None:
        order = self.task.order
        endpoints = endpoints_for(order.base, None)
        limits = limits_now(order.limits, is_public=endpoints.is_public)
        learnt = await anyio.to_thread.run_sync(learnt_cache.read, endpoints.root)
        hub = Hub(self._hear)
        slots = await slots_for(endpoints.is_public)
        self._session = session = Session(endpoints, limits, order.retry, None, learnt=learnt, hub=hub, slots=slots)
        loop = asyncio.get_running_loop()
        _WAKES[self.name] = partial(loop.call_soon_threadsafe, self._wake)
        report: Report | None = None
        failure: PsfharvestError | None = None
        try:
            await session.limit(0)
            async with anyio.create_task_group() as group:
                self._take(first, session, group)
                group.start_soon(self._keep_asking, session, group)
                try:
                    report = await self.task.run(session, self._watch, self._guard)
                except PsfharvestError as error:
                    failure = error
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await session.aclose()
            hub.close()
            self._held = 0
            _WAKES.pop(self.name)
        if report is None and not self._is_fenced:
            raise failure or Lost("the board has given it to another")
        return report

    async def _keep_asking(self, session: Session, group: anyio.abc.TaskGroup) -> None:
        while True:
            answer = None
            with anyio.move_on_after(self._answered_at + FENCE * self.ttl_s - time.monotonic()) as until_fence:
                with anyio.move_on_after(self._again_s):
                    await self._news.wait()
                self._news = anyio.Event()
                answer = await self._ask()
            if answer is not None and answer["word"] == GO:
                self._take(answer, session, group)
            elif until_fence.cancelled_caught or (answer is not None and answer["word"] == OVER):
                self._is_fenced = until_fence.cancelled_caught
                break
        group.cancel_scope.cancel()

    def _take(self, answer: dict[str, Any], session: Session, group: anyio.abc.TaskGroup) -> None:
        """Apply the pause, the rate and the connections of an answer."""
        if answer["pause_s"] > 0:
            session.limiter.hold(answer["pause_s"])
        if self.task.order.limits.max_per_second is not None and answer["grant"]:
            session.limiter.rate.per_second = answer["per_second"]
        self._again_s = answer["again_s"]
        self._granted = answer["grant"]
        self._held = max(self._held, self._granted)
        group.start_soon(self._set_limit, session, answer["grant"])

    async def _set_limit(self, session: Session, grant: int) -> None:
        """Use so many connections; until no more are open, what was open before counts."""
        if self._setting is not None:
            self._setting.cancel()
        with anyio.CancelScope() as scope:
            self._setting = scope
            await session.limit(grant)
            if self._granted == grant < self._held:
                self._held = grant
                self._wake()  # others wait for what was closed

    async def _ask(self) -> dict[str, Any] | None:
        said = self._said()
        asked_at = time.monotonic()
        answer = await anyio.to_thread.run_sync(lambda: self.say(**said), abandon_on_cancel=True)
        if answer is not None:
            self._answered_at, self.ttl_s = asked_at, answer["ttl_s"]
        return answer

    def _said(self, *, is_done: bool = False) -> dict[str, Any]:
        limiter = None if self._session is None else self._session.limiter
        self._seq += 1
        return {
            "holder": self.name,
            "part": self.task.name,
            "slot": str(threading.get_ident()),
            "epoch": self.epoch,
            "seq": self._seq,
            "held": self._held,
            "is_done": is_done,
            "wanted": self.task.wanted,
            "pause_s": 0.0 if limiter is None else max(0.0, limiter.retry_after_until - limiter.now()),
            "is_down": limiter is not None and limiter.is_down,
            "trouble": "" if limiter is None or limiter.lack else limiter.trouble,
            "come": self._come,
        }

    def _guard(self) -> None:
        if time.monotonic() > self._answered_at + self.ttl_s:
            self._is_fenced = True
            raise Fenced("the cluster's scheduler is silent")

    def _wake(self) -> None:
        self._news.set()

    def _hear(self, event: Event) -> None:
        if isinstance(event, (Paused, Down)):
            self._wake()

    def _watch(self, progress: Progress) -> None:
        tally = progress.tally
        self._come = {
            "total": tally.total, "done": tally.done, "missing": tally.missing, "failed": tally.failed,
            "bytes": tally.bytes, "requests": progress.requests,
        }  # fmt: skip
