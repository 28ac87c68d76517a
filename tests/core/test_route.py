"""The choice between singles and bundles."""

from __future__ import annotations

from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.route import FIRST_ANSWER_S, MAX_SIZE, MIN_SIZE, Route, Trial
from psfharvest.core.policy.work_per_connection import even_share


def measured(single_s: float, n: int = 50) -> Route:
    route = Route()
    route.single(n, single_s)
    return route


def test_a_small_harvest_travels_singly() -> None:
    """A few cutouts are not worth a bundle."""
    assert measured(0.3).trials(100) == []
    assert not measured(0.3).wants_bundles(100)


@pytest.mark.parametrize(("n_waiting", "sizes"), [(200, [10, 20, 20]), (3000, [30, 90, 100]), (10**6, [100] * 3)])
def test_a_slow_archive_is_tried_with_small_bundles(n_waiting: int, sizes: list[int]) -> None:
    """Where a single takes long and many wait, a few small bundles are tried, all for one short time."""
    route = measured(0.3)

    trials = route.trials(n_waiting)
    assert sizes == [trial.n for trial in trials]
    assert [pytest.approx(sizes[0] * 0.3)] * 3 == [route.trial_limit_s(trial) for trial in trials]
    assert not route.wants_bundles(n_waiting)


def test_a_fast_archive_is_not() -> None:
    """Where a single is answered at once, bundles have nothing to win; one on trial ends at once."""
    route = measured(0.01)

    assert route.trials(10**6) == []
    assert route.trial_limit_s(Trial(100, 100)) == 0


def test_an_archive_that_has_not_answered_yet_is_tried() -> None:
    """Without an answer the wait for it is the least that a single takes; a bad answer says nothing of that."""
    route = Route()
    assert route.is_measuring(1000)
    assert not route.is_measuring(100)
    route.waited(FIRST_ANSWER_S / 2)
    assert route.trials(1000) == []
    route.waited(FIRST_ANSWER_S)
    assert len(route.trials(1000)) == 3

    route.answered()
    route.waited(9.0)
    assert (route.trials(1000), route.single_s) == ([], 0.0)
    assert not route.is_measuring(1000)


def test_a_bundle_shows_its_pace_while_it_streams() -> None:
    """Bundles are chosen once one on trial has brought more than singles would have; then none is abandoned."""
    route = measured(0.3)
    route.progressed(4, 0.1)
    assert not route.wants_bundles(1000)
    route.progressed(10, 2.9)
    assert not route.wants_bundles(1000)
    route.progressed(10, 1.0)

    assert route.wants_bundles(1000)
    assert route.trial_limit_s(Trial(100, 10)) == inf


def test_nothing_is_chosen_unmeasured() -> None:
    """The first cutouts travel singly."""
    assert Route().trials(10**6) == []
    assert not Route().wants_bundles(10**6)


def test_a_better_bundle_stays_and_a_worse_one_is_left() -> None:
    """What was measured decides."""
    better, worse = measured(0.3), measured(0.3)
    better.bundle(100, 3.0)
    worse.bundle(100, 60.0)

    assert better.wants_bundles(1000)
    assert better.trials(1000) == []
    assert not worse.wants_bundles(1000)
    assert worse.trials(1000) == []


@pytest.mark.parametrize("way", ["abandoned", "slow", "empty"])
def test_trials_that_lose_stay_a_small_part_of_the_work(way: str) -> None:
    """Each is larger than the last, and comes so much later that all together take a twentieth of the singles."""
    route = Route()
    n_tried, sizes = 0, []
    for _ in range(200_000):
        route.single(1, 0.3)
        for size, _ in route.trials(10**6):
            n_tried += size
            sizes.append(size)
            if way == "abandoned":
                route.abandoned()
            else:
                route.bundle(size if way == "slow" else 0, 0.3 * size)

    assert 300 < n_tried < 10_000
    assert max(sizes) > 4 * min(sizes) or way == "empty"
    assert not route.wants_bundles(10**6)


def test_bundles_that_give_nothing_are_given_up() -> None:
    """Three bundles in a row without a cutout are enough."""
    route = measured(0.3)
    route.bundle(100, 0.1)
    for _ in range(3):
        assert route.wants_bundles(1000)
        route.bundle(0, 0.1)

    assert not route.wants_bundles(1000)
    assert route.trials(1000) == []


def test_orders_are_obeyed_while_they_can_be() -> None:
    """--via bundle bundles from the start, unless there are none; --via file never does."""
    route = Route("bundle")
    assert route.wants_bundles(1)
    route.is_offered = False
    assert not route.wants_bundles(10**6)
    file = Route("file")
    file.single(100, 9.0)
    assert not file.wants_bundles(10**6)


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1e5))))
def test_the_size_stays_within_its_bounds(bundles: list[tuple[int, float]]) -> None:
    """Whatever bundles give, the next one holds 50 to 2,000 cutouts."""
    route = Route("bundle")
    for n, elapsed_s in bundles:
        route.bundle(n, elapsed_s)

        assert MIN_SIZE <= route.size <= MAX_SIZE


def test_the_size_aims_at_under_half_a_minute() -> None:
    """An archive of 30 ms a cutout is asked for about 830 at once: a kill may cost no more than 30 s of them."""
    route = Route("bundle")
    for _ in range(12):
        route.bundle(route.size, 0.03 * route.size)

    assert 800 <= route.size <= 1000


@given(st.integers(0, 10**6), st.lists(st.floats(0, 1e5), max_size=20), st.integers(1, 20))
def test_an_even_share_fills_every_idle_connection_to_one_level(
    n_left: int, outstanding: list[float], connections: int
) -> None:
    """Given it, idle connections and those below it take just what is left, and none ends before its time."""
    share = even_share(n_left, [*outstanding, 0.0], connections)
    n_idle = max(0, connections - len(outstanding) - 1) + 1

    filled = n_idle * share + sum(max(0.0, share - busy) for busy in outstanding)
    assert filled >= n_left - 1e-6 * n_left
    assert share <= ceil(n_left / n_idle) + 1
