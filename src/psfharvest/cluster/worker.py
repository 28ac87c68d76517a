"""
Task of a worker: harvest one part within the connections that the board grants; end when the board is silent.

One task is one part, in an event loop of the task's own thread. The holder of a part asks the board once a second;
without a good answer for three quarters of `ttl_s` it ends its run with all claimed work kept, closes its
connections, and begins anew as another holder that has nothing open.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.to_thread
from distributed import get_worker
from distributed.utils import sync

from psfharvest.archive.endpoints import endpoints_for
from psfharvest.archive.session import Session
from psfharvest.cluster.order import PartTask
from psfharvest.cluster.shares import GO, OVER, TTL_S
from psfharvest.core.errors import ArchiveDown, BadInput, LocalError, PsfharvestError
from psfharvest.core.model import Progress, Report
from psfharvest.events.hub import Hub
from psfharvest.events.model import Down, Event, Paused
from psfharvest.run import Job, learnt_cache
from psfharvest.run.results import limits_now, slots_for
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import is_harvest
from psfharvest.store.read.account import account

ASK_EVERY_S = 1.0
FENCE = 0.75
"""Of `ttl_s`: without a good answer for so long a holder ends its run."""
SILENCE_MAX_S = 120.0
"""A task that has waited so long for any answer fails; the cluster runs it elsewhere."""
CLOSING_S = 1.0
"""Deadline of the message that a holder is done."""

Say = Callable[..., dict[str, Any] | None]
"""Sends the board a message; None where no good answer came in time."""


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a task ended.

    ``done`` or ``stopped`` with the account, the latter with the reason for words; ``local``, ``refused`` or
    ``over`` with words.
    """

    kind: str
    report: Report | None = None
    words: str = ""


class Fenced(PsfharvestError):
    """Raised in place of a write when the board has been silent for too long: others may hold the part by now."""


def harvest_part(task: PartTask) -> Ending:
    """Harvest a part; the task that the cluster runs."""
    worker = get_worker()

    def say(**said: Any) -> dict[str, Any] | None:
        try:
            answer = sync(
                worker.loop,
                worker.scheduler.psfharvest_board,
                callback_timeout=ASK_EVERY_S,
                archive=_root(task),
                **said,
            )
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return None
        return answer if isinstance(answer, dict) and "word" in answer else None

    return anyio.run(_harvest, task, say, worker.address)


async def _harvest(task: PartTask, say: Say, worker: str) -> Ending:
    while True:
        holder = _Holder(task, say, worker)
        ending = await holder.work()
        if ending is not None:
            return ending


@dataclass(slots=True)
class _Holder:
    """One attempt at a part."""

    task: PartTask
    say: Say
    worker: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    epoch: int = field(default_factory=time.monotonic_ns)
    ttl_s: float = TTL_S
    _seq: int = 0
    _held: int = 0
    _wanted: int = 0
    _answered_at: float = field(default_factory=time.monotonic)
    _come: dict[str, int] = field(default_factory=dict)
    _session: Session | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _setting: anyio.CancelScope | None = None
    _is_fenced: bool = False

    async def work(self) -> Ending | None:
        """Wait until the part is free, and harvest it; None: begin anew as another holder."""
        try:
            while True:
                answer = await self._ask()
                if answer is not None and answer["word"] == OVER:
                    return Ending("over")
                if answer is not None and answer["word"] == GO:
                    break
                if time.monotonic() > self._answered_at + SILENCE_MAX_S:
                    return Ending("over", words="the scheduler does not answer")
                await anyio.sleep(ASK_EVERY_S)
            ending = await anyio.to_thread.run_sync(self._found)
            return await self._run(answer) if ending is None else ending
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await self._ask(is_done=True)

    def _found(self) -> Ending | None:
        """Return the ending of a part that is finished, or merged already by another head; None for all others."""
        if is_harvest(self.task.order.folder):
            return Ending("done")
        if in_parts.is_finished(self.task.folder):
            return Ending("done", replace(account(self.task.folder), requests=0, elapsed_s=0.0, stopped=""))
        return None

    async def _run(self, first: dict[str, Any]) -> Ending | None:
        order = self.task.order
        endpoints = endpoints_for(order.base, None)
        limits = limits_now(order.limits, is_public=endpoints.is_public)
        learnt = await anyio.to_thread.run_sync(learnt_cache.read, endpoints.root)
        hub = Hub(self._hear)
        slots = await slots_for(endpoints.is_public)
        self._session = Session(endpoints, limits, order.retry, None, learnt=learnt, hub=hub, slots=slots)
        settings = replace(order.settings, is_part=True)
        job = Job(
            self._session, self.task.folder, settings, order.via, (), self._watch,
            accept=order.accept, guard=self._guard,
        )  # fmt: skip
        ending = Ending("over")
        try:
            await self._session.limit(0)
            async with anyio.create_task_group() as group:
                self._take(first, group)
                group.start_soon(self._keep_asking, group)
                with suppress(Fenced):
                    ending = await self._ended(job)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._session.aclose()
            hub.close()
            self._held = 0
        return None if self._is_fenced and ending.kind == "over" else ending

    async def _ended(self, job: Job) -> Ending:
        task = self.task
        sizes = {"unsat_size_px": task.unsat_size_px, "sat_size_px": task.sat_size_px}
        try:
            report = await job.harvest(task.what, task.suffixes, extend=False, part=task.part, **sizes)
        except LocalError as error:
            return Ending("local", error.report, str(error))
        except ArchiveDown:
            return Ending("stopped", words="archive_down")
        except BadInput as error:
            return Ending("refused", words=str(error))
        if report.stopped:
            return Ending("stopped", report, report.stopped)
        return Ending("done" if not report.pending and report.is_fully_asked else "over", report)

    async def _keep_asking(self, group: anyio.abc.TaskGroup) -> None:
        while True:
            with anyio.move_on_after(ASK_EVERY_S):
                await self._news.wait()
            self._news = anyio.Event()
            answer = None if self._is_silent(FENCE) else await self._ask()
            if answer is not None and answer["word"] == GO:
                self._take(answer, group)
            elif answer is not None and answer["word"] == OVER:
                break
            if self._is_silent(FENCE):
                self._is_fenced = True
                break
        group.cancel_scope.cancel()

    def _is_silent(self, share: float) -> bool:
        """Return whether there was no good answer for a share of `ttl_s`, counted from its asking."""
        return time.monotonic() > self._answered_at + share * self.ttl_s

    def _take(self, answer: dict[str, Any], group: anyio.abc.TaskGroup) -> None:
        """Apply the pause, the rate and the connections of an answer."""
        if self._session is None:
            return
        if answer["pause_s"] > 0:
            self._session.limiter.hold(answer["pause_s"])
        if self.task.order.limits.max_per_second is not None and answer["grant"]:
            self._session.limiter.rate.per_second = answer["per_second"]
        self._wanted = answer["grant"]
        self._held = max(self._held, self._wanted)
        group.start_soon(self._set_limit, self._session, answer["grant"])

    async def _set_limit(self, session: Session, grant: int) -> None:
        """Use so many connections; until no more are open, what was open before counts."""
        if self._setting is not None:
            self._setting.cancel()
        with anyio.CancelScope() as scope:
            self._setting = scope
            await session.limit(grant)
            if self._wanted == grant:
                self._held = grant

    async def _ask(self, *, is_done: bool = False) -> dict[str, Any] | None:
        limiter = None if self._session is None else self._session.limiter
        self._seq += 1
        said = {
            "word": "ask",
            "holder": self.name,
            "part": self.task.name,
            "worker": self.worker,
            "slot": str(threading.get_ident()),
            "epoch": self.epoch,
            "seq": self._seq,
            "held": self._held,
            "is_done": is_done,
            "pause_s": 0.0 if limiter is None else max(0.0, limiter.told_until - limiter.now()),
            "is_down": limiter is not None and limiter.is_down,
            "come": self._come,
        }
        asked_at = time.monotonic()
        answer = await anyio.to_thread.run_sync(lambda: self.say(**said), abandon_on_cancel=True)
        if answer is not None:
            self._answered_at, self.ttl_s = asked_at, answer["ttl_s"]
        return answer

    def _guard(self) -> None:
        if self._is_silent(1.0):
            self._is_fenced = True
            raise Fenced("the cluster's scheduler is silent")

    def _hear(self, event: Event) -> None:
        if isinstance(event, (Paused, Down)):
            self._news.set()

    def _watch(self, progress: Progress) -> None:
        tally = progress.tally
        self._come = {
            "total": tally.total, "done": tally.done, "missing": tally.missing, "failed": tally.failed,
            "bytes": tally.bytes, "requests": progress.requests, "connections": progress.connections,
        }  # fmt: skip


def _root(task: PartTask) -> str:
    return endpoints_for(task.order.base, "").root
