"""
The default run's sample of each matrix: of a test with several parameters, as many cases as show each value once.

The other cases get the marker ``campaign``. ``@pytest.mark.sample(n)`` leaves `n` cases, evenly spread, also of one
parameter's values. In the folders of `COSTLY`, where a case costs a harvest or a process, one is the rule, of two
that are farthest apart: which one differs from test to test. In `archive` a test runs on one event loop, asyncio or
trio in turn, except in the files of `BOTH_LOOPS`.
Cases that are named on the command line are a matrix of their own: each runs by its name.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest

COSTLY = {"cluster", "doctor", "faces", "metrics", "serve", "store", "whole"}
FARTHEST = 2
BOTH_LOOPS = {"test_httpx_pool.py", "test_split_wire.py", "test_stopped.py"}
"""Of `archive`: where waits for connections are cancelled."""


def examples(n: int) -> int:
    """Return how many examples of a costly property are tried: a tenth of `n`, or all in the profile ``ci``."""
    return n if os.environ.get("HYPOTHESIS_PROFILE") in ("ci", "deep") else max(5, n // 10)


def mark_what_is_left(items: Iterable[pytest.Item]) -> None:
    """Give the cases beyond each test's sample the marker ``campaign``."""
    matrices: dict[tuple[object, ...], list[pytest.Function]] = defaultdict(list)
    limits: dict[tuple[object, ...], int | None] = {}
    for item in items:
        if is_long(item) or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        key = item.path, item.cls, item.originalname
        matrices[key].append(item)
        marker = item.get_closest_marker("sample")
        is_costly = item.path.parent.name in COSTLY
        limits[key] = marker.args[0] if marker is not None else FARTHEST if is_costly else None
    for key, all_cases in matrices.items():
        cases = _of_one_loop(all_cases)
        chosen = sample([_values(item) for item in cases], limits[key])
        if limits[key] == FARTHEST and cases[0].path.parent.name in COSTLY:
            chosen = {sorted(chosen)[_turn(cases[0]) % len(chosen)]}
        kept = {cases[n] for n in chosen}
        for item in all_cases:
            if item not in kept:
                item.add_marker(pytest.mark.campaign)


def one_of_each(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return of each test's long cases the one that shares fewest values with those of the default run."""
    matrices: dict[tuple[object, ...], list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function):
            matrices[item.path, item.cls, item.originalname].append(item)
    chosen: set[pytest.Item] = set()
    for cases in matrices.values():
        tried = {value for case in cases if not is_long(case) for value in _values(case).items()}
        if left := [case for case in cases if is_long(case)]:
            chosen.add(left[least_like(tried, [_values(case) for case in left])])
    return chosen


def least_like(tried: set[tuple[str, int]], cases: Sequence[dict[str, int]]) -> int:
    """Return the position of the first case with most values, each with its parameter, that are not `tried` yet."""
    return max(range(len(cases)), key=lambda n: len(cases[n].items() - tried))


def is_long(item: pytest.Item) -> bool:
    """Return True for what is no part of the default run."""
    return item.get_closest_marker("campaign") is not None


def _of_one_loop(cases: list[pytest.Function]) -> list[pytest.Function]:
    """Return the cases of `archive` that run on the event loop whose turn it is; all of other folders."""
    path = cases[0].path
    loops = sorted({item.callspec.params.get("anyio_backend", "") for item in cases})
    if path.parent.name != "archive" or path.name in BOTH_LOOPS or len(loops) < 2:
        return cases
    loop = loops[_turn(cases[0]) % 2]
    return [item for item in cases if item.callspec.params["anyio_backend"] == loop]


def _turn(item: pytest.Function) -> int:
    """Return a number that is the test's own, the same in every process."""
    return zlib.crc32(f"{item.cls.__name__ if item.cls else ''} {item.originalname}".encode())


def _values(item: pytest.Function) -> dict[str, int]:
    """Return a number for the value of each parameter: cases of one matrix share their values."""
    return {name: id(value) for name, value in item.callspec.params.items()} if hasattr(item, "callspec") else {}


def sample(cases: Sequence[dict[str, int]], n: int | None = None) -> set[int]:
    """
    Choose cases such that each value of each parameter occurs, where `n` allows it.

    Parameters
    ----------
    cases
        Each a number for its value, by parameter.
    n
        How many are chosen at most; None: as many as are needed.

    Returns
    -------
    set of int
        Their positions.
    """
    left = {value for case in cases for value in case.items()}
    chosen: list[int] = []
    while left:
        news = [len(left & set(case.items())) for case in cases]
        best = news.index(max(news))
        chosen.append(best)
        left -= set(cases[best].items())
    chosen.sort()
    if n is None or len(chosen) <= n:
        return set(chosen)
    return {chosen[k * len(chosen) // n] for k in range(n)}
