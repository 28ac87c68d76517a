"""Shares of one limiter: fair to users, never more than there is, everything for a user alone."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.model import Evidence, Failure, Limits, Reason, RetryPolicy
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.share import Share


def new_limiter(
    connections: int, *, is_queued: bool = False, rate: float | None = None
) -> tuple[ArchiveLimiter, list[float]]:
    clock = [100.0]
    limits = Limits(max_connections=connections, max_per_second=rate)
    limiter = ArchiveLimiter(limits, RetryPolicy(), is_public=False, is_queued=is_queued, clock=lambda: clock[0])
    return limiter, clock


def serve(users: list[Share], rounds: int, connections: int) -> list[int]:
    """Let users with endless work send as they may, one answer a round, oldest first; return what each has sent."""
    under_way: deque[Share] = deque()
    sent: Counter[Share] = Counter()
    for _ in range(rounds):
        for user in users:
            user.begin_turn()
            user.n_waiting = 1000
            if n := user.allowance():
                user.started(n)
                under_way += [user] * n
                sent[user] += n
        assert len(under_way) <= connections
        under_way.popleft().succeeded(1, 0.1)
    return [sent[user] for user in users]


@given(st.integers(1, 12), st.integers(1, 6))
def test_users_with_endless_work_are_served_alike(connections: int, n_users: int) -> None:
    """Whoever asks first, each gets as much as any other, but for what the connections cannot be divided into."""
    limiter, _ = new_limiter(connections)
    users = [limiter.share() for _ in range(n_users)]

    sent = serve(users, 150, connections)

    assert sum(sent) >= 150
    assert max(sent) <= 1.5 * min(sent) + 2 * connections


@given(st.integers(1, 64), st.booleans())
def test_a_user_alone_gets_everything(connections: int, is_queued: bool) -> None:
    """Others that have nothing to do take nothing."""
    limiter, _ = new_limiter(connections, is_queued=is_queued)
    users = [limiter.share(), limiter.share(), limiter.share(is_urgent=True)]
    users[0].n_waiting = 1000

    assert connections == users[0].allowance()
    users[0].started(connections)
    users[1].n_waiting = 5
    users[0].close()
    users[0].dropped(connections)

    assert connections == users[1].allowance()


def test_a_newcomer_is_served_as_connections_come_free() -> None:
    """A user that has everything gives way until both have the same."""
    limiter, _ = new_limiter(8)
    old, new = limiter.share(), limiter.share()
    old.n_waiting = 100
    old.started(old.allowance())
    new.n_waiting = 100
    for n in range(1, 5):
        old.succeeded(1, 0.1)
        assert 0 == old.allowance()
        assert 1 == new.allowance()
        new.started(1)
        assert n == new.in_flight
    old.succeeded(1, 0.1)
    assert (1, 0) == (old.allowance(), new.allowance())


def test_single_requests_go_first_and_leave_one_connection_to_others() -> None:
    """With more single requests than connections, a harvest keeps one connection."""
    limiter, _ = new_limiter(6)
    harvest, single = limiter.share(), limiter.share(is_urgent=True)
    harvest.n_waiting = single.n_waiting = 100

    assert (5, 1) == (single.allowance(), harvest.allowance())


def test_long_requests_leave_a_connection_to_single_requests_that_come_again() -> None:
    """After a single request, bundles hold one connection less for a while; without one, they have all."""
    limiter, clock = new_limiter(6, is_queued=True)
    harvest, single = limiter.share(), limiter.share(is_urgent=True)
    harvest.n_waiting = 100
    assert 6 == harvest.allowance()
    single.n_waiting = 1
    single.started(1)
    single.succeeded(1, 0.1)

    assert 5 == harvest.allowance()
    clock[0] += 60
    limiter.begin_turn()
    assert 6 == harvest.allowance()


@given(st.integers(2, 5), st.sampled_from([0.5, 3.0, 20.0]))
def test_a_rate_limit_is_divided_among_users(n_users: int, rate: float) -> None:
    """Whoever asks first, no user takes all the requests that a second allows; and none waits without an end."""
    limiter, clock = new_limiter(16, rate=rate)
    users = [limiter.share() for _ in range(n_users)]
    sent = [0] * n_users
    for _ in range(100 * n_users):
        pauses = []
        for n, user in enumerate(users):
            user.begin_turn()
            user.n_waiting = 10
            if allowed := user.allowance():
                user.started(allowed)
                user.succeeded(allowed, 0.1)
                sent[n] += allowed
                user.n_waiting = 10
            pause_s = user.next_change_s()
            assert pause_s is not None
            pauses.append(pause_s)
        clock[0] += max(min(pauses), 1e-3)

    assert min(sent) > 0
    assert max(sent) <= 1.5 * min(sent) + 5


def test_nobody_sends_in_a_pause() -> None:
    """A 429 holds every user back, single requests too."""
    limiter, _ = new_limiter(6, is_queued=True)
    users = [limiter.share(), limiter.share(is_urgent=True)]
    users[0].started(1)
    users[0].failed(Failure(Reason.RATE_LIMITED, "HTTP 429", 30.0, Evidence.ERRING), "x", 0.1)
    for user in users:
        user.n_waiting = 5
        user.begin_turn()
        assert 0 == user.allowance(128)
        assert user.is_holding


def test_counts_are_each_users_own() -> None:
    """Requests of one user are not in another's account, and all are in the host's."""
    limiter, _ = new_limiter(6)
    a, b = limiter.share(), limiter.share()
    a.started(3)
    b.started(2)
    a.repeated(1)
    b.unsent(1)
    a.succeeded(3, 0.1)

    assert (4, 0) == (a.requests, a.in_flight)
    assert (1, 1) == (b.requests, b.in_flight)
    assert (5, 1) == (limiter.requests, limiter.in_flight)
