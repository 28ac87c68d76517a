"""
The pump: items in, requests through the fetcher, outcomes to the keeper; each item exactly once.

One loop decides; answers, new items and due times wake it, and it handles whatever is ready in one go, so that
nothing is awaited once a cutout. A failed item is data. An item that waits for its next attempt holds no slot. What
the fetcher has verified goes to the keeper in batches; what is not yet claimed is bounded, so a kill loses little.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from psfharvest.concurrency.cancellation import is_error
from psfharvest.core.aclosing import closing
from psfharvest.core.errors import LocalError
from psfharvest.core.model import Delivery, Evidence, Failure, Item, Outcome, Reason, RetryPolicy, State
from psfharvest.core.policy.deferral import Deferral
from psfharvest.core.policy.refusals import Refusals
from psfharvest.core.policy.retry import Final, decide
from psfharvest.core.policy.suspicion import Suspicion
from psfharvest.core.ports import Fetcher, Keeper
from psfharvest.engine.archive_limiter import TICK_S
from psfharvest.engine.examiner import Examiner
from psfharvest.engine.outage_ledger import OutageLedger
from psfharvest.engine.retry_notes import RetryNotes
from psfharvest.engine.share import Share
from psfharvest.engine.wakeups import WakeUps

UNCLAIMED_MAX = 512
READY_MAX = 352
"""Cutouts fetched but not yet claimed, beside those on the wire: what a kill can cost."""
FRESH_MAX = 1024
RETRIES_MAX = 4096
"""Items that wait for another attempt; beyond that no new ones are begun."""
GATHER_S = 0.05
"""How long the writer waits for company before it keeps a small batch."""
GATHER_FULL = 128
"""A batch that is worth a sync; as many more may arrive while it is written."""

_BROKEN = (Evidence.NONE, Evidence.UNREACHABLE)
"""What a request may meet that was under way while this process did not run."""


class Pump:
    """
    Move a stream of items through a fetcher to a keeper.

    Parameters
    ----------
    fetcher, keeper
        Fetches the items, and stores the outcomes.
    share
        This user's share of the host's limiter; the fetcher has the same one.
    policy
        How often an item is tried, and how long an outage may last.
    gather_s
        How long a small batch waits for more before it is kept.
    budget
        Given how many items are in flight or fetched and not yet kept, returns how many more may be begun.
    patience_left_s
        Returns for how long an outage may still last, or raises `ArchiveDown`; None: the policy's patience from the
        start of the run.
    hold_s
        How long a verdict waits for a proof that the archive lives, before a control request asks for one: somebody
        waits for the verdict, while another request may stall.
    suspicion
        Examines checks of ours that refuse all; None: each item is on its own.
    fresh_max
        With so many items at hand no more are taken from the source.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        keeper: Keeper,
        share: Share,
        policy: RetryPolicy,
        *,
        gather_s: float = GATHER_S,
        budget: Callable[[int], int] | None = None,
        patience_left_s: Callable[[], float] | None = None,
        hold_s: float = math.inf,
        suspicion: Suspicion | None = None,
        fresh_max: int = FRESH_MAX,
    ) -> None:
        self._retry_notes = RetryNotes()
        self._fetcher = fetcher
        self._keeper = keeper
        self._share, self._limiter = share, share.limiter
        self._policy = policy
        self._gather_s = gather_s
        self._budget = budget or self._unclaimed_budget
        self._patience_left_s = patience_left_s or self._run_patience_left_s
        self._hold = math.inf, hold_s  # since when a verdict is held, and for how long it may be
        self._fresh: deque[Item] = deque()
        self._fresh_max = fresh_max
        self._retries: list[tuple[float, int, Item]] = []
        self._sent = self._writing = 0
        self._ready: list[Outcome] = []
        self._ledger = OutageLedger(share.limiter.health.n_outages)
        self._refusals = Refusals()
        self._deferral = Deferral()
        self._examiner = Examiner(suspicion, share.limiter, fetcher.recall)
        self._control = share.limiter.controls_begun
        self._n_interrupted = 0  # answers still to come to requests that were under way in a gap of the clock
        self._unwanted: set[int] = set()  # numbers of items that nobody waits for any more
        self._is_recall_due = False
        self._is_fed = self._has_room = False
        self._error: BaseException | None = None
        self._gaps_s = self._began_at = 0.0
        self._wakeups = WakeUps()

    @property
    def waiting(self) -> int:
        """Items that wait for another attempt."""
        return len(self._retries) + len(self._ledger) + len(self._deferral) + len(self._examiner)

    @property
    def retried(self) -> Counter[Reason]:
        """Transient trouble met so far, by reason."""
        return self._retry_notes.counts

    async def run(self, source: AsyncIterable[Sequence[Item]]) -> None:
        """
        Move every item of `source`, then return.

        Cancelled, it ends the requests under way and keeps what was fetched before the cancellation goes on.

        Raises
        ------
        ArchiveDown
            When an outage outlasted the patience; all not kept is still pending.
        AllRefused
            When one check of ours refused all that came first; that is still pending, too.
        LocalError
            When the keeper could not keep a batch.
        """
        self._began_at, self._gaps_s = self._limiter.begin_waiting(), self._limiter.gaps_s
        self._share.patience_s = max(self._share.patience_s, self._policy.patience_s)
        self._share.wake = self.wake
        try:
            async with self._fetcher.open(self.wake), anyio.create_task_group() as group:
                group.start_soon(self._feed, source, group.cancel_scope)
                group.start_soon(self._write, group.cancel_scope)
                try:
                    await self._work(group)
                except Exception as error:  # noqa: BLE001 - raised below, without an exception group
                    self._error = self._error or error
                group.cancel_scope.cancel()
        finally:
            self._share.wake = None
            await self._flush()
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """Take a turn soon."""
        self._wakeups.woken.set()

    def discard(self, number: int) -> None:
        """Forget an item: it is not sent if it has not been, and not tried again."""
        self._unwanted.add(number)
        self._is_recall_due = True  # once a turn, however many leave
        self.wake()

    def refetch(self, items: Sequence[Item], reason: Reason = Reason.NO_PRODUCT) -> None:
        """Ask again for items whose refusal does not hold; call it within `Keeper.keep`, or within a turn."""
        for item in items:
            self._retry_notes.note(reason, item)
            self._fresh.append(item)

    async def _feed(self, source: AsyncIterable[Sequence[Item]], scope: anyio.CancelScope) -> None:
        try:
            async with closing(source):
                async for batch in source:
                    self._fresh.extend(batch)
                    self.wake()
                    while len(self._fresh) >= self._fresh_max:  # the source chooses what is next as late as may be
                        self._wakeups.room = anyio.Event()
                        await self._wakeups.room.wait()
        except LocalError as error:
            self._stop(error, scope)
        except BaseException as error:
            if not is_error(error):
                raise
            self._error = self._error or error  # raised by run(), once what the source gave is kept
        self._is_fed = True
        self.wake()

    async def _write(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._wakeups.to_write.wait()
                if self._gather_s and len(self._ready) < GATHER_FULL and not self._is_draining():
                    self._wakeups.enough = anyio.Event()
                    with anyio.move_on_after(self._gather_s):
                        await self._wakeups.enough.wait()
                await self._keep_ready()
        except Exception as error:  # noqa: BLE001 - as above
            self._stop(error, scope)

    async def _keep_ready(self) -> None:
        batch, refuted = self._refusals.standing(self._ready)
        self._ready = []
        self.refetch(refuted)
        self._wakeups.to_write = anyio.Event()
        self._writing = len(batch)
        if batch:
            await self._keeper.keep(batch)
            self._share.n_kept += sum(outcome.state is State.DONE for outcome in batch)
        self._writing = 0
        if self._unwanted:
            self._unwanted.difference_update(o.item.number for o in batch)
        self.wake()

    async def _flush(self) -> None:
        if self._ready and not self._writing:
            try:
                await self._keep_ready()
            except Exception as error:  # noqa: BLE001 - the first error is the one to tell
                self._error = self._error or error

    def _stop(self, error: BaseException, scope: anyio.CancelScope) -> None:
        self._error = self._error or error
        scope.cancel()

    async def _work(self, group: TaskGroup) -> None:
        while True:
            self._wakeups.woken = anyio.Event()
            now = self._share.begin_turn()  # the one look at the clock: a second one could contradict it
            self._notice_gap()
            if self._is_recall_due:
                self._is_recall_due = False
                self._fetcher.recall()
            self._judge_all(now)
            if self._share.takes_control():
                group.start_soon(self._send_control, group.cancel_scope)
            self._note_control()
            if self._examiner.is_examining:
                self._admit_probe()
            else:
                self._admit(now)
            if self._is_draining() and not self._ready and not self._writing:
                return
            with anyio.move_on_after(self._pause_s(now)):
                await self._wakeups.woken.wait()

    async def _send_control(self, scope: anyio.CancelScope) -> None:
        is_answered = False
        try:
            failure = await self._fetcher.control()
            is_answered = True
            self._share.controlled(failure)
        except BaseException as error:
            if not is_error(error):
                raise
            self._stop(error, scope)  # raised by run(), without an exception group
        finally:
            if not is_answered:
                self._share.control_dropped()

    def _notice_gap(self) -> None:
        """Leave out a time in which this process was stopped: neither patience nor attempts count it."""
        gaps_s = self._limiter.gaps_s
        if gaps_s > self._gaps_s:
            self._began_at += gaps_s - self._gaps_s
            self._gaps_s = gaps_s
            self._n_interrupted = self._sent

    def _note_control(self) -> None:
        if self._limiter.controls_begun != self._control:
            self._control = self._limiter.controls_begun
            self._ledger.control_begun()

    def _judge_all(self, now: float) -> None:
        self._judge_new(now)
        self._retry_notes.emit(self._share)
        if self._limiter.health.n_outages != self._ledger.n_outages:
            self._take_back()
        elif self._ledger.is_controlled and self._limiter.last_passed == self._control:
            self._ready += self._ledger.control_passed()
            self._deferral.suspect()
        self._examine(now)
        self._judge_held(now)
        if self._ready:
            self._wakeups.to_write.set()
            if len(self._ready) >= GATHER_FULL or self._is_draining():
                self._wakeups.enough.set()

    def _judge_held(self, now: float) -> None:
        held_at, hold_s = self._hold
        held_at = min(now, held_at) if self._ledger else math.inf
        if self._ledger and self._is_quiet():
            if self._ledger.needs_control:
                self._limiter.doubt()
            else:
                self._ready += self._ledger.settle()
        elif now - held_at >= hold_s and not self._fresh:
            held_at = now
            self._limiter.doubt()
        self._hold = held_at, hold_s

    def _examine(self, now: float) -> None:
        """Go on with the examination of a check that refuses all, or judge what was held back in vain."""
        self.refetch(self._examiner.again(), Reason.WRONG_SOURCE)
        is_idle = self._is_quiet() and not len(self._deferral)
        self._judge_refused(self._examiner.turn(now, is_idle=is_idle, is_fed=self._is_fed), now)

    def _judge_refused(self, held: Sequence[Delivery], now: float) -> None:
        for delivery in held:
            if delivery.failure is not None:
                self._judge_failure(delivery, delivery.failure, now, is_examined=True)

    def _take_back(self) -> None:
        for outcome in self._ledger.outage(self._limiter.health.n_outages):
            self._fresh.append(outcome.item)
            self._retry_notes.note(outcome.reason or Reason.SERVER_ERROR, outcome.item)
        self._retry_notes.emit(self._share)
        self._fresh.extend(self._examiner.take_back())
        self._refusals.forget()
        self._deferral.clear()

    def _judge_new(self, now: float) -> None:
        deliveries = self._fetcher.take(is_behind=self._is_behind())
        self._sent -= len(deliveries)
        unsent: list[Item] = []
        for delivery in deliveries:
            item = delivery.item
            if item.number in self._unwanted:
                self._unwanted.discard(item.number)
                self._ledger.failed(item.number)
                self._fresh.extend(self._deferral.seen(item.number))
                continue
            if delivery.n_repeated:  # no attempts: what had died is the connection, not the request
                self._retry_notes.note(Reason.RESET, item, n=delivery.n_repeated)
            if self._deferral:
                self._fresh.extend(self._deferral.seen(item.number))
            if delivery.failure is not None:
                self._ledger.failed(item.number)
                self._judge_failure(delivery, delivery.failure, now)
            elif delivery.body is not None:
                self._refusals.given(item)
                self._judge_refused(self._examiner.came(item), now)
                attempts = self._ledger.attempts_after(item)
                self._ready += self._ledger.came(item.number)
                self._deferral.clear()
                done = Outcome(item, State.DONE, attempts, delivery.body, delivery.sha256)
                self._ready.append(done._replace(quirk=delivery.quirk) if delivery.quirk else done)
            else:
                self._ledger.failed(item.number)
                if not self._examiner.dropped(item):
                    unsent.append(item)
            self._n_interrupted = max(0, self._n_interrupted - 1)
        self._fresh.extendleft(reversed(unsent))

    def _judge_failure(
        self, delivery: Delivery, failure: Failure, now: float, *, is_examined: bool = False
    ) -> None:
        item = delivery.item
        is_interrupted = self._n_interrupted > 0 and failure.evidence in _BROKEN
        if delivery.is_lost or is_interrupted:
            self._retry_notes.note(failure.reason, item)
            if not self._examiner.dropped(item):
                # behind the others, so that the next probe asks for another cutout
                self._fresh.append(self._ledger.refunded(item))
            return
        failure = self._refusals.refused(item, failure)
        if not is_examined and self._examiner.holds(delivery, failure):
            return
        self._examiner.judged(item)
        attempts = self._ledger.attempts_after(item)
        self._ledger.charge(item.number)
        self._deferral.failed(item)
        if failure.fingerprint:
            item = item._replace(refusal=failure.fingerprint)
        verdict = decide(failure, attempts, self._policy, random.random())  # noqa: S311 - jitter
        if isinstance(verdict, Final):
            self._ledger.hold(Outcome(item, verdict.state, attempts, reason=failure.reason, detail=failure.detail))
            return
        self._retry_notes.note(failure.reason, item, verdict.delay_s)
        heapq.heappush(self._retries, (now + verdict.delay_s, item.number, item._replace(attempts=attempts)))

    def _admit(self, now: float) -> None:
        budget = self._budget(self._fetcher.exposed() + len(self._ready) + self._writing)
        is_due = bool(self._retries) and self._retries[0][0] <= now
        self._share.n_waiting = self._fetcher.held() + min(max(0, budget), len(self._fresh) + is_due)
        room = int(min(self._fetcher.room(), budget, self._examiner.room(self._sent)))
        batch: list[Item] = []
        while self._retries and len(batch) < room and self._retries[0][0] <= now:
            self._choose(self._ledger.refunded(heapq.heappop(self._retries)[2]), batch)
        while self._fresh and len(batch) < room and len(self._retries) < RETRIES_MAX:
            item = self._fresh.popleft()
            if not self._deferral or not self._deferral.takes(item):
                self._choose(item, batch)
        if self._deferral and not self._fresh and len(batch) < room:
            for item in self._deferral.probes(room - len(batch)):
                self._choose(item, batch)
        if batch:
            self._submit(batch, is_cut=len(batch) == budget)
        self._has_room = len(batch) < room
        if len(self._fresh) < max(1, self._fresh_max // 2):
            self._wakeups.room.set()

    def _submit(self, batch: Sequence[Item], *, is_cut: bool = False) -> None:
        self._sent += len(batch)
        self._ledger.sent(batch)
        self._fetcher.submit(batch)
        if is_cut and self._fresh and self._fetcher.room():
            self.wake()  # it collects for a bundle: what it holds and has not sent takes no budget

    def _admit_probe(self) -> None:
        """Send nothing but the cutout by which a check that refuses all is examined."""
        self._has_room = False
        self._share.n_waiting = self._fetcher.held() + 1
        batch = self._examiner.probe(self._fetcher.room())
        if batch:
            self._submit(batch)

    def _choose(self, item: Item, batch: list[Item]) -> None:
        if item.number in self._unwanted:
            self._unwanted.discard(item.number)
            self._fresh.extend(self._deferral.seen(item.number))
        else:
            batch.append(item)

    def _unclaimed_budget(self, n_unclaimed: int) -> int:
        return self._limiter.throttle.limit + UNCLAIMED_MAX - n_unclaimed

    def _run_patience_left_s(self) -> float:
        return self._limiter.patience_left_s(self._policy.patience_s, self._began_at)

    def _pause_s(self, now: float) -> float:
        pauses = [self._share.next_change_s()]
        if not self._is_behind():
            pauses.append(self._fetcher.next_change_s())
        if self._retries and self._has_room:
            pauses.append(max(0.0, self._retries[0][0] - now))
        pauses += [self._patience_left_s(), TICK_S]
        return min(p for p in pauses if p is not None)

    def _is_behind(self) -> bool:
        """Return True while the keeper is behind, so that bundles are held back while they stream."""
        return len(self._ready) + self._writing >= READY_MAX

    def _is_quiet(self) -> bool:
        """Return True while nothing is under way, and nothing is left to send but what waits for its time."""
        return not (self._fresh or self._sent) and not self._fetcher.is_busy()

    def _is_draining(self) -> bool:
        is_empty = not (self._retries or self._ledger or len(self._deferral) or len(self._examiner))
        return self._is_fed and is_empty and self._is_quiet()
