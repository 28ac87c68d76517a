"""
Whether an archive's answers are slow, and whether that is due to the load.

Answers that take several times as long as the best ones did may come of too many connections. Of an overloaded
archive, half the connections get answers in half the time; where they do not, it is as slow for everybody, and that
is the new norm.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOW_FACTOR = 8.0
"""An answer this many times slower than the best rounds counts as overload."""
FORGET = 1.002
"""Growth of the best time in each round: what was quick once is forgotten after hours."""
SLOW_FLOOR_S = 2.0
"""Mean answers that take less never count as overload."""


@dataclass(slots=True)
class Slowness:
    """The best time of an answer, and where the present slowness began."""

    _best_s: float = float("inf")
    _from_size: int = 0
    """Connections of the first slow round in a row; 0: the last round was not slow."""
    _from_s: float = 0.0
    """Mean time of an answer in that round."""
    _n_half: int = 0
    """Slow rounds since then with at most half of those connections."""

    def is_overload(self, size: int, mean_s: float) -> bool:
        """
        Take account of a round of answers; return whether fewer connections may make them quicker.

        Parameters
        ----------
        size
            Connections in use.
        mean_s
            Mean time of an answer.
        """
        self._best_s = min(self._best_s * FORGET, mean_s)
        if mean_s <= max(SLOW_FLOOR_S, SLOW_FACTOR * self._best_s):
            self._from_size = 0
            return False
        if not self._from_size:
            self._from_size, self._from_s, self._n_half = size, mean_s, 0
        self._n_half += 2 * size <= max(self._from_size, 2)
        is_for_everybody = mean_s > self._from_s * (1 + size / self._from_size) / 2
        if self._n_half > 1 and is_for_everybody:  # the first answers with half of them were asked for with more
            self._best_s, self._from_size = mean_s, 0
            return False
        return True
