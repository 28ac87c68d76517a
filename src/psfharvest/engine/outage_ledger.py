"""
Verdicts and charged attempts that are taken back when the archive turns out to be down.

An outage shows only after several requests have failed, and a broken archive may answer each of them with what
looks like a verdict (404, 403, a page). So what a failure did to its item (an attempt charged, a final outcome) is
kept here until the archive has proved to live: by a good answer to a request that was sent after the failure, or to
a control request. An outage takes it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from psfharvest.core.model import Item, Outcome
from psfharvest.core.reasons import DIRECT

DIRECT_MAX = 10
"""So many refusals of single cutouts (404, a refused body) without a later good answer need a control request."""


class _Unproven:
    """What failures have done to their items, as long as that may be taken back."""

    def __init__(self) -> None:
        self.verdicts: list[Outcome] = []
        self.charged: Counter[int] = Counter()
        """Attempts, by the item's number."""

    def __bool__(self) -> bool:
        return bool(self.verdicts or self.charged)

    def append(self, later: _Unproven) -> None:
        """Add what happened later."""
        self.verdicts += later.verdicts
        self.charged += later.charged


class OutageLedger:
    """
    Verdicts that no later good answer has confirmed yet: an older and a newer batch.

    The older one waits for a proof that is under way: for any of the requests sent after it (its witnesses), or for
    the control request. The newer one came later and waits for the next proof. Where all witnesses have failed, the
    older one waits together with the newer one again.

    Parameters
    ----------
    n_outages
        Outages that are over, or known: what they took back was not here.
    """

    def __init__(self, n_outages: int = 0) -> None:
        self.n_outages = n_outages
        self._older = _Unproven()
        self._newer = _Unproven()
        self._witnesses: set[int] = set()
        """Numbers of items sent after the older generation was charged."""
        self.is_controlled = False
        """Whether the older generation waits for a control request."""
        self._refunds: Counter[int] = Counter()
        """Attempts to give back when the item is next met, by its number."""

    def __len__(self) -> int:
        return len(self._older.verdicts) + len(self._newer.verdicts)

    @property
    def needs_control(self) -> bool:
        """True when what is held may not stand without a proof that the archive lives."""
        held = [*self._older.verdicts, *self._newer.verdicts]
        return len(held) >= DIRECT_MAX or any(outcome.reason not in DIRECT for outcome in held)

    def charge(self, number: int, n: int = 1) -> None:
        """Note attempts charged to an item."""
        self._newer.charged[number] += n

    def hold(self, outcome: Outcome) -> None:
        """Hold a verdict back until the archive has proved to live."""
        self._newer.verdicts.append(outcome)

    def sent(self, items: Iterable[Item]) -> None:
        """Note items sent: a good answer to one of them proves that the archive lived after what is held."""
        if self._newer and not self._witnesses and not self.is_controlled:
            self._promote()
            self._witnesses.update(item.number for item in items)

    def came(self, number: int) -> list[Outcome]:
        """Note an item that is done; return the verdicts that stand by it."""
        if number not in self._witnesses:
            return []
        self._witnesses.clear()
        return self._settle_older()

    def failed(self, number: int) -> None:
        """Note an item that did not come: it proves nothing."""
        self._witnesses.discard(number)
        if not self._witnesses and not self.is_controlled:
            self._demote()

    def control_begun(self) -> None:
        """Note a control request sent: it speaks for all that was held until now."""
        self._promote()
        self._witnesses.clear()
        self.is_controlled = True

    def control_passed(self) -> list[Outcome]:
        """Note a good answer to the control request; return the verdicts that stand by it."""
        if not self.is_controlled:
            return []
        self.is_controlled = False
        return self._settle_older()

    def outage(self, n_outages: int) -> list[Outcome]:
        """Return all verdicts held, taken back: each with its item as it was before the attempts charged."""
        self.n_outages = n_outages
        self._promote()
        self._witnesses.clear()
        self.is_controlled = False
        lost, self._older = self._older, _Unproven()
        taken_back = []
        for outcome in lost.verdicts:
            attempts = outcome.item.attempts + 1 - lost.charged.pop(outcome.item.number, 0)
            taken_back.append(outcome._replace(item=outcome.item._replace(attempts=max(0, attempts))))
        self._refunds.update(lost.charged)
        return taken_back

    def settle(self) -> list[Outcome]:
        """Return all verdicts held: they stand without a proof, and so do the charged attempts."""
        self._promote()
        return self._settle_older()

    def attempts_after(self, item: Item) -> int:
        """Return the requests charged to an item with the one just failed, refunds (now used up) taken off."""
        return max(1, item.attempts + 1 - self._refunds.pop(item.number, 0))

    def refunded(self, item: Item) -> Item:
        """Return an item that is about to be sent, with its refunds (now used up) taken off."""
        refund = self._refunds.pop(item.number, 0)
        return item._replace(attempts=max(0, item.attempts - refund)) if refund else item

    def _promote(self) -> None:
        self._older.append(self._newer)
        self._newer = _Unproven()

    def _demote(self) -> None:
        self._promote()
        self._older, self._newer = self._newer, self._older

    def _settle_older(self) -> list[Outcome]:
        proven, self._older = self._older, _Unproven()
        return proven.verdicts
