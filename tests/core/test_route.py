"""The choice between singles and bundles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.route import MAX_SIZE, MIN_SIZE, Route


def measured(single_s: float, n: int = 50) -> Route:
    route = Route()
    route.single(n, single_s)
    return route


def test_a_small_harvest_travels_singly() -> None:
    """A few cutouts are not worth a bundle."""
    assert measured(0.3).trial(100) == (0, 0)
    assert not measured(0.3).wants_bundles(100)


@pytest.mark.parametrize(("n_waiting", "size"), [(200, 10), (3000, 30), (10**6, 100)])
def test_a_slow_archive_is_tried_with_small_bundles(n_waiting: int, size: int) -> None:
    """Where a single takes long and many wait, a few small bundles are tried."""
    route = measured(0.3)

    assert route.trial(n_waiting) == (3, size)
    assert not route.wants_bundles(n_waiting)


def test_a_fast_archive_is_not() -> None:
    """Where a single is answered at once, bundles have nothing to win; one on trial ends at once."""
    route = measured(0.01)

    assert route.trial(10**6) == (0, 0)
    assert route.trial_limit_s(100) == 0


def test_nothing_is_chosen_unmeasured() -> None:
    """The first cutouts travel singly."""
    assert Route().trial(10**6) == (0, 0)
    assert not Route().wants_bundles(10**6)


def test_a_better_bundle_stays_and_a_worse_one_is_left() -> None:
    """What was measured decides."""
    better, worse = measured(0.3), measured(0.3)
    better.bundle(100, 3.0)
    worse.bundle(100, 60.0)

    assert better.wants_bundles(1000)
    assert better.trial(1000) == (0, 0)
    assert not worse.wants_bundles(1000)
    assert worse.trial(1000) == (0, 0)


@pytest.mark.parametrize("way", ["abandoned", "slow", "empty"])
def test_trials_that_lose_stay_a_small_part_of_the_work(way: str) -> None:
    """Each is larger than the last, and comes so much later that all together take a twentieth of the singles."""
    route = Route()
    n_tried, sizes = 0, []
    for _ in range(200_000):
        route.single(1, 0.3)
        for _ in range(route.trial(10**6)[0]):
            size = route.trial(10**6)[1] or sizes[-1]
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
    assert route.trial(1000) == (0, 0)


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
