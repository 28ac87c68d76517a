"""How fast a harvest goes, and how long it will take."""

from __future__ import annotations

from collections import deque

from psfharvest.core.model import Progress


class HarvestRate:
    """Cutouts a second over the last half minute, and the time that is left at that rate."""

    WINDOW_S = 30.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, progress: Progress) -> None:
        """Take account of a look at the harvest."""
        self._seen.append((progress.elapsed_s, received(progress), progress.tally.bytes))
        while len(self._seen) > 2 and progress.elapsed_s - self._seen[1][0] >= self.WINDOW_S:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Cutouts a second; 0 while that is not known."""
        return self._per_second(1)

    @property
    def bytes_per_s(self) -> float:
        """Bytes stored a second; 0 while that is not known."""
        return self._per_second(2)

    def left_s(self, progress: Progress) -> float | None:
        """Return the time that is left; None where nothing is known of it, as in an outage."""
        to_come = expected(progress) - settled(progress)
        rate = self.per_second
        return to_come / rate if rate > 0 and to_come > 0 and not progress.outage else None

    def _per_second(self, column: int) -> float:
        if len(self._seen) < 2:
            return 0.0
        began, now = self._seen[0], self._seen[-1]
        return max(0, now[column] - began[column]) / (now[0] - began[0]) if now[0] > began[0] else 0.0


def settled(progress: Progress) -> int:
    """Return how many cutouts are no longer pending."""
    return progress.tally.total - progress.tally.pending


def received(progress: Progress) -> int:
    """Return what is settled or has arrived: bundles are settled all at once, but come steadily."""
    return settled(progress) + progress.arrived


def expected(progress: Progress) -> int:
    """Return how many cutouts it comes to in the end, as far as is known."""
    return max(progress.expected or 0, progress.tally.total)
