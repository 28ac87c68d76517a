"""
Outage ledger: failures and charged attempts that are taken back when the archive turns out to be down.

An outage is declared only after several requests have failed. What those requests did to their items (an attempt
charged, a final failure) is kept here until it is clear which of both it was: a good answer lets it stand, an
outage takes it back.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from psfharvest.core.model import Item, Outcome

HELD_MAX = 64
"""Final failures held back at most: an outage shows after ten, so that more are not its."""


class Release(NamedTuple):
    """What the ledger lets go of: outcomes that stand, and outcomes taken back, each with its item as it was."""

    stands: list[Outcome]
    taken_back: list[Outcome]


class OutageLedger:
    """Attempts and final failures since the archive's last sensible answer, and what to do with them."""

    def __init__(self) -> None:
        self._held: list[Outcome] = []
        self._charged: Counter[int] = Counter()
        """Attempts charged since the last sensible answer, by the item's number."""
        self._refunds: Counter[int] = Counter()
        """Attempts to give back when the item is next met, by its number."""
        self._n_alive = 0
        self._was_down = False

    def __len__(self) -> int:
        return len(self._held)

    def saw_alive(self, n_alive: int, *, is_down: bool) -> list[Outcome]:
        """
        Return the held failures that stand, when the archive has given sensible answers since the last call.

        Parameters
        ----------
        n_alive
            Sensible answers so far, a number that only grows.
        is_down
            Whether an outage is declared now.
        """
        if is_down or n_alive == self._n_alive:
            return []
        self._n_alive = n_alive
        return self.settle()

    def saw_failures(self, *, is_down: bool) -> Release:
        """Return what follows from failures just noted: all is taken back when an outage has begun with them."""
        began, self._was_down = is_down and not self._was_down, is_down
        if began:
            return Release([], self._take_back())
        return Release(self.settle() if len(self._held) > HELD_MAX else [], [])

    def charge(self, number: int) -> None:
        """Note that an attempt was charged for a failure that may be an outage's."""
        self._charged[number] += 1

    def hold(self, outcome: Outcome) -> None:
        """Hold a final failure back that may be an outage's."""
        self._held.append(outcome)

    def attempts_after(self, item: Item) -> int:
        """Return the requests charged to an item with the one just failed, refunds (now used up) taken off."""
        return max(1, item.attempts + 1 - self._refunds.pop(item.number, 0))

    def refunded(self, item: Item) -> Item:
        """Return an item that is about to be sent, with its refunds (now used up) taken off."""
        refund = self._refunds.pop(item.number, 0)
        return item._replace(attempts=max(0, item.attempts - refund)) if refund else item

    def forget(self, number: int) -> None:
        """Drop the refunds of an item that is done."""
        self._refunds.pop(number, None)

    def settle(self) -> list[Outcome]:
        """Return all held failures: they stand, and so do the charged attempts."""
        held, self._held = self._held, []
        self._charged.clear()
        return held

    def _take_back(self) -> list[Outcome]:
        held, self._held = self._held, []
        taken_back = []
        for outcome in held:
            attempts = max(0, outcome.item.attempts + 1 - self._charged.pop(outcome.item.number, 0))
            taken_back.append(outcome._replace(item=outcome.item._replace(attempts=attempts)))
        self._refunds.update(self._charged)
        self._charged.clear()
        return taken_back
