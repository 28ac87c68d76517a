"""Single requests in virtual time: the order by deadline, callers that leave, and how much is done in one go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock

from fakes import FakeFetcher
from psfharvest.core.errors import DeadlinePassed
from psfharvest.core.model import Item, Limits, RetryPolicy
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.singles import BATCH_SIZE, SingleRequests

TAKES_S = 0.05
CONNECTIONS = 32


@pytest.fixture(params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Virtual time is trio's; both loops run single requests for real in tests/whole."""
    return (request.param, {"clock": MockClock(autojump_threshold=0)})


class CountedFetcher(FakeFetcher):
    """Counts how often what waits was called back."""

    recalls = 0

    def recall(self) -> None:
        self.recalls += 1


class Bench:
    """The single requests of an archive that answers after `TAKES_S`."""

    def __init__(self, start: Callable[..., object], connections: int) -> None:
        limiter = ArchiveLimiter(Limits(max_connections=connections), RetryPolicy(), is_public=False)
        share = limiter.share(is_urgent=True)
        self.fetcher = CountedFetcher(share, lambda item, nth: b"body", TAKES_S)
        self.n_made = 0
        self.n_came = 0

        def start_task(run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
            start(run, name=name)

        self.singles = SingleRequests(lambda: self.fetcher, share, self._make, RetryPolicy(), start_task)

    def _make(self, number: int, uri: str) -> Item:
        self.n_made += 1
        return Item(number, uri, uri)

    async def fetch(self, uri: str, deadline_s: float | None = None) -> None:
        """Wait for one."""
        with suppress(DeadlinePassed):
            await self.singles.fetch(uri, deadline_s)
            self.n_came += 1


@asynccontextmanager
async def bench(connections: int = CONNECTIONS) -> AsyncIterator[Bench]:
    """A bench whose pump is at work already, and knows how long an answer takes."""
    async with anyio.create_task_group() as group:
        made = Bench(group.start_soon, connections)
        await made.fetch("first")
        yield made
        await made.singles.aclose(RuntimeError("over"))


async def each(n: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Do something for many numbers at once."""
    async with anyio.create_task_group() as group:
        for k in range(n):
            group.start_soon(work, k)


async def test_of_too_many_with_a_deadline_all_come_that_can() -> None:
    """Eight rounds fit, all of them come, and hardly anything is asked for that would come late."""
    async with bench() as made:
        await each(400, lambda k: made.fetch(f"u{k}", 8 * TAKES_S + 0.01))
        assert made.n_came - 1 == 8 * CONNECTIONS
        assert len(made.fetcher.asked) - 1 <= 8 * CONNECTIONS + BATCH_SIZE


async def test_the_earliest_deadline_goes_first() -> None:
    """Those in a hurry overtake hundreds that came before them and are not."""
    async with bench(4) as made:
        came: list[str] = []

        async def hurried(k: int) -> None:
            await made.singles.fetch(f"h{k}", 1.5)
            came.append(f"h{k}")

        async with anyio.create_task_group() as group:
            for k in range(400):
                group.start_soon(made.fetch, f"u{k}", 30.0 if k % 2 else None)
            await anyio.sleep(2 * TAKES_S)
            await each(16, hurried)
            assert len(came) == 16


@pytest.mark.parametrize("is_scopes", [False, True])
async def test_a_deadline_that_cannot_be_kept_takes_no_connection(is_scopes: bool) -> None:
    """Hundreds of hopeless calls before it cost a call with time no round; a scope's end is a deadline, too."""

    async def call(made: Bench, uri: str, time_s: float) -> None:
        with anyio.move_on_after(time_s if is_scopes else None):
            await made.fetch(uri, None if is_scopes else time_s)

    async with bench(1) as made:
        async with anyio.create_task_group() as group:
            group.start_soon(made.fetch, "busy")
            await anyio.sleep(TAKES_S / 10)
            for k in range(300):  # still there when the connection is free, and gone before a second answer
                group.start_soon(call, made, f"u{k}", 1.5 * TAKES_S)
            await anyio.sleep(TAKES_S / 10)
            await call(made, "patient", 2.5 * TAKES_S)
        assert made.n_came == 3
        assert len(made.fetcher.asked) == 3


async def test_answers_may_become_quicker_again() -> None:
    """Where nothing else is under way a call is tried that would have come late as answers were before."""
    async with bench(1) as made:
        made.fetcher.takes_s = TAKES_S / 5
        await made.fetch("quick", TAKES_S / 2)
        assert made.n_came == 2


async def test_many_that_leave_at_once_are_one_recall() -> None:
    """What waits is called back once for all that leave, not once for each."""
    async with bench() as made:
        async with anyio.create_task_group() as group:
            for k in range(500):
                group.start_soon(made.fetch, f"u{k}")
            await anyio.sleep(TAKES_S * 1.5)
            group.cancel_scope.cancel()
        await anyio.sleep(TAKES_S)
        assert made.fetcher.recalls <= 5
        assert len(made.fetcher.asked) <= 1 + 2 * CONNECTIONS


async def test_a_thousand_at_once_are_begun_in_small_steps() -> None:
    """Other tasks have their turns between a few items and the next."""
    async with bench(1000) as made:
        steps: list[int] = []

        async def watch() -> None:
            before = made.n_made
            while made.n_made < 1001:
                await anyio.lowlevel.checkpoint()
                steps.append(made.n_made - before)
                if before == made.n_made and not any(steps[-100:]):
                    await anyio.sleep(0.001)
                before = made.n_made

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await each(1000, lambda k: made.fetch(f"u{k}"))
        assert max(steps) <= 2 * BATCH_SIZE
