"""The low-water mark of a manifest: no pending item has a number up to it, so that a search begins behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from psfharvest.core.model import Item


class LowWater:
    """
    The mark, and the items that keep it down: those that were given out and are not settled.

    What happens within a transaction is undone by `roll_back`; only `give` may be called from any thread.
    """

    def __init__(self) -> None:
        self.mark = 0
        self._cursor = 0
        self._given: set[int] = set()
        self._settled: list[int] = []
        self._on_their_way: deque[Sequence[Item]] = deque()

    def give(self, items: Sequence[Item]) -> None:
        """Take note of items on their way."""
        if items:
            self._on_their_way.append(items)

    def settle(self, numbers: Iterable[int]) -> None:
        """Take note of items that have an outcome now."""
        self._settled.extend(numbers)

    def take_back(self, number: int) -> None:
        """Take note that an item has no outcome any more."""
        self._given.add(number)
        self.mark = min(self.mark, number - 1)

    def reopen(self, first: int) -> None:
        """Take note that items from `first` on are pending again, which were not given out since."""
        self.mark = self._cursor = min(self.mark, first - 1)

    def advance(self) -> int:
        """Return the mark as it is to be committed."""
        while self._on_their_way:
            items = self._on_their_way.popleft()
            self._given.update(item.number for item in items)
            self._cursor = max(self._cursor, items[-1].number)
        self._given.difference_update(self._settled)
        looked_at = max(self.mark, self._cursor)  # what lies beyond was never given out: it may be pending
        self.mark = min(looked_at, min(self._given) - 1) if self._given else looked_at
        return self.mark

    def commit(self) -> None:
        """Forget what is settled for good."""
        self._settled.clear()

    def roll_back(self, mark: int) -> None:
        """Go back to an earlier mark; nothing was settled after all: the mark must stay below it."""
        self.mark = mark
        self._given.update(self._settled)
        self._settled.clear()
