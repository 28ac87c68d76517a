"""Transient trouble of a pump, by reason: how often since it began, and what listeners are still to be told."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from psfharvest.core.model import Item, Reason
from psfharvest.engine.share import Share
from psfharvest.events.model import Retried


class _Trouble(NamedTuple):
    """What was met of one reason since listeners were told last."""

    n: int
    delay_s: float
    example: str


class RetryNotes:
    """Counts what is tried again, and tells it in batches, as the pump's turns are."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._untold: dict[Reason, _Trouble] = {}

    def note(self, reason: Reason, item: Item, delay_s: float = 0.0, n: int = 1) -> None:
        """Take note that an item is tried again, `n` times at once, after a delay."""
        self.counts[reason] += n
        known = self._untold.get(reason, _Trouble(0, 0.0, item.uri))
        self._untold[reason] = _Trouble(known.n + n, max(known.delay_s, delay_s), known.example)

    def tell(self, share: Share) -> None:
        """Emit an event for each reason that was noted since."""
        if not self._untold:
            return
        untold, self._untold = self._untold, {}
        for reason, trouble in untold.items():
            share.emit(Retried, n=trouble.n, reason=reason.value, delay_s=trouble.delay_s, example=trouble.example)
