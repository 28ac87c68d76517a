"""Max-min fair division."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.fair import fair_parts, fair_slots


@given(st.integers(-5, 200), st.lists(st.integers(0, 60), max_size=20))
def test_parts_are_fair(total: int, needs: list[int]) -> None:
    """Nobody gets more than it needs, nothing is wasted, and what is short is short for all alike."""
    parts = fair_parts(total, needs)

    assert all(0 <= part <= need for part, need in zip(parts, needs, strict=True))
    assert min(max(total, 0), sum(needs)) == sum(parts)
    short = [part for part, need in zip(parts, needs, strict=True) if part < need]
    assert all(part <= min(short) + 1 for part in parts if short)


def test_what_is_left_over_goes_to_the_first() -> None:
    """Equal needs get a remainder in their order."""
    assert [2, 1, 1] == fair_parts(4, [9, 9, 9])
    assert [1, 1, 0, 0] == fair_parts(2, [1, 1, 1, 1])


USERS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)


@given(st.integers(0, 60), USERS)
def test_slots_go_to_whoever_holds_least(free: int, users: list[tuple[int, int]]) -> None:
    """No slot is wasted, and nobody who got one holds more than another who still wants one, but for one."""
    held, wanted = [h for h, _ in users], [w for _, w in users]
    given_ = fair_slots(free, held, wanted)

    assert min(free, sum(wanted)) == sum(given_)
    assert all(g <= w for g, w in zip(given_, wanted, strict=True))
    still = [h + g for h, g, w in zip(held, given_, wanted, strict=True) if g < w]
    assert all(h + g <= min(still) + 1 for h, g in zip(held, given_, strict=True) if g and still)
