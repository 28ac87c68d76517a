"""How many connections may be in use, after any sequence of answers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.baseline import MEASURE_AFTER, MEASURED
from psfharvest.core.policy.slowness import SLOW_FLOOR_S
from psfharvest.core.policy.throttle import Throttle

ANSWERS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(0, 100))
CEILINGS = st.integers(1, 64)


@given(CEILINGS, st.integers(0, 100), st.lists(ANSWERS))
def test_the_limit_stays_between_one_and_the_ceiling(ceiling, start, answers):
    """Whatever comes back, at least one connection is allowed, and never more than the ceiling."""
    throttle = Throttle(ceiling, start)
    for answer in answers:
        throttle.observe(*answer)

        assert 1 <= throttle.limit <= ceiling


@given(CEILINGS, st.integers(1, 64), st.lists(ANSWERS, max_size=30), st.floats(0.01, SLOW_FLOOR_S))
def test_calm_earns_the_ceiling_back(ceiling, start, answers, mean_s):
    """After any past, enough quick answers without trouble bring the limit to the ceiling, one a round."""
    throttle = Throttle(ceiling, start)
    for answer in answers:
        throttle.observe(*answer)
    throttle.observe(0, 0, 0.0)
    for _ in range(ceiling * (ceiling + 1) + 64):
        before = throttle.limit
        throttle.observe(1, 0, mean_s)

        assert before <= throttle.limit <= before + 1 or throttle.limit == before - 1

    assert ceiling == throttle.limit


@given(st.integers(2, 64), st.data())
def test_one_bad_moment_halves_once(ceiling, data):
    """As many troubles as there were connections, told in any portions, halve the limit once and not again."""
    throttle = Throttle(ceiling, ceiling)
    left = ceiling
    while left:
        n = data.draw(st.integers(1, left))
        throttle.observe(0, n, 0.0)
        left -= n

    assert max(1, ceiling // 2) == throttle.limit
    assert 1 == throttle.lowered


def test_trouble_round_after_round_goes_down_to_one():
    """An archive that does nothing but fail is left with one connection, and no fewer."""
    throttle = Throttle(32, 32)
    limits = []
    for _ in range(8):
        throttle.observe(0, throttle.limit, 0.0)
        limits.append(throttle.limit)

    assert [16, 8, 4, 2, 1, 1, 1, 1] == limits
    assert 5 == throttle.lowered
    throttle.observe(1, 0, 0.3)

    assert 2 == throttle.limit


def test_the_public_start_is_earned_upwards():
    """From 2 connections, each calm round of answers earns one more, up to the ceiling."""
    throttle = Throttle(6, 2)
    limits = [throttle.limit]
    for _ in range(6):
        throttle.observe(throttle.limit, 0, 0.3)
        limits.append(throttle.limit)

    assert [2, 3, 4, 5, 6, 6, 6] == limits
    assert 0 == throttle.lowered


@pytest.mark.parametrize(("slow_s", "after"), [(0.1, 20), (1.9, 20), (3.9, 20), (4.1, 19), (60.0, 19)])
def test_ever_slower_answers_lower_it(slow_s, after):
    """A round eight times slower than the best, and slower than two seconds, costs one connection."""
    throttle = Throttle(20, 20)
    throttle.observe(20, 0, 0.5)
    throttle.observe(20, 0, slow_s)

    assert after == throttle.limit


def test_slowness_that_lasts_lowers_it_round_by_round():
    """It goes down while the slowness lasts, and up again afterwards."""
    throttle = Throttle(20, 20)
    throttle.observe(20, 0, 0.5)
    for _ in range(5):
        throttle.observe(throttle.limit, 0, 30.0)

    assert 15 == throttle.limit
    for _ in range(5):
        throttle.observe(throttle.limit, 0, 0.5)

    assert 20 == throttle.limit


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.001, 10)), min_size=1))
def test_a_rounds_time_is_the_mean_of_its_answers(portions):
    """However a round's answers are portioned, what decides is their mean."""
    total = sum(n for n, _ in portions)
    mean_s = sum(n * s for n, s in portions) / total
    throttle = Throttle(total, total)
    throttle.observe(total, 0, 0.1)
    for portion_n, portion_s in portions:
        throttle.observe(portion_n, 0, portion_s)
    if abs(mean_s - SLOW_FLOOR_S) < 1e-6:
        return

    assert (total if mean_s < SLOW_FLOOR_S else max(1, total - 1)) == throttle.limit


def test_trouble_hides_no_time():
    """A round with trouble in it says nothing of speed: its failures came fast."""
    throttle = Throttle(10, 10)
    throttle.observe(10, 0, 1.0)
    throttle.observe(5, 5, 0.0)
    throttle.observe(5, 0, 1.0)

    assert 6 == throttle.limit


def test_a_ceiling_that_changes():
    """A limit at the ceiling follows it up and down; one that trouble has lowered earns what is new, and is cut."""
    full, lowered = Throttle(8, 8), Throttle(8, 8)
    lowered.observe(0, 8, 0.0)
    for ceiling, limits in ((12, (12, 4)), (3, (3, 3)), (9, (9, 9))):
        for throttle in (full, lowered):
            throttle.set_ceiling(ceiling)

        assert limits == (full.limit, lowered.limit)


def test_a_start_of_none_is_one():
    """One connection is allowed from the first."""
    assert 1 == Throttle(5, 0).limit


@pytest.mark.parametrize(("slow_s", "after"), [(2.0, 20), (2.01, 19)])
def test_two_seconds_are_not_slow(slow_s, after):
    """However fast the best round was, only what takes longer than two seconds is overload."""
    throttle = Throttle(20, 20)
    throttle.observe(20, 0, 0.01)
    throttle.observe(20, 0, slow_s)

    assert after == throttle.limit


def answer(throttle, seconds, n_answers):
    """Answer requests, each after `seconds(n_at_once)`; return how many were under way at once, in the mean."""
    used = []
    sent = [throttle.limit]
    while sum(used) < n_answers:
        n = sent.pop(0)
        used.append(n)
        sent.append(throttle.limit)
        throttle.observe(n, 0, seconds(n))
    return sum(n * n for n in used) / sum(used)


@pytest.mark.parametrize("ceiling", [2, 3, 6, 32])
def test_an_archive_that_is_slow_for_everybody_keeps_its_connections(ceiling):
    """Fewer connections make files from a slow disk no quicker: after a look, all are used again."""
    throttle = Throttle(ceiling, ceiling)
    answer(throttle, lambda _: 0.2, 200)
    for slow_s in (3.0, 0.2, 5.0, 40.0):
        answer(throttle, lambda _, slow_s=slow_s: slow_s, 600)

        assert answer(throttle, lambda _, slow_s=slow_s: slow_s, 600) > 0.8 * ceiling


@pytest.mark.parametrize("n_quick", [4, 8, 16])
def test_an_archive_that_load_makes_slow_is_asked_less(n_quick):
    """Where each connection makes all of them slower, the limit settles where that is two seconds."""
    throttle = Throttle(32, 32)
    answer(throttle, lambda _: 0.1, 32)
    answer(throttle, lambda n: SLOW_FLOOR_S / n_quick * n, 1000)

    assert n_quick / 1.3 < answer(throttle, lambda n: SLOW_FLOOR_S / n_quick * n, 2000) < n_quick * 1.3


def load(throttle, fails, n_answers, *, seed=0):
    """Send as many requests at once as are allowed; `fails(n_at_once, draw)` says which; return the mean number."""
    draw = random.Random(seed)
    used = []
    while sum(used) < n_answers:
        n = throttle.limit
        used.append(n)
        for _ in range(n):
            is_trouble = fails(n, draw)
            throttle.observe(int(not is_trouble), int(is_trouble), 0.0 if is_trouble else 0.05)
    return sum(n * n for n in used) / sum(used)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.08])
@pytest.mark.parametrize("ceiling", [6, 24, 64])
def test_what_fails_at_any_load_does_not_lower_it_for_long(ceiling, share):
    """An archive that fails on some cutouts whatever the load is used with most of its connections."""
    throttle = Throttle(ceiling, ceiling)
    load(throttle, lambda _, draw: draw.random() < share, 4000)

    assert load(throttle, lambda _, draw: draw.random() < share, 8000, seed=1) > 0.6 * ceiling


@pytest.mark.parametrize("most", [3, 8, 20])
def test_trouble_that_load_makes_still_lowers_it(most):
    """What fails above so many connections, and only there, keeps the limit about there, measured or not."""
    throttle = Throttle(32, 32)
    load(throttle, lambda n, draw: n > most and draw.random() < 1 - most / n, 4000)

    assert load(throttle, lambda n, draw: n > most and draw.random() < 1 - most / n, 4000, seed=1) < 1.2 * most


def test_load_is_seen_beside_what_fails_at_any_load():
    """Cutouts that always fail hide no overload."""

    def fails(n, draw):
        return draw.random() < 0.05 or (n > 10 and draw.random() < 1 - 10 / n)

    throttle = Throttle(32, 32)
    load(throttle, fails, 6000)

    assert load(throttle, fails, 6000, seed=1) < 16


def test_an_archive_that_fails_often_is_left_with_few():
    """A fifth of all answers at one connection is the archive's own trouble: it is not made worse."""
    throttle = Throttle(32, 32)
    load(throttle, lambda _, draw: draw.random() < 0.2, 4000)

    assert 0 == throttle.baseline.share
    assert load(throttle, lambda _, draw: draw.random() < 0.2, 4000, seed=1) < 6


def test_a_demand_lowers_it_whatever_was_measured():
    """429 and Retry-After are no cutout's own."""
    throttle = Throttle(24, 24)
    throttle.baseline.share = 0.1
    throttle.observe(0, 1, 0.0)
    assert 24 == throttle.limit
    throttle.observe(0, 1, 0.0, is_demand=True)
    assert 12 == throttle.limit


def test_repetitions_of_what_has_failed_say_nothing_once_there_is_a_share():
    """Retries come in numbers, and fail again; as long as nothing was measured, they count."""
    measured, unmeasured = Throttle(24, 24), Throttle(24, 24)
    measured.baseline.share = 0.05
    for throttle in (measured, unmeasured):
        throttle.observe(0, 20, 0.0, is_repeat=True)

    assert (24, 12) == (measured.limit, unmeasured.limit)


def test_a_share_follows_an_archive_that_recovers():
    """A thousand answers without trouble, and one failure lowers the limit as at first."""
    throttle = Throttle(8, 8)
    throttle.baseline.share = 0.1
    for _ in range(200):
        throttle.observe(8, 0, 0.1)
    assert 0 == throttle.baseline.share
    throttle.observe(0, 1, 0.0)

    assert 4 == throttle.limit


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_retries_alone_end_a_measurement(share):
    """At the end of a harvest all that is left has failed before: one connection is not all that is used for it."""
    throttle = Throttle(24, 24)
    throttle.baseline.share = share
    for _ in range(MEASURE_AFTER):
        throttle.baseline.lowered(24)
    assert 1 == throttle.limit
    for _ in range(24 + MEASURED):
        throttle.observe(0, 1, 0.0, is_repeat=True)

    assert not throttle.baseline.is_measuring
    assert share == throttle.baseline.share


def test_retries_that_say_nothing_let_the_limit_grow():
    """Where a share is known, failures of what has failed before are answers like others, and no trouble."""
    throttle = Throttle(12, 12)
    throttle.baseline.share = 0.05
    throttle.observe(0, 1, 0.0, is_demand=True)
    for _ in range(200):
        throttle.observe(0, 1, 0.0, is_repeat=True)

    assert 12 == throttle.limit
