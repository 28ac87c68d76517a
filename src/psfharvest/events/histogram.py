"""Histogram of the times of requests, with the buckets of `DURATION_BOUNDS_S`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Self

from psfharvest.events.model import DURATION_BOUNDS_S, N_BUCKETS


class Histogram:
    """How many requests took how long."""

    def __init__(self, counts: Sequence[int] = (0,) * N_BUCKETS, sum_s: float = 0.0) -> None:
        self._counts = list(counts)
        self.sum_s = sum_s

    @property
    def counts(self) -> tuple[int, ...]:
        """How many are in each bucket."""
        return tuple(self._counts)

    def add(self, *times_s: float) -> None:
        """Count requests that took so long."""
        for time_s in times_s:
            self._counts[bisect_left(DURATION_BOUNDS_S, time_s)] += 1
            self.sum_s += time_s

    def add_all(self, counts: Iterable[int], sum_s: float) -> None:
        """Count those of another histogram, too."""
        self._counts = [n + m for n, m in zip(self._counts, counts, strict=True)]
        self.sum_s += sum_s

    def since(self, before: Self) -> Histogram:
        """Return what has come since an earlier state."""
        counts = [n - m for n, m in zip(self._counts, before._counts, strict=True)]
        return Histogram(counts, self.sum_s - before.sum_s)

    def copy(self) -> Histogram:
        """Return its present state, which stays as it is."""
        return Histogram(self._counts, self.sum_s)
