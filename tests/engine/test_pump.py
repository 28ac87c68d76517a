"""The pump in virtual time: hours of back-off and outage without waiting."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest
from trio.testing import MockClock

from fakes import FakeFetcher, FakeKeeper, items, source
from psfharvest.core.errors import ArchiveDown, SinkError
from psfharvest.core.model import Evidence, Failure, Item, Limits, Reason, RetryPolicy, State
from psfharvest.core.policy.health import STREAK_MAX
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.pump import UNCLAIMED_MAX, Pump
from psfharvest.engine.share import Share


@pytest.fixture(params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Virtual time is trio's; both loops run the pump for real in tests/whole."""
    return (request.param, {"clock": MockClock(autojump_threshold=0)})


ERROR_500 = Failure(Reason.SERVER_ERROR, "HTTP 500", evidence=Evidence.ERRING)
REFUSED = Failure(Reason.REFUSED, "no connection", evidence=Evidence.UNREACHABLE)
HTML = Failure(Reason.HTML_PAGE, "a page", evidence=Evidence.ALIVE)
NOT_FOUND = Failure(Reason.NOT_FOUND, "HTTP 404", evidence=Evidence.ALIVE)


def whole(item: Item, nth: int) -> bytes:
    del item, nth
    return b"body"


class Bench:
    """A pump with fakes around it."""

    def __init__(self, script, *, connections=8, policy=None, takes_s=0.1, keeper=None, **limits) -> None:
        self.policy = policy or RetryPolicy()
        limits = Limits(max_connections=connections, **limits)
        self.limiter = ArchiveLimiter(limits, self.policy, is_public=False).share()
        self.fetcher = FakeFetcher(self.limiter, script, takes_s)
        self.keeper = keeper or FakeKeeper()
        self.pump = Pump(self.fetcher, self.keeper, self.limiter, self.policy)

    async def run(self, n: int) -> dict[State, int]:
        await self.pump.run(source(items(n)))
        return dict(Counter(o.state for o in self.keeper.kept))

    def once_each(self, n: int) -> bool:
        return sorted(o.item.number for o in self.keeper.kept) == list(range(1, n + 1))


async def test_every_item_is_kept_once() -> None:
    """A healthy archive gives every item exactly once, with as many requests."""
    bench = Bench(whole)

    assert await bench.run(1000) == {State.DONE: 1000}
    assert bench.once_each(1000)
    assert bench.limiter.requests == 1000
    assert bench.fetcher.peak == 8
    assert bench.limiter.in_flight == 0


async def test_failures_that_pass_are_tried_again_and_counted() -> None:
    """An item that fails twice is done at the third request, and the trouble is in the account."""
    bench = Bench(lambda item, nth: b"body" if nth > 2 or item.number % 2 else HTML)

    assert await bench.run(100) == {State.DONE: 100}
    assert {1, 3} == {o.attempts for o in bench.keeper.kept}
    assert dict(bench.pump.retried) == {Reason.HTML_PAGE: 100}


async def test_failures_that_stay_use_their_attempts_and_no_more() -> None:
    """An item that always fails is asked as often as the policy says, then failed with its reason."""
    bench = Bench(lambda item, nth: HTML if item.number == 7 else b"body", policy=RetryPolicy(attempts=4))

    assert await bench.run(100) == {State.DONE: 99, State.FAILED: 1}
    assert bench.fetcher.asked.count("mast:X/7.fits") == 4
    failed = next(o for o in bench.keeper.kept if o.state is State.FAILED)
    assert (failed.reason, failed.attempts) == (Reason.HTML_PAGE, 4)


async def test_missing_is_believed_at_once() -> None:
    """A cutout that does not exist is asked for once."""
    bench = Bench(lambda item, nth: NOT_FOUND if item.number % 10 == 0 else b"body")

    assert await bench.run(100) == {State.DONE: 90, State.MISSING: 10}
    assert bench.limiter.requests == 100


async def test_an_outage_pauses_the_run_and_costs_no_attempts() -> None:
    """Thirty minutes of 503 end in everything done, each with few attempts, and few probes were sent."""
    start = anyio.current_time()
    bench = Bench(lambda item, nth: ERROR_500 if 10 < anyio.current_time() - start < 1810 else b"body")

    assert await bench.run(2000) == {State.DONE: 2000}
    assert bench.once_each(2000)
    during = [t for t in bench.fetcher.times if 20 < t - start < 1810]
    assert 20 < len(during) < 80
    assert max(o.attempts for o in bench.keeper.kept) <= 2


async def test_refused_connections_are_an_outage_at_any_size() -> None:
    """With one item left, three refused connections pause the run instead of failing the item."""
    start = anyio.current_time()
    bench = Bench(lambda item, nth: REFUSED if anyio.current_time() - start < 600 else b"body")

    assert await bench.run(1) == {State.DONE: 1}


async def test_an_outage_past_the_patience_stops_the_run_with_work_pending() -> None:
    """The run raises once the patience is over, and has kept what was done before."""
    start = anyio.current_time()
    bench = Bench(
        lambda item, nth: b"body" if anyio.current_time() - start < 5 else ERROR_500,
        policy=RetryPolicy(patience_s=100),
    )

    with pytest.raises(ArchiveDown, match="out of reach"):
        await bench.run(1000)

    assert {State.DONE} == {o.state for o in bench.keeper.kept}
    assert 300 < len(bench.keeper.kept) < 500
    assert 100 <= anyio.current_time() - start < 120


async def test_a_handful_of_bad_cutouts_on_a_live_archive_fails_by_itself() -> None:
    """Nine cutouts that always meet 500 are failed, though nothing else is left to ask."""
    bench = Bench(lambda item, nth: ERROR_500 if item.number > 91 else b"body")

    assert await bench.run(100) == {State.DONE: 91, State.FAILED: 9}
    assert {5} == {o.attempts for o in bench.keeper.kept if o.state is State.FAILED}


async def test_many_bad_cutouts_on_a_live_archive_fail_by_themselves() -> None:
    """Forty cutouts that always meet 500 among others that come are failed, and the run ends."""
    bench = Bench(lambda item, nth: ERROR_500 if item.number % 10 == 0 else b"body")

    assert await bench.run(400) == {State.DONE: 360, State.FAILED: 40}
    assert {5} == {o.attempts for o in bench.keeper.kept if o.state is State.FAILED}


async def test_with_one_attempt_an_outage_still_fails_nothing() -> None:
    """Failures that turn out to be an outage are taken back, even where each was the last attempt."""
    start = anyio.current_time()
    bench = Bench(
        lambda item, nth: ERROR_500 if 3 < anyio.current_time() - start < 300 else b"body",
        policy=RetryPolicy(attempts=1),
    )

    assert await bench.run(500) == {State.DONE: 500}


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("failure", "connections", "lasts_s"),
    [
        (Failure(Reason.SERVER_ERROR, "HTTP 504", evidence=Evidence.ERRING), 2, 3500),
        (Failure(Reason.RATE_LIMITED, "HTTP 429", evidence=Evidence.ERRING), 6, 1800),
        (Failure(Reason.RATE_LIMITED, "HTTP 429", 5.0, Evidence.ERRING), 6, 1800),
        (Failure(Reason.RATE_LIMITED, "HTTP 429", 30.0, Evidence.ERRING), 6, 1800),
    ],
)
async def test_an_outage_fails_nothing_with_few_connections_either(
    failure: Failure, connections: int, lasts_s: float
) -> None:
    """Retries that come due between new cutouts do not hide an outage."""
    start = anyio.current_time()
    bench = Bench(
        lambda item, nth: failure if 10 < anyio.current_time() - start < 10 + lasts_s else b"body",
        connections=connections,
        takes_s=1.0,
    )

    assert await bench.run(500) == {State.DONE: 500}


class TiringFetcher(FakeFetcher):
    """An archive that gives so many answers a second, however many are asked at once: else they wait."""

    def __init__(self, limiter: Share, per_second) -> None:
        super().__init__(limiter, whole)
        self.per_second = per_second
        self.limits: list[tuple[float, int]] = []

    @property
    def takes_s(self) -> float:
        self.limits.append((anyio.current_time(), self.limiter.limiter.throttle.limit))
        return max(0.1, self.limiter.in_flight / self.per_second(anyio.current_time()))

    @takes_s.setter
    def takes_s(self, value: float) -> None:
        """The time follows from the load."""


@pytest.mark.campaign
async def test_an_archive_that_tires_is_asked_for_less_until_it_recovers() -> None:
    """Answers that take ever longer lower the number of connections; when they are quick again, it comes back."""
    start = anyio.current_time()
    bench = Bench(whole, connections=20)
    bench.fetcher = TiringFetcher(bench.limiter, lambda now: 2 if 30 < now - start < 1830 else 200)
    bench.pump = Pump(bench.fetcher, bench.keeper, bench.limiter, bench.policy)

    assert await bench.run(17_000) == {State.DONE: 17_000}
    assert {1} == {o.attempts for o in bench.keeper.kept}
    before, during, after = (
        {limit for at, limit in bench.fetcher.limits if low < at - start < high}
        for low, high in ((1, 30), (200, 1830), (1850, 9999))
    )
    assert {20} == before
    assert max(during) < 10
    assert {20} == after


async def test_429_pauses_everybody() -> None:
    """After a 429 with Retry-After nobody sends for that long."""
    start = anyio.current_time()
    slow_down = Failure(Reason.RATE_LIMITED, "HTTP 429", 30.0, Evidence.ERRING)
    bench = Bench(lambda item, nth: slow_down if (item.number, nth) == (20, 1) else b"body")

    assert await bench.run(200) == {State.DONE: 200}
    times = sorted(t - start for t in bench.fetcher.times)
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) >= 29.8


async def test_503_with_retry_after_pauses_its_cutout_only() -> None:
    """After a 503 the others go on, and the one waits as long as it was told to."""
    start = anyio.current_time()
    later = Failure(Reason.SERVER_ERROR, "HTTP 503", 50.0, Evidence.ERRING)
    bench = Bench(lambda item, nth: later if (item.number, nth) == (20, 1) else b"body")

    assert await bench.run(200) == {State.DONE: 200}
    times = sorted(t - start for t in bench.fetcher.times)
    assert times[-2] < 10
    assert times[-1] >= 50


async def test_the_rate_is_kept() -> None:
    """No second sees more requests than asked for, but for a burst of a tenth."""
    bench = Bench(whole, max_per_second=20.0)
    start = anyio.current_time()

    await bench.run(200)

    seconds = Counter(int(t - start) for t in bench.fetcher.times)
    assert max(seconds.values()) <= 23
    assert anyio.current_time() - start >= 9


async def test_a_slow_keeper_holds_the_requests_back() -> None:
    """What is fetched and not yet claimed stays bounded."""
    bench = Bench(whole, takes_s=0.001, keeper=FakeKeeper(takes_s=5.0))
    ahead: list[int] = []

    async def look() -> None:
        while True:
            ahead.append(len(bench.fetcher.asked) - len(bench.keeper.kept))
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await bench.run(3000)
        group.cancel_scope.cancel()

    assert bench.once_each(3000)
    assert max(ahead) <= UNCLAIMED_MAX + 8


async def test_a_local_failure_stops_the_run() -> None:
    """When the keeper cannot keep, its error comes out as it is, and requests end."""
    bench = Bench(whole, keeper=FakeKeeper(fails_at=3, error=SinkError("disk full")))

    with pytest.raises(SinkError, match="disk full"):
        await bench.run(5000)

    assert bench.limiter.requests < 2000


async def test_a_source_that_breaks_ends_the_run_with_its_error() -> None:
    """What the source raises comes out as it is, with what was fetched kept."""

    async def broken():
        yield items(10)
        await anyio.sleep(5)
        raise LookupError("the source broke")

    bench = Bench(whole)

    with pytest.raises(LookupError, match="the source broke"):
        await bench.pump.run(broken())

    assert bench.once_each(10)


async def test_cancellation_keeps_what_was_fetched() -> None:
    """A cancelled run has kept every answer that it had taken."""
    bench = Bench(whole, keeper=FakeKeeper(takes_s=0.2))

    with anyio.move_on_after(3.05) as scope:
        await bench.run(100_000)

    assert scope.cancelled_caught
    assert len(bench.fetcher.asked) - len(bench.keeper.kept) <= 8
    assert len({o.item.number for o in bench.keeper.kept}) == len(bench.keeper.kept)


async def test_an_empty_source_is_done_at_once() -> None:
    """Nothing to do is done without a request."""
    bench = Bench(whole)

    assert await bench.run(0) == {}
    assert bench.limiter.requests == 0


async def test_one_bad_cutout_at_the_head_does_not_hold_the_others_back() -> None:
    """With one connection and a first cutout that always fails, the next probe asks for another one."""
    bench = Bench(lambda item, nth: ERROR_500 if item.number == 1 else b"body", connections=1)

    assert {State.DONE: 29, State.FAILED: 1} == await bench.run(30)


async def test_patience_begins_with_each_run() -> None:
    """An outage that an earlier run has left behind does not end the next one before its first probe."""
    bench = Bench(lambda item, nth: ERROR_500, policy=RetryPolicy(patience_s=20))
    with pytest.raises(ArchiveDown):
        await bench.run(5)
    await anyio.sleep(1000)
    bench.fetcher.script = whole
    again = FakeKeeper()
    await Pump(bench.fetcher, again, bench.limiter, bench.policy).run(source(items(5)))

    assert 5 == len(again.kept)


async def test_one_cutouts_absurd_retry_after_is_its_own() -> None:
    """A 503 that asks for an hour, for one cutout of a live archive, is no outage and uses up its attempts."""
    hour = Failure(Reason.SERVER_ERROR, "HTTP 503", 3600.0, Evidence.ERRING)
    bench = Bench(lambda item, nth: hour if item.number == 50 else b"body", policy=RetryPolicy(attempts=3))

    assert {State.DONE: 199, State.FAILED: 1} == await bench.run(200)
    assert 3 == bench.fetcher.asked.count("mast:X/50.fits")


async def test_failures_wait_for_a_verdict_in_bounded_number() -> None:
    """Final 5xx between broken transfers wait for a control request, and do not pile up."""
    reset = Failure(Reason.RESET, "reset", evidence=Evidence.NONE)
    bench = Bench(
        lambda item, nth: b"body" if item.number <= 8 else ERROR_500 if item.number % 2 else reset,
        policy=RetryPolicy(attempts=1),
    )
    peak = 0

    async def look() -> None:
        nonlocal peak
        while True:
            peak = max(peak, bench.pump.waiting)
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await bench.run(1000)
        group.cancel_scope.cancel()

    assert bench.once_each(1000)
    assert peak <= STREAK_MAX + 8


@pytest.mark.parametrize("days", [0, 50, 120, 400])
@pytest.mark.parametrize("rate", [0.5, 3.0, 7.0, 10.0, 50.0])
async def test_the_rate_never_closes_for_good(days: int, rate: float) -> None:
    """On a machine that has been up for long, rounding does not close the limiter."""
    clock = [days * 86_400.0 + 0.123456789]
    limiter = ArchiveLimiter(Limits(max_per_second=rate), RetryPolicy(), is_public=False, clock=lambda: clock[0])
    sent = 0
    for _ in range(2000):
        limiter.begin_turn()
        if limiter.allowance():
            limiter.started()
            limiter.succeeded(1, 0.01)
            sent += 1
        else:
            pause_s = limiter.next_change_s()
            assert pause_s is not None
            clock[0] += max(pause_s, 1e-4)

    assert sent >= 500
