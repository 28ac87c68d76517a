"""
Adaptive limit of connections, from the answers of the archive.

Additive increase, multiplicative decrease. Trouble (429, 5xx, time-outs, broken transfers) halves the limit, at
most once in a round of answers; a round without trouble adds one connection. Where trouble comes again and again,
the share of answers that fail at one connection is measured: from then on only what exceeds that share counts
(`psfharvest.core.policy.baseline`), and 429 and Retry-After, which always do. A round of answers that is slow for
the load (`psfharvest.core.policy.slowness`) takes one connection away. Trouble may come fast, so its time never
counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psfharvest.core.policy.baseline import Baseline
from psfharvest.core.policy.slowness import Slowness


@dataclass(slots=True)
class Throttle:
    """
    The adaptive limit of connections.

    Parameters
    ----------
    ceiling
        Connections at most.
    start
        Connections at first: 2 on the public archive, the ceiling elsewhere.
    """

    ceiling: int
    start: int
    _limit: float = 0.0
    _size: int = 1
    """Answers that make the present round: what was allowed when it began, since so many may be on their way."""
    _n_answers: int = 0
    _n_good: int = 0
    _n_trouble: int = 0
    _is_troubled: bool = False
    """Whether trouble has lowered the limit in this round."""
    _round_s: float = 0.0
    lowered: int = 0
    """How often the limit was lowered."""
    baseline: Baseline = field(default_factory=Baseline)
    _slowness: Slowness = field(default_factory=Slowness)

    def __post_init__(self) -> None:
        self._limit = float(min(self.start, self.ceiling))
        self._size = self.limit

    @property
    def limit(self) -> int:
        """Connections that may be in use now: from 1 to the ceiling."""
        return 1 if self.baseline.is_measuring else max(1, int(self._limit))

    def set_ceiling(self, ceiling: int) -> None:
        """Change the ceiling; a limit that was at the old one follows it, one that was lowered grows by rounds."""
        was_full = self._limit >= self.ceiling
        self.ceiling = ceiling
        self._limit = float(ceiling) if was_full else min(self._limit, float(ceiling))

    def observe(
        self, n_good: int, n_trouble: int, mean_s: float, *, is_repeat: bool = False, is_demand: bool = False
    ) -> None:
        """
        Take account of answers.

        Parameters
        ----------
        n_good, n_trouble
            Answers since the last call, by whether they point to an overloaded archive.
        mean_s
            Mean time of the good ones.
        is_repeat
            Whether the trouble is of a request that had failed before: that says nothing new of an archive that
            fails on some requests at one connection, too.
        is_demand
            Whether the archive asks for fewer requests, by 429 or Retry-After.
        """
        if self.baseline.is_measuring:
            self.baseline.observe(n_good, n_trouble, is_repeat=is_repeat)
            if not self.baseline.is_measuring:
                self._limit = 1.0
                self._begin_round()
            return
        self._n_answers += n_good + n_trouble
        if not (is_repeat and self.baseline.share) or is_demand:
            self.baseline.observe(n_good, n_trouble)
            self._count(n_good, n_trouble, mean_s, is_demand=is_demand)
        if self._n_answers >= self._size:
            self._end_round()

    def _count(self, n_good: int, n_trouble: int, mean_s: float, *, is_demand: bool) -> None:
        if n_good:
            self._round_s += (mean_s - self._round_s) * n_good / (self._n_good + n_good)
        self._n_good += n_good
        self._n_trouble += n_trouble
        is_too_much = is_demand or self._n_trouble > self.baseline.allowed(self._size)
        if n_trouble and is_too_much and not self._is_troubled:
            self._is_troubled = True
            if self._limit > 1:
                self.baseline.lowered(self._size)
            self._lower(self._limit / 2)

    def _end_round(self) -> None:
        if not self._is_troubled:
            if self._n_good and self._slowness.is_overload(self._size, self._round_s):
                self._lower(self._limit - 1)
            else:
                if self._limit >= self.ceiling:
                    self.baseline.was_calm()
                self._limit = min(float(self.ceiling), self._limit + 1)
        self._begin_round()

    def _begin_round(self) -> None:
        self._n_answers = self._n_good = self._n_trouble = 0
        self._is_troubled = False
        self._round_s = 0.0
        self._size = self.limit

    def _lower(self, limit: float) -> None:
        if self._limit > 1:
            self.lowered += 1
        self._limit = max(1.0, limit)
