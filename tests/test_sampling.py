"""The default run's sample of a matrix: each value of each parameter, no more cases than that takes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampling import least_like, sample


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_each_value_of_each_parameter_is_shown(sizes: list[int]) -> None:
    """A full matrix is covered by few cases, as many as its longest side at least."""
    cases = [dict(zip("abcd", case, strict=False)) for case in product(*map(range, sizes))]

    chosen = [cases[n] for n in sample(cases)]

    assert [{case[name] for case in chosen} for name in cases[0]] == [set(range(size)) for size in sizes]
    assert max(sizes) <= len(chosen) <= max(1, sum(size - 1 for size in sizes) + 1)


@given(st.integers(1, 30), st.integers(1, 10))
def test_no_more_than_wanted(size: int, n: int) -> None:
    """A limit is kept, and the first case is among the chosen."""
    chosen = sample([{"a": k} for k in range(size)], n)

    assert 0 in chosen
    assert len(chosen) == min(size, n)


@pytest.mark.parametrize("second", range(3))
@pytest.mark.parametrize("first", range(4))
def test_a_sampled_matrix(request: pytest.FixtureRequest, first: int, second: int) -> None:
    """What is not in the sample is in the campaign."""
    named = {name for name, value in {"first": first, "second": second}.items() if value == 0}
    is_alone = len([i for i in request.session.items if i.name.startswith("test_a_sampled_matrix")]) == 1

    assert is_alone or named == {"first", "second"} or request.node.get_closest_marker("campaign") or first + second


def test_of_the_long_cases_the_least_tried_is_first() -> None:
    """It shares fewest values with what was tried; of several, the first."""
    cases = [{"sink": 0, "via": 1}, {"sink": 2, "via": 0}, {"sink": 2, "via": 1}, {"sink": 1, "via": 2}]

    assert 2 == least_like({("sink", 0), ("via", 0), ("sink", 1)}, cases)
    assert 0 == least_like(set(), cases)
