"""
Ascending whole numbers, kept as runs: a harvest of millions without holes is one pair of numbers.

Positions count from 0; the number at a position, and the positions of a stretch, are found by bisection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
_BATCH_SIZE = 1_000_000


class IntervalSet:
    """
    An ascending sequence of distinct whole numbers.

    Parameters
    ----------
    starts, ends
        Where each run begins, and the number behind its last one; runs neither touch nor overlap.
    """

    def __init__(self, starts: Numbers, ends: Numbers) -> None:
        self._starts = starts
        self._before = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])

    @classmethod
    def between(cls, low: int, high: int) -> Self:
        """Return all whole numbers of the closed range."""
        is_any = high >= low
        return cls(np.array([low] if is_any else [], np.int64), np.array([high + 1] if is_any else [], np.int64))

    @classmethod
    def of(cls, pieces: Iterable[Numbers]) -> Self:
        """Return the runs of numbers that come ascending, in pieces."""
        starts: list[Numbers] = []
        ends: list[Numbers] = []
        for piece in pieces:
            if not len(piece):
                continue
            gaps = np.flatnonzero(np.diff(piece) != 1)
            first, last = piece[np.append(0, gaps + 1)], piece[np.append(gaps, len(piece) - 1)] + 1
            if ends and ends[-1][-1] == first[0]:  # goes on from the piece before
                ends[-1] = ends[-1][:-1]
                first = first[1:]
            starts.append(first)
            ends.append(last)
        none = [np.zeros(0, np.int64)]
        return cls(np.concatenate(starts or none), np.concatenate(ends or none))

    def __len__(self) -> int:
        return int(self._before[-1])

    def numbers(self, start: int, stop: int, step: int = 1) -> Numbers:
        """Return the numbers at the positions ``range(start, stop, step)``, which must exist."""
        return self._at(np.arange(start, stop, step, dtype=np.int64))

    def picked(self, positions: Numbers) -> IntervalSet:
        """Return what stands at some positions, which come ascending and must exist."""
        return IntervalSet.of([self._at(positions)])

    def pieces(self, size: int) -> Iterator[Numbers]:
        """Yield all numbers, at most `size` at once."""
        for start in range(0, len(self), size):
            yield self.numbers(start, min(start + size, len(self)))

    def contains(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Return for each number whether it is here."""
        if not len(self):
            return np.zeros(len(numbers), np.bool_)
        run = np.searchsorted(self._starts, numbers, side="right") - 1
        lengths = np.diff(self._before)
        return (run >= 0) & (numbers - self._starts[run] < lengths[run])

    def sliced(self, part: slice) -> IntervalSet:
        """Return what stands at the positions of a slice, always ascending."""
        positions = range(len(self))[part]
        if positions.step < 0:
            positions = positions[::-1]
        return IntervalSet.of(
            self.numbers(p.start, p.stop, p.step)
            for p in (positions[i : i + _BATCH_SIZE] for i in range(0, len(positions), _BATCH_SIZE))
        )

    def common(self, others: IntervalSet) -> IntervalSet:
        """Return the numbers that are here and there."""
        return IntervalSet.of(piece[others.contains(piece)] for piece in self.pieces(_BATCH_SIZE))

    def _at(self, positions: Numbers) -> Numbers:
        run = np.searchsorted(self._before, positions, side="right") - 1
        found: Numbers = self._starts[run] + (positions - self._before[run])
        return found
