"""Examination of a check that refuses all cutouts: a control request, then one cutout again, then the run stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from psfharvest.core.errors import AllRefused
from psfharvest.core.model import Delivery, Failure, Item
from psfharvest.core.policy.suspicion import Suspicion
from psfharvest.engine.archive_limiter import ArchiveLimiter

HOLD_S = 2.0
"""How long what a check refused is held back while nothing is under way, but more may be asked for."""


class Examiner:
    """
    The examination of a suspect check, on behalf of a pump.

    Parameters
    ----------
    suspicion
        What was refused so far; None: nothing is held back, and each item is judged by itself.
    limiter
        The limiter of the host.
    recall
        Takes back what waits in the wire.
    """

    def __init__(self, suspicion: Suspicion | None, limiter: ArchiveLimiter, recall: Callable[[], None]) -> None:
        self._suspicion = Suspicion() if suspicion is None else suspicion
        self._is_on = suspicion is not None
        self._limiter = limiter
        self._recall = recall
        self._busy_at = 0.0
        """When something was last under way."""

    def __len__(self) -> int:
        return len(self._suspicion)

    @property
    def is_examining(self) -> bool:
        """True while nothing but the probe is to be sent."""
        return self._suspicion.suspect is not None

    def holds(self, delivery: Delivery, failure: Failure) -> bool:
        """Take a failure that may be our own; return False for one that is to be judged as usual."""
        if not (self._is_on and self._suspicion.holds(delivery, failure)):
            return False
        if len(self._suspicion) == 1:  # what has not been sent yet may not be needed
            self._recall()
        return True

    def judged(self, item: Item) -> None:
        """Note that a failure was judged as usual."""
        self._suspicion.failed(item.number)

    def dropped(self, item: Item) -> bool:
        """Note an item that was not asked for after all; return True for the probe, which is sent again."""
        return self._suspicion.dropped(item.number)

    def came(self, item: Item) -> list[Delivery]:
        """Note a cutout that came; return what is now to be judged as usual."""
        return self._suspicion.came(item) if self._is_on else []

    def again(self) -> list[Item]:
        """Return items that are to be asked for again, and not charged: what they met is accepted now."""
        return self._suspicion.again()

    def take_back(self) -> list[Item]:
        """Return all items held back: what they met was an outage's."""
        return self._suspicion.take_back()

    def room(self, n_sent: int) -> float:
        """Return how many more items may be sent: few while one was refused and none has come."""
        n = self._suspicion.n_wanted()
        return math.inf if n is None else max(0, n - n_sent)

    def turn(self, now: float, *, is_idle: bool, is_fed: bool) -> Sequence[Delivery]:
        """
        Go on with the examination, if one is under way; return what was held back in vain.

        Parameters
        ----------
        now
            The time of this turn.
        is_idle
            Nothing is under way, and nothing is left to send.
        is_fed
            Nothing more will be asked for.

        Raises
        ------
        AllRefused
            When the check refuses all.
        """
        suspect = self._suspicion.suspect
        if suspect is None:
            self._busy_at = self._busy_at if is_idle else now
            is_over = is_idle and (is_fed or now - self._busy_at >= HOLD_S)
            return self._suspicion.give_up() if is_over and len(self._suspicion) else ()
        if suspect.is_confirmed:
            raise AllRefused(self._suspicion.words(), reason=suspect.reason.value)
        if suspect.since_control is None:
            suspect.since_control = self._limiter.controls_begun
            self._recall()
        if self._limiter.last_passed > suspect.since_control:
            self._suspicion.begin_probe()
        else:
            self._limiter.doubt()
        return ()

    def probe(self, room: int) -> list[Item]:
        """Return the probe, where it is to be sent now."""
        probe = self._suspicion.probe() if room > 0 else None
        return [] if probe is None else [probe]
