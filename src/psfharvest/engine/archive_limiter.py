"""
Rate limiter and circuit breaker of one archive: decides when a request may be sent.

All requests to a host (cutouts, bundles, queries, of every harvest of one `Archive`) pass here, so that the ceiling
of connections, the rate, the pauses (a 429 and its Retry-After) and the outages hold for all of them together.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from psfharvest.core.errors import ArchiveDown
from psfharvest.core.model import Failure, Limits, Reason, RetryPolicy
from psfharvest.core.policy import given_up
from psfharvest.core.policy.health import CircuitBreaker
from psfharvest.core.policy.rate import Rate
from psfharvest.core.policy.retry import MAX_SLEEP_S
from psfharvest.core.policy.throttle import Throttle
from psfharvest.core.reasons import OVERLOAD
from psfharvest.engine.announcer import Announcer
from psfharvest.engine.connection_shares import free_part, in_order, queued_part, rate_part
from psfharvest.engine.share import Share
from psfharvest.engine.waiter import loop_clock
from psfharvest.events.hub import Hub, Voice
from psfharvest.events.model import Event

PUBLIC_START = 2
"""Connections that a run on the public archive begins with; it earns the rest."""
TICK_S = 1.0
"""Interval at which waiting tasks check the clock for a gap."""
GAP_S = 2.0
"""A look that comes later than this: the process was stopped, or the machine was suspended."""
AHEAD_FACTOR = 4
"""Requests waiting at the wire, a connection: enough that none is idle, few enough to be taken back."""
URGENT_RECENT_S = 30.0
"""For how long after a single request one connection is kept free of bundles, which hold one for many seconds."""


class ArchiveLimiter:
    """
    The state that all requests to one host share.

    Parameters
    ----------
    limits, policy
        The ceilings, and the patience.
    is_public
        True for the public archive, which is approached slowly.
    is_queued
        Whether the wire itself keeps requests waiting until a connection is free, urgent ones first, then each user
        in turn. Else no more is handed over than there are connections.
    hub
        Gets the events of ceiling, pauses and outages.
    where
        The address that messages name.
    clock
        A monotonic clock in seconds; None: the event loop's own.
    """

    def __init__(
        self,
        limits: Limits,
        policy: RetryPolicy,
        *,
        is_public: bool,
        is_queued: bool = False,
        hub: Hub | None = None,
        where: str = "the archive",
        clock: Callable[[], float] | None = None,
    ) -> None:
        ceiling = limits.connections(is_public=is_public)
        self.throttle = Throttle(ceiling, PUBLIC_START if is_public else ceiling)
        self.health = CircuitBreaker(policy)
        self.hub = hub or Hub()
        self._announcer = Announcer(self.hub, self.throttle, self.health)
        self._patience_s = policy.patience_s
        self._where = where
        self.requests = self.in_flight = 0
        self.controls_begun = self.last_passed = 0
        """Control requests sent, and the number of the last one that was answered."""
        self.ask: Callable[[], None] | None = None
        """Called when more connections could be used than there are slots for, where those are counted."""
        self.lack = ""
        """Why there is no connection to be had, while it is others who have them all."""
        self._slots: int | None = None
        self.gaps_s = 0.0
        """How long this process has not run in all, as far as was noticed: stopped, or suspended."""
        self._is_queued, self._is_held = is_queued, False
        self._shares: list[Share] = []
        self._urgent_at = -math.inf
        self._closed_by: Exception | None = None
        self.rate = Rate(limits.max_per_second)
        self.has_answered = False
        """Whether any request was answered well."""
        self._clock, self._changed = clock or loop_clock(), anyio.Event()
        self._now, self._number, self._waiting_turns = self._clock(), 0, 0
        self._resumes_at = self.retry_after_until = 0.0  # the latter as the archive's Retry-After asked

    @property
    def is_down(self) -> bool:
        """True while the archive is held to be down."""
        return self.health.is_down

    @property
    def trouble(self) -> str:
        """Why nothing comes: the archive's last words while it is down or has not answered yet; else nothing."""
        return self.lack or (self.words if self.is_down or not self.has_answered else "")

    @property
    def words(self) -> str:
        """The archive's last words about its trouble, explained."""
        return self.explained(self.health.words, self.health.last_reason)

    @property
    def is_holding(self) -> bool:
        """True while nobody may send: a pause, an outage, or a doubt that a control request is to settle."""
        return self.is_down or self.health.is_doubted or self._paused_until > self._clock()

    @property
    def connections(self) -> int:
        """Connections that may be in use now."""
        return 0 if self._is_held else self._limit

    @property
    def _limit(self) -> int:
        """Connections that may be in use while all is well."""
        return self.throttle.limit if self._slots is None else min(self.throttle.limit, self._slots)

    @property
    def ceiling(self) -> int:
        """Connections that may ever be in use, as the user has it."""
        return 0 if self._is_held else self.throttle.ceiling

    @property
    def connections_wanted(self) -> int:
        """Connections that could be used now, if there were slots for them."""
        needed = self.in_flight
        if self._paused_until <= self._clock():
            needed += self._waiting_turns + self.health.wants_control + sum(s.n_waiting for s in self._shares)
        return min(self.throttle.limit, needed)

    @property
    def slots(self) -> int:
        """Connections that there are slots for; where those are not counted, as many as may ever be in use."""
        return self.throttle.ceiling if self._slots is None else self._slots

    def set_slots(self, n: int) -> None:
        """Use no more connections than there are slots for; 0: none until there are some again."""
        if n != self._slots:
            self._slots = n
            self.announce()

    def _want_slots(self) -> bool:
        """Return True when there is no slot at all; who is to provide them hears that more are wanted."""
        if self._slots is None:
            return False
        if self.ask is not None and self._slots < self.connections_wanted:
            self.ask()
        return not self._slots

    def limit(self, connections: int) -> None:
        """Change the ceiling of connections; 0 holds all requests until there are some again."""
        self._is_held = connections == 0
        if connections:
            self.throttle.set_ceiling(connections)
        self.announce()

    def hold(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._resumes_at = max(self._resumes_at, self._clock() + seconds)
        self.announce()

    @property
    def _paused_until(self) -> float:
        return math.inf if self._is_held else self._resumes_at

    @property
    def is_wanted(self) -> bool:
        """True while a query waits for a connection."""
        return self._waiting_turns > 0

    @property
    def is_open(self) -> bool:
        """True when some request might start now, whosever it is."""
        return not self.health.is_doubted and self._free() > 0

    def share(self, *, is_urgent: bool = False, voice: Voice | None = None) -> Share:
        """Return the share of a new user, to be closed by it; its events are emitted by its voice."""
        share = Share(self, is_urgent=is_urgent, voice=voice)
        self._shares.append(share)
        return share

    def leave(self, share: Share) -> None:
        """End a user's share; harmless when it has ended."""
        if share in self._shares:
            self._shares.remove(share)
            self.announce()

    def emit(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event that concerns all users."""
        self.hub.emit(kind, **fields)

    def next_number(self) -> int:
        """Return a number that grows with every call: the order in which users were served."""
        self._number += 1
        return self._number

    @property
    def is_closed(self) -> bool:
        """True once all waiting has been ended."""
        return self._closed_by is not None

    def close(self, error: Exception) -> None:
        """End all waiting: every later turn raises the error."""
        self._closed_by = self._closed_by or error
        self.announce()

    def allowance(self, ahead: int = 0) -> int:
        """
        Return how many requests for cutouts may be handed over now; queries that wait go first.

        Parameters
        ----------
        ahead
            How many a wire likes to hold beside those that it can send; granted while all is well.
        """
        free = 0 if self.health.is_doubted else self._free()
        is_holding = self.is_down or self.health.is_doubted or self._paused_until > self._now
        if ahead and self._limit and not (is_holding or self._waiting_turns or self.rate):
            free += min(ahead, AHEAD_FACTOR * self._limit)
        return max(0, free - self._waiting_turns)

    def allowance_of(self, share: Share, ahead: int) -> int:
        """Return the same for one of several users: its fair part, and what it may hand over ahead."""
        if self._want_slots() or self.is_down or self.health.is_doubted or self._paused_until > self._now:
            return self.allowance()
        room = self._queued_room(share, ahead) if self._is_queued else self._free_slots(share)
        if self.rate:
            total = self.rate.room(self._now, self._limit) - self._waiting_turns
            room = min(room, rate_part(share, in_order(self._shares), total))
        return max(0, room)

    def _queued_room(self, share: Share, ahead: int) -> int:
        # what has nothing waiting in the wire are bundles, which hold a connection for many seconds
        keeps_one = not ahead and self._now - self._urgent_at < URGENT_RECENT_S
        limit = max(1, self._limit - self._waiting_turns)
        part = queued_part(share, in_order(self._shares), limit, keeps_one=keeps_one)
        if not (self.rate or self._waiting_turns):
            part += min(ahead, AHEAD_FACTOR * self._limit)
        return part - share.in_flight

    def _free_slots(self, share: Share) -> int:
        free = self._limit - self.in_flight - self._waiting_turns
        return free_part(share, in_order(self._shares), self._limit, free)

    def next_change_s(self) -> float | None:
        """
        Return in how many seconds the allowance may grow by mere time, or None when time alone changes nothing.

        Reckoned from the start of the turn, as `allowance` is: whatever was closed there has a time to open.
        """
        now = self._now
        if self._is_held:
            return None
        opens_at = max(self._paused_until, self.rate.ready_at())
        if self.is_down and not self.health.is_doubted:
            opens_at = max(opens_at, self.health.probe_at)
            if self.in_flight or opens_at <= now:
                return None
        if opens_at > now:
            return opens_at - now
        # a clock of many days is coarse: rounding alone must not keep the limiter closed without a time to open
        return 0.001 if self.rate and self.rate.room(now, 1) < 1 else None

    def now(self) -> float:
        """Return the time on the monotonic clock of the limiter, in seconds."""
        return self._clock()

    def begin_waiting(self) -> float:
        """Note that somebody begins to wait, and return the time: if nobody did before, no turn was missed."""
        if not (self._waiting_turns or any(share.wake is not None for share in self._shares)):
            self._now = self._clock()
        return self._clock()

    def begin_turn(self) -> float:
        """
        Read the clock for one turn of decisions, and return the time read.

        `allowance` and `next_change_s` reckon with this one time until the next turn. Two looks at the clock could
        find the limiter closed and then, a moment later, nothing to wait for; the caller would sleep for ever.

        A waiting task begins a turn at least every `TICK_S`. One that begins much later shows that this process did
        not run (it was stopped, or the machine suspended): no outage and no patience count that time.
        """
        if self._closed_by is not None:
            raise self._closed_by
        now = self._clock()
        gap_s = now - self._now - TICK_S
        self._now = now
        self._tell_changes(now)
        if gap_s > GAP_S:
            self.gaps_s += gap_s
            self.health.skip(gap_s)
        return now

    def explained(self, words: str, reason: Reason | None) -> str:
        """Return words about a failure; with advice as long as no request was answered, where there is some."""
        return words if self.has_answered else given_up.with_hint(words, reason, self._where)

    def unreached(self, policy: RetryPolicy, n_before: int) -> ArchiveDown | None:
        """Return the error of one who has used up the tries to connect since there were `n_before`, or None."""
        n = self.health.failed_connections - n_before
        if policy.connect_tries is None or n < policy.connect_tries:
            return None
        return given_up.unreached(self._where, self.health.words, n)

    def patience_left_s(self, patience_s: float, since: float) -> float:
        """
        Return for how long the present outage may still last; infinity when there is none.

        A waiting task has patience from the time when it began (`since`), however long the outage had lasted then.

        Raises
        ------
        ArchiveDown
            When it has lasted too long; with the archive's last words.
        """
        left_s = self.health.gives_up_at(patience_s, since) - self._clock()
        if left_s > 0:
            return left_s
        words = self.words
        raise given_up.banned(words) if self.health.is_banned else given_up.out_of_reach(words, patience_s)

    def started(self, n: int = 1, by: Share | None = None) -> None:
        """Count requests handed over."""
        if by is not None and by.is_urgent:
            self._urgent_at = self._now
        self.requests += n
        self.in_flight += n
        if self.rate:
            self.rate.started(n, self._clock())

    def succeeded(self, n: int, mean_s: float, by: Share | None = None) -> None:
        """Take note of `n` requests answered well, in `mean_s` seconds each."""
        self.has_answered = True
        self.in_flight -= n
        self.health.success()
        self.throttle.observe(n, 0, mean_s)
        self.announce(by)

    def failed(
        self,
        failure: Failure,
        subject: object,
        elapsed_s: float,
        by: Share | None = None,
        *,
        is_repeat: bool = False,
    ) -> bool:
        """Count one failed request; True when it was lost to an outage, and says nothing of its subject."""
        self.in_flight -= 1
        now = self._clock()
        self._announcer.why = failure.detail or failure.reason.value
        if failure.reason in OVERLOAD:
            is_demand = failure.reason is Reason.RATE_LIMITED or failure.retry_after_s is not None
            self.throttle.observe(0, 1, 0.0, is_repeat=is_repeat, is_demand=is_demand)
        else:
            self.throttle.observe(1, 0, elapsed_s)
        if failure.reason is Reason.RATE_LIMITED:
            pause_s = min(1.0 if failure.retry_after_s is None else failure.retry_after_s, MAX_SLEEP_S)
            self.retry_after_until = max(self.retry_after_until, now + pause_s)
            self._resumes_at = max(self._resumes_at, self.retry_after_until)
        is_lost = self.health.failure(failure, subject, now, random.random())  # noqa: S311 - jitter
        self.announce(by)
        return is_lost

    def doubt(self) -> None:
        """Require a control request before anything else is sent; its answer tells whether there is an outage."""
        if not (self.is_down or self.health.is_doubted):
            self.health.doubt()
            self.announce()

    def takes_control(self) -> bool:
        """Return True when the caller must send the control request now, and give its answer to `controlled`."""
        if not self.health.wants_control:
            return False
        self._want_slots()
        if self.in_flight >= self._limit or self._now < self._paused_until:
            return False
        self.health.begin_control()
        self.controls_begun += 1
        self.started()
        return True

    def controlled(self, failure: Failure | None) -> None:
        """Count the answer to the control request: a failure, or None when it was good."""
        self.in_flight -= 1
        self.health.end_control(failure, self._clock(), random.random())  # noqa: S311 - jitter
        if not self.is_down:
            self.last_passed = self.controls_begun
        self.announce()

    def control_dropped(self) -> None:
        """Count a control request that ended without an answer."""
        self.in_flight -= 1
        self.health.drop_control()
        self.announce()

    def dropped(self, n: int = 1, by: Share | None = None) -> None:
        """Count requests that we ended ourselves."""
        self.in_flight -= n
        self.announce(by)

    def repeated(self, n: int) -> None:
        """Take note of requests that the wire had to send once more."""
        self.requests += n

    def unsent(self, n: int, by: Share | None = None) -> None:
        """Take back the count of requests that were not sent after all."""
        self.in_flight -= n
        self.requests -= n
        self.announce(by)

    @asynccontextmanager
    async def turn(self, patience_s: float, begin_turn: Callable[[], object] | None = None) -> AsyncIterator[None]:
        """
        Wait until one more request may be sent; its end must be reported by `succeeded`, `failed` or `unsent`.

        Each turn of the wait begins with `begin_turn`, the limiter's own where none is given.

        Raises
        ------
        ArchiveDown
            When the patience ends first.
        """
        began_at, gaps_s = self.begin_waiting(), self.gaps_s
        self._waiting_turns += 1
        self.announce()  # what others have waiting in a wire is to come back
        try:
            while self._free_now(begin_turn or self.begin_turn) < 1:
                left_s = self.patience_left_s(patience_s, began_at + self.gaps_s - gaps_s)
                changed, pause_s = self._changed, self.next_change_s()
                with anyio.move_on_after(min(left_s, TICK_S if pause_s is None else pause_s, TICK_S)):
                    await changed.wait()
        finally:
            self._waiting_turns -= 1
            self.announce()
        self.started()
        yield

    def _free_now(self, begin_turn: Callable[[], object]) -> int:
        begin_turn()
        return 0 if self._want_slots() else self._free()

    def _free(self) -> int:
        now = self._now
        if now < self._paused_until:
            return 0
        if self.is_down:
            return int(self.in_flight == 0 < self._limit and now >= self.health.probe_at)
        return min(self._limit - self.in_flight, self.rate.room(now, self._limit))

    def announce(self, by: Share | None = None) -> None:
        """Wake all who may send more now; the share that caused it sees to itself."""
        self._tell_changes(self._clock())
        self._changed.set()
        self._changed = anyio.Event()
        for share in tuple(self._shares):
            if share is not by and share.wake is not None:
                share.wake()

    def _tell_changes(self, now: float) -> None:
        patience_s = max((s.patience_s for s in self._shares if s.patience_s), default=self._patience_s)
        self._announcer.update(now, self._paused_until, patience_s)
