"""The choice between singles and bundles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.route import MAX_SIZE, MIN_SIZE, Route


def measured(single_s: float, n: int = 50) -> Route:
    route = Route()
    route.single(n, single_s)
    return route


def test_a_small_harvest_travels_singly() -> None:
    """A few cutouts are not worth a bundle."""
    assert not measured(0.3).wants_bundles(100)


def test_a_slow_archive_is_tried_with_a_bundle() -> None:
    """Where a single takes long and many wait, a bundle is tried."""
    assert measured(0.3).wants_bundles(1000)


def test_a_fast_archive_is_not() -> None:
    """Where a single is answered at once, bundles have nothing to win."""
    assert not measured(0.01).wants_bundles(10**6)


def test_nothing_is_chosen_unmeasured() -> None:
    """The first cutouts travel singly."""
    assert not Route().wants_bundles(10**6)


def test_a_better_bundle_stays_and_a_worse_one_is_left() -> None:
    """What was measured decides; a loser is tried again much later."""
    better, worse = measured(0.3), measured(0.3)
    better.bundle(100, 3.0)
    worse.bundle(100, 60.0)

    assert better.wants_bundles(1000)
    assert not worse.wants_bundles(1000)
    worse.single(5000, 0.3)
    assert worse.wants_bundles(1000)


def test_bundles_that_give_nothing_are_given_up() -> None:
    """Three bundles in a row without a cutout are enough."""
    route = measured(0.3)
    route.bundle(100, 3.0)
    for _ in range(3):
        assert route.wants_bundles(1000)
        route.bundle(0, 3.0)

    assert not route.wants_bundles(1000)


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
