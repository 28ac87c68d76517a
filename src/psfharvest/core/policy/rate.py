"""Rate limiter: how many requests may start now under a limit of requests per second."""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_BURST = 1.0


@dataclass(slots=True)
class Rate:
    """
    Limit of requests per second, with bursts of what a tenth of a second allows.

    Parameters
    ----------
    per_second
        Requests per second; None: no limit.
    """

    per_second: float | None
    _next_start: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.per_second)

    def room(self, now: float, otherwise: int) -> int:
        """Return how many requests may start now; `otherwise` where there is no ceiling."""
        if not self.per_second:
            return otherwise
        return int((now - max(self._next_start, now - self._burst_s())) * self.per_second + 1e-6)

    def started(self, n: int, now: float) -> None:
        """Count requests that were sent."""
        if self.per_second:
            self._next_start = max(self._next_start, now - self._burst_s()) + n / self.per_second

    def ready_at(self) -> float:
        """Return when the next request may start, at the latest."""
        return self._next_start + 1 / self.per_second if self.per_second else 0.0

    def _burst_s(self) -> float:
        rate = self.per_second or 1.0
        return max(_LEAST_BURST, rate / 10) / rate
