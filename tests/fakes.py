"""In-memory stand-ins for the engine's ports: ten lines each, behaving as the ports say."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from psfharvest.core.model import Delivery, Failure, Item, Outcome
from psfharvest.engine.share import Share


def items(n: int) -> list[Item]:
    """As many items, numbered from 1."""
    return [Item(k, f"mast:X/{k}.fits", f"X/{k}.fits") for k in range(1, n + 1)]


async def source(everything: Sequence[Item], size: int = 50) -> AsyncIterator[Sequence[Item]]:
    """A stream of batches."""
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


class FakeFetcher:
    """Answers each item as `script(item, nth request for it)` says: a body, or a failure; after `takes_s`."""

    def __init__(
        self, limiter: Share, script: Callable[[Item, int], bytes | Failure], takes_s: float = 0.1
    ) -> None:
        self.limiter = limiter
        self.script = script
        self.takes_s = takes_s
        self.good: Item | None = None
        self.controls = 0
        self.asked: list[str] = []
        self._n_asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.peak = 0
        self._done: list[tuple[Item, bytes | Failure]] = []

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as self._group:
            self._wake = wake
            yield
            self._group.cancel_scope.cancel()

    def room(self) -> int:
        return self.limiter.allowance()

    def is_busy(self) -> bool:
        return self.limiter.in_flight > 0

    def exposed(self) -> int:
        return self.limiter.in_flight

    def held(self) -> int:
        return 0

    def recall(self) -> None:
        """Nothing waits here unsent."""

    def submit(self, items: Sequence[Item]) -> None:
        self.limiter.started(len(items))
        self.peak = max(self.peak, self.limiter.in_flight)
        for item in items:
            self._group.start_soon(self._answer, item)

    def take(self, *, is_behind: bool = False) -> list[Delivery]:
        done, self._done = self._done, []
        deliveries = []
        for item, answer in done:
            if isinstance(answer, Failure):
                is_lost = self.limiter.failed(answer, item.uri, self.takes_s)
                deliveries.append(Delivery(item, None, failure=answer, is_lost=is_lost))
            else:
                self.limiter.succeeded(1, self.takes_s)
                self.good = item
                deliveries.append(Delivery(item, answer, b"hash"))
        return deliveries

    def next_change_s(self) -> float | None:
        return None

    async def control(self) -> Failure | None:
        self.controls += 1
        await anyio.sleep(self.takes_s)
        answer = self.script(self.good or Item(-1, "control", "control"), -1)
        return answer if isinstance(answer, Failure) else None

    async def _answer(self, item: Item) -> None:
        self.asked.append(item.uri)
        self.times.append(anyio.current_time())
        self._n_asked[item.uri] += 1
        nth = self._n_asked[item.uri]
        await anyio.sleep(self.takes_s)
        self._done.append((item, self.script(item, nth)))
        self._wake()


class FakeKeeper:
    """Keeps outcomes in a list; may be slow, or fail at the n-th batch."""

    def __init__(self, takes_s: float = 0.0, fails_at: int = 0, error: Exception | None = None) -> None:
        self.kept: list[Outcome] = []
        self.batches = 0
        self.takes_s = takes_s
        self.fails_at = fails_at
        self.error = error

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        self.batches += 1
        if self.batches == self.fails_at and self.error is not None:
            raise self.error
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.takes_s)
        self.kept.extend(outcomes)
