"""
Single requests of all callers of one archive, through one pump.

A caller waits for an outcome; the pump asks the archive. Callers that ask for the same dataURI at the same time
share one request. A caller that leaves before its request was sent takes it back; a request that was sent goes on,
and its answer is dropped when nobody waits for it any more. The earliest deadline is served first.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from psfharvest.concurrency.cancellation import is_error
from psfharvest.core.errors import ArchiveDown, DeadlinePassed
from psfharvest.core.model import Item, Outcome, Reason, RetryPolicy
from psfharvest.core.policy.deadlines import DeadlineQueue
from psfharvest.core.ports import Fetcher
from psfharvest.engine.pump import Pump
from psfharvest.engine.share import Share
from psfharvest.engine.waiter import Waiter, waiter_maker

BATCH_SIZE = 32
"""Items made in one go, so that a thousand callers at once do not hold the event loop up; the pump asks for few."""
HOLD_S = 2.0
"""How long a refusal such as 404 is held back for a good answer, which shows that the archive works."""
IDLE_S = 5.0
"""After so long without a caller the pump ends; the next caller starts another."""

StartTask = Callable[[Callable[[], Coroutine[Any, Any, None]], str], None]


class _Flight:
    """One dataURI under way, and the callers that wait for it."""

    __slots__ = ("callers", "leaves_at", "number", "uri")

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.leaves_at = -math.inf
        """Until when its answer is of use to the most patient caller."""
        self.callers: list[_Caller] = []
        self.number = 0
        """Its item's number, once the pump has it."""


class _Caller:
    """One call that waits."""

    __slots__ = ("ended", "error", "flight", "n_failed_before", "outcome", "waits_since")

    def __init__(self, flight: _Flight, n_failed_before: int, ended: Waiter) -> None:
        self.flight = flight
        self.n_failed_before = n_failed_before
        """Failed connections when it came."""
        self.waits_since = math.inf
        """When it was first found waiting in an outage, gaps of the clock left out: its patience begins then."""
        self.ended = ended
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    def wake(self, outcome: Outcome | None, error: BaseException | None) -> None:
        """End its wait; one that was cancelled in this very turn is done with it already."""
        self.outcome, self.error = outcome, error
        if not self.ended.done():
            self.ended.set_result(None)


class SingleRequests:
    """
    The single requests of one archive.

    Parameters
    ----------
    make_fetcher, share
        What fetches the items, made anew for each pump, and the share that it goes by.
    make_item
        Makes the item of a dataURI with a number; what it raises reaches the caller.
    policy
        How often an item is tried, and how long each caller bears an outage.
    start_task
        Starts a task that outlives the caller that happens to be the first.
    on_settled
        Called with each batch of outcomes.
    """

    def __init__(
        self,
        make_fetcher: Callable[[], Fetcher],
        share: Share,
        make_item: Callable[[int, str], Item],
        policy: RetryPolicy,
        start_task: StartTask,
        on_settled: Callable[[Sequence[Outcome]], object] = len,
    ) -> None:
        self._on_settled = on_settled
        self._make_fetcher = make_fetcher
        self._share, self._limiter = share, share.limiter
        self._make_waiter = waiter_maker()
        self._make_item = make_item
        self._policy = policy
        self._start_task = start_task
        self._flights: dict[str, _Flight] = {}
        self._by_number: dict[int, _Flight] = {}
        self._callers: dict[_Caller, None] = {}
        """Those that wait, the longest waiting first."""
        self._new: DeadlineQueue[_Flight] = DeadlineQueue()
        self._news = anyio.Event()
        self._n_items = 0
        self._pump: Pump | None = None
        self._scope: anyio.CancelScope | None = None
        self._ended = anyio.Event()

    async def fetch(self, uri: str, deadline_s: float | None = None) -> Outcome:
        """
        Return what becomes of one dataURI.

        Raises
        ------
        DeadlinePassed
            When that is not known after `deadline_s`.
        ArchiveDown
            When an outage outlasted the patience from the time of this call, or its tries to connect are used up.
        Exception
            What `make_item` raised for it, or what ended the pump.
        """
        now = self._limiter.now()
        due_at = math.inf if deadline_s is None else now + deadline_s
        caller = self._join(uri, due_at, min(due_at, anyio.current_effective_deadline()), now)
        if self._scope is None:
            self._start()
        try:
            if deadline_s is None:
                await caller.ended
            else:
                with anyio.CancelScope(deadline=due_at):
                    await caller.ended
        finally:
            if caller in self._callers:
                self._leave(caller)
        if caller.error is not None:
            raise caller.error
        if caller.outcome is None:
            raise DeadlinePassed(f"{uri}: not here within {deadline_s:g} s", uri=uri, reason=Reason.TIMEOUT.value)
        return caller.outcome

    def _join(self, uri: str, due_at: float, leaves_at: float, now: float) -> _Caller:
        """Return a new caller, of the request for its dataURI that is under way where there is one."""
        flight = self._flights.get(uri)
        if flight is None:
            flight = self._flights[uri] = _Flight(uri)
        caller = _Caller(flight, self._share.failed_connections, self._make_waiter())
        flight.callers.append(caller)
        flight.leaves_at = max(flight.leaves_at, leaves_at)
        self._callers[caller] = None
        if not flight.number:
            self._new.put(flight, due_at, leaves_at, now)
            if not self._news.is_set():
                self._news.set()
        return caller

    async def aclose(self, error: Exception) -> None:
        """End the pump, and wait for its end; those that wait get the error."""
        for flight in tuple(self._flights.values()):
            self._end(flight, None, error)
        if self._scope is not None:
            ended = self._ended
            self._scope.cancel()
            await ended.wait()

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Give outcomes to those that wait for them."""
        self._on_settled(outcomes)
        for outcome in outcomes:
            flight = self._by_number.pop(outcome.item.number, None)
            if flight is not None:
                self._end(flight, outcome, None)
        if self._new:
            self._news.set()

    def _start(self) -> None:
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._start_task(self._run, "psfharvest-fetch")

    async def _run(self) -> None:
        error: BaseException | None = None
        assert self._scope is not None  # noqa: S101 - made by _start
        try:
            with self._scope:
                self._pump = Pump(
                    self._make_fetcher(),
                    self,
                    self._share,
                    self._policy,
                    gather_s=0.0,
                    patience_left_s=self._patience_left_s,
                    hold_s=HOLD_S,
                    fresh_max=BATCH_SIZE,
                )
                await self._pump.run(self._items())
        except BaseException as raised:
            if not is_error(raised):
                raise
            error = raised  # raised to everybody that waits
        finally:
            self._pump, self._scope = None, None
            self._ended.set()
        if error is not None:
            for flight in tuple(self._flights.values()):
                self._end(flight, None, error)
        elif self._callers:
            self._restart()

    def _restart(self) -> None:
        """Go on with another pump: callers have come while this one ended."""
        for flight in self._by_number.values():
            flight.number = 0
            self._new.put(flight, flight.leaves_at, flight.leaves_at, self._limiter.now())
        self._by_number.clear()
        self._start()

    async def _items(self) -> AsyncIterator[Sequence[Item]]:
        while True:
            self._news = anyio.Event()
            flights = self._next_flights()
            items = [item for flight in flights if (item := self._item_of(flight)) is not None]
            if items:
                yield items
            if flights:
                await anyio.lowlevel.checkpoint()
                continue
            with anyio.move_on_after(IDLE_S) as wait:
                await self._news.wait()
            if wait.cancelled_caught and not self._callers:
                return

    def _next_flights(self) -> list[_Flight]:
        """Return the next requests, by deadline; late ones are put off while others are under way."""
        share = self._share
        n_before, now = share.need, self._limiter.now()
        flights: list[_Flight] = []
        while len(flights) < BATCH_SIZE:
            n_before += 1
            wait_s = share.answer_s * max(1.0, n_before / max(1, share.connections))
            flight = self._new.take(now + wait_s, is_idle=n_before == 1)
            if flight is None:
                break
            flights.append(flight)
        return flights

    def _item_of(self, flight: _Flight) -> Item | None:
        self._n_items += 1
        try:
            item = self._make_item(self._n_items, flight.uri)
        except Exception as error:  # noqa: BLE001 - the caller's own
            self._end(flight, None, error)
            return None
        if item.uri != flight.uri and self._is_merged(flight, item.uri):
            return None
        flight.number = item.number
        self._by_number[item.number] = flight
        return item

    def _is_merged(self, flight: _Flight, uri: str) -> bool:
        """Give a flight its dataURI's canonical spelling; True when another of that took over its callers."""
        del self._flights[flight.uri]
        flight.uri = uri
        other = self._flights.setdefault(uri, flight)
        if other is flight:
            return False
        for caller in flight.callers:
            caller.flight = other
        other.callers += flight.callers
        other.leaves_at = max(other.leaves_at, flight.leaves_at)
        if other in self._new:
            self._new.put(other, flight.leaves_at, flight.leaves_at, self._limiter.now())
        return True

    def _leave(self, caller: _Caller) -> None:
        """Let a caller go; its flight, too, when it was the last one."""
        flight = caller.flight
        del self._callers[caller]
        flight.callers.remove(caller)
        if not flight.callers:
            del self._flights[flight.uri]
            self._new.discard(flight)
            if self._by_number.pop(flight.number, None) is not None and self._pump is not None:
                self._pump.discard(flight.number)

    def _end(self, flight: _Flight, outcome: Outcome | None, error: BaseException | None) -> None:
        self._flights.pop(flight.uri, None)
        self._new.discard(flight)
        for caller in flight.callers:
            del self._callers[caller]
            caller.wake(outcome, error)
        flight.callers.clear()

    def _patience_left_s(self) -> float:
        """Return when the next caller's patience ends; those whose patience has ended get the error."""
        if not self._limiter.is_down:
            return math.inf
        gaps_s = self._limiter.gaps_s
        now = self._limiter.now() - gaps_s
        for caller in self._callers:
            caller.waits_since = min(caller.waits_since, now)
        for caller in tuple(self._callers):
            error = self._share.unreached(self._policy, caller.n_failed_before)
            try:
                if error is None:
                    return self._limiter.patience_left_s(self._policy.patience_s, caller.waits_since + gaps_s)
            except ArchiveDown as raised:
                error = raised
            self._leave(caller)
            caller.wake(None, error)
        return math.inf
