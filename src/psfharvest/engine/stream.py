"""In-memory stream of cutouts with backpressure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Self

import anyio
import anyio.lowlevel

from psfharvest.concurrency.cancellation import is_error
from psfharvest.concurrency.companion import Companion
from psfharvest.core.errors import BadInput
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Item, Outcome, Progress, State, Tally
from psfharvest.engine.pump import Pump

FAILURES_SHOWN = 1000

AHEAD_EACH = 2
"""How far a stream runs ahead of its reader: one cutout under way and one to follow, a connection."""


class CutoutStream:
    """
    Cutouts as they arrive, for an ``async for`` loop.

    Parameters
    ----------
    ahead
        Returns how many cutouts may be on their way to the reader.
    on_settled
        Called with each batch of outcomes.
    require
        Called at each look for a cutout; raises where the reader may not read, as in another event loop.

    Attributes
    ----------
    failures
        Outcomes of what did not come, the last thousand of them.
    states
        How many ended in which state.
    """

    def __init__(
        self,
        ahead: Callable[[], int],
        on_settled: Callable[[Sequence[Outcome]], object] = len,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_settled = on_settled
        self._require = require
        self.failures: deque[Outcome] = deque(maxlen=FAILURES_SHOWN)
        self.states: Counter[State] = Counter()
        self._ahead = ahead
        self._outcomes: deque[Outcome] = deque()
        self._error: BaseException | None = None
        self._is_over = False
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._n_read = 0
        self._made_room: Callable[[], None] = _do_nothing

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Cutout:
        while True:
            self._require()
            await anyio.lowlevel.checkpoint()
            outcome = await self._next()
            self.states[outcome.state] += 1
            if outcome.body is not None:
                return Cutout.of(outcome.item.uri, outcome.body, outcome.item.source)
            self.failures.append(outcome)

    def budget(self, n_unkept: int) -> int:
        """Return how many more cutouts may be begun: `ahead` is all that is on its way to the reader."""
        return self._ahead() - n_unkept - len(self._outcomes)

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Hand outcomes to the reader; never waits, since what is begun is bounded by `budget`."""
        self._outcomes.extend(outcomes)
        self._on_settled(outcomes)
        self._news.set()

    async def refuse(self, outcome: Outcome) -> None:
        """Hand over the outcome of what cannot be requested, once the reader has room for it."""
        while len(self._outcomes) >= self._ahead():
            self._room = anyio.Event()
            await self._room.wait()
        await self.keep([outcome])

    def filling(
        self, pump: Pump, source: AsyncIterable[Sequence[Item]], *others: Callable[[], Coroutine[Any, Any, None]]
    ) -> Companion:
        """Return the work of `fill`, and others, for as long as its context is entered."""
        return Companion(partial(self.fill, pump, source), *others, name="psfharvest-stream")

    async def fill(self, pump: Pump, source: AsyncIterable[Sequence[Item]]) -> None:
        """Run a pump into this stream; what stops it is raised where the stream is read."""
        self._made_room = pump.wake
        error: BaseException | None = BadInput("this stream was left: read it within its 'async with' block")
        try:
            await pump.run(source)
            error = None
        except BaseException as raised:
            if isinstance(raised, anyio.get_cancelled_exc_class()) and not is_error(raised):
                raise
            error = raised  # raised by __anext__, also what would end the event loop here
        finally:
            self._error, self._is_over = error, True
            self._news.set()

    async def _next(self) -> Outcome:
        while not self._outcomes:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            if self._news.is_set():  # several tasks may read one stream: all of them wait for the same event
                self._news = anyio.Event()
            await self._news.wait()
        outcome = self._outcomes.popleft()
        self._n_read += 1
        if (
            not self._outcomes or self._n_read * 4 >= self._ahead()
        ):  # a wake-up for each would cost more than it gives
            self._n_read = 0
            self._room.set()
            self._made_room()
        return outcome


def _do_nothing() -> None:
    """Stand in for a pump that has not begun."""


def stream_progress(states: Mapping[State, int], expected: int | None) -> Progress:
    """Return a look at a stream."""
    n = {state: states.get(state, 0) for state in (State.DONE, State.MISSING, State.FAILED)}
    tally = Tally(done=n[State.DONE], missing=n[State.MISSING], failed=n[State.FAILED])
    return Progress(tally, expected, in_flight=0, waiting=0, connections=0, requests=0, elapsed_s=0.0)
