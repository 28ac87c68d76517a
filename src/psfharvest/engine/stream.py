"""Where a pump's outcomes come out in memory: a stream of cutouts, with the pressure passed back to the pump."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Item, Outcome, State
from psfharvest.engine.pump import Pump

STREAM_BUFFER = 64
FAILURES_SHOWN = 1000


@dataclass(slots=True)
class CutoutStream:
    """
    Cutouts as they arrive.

    Attributes
    ----------
    failures
        Outcomes of what did not come, the last thousand of them.
    states
        How many ended in which state.
    """

    _receive: MemoryObjectReceiveStream[Outcome]
    failures: deque[Outcome] = field(default_factory=lambda: deque(maxlen=FAILURES_SHOWN))
    states: Counter[State] = field(default_factory=Counter)
    _error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Cutout:
        while True:
            try:
                outcome = await self._receive.receive()
            except anyio.EndOfStream:
                if self._error is not None:
                    raise self._error from None
                raise StopAsyncIteration from None
            self.states[outcome.state] += 1
            if outcome.body is not None:
                return Cutout.of(outcome.item.uri, outcome.body, outcome.item.source)
            self.failures.append(outcome)

    async def fill(
        self, pump: Pump, source: AsyncIterable[Sequence[Item]], send: MemoryObjectSendStream[Outcome]
    ) -> None:
        """Run the pump into this stream; what stops it is raised where the stream is read."""
        async with send:
            try:
                await pump.run(source)
            except Exception as error:  # noqa: BLE001 - raised by __anext__
                self._error = error


class Channel:
    """Keeps outcomes by handing them to whoever reads the stream."""

    def __init__(self, send: MemoryObjectSendStream[Outcome]) -> None:
        self._send = send

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Hand them over, one after another; whoever reads slowly is waited for."""
        for outcome in outcomes:
            await self._send.send(outcome)
