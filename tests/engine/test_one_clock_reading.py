"""A rate limit must not stop a run for ever, however the clock moves between two looks at it."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest
from trio.abc import Clock

from fakes import FakeFetcher, FakeKeeper, items, source
from psfharvest.core.model import Evidence, Failure, Limits, Reason, RetryPolicy, State
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.pump import Pump

NEVER_S = 1e7
LOOKS_S = 0.1
"""What the looks at the clock themselves may take a request, at most."""


class UnsteadyClock(Clock):
    """Virtual time that goes on by up to `step_s` at every look, and jumps to a deadline when all is idle."""

    def __init__(self, seed: int, step_s: float) -> None:
        self._random = random.Random(seed)
        self._step_s = step_s
        self.time_s = 1000.0

    def start_clock(self) -> None:
        """Begin nothing: time moves by being looked at."""

    def current_time(self) -> float:
        self.time_s += self._random.random() * self._step_s
        return self.time_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        self.time_s = max(self.time_s, min(deadline, self.time_s + NEVER_S))
        return 0.0


def run(seed: int, step_s: float, work, *args) -> None:
    async def bounded() -> None:
        with anyio.fail_after(NEVER_S / 10):  # in virtual time: a hang ends here at once
            await work(*args)

    anyio.run(bounded, backend="trio", backend_options={"clock": UnsteadyClock(seed, step_s)})


async def pumped(n: int, rate: float, takes_s: float) -> None:
    limits, policy = Limits(max_connections=4, max_per_second=rate), RetryPolicy()
    limiter = ArchiveLimiter(limits, policy, is_public=False).share()
    busy = Failure(Reason.RATE_LIMITED, "HTTP 429", 0.01, Evidence.ERRING)
    fetcher = FakeFetcher(limiter, lambda item, nth: busy if item.number % 97 == nth else b"body", takes_s)
    keeper = FakeKeeper()
    started = anyio.current_time()
    await Pump(fetcher, keeper, limiter, policy).run(source(items(n)))

    assert {State.DONE: n} == Counter(o.state for o in keeper.kept)
    assert anyio.current_time() - started < 2 * limiter.requests * (1 / rate + LOOKS_S) + 60


async def waited_for(n: int, rate: float, takes_s: float) -> None:
    policy = RetryPolicy()
    limiter = ArchiveLimiter(Limits(max_connections=4, max_per_second=rate), policy, is_public=False)
    started = anyio.current_time()

    async def user() -> None:
        for _ in range(n // 8):
            async with limiter.turn(policy.patience_s):
                await anyio.sleep(takes_s)
                limiter.succeeded(1, takes_s)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(user)

    assert anyio.current_time() - started < 2 * n * (1 / rate + LOOKS_S) + 60


CASES = [(0.5, 0.0), (2.0, 0.1), (7.0, 0.001), (50.0, 0.01), (400.0, 0.002)]


@pytest.mark.parametrize("work", [pumped, waited_for])
@pytest.mark.parametrize("step_s", [1e-6, 1e-4, 3e-3])
@pytest.mark.parametrize(("rate", "takes_s"), CASES)
def test_a_rate_limit_never_stops_the_work(work, rate: float, takes_s: float, step_s: float) -> None:
    """With work waiting there is always a time to go on, though the clock moves at every look."""
    run(hash((rate, step_s)) % 1000, step_s, work, 160, rate, takes_s)


@pytest.mark.campaign
@pytest.mark.parametrize("work", [pumped, waited_for])
@pytest.mark.parametrize("seed", range(25))
def test_a_rate_limit_never_stops_the_work_in_a_million_turns(work, seed: int) -> None:
    """The same for as many turns as a harvest of weeks has trouble with."""
    rate, takes_s = CASES[seed % len(CASES)]
    run(seed, (1e-6, 1e-4, 3e-3)[seed % 3], work, 20_000, rate, takes_s)


def test_whatever_is_closed_has_a_time_to_open() -> None:
    """A hundred thousand looks at a limiter: either a request may start, or the wait for it has an end."""
    for seed in range(20):
        looks = random.Random(seed)
        time_s = [1000.0]

        def clock(time_s=time_s, looks=looks) -> float:
            time_s[0] += looks.random() * 1e-4
            return time_s[0]

        rate = looks.choice((0.5, 2.0, 7.0, 50.0))
        limiter = ArchiveLimiter(
            Limits(max_connections=4, max_per_second=rate), RetryPolicy(), is_public=False, clock=clock
        )
        for _ in range(5000):
            limiter.begin_turn()
            if limiter.allowance():
                limiter.started()
                limiter.succeeded(1, 0.01)
            else:
                pause_s = limiter.next_change_s()
                assert pause_s is not None
                time_s[0] += looks.choice((pause_s, pause_s - 1e-4, pause_s / 2))
