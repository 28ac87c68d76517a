"""
Share of answers that fail however few connections are in use.

Some archives fail on some cutouts whatever the load: a server error for each hundredth product, a network that
drops a connection now and then. Fewer connections do not help there. The evidence is a measurement at one
connection: what fails then is not due to ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MEASURE_AFTER = 8
"""Times that trouble has lowered the limit, without a calm round at the ceiling, before a measurement."""
MEASURED = 60
"""Answers of one measurement; it counts if half of them are to requests that had not failed before."""
SHARE_MAX = 0.1
"""An archive that fails more often than this at one connection is in trouble itself: nothing is tolerated."""
WINDOW = 1000
"""Answers after which a measured share is compared with what has come since, and lowered to it."""
DEVIATIONS = 3.0
"""By how many standard deviations a round may exceed the share."""


@dataclass(slots=True)
class Baseline:
    """
    The share, and the measurement under way.

    Attributes
    ----------
    share
        Of all answers; 0 as long as nothing was measured.
    """

    share: float = 0.0
    _n_lowered: int = 0
    _measure_after: int = MEASURE_AFTER
    _n_ignored: int = 0
    """Answers to come of requests that were sent with more connections."""
    _n_left: int = 0
    _n_counted: int = 0
    """Answers of the measurement to requests that had not failed before."""
    _n_trouble: int = 0
    _window: int = 0
    _window_trouble: int = 0

    @property
    def is_measuring(self) -> bool:
        """Whether one connection must be in use."""
        return self._n_left > 0

    def allowed(self, n_answers: int) -> float:
        """Return how many of so many answers may fail without speaking of overload."""
        expected = self.share * n_answers
        return expected + DEVIATIONS * math.sqrt(expected)

    def lowered(self, n_under_way: int) -> None:
        """
        Record that trouble has lowered the limit; begin a measurement when that has happened often.

        Parameters
        ----------
        n_under_way
            Answers that may come of requests sent before.
        """
        self._n_lowered += 1
        if self._n_lowered >= self._measure_after:
            self._measure_after *= 2
            self._n_ignored, self._n_left = n_under_way, MEASURED
            self._n_counted = self._n_trouble = 0

    def was_calm(self) -> None:
        """Record a round at the ceiling without too much trouble."""
        self._n_lowered, self._measure_after = 0, MEASURE_AFTER

    def observe(self, n_good: int, n_trouble: int, *, is_repeat: bool = False) -> None:
        """Take account of answers; those to requests that had failed before say nothing, but end a measurement."""
        if self._n_left:
            self._measure(n_good, n_trouble, is_repeat=is_repeat)
        elif self.share:
            self._follow(n_good, n_trouble)

    def _measure(self, n_good: int, n_trouble: int, *, is_repeat: bool) -> None:
        n = n_good + n_trouble
        if self._n_ignored > 0:
            self._n_ignored -= n
            return
        if not is_repeat:
            self._n_counted += n
            self._n_trouble += n_trouble
        self._n_left = max(0, self._n_left - n)
        if not self._n_left:
            if 2 * self._n_counted >= MEASURED:
                is_small = self._n_trouble <= SHARE_MAX * self._n_counted
                self.share = (self._n_trouble + math.sqrt(self._n_trouble)) / self._n_counted if is_small else 0.0
            self._n_lowered = self._window = self._window_trouble = 0

    def _follow(self, n_good: int, n_trouble: int) -> None:
        self._window += n_good + n_trouble
        self._window_trouble += n_trouble
        if self._window >= WINDOW:
            seen = self._window_trouble / self._window
            self.share = min(self.share, seen + 2 * math.sqrt(seen / self._window))
            self._window = self._window_trouble = 0
