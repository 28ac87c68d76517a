"""Retries of a pump, counted by reason, and emitted as one event a reason in each of its turns."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from psfharvest.core.model import Item, Reason
from psfharvest.engine.share import Share
from psfharvest.events.model import Retried


class _Retries(NamedTuple):
    """Retries of one reason since its last event."""

    n: int
    delay_s: float
    example: str


class RetryNotes:
    """Counts what is tried again, and emits it in batches."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._pending: dict[Reason, _Retries] = {}

    def note(self, reason: Reason, item: Item, delay_s: float = 0.0, n: int = 1) -> None:
        """Take note that an item is tried again, `n` times at once, after a delay."""
        self.counts[reason] += n
        known = self._pending.get(reason, _Retries(0, 0.0, item.uri))
        self._pending[reason] = _Retries(known.n + n, max(known.delay_s, delay_s), known.example)

    def emit(self, share: Share) -> None:
        """Emit an event for each reason that was noted since."""
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        for reason, retries in pending.items():
            share.emit(Retried, n=retries.n, reason=reason.value, delay_s=retries.delay_s, example=retries.example)
