"""Requests in the order of their deadlines; one that would come too late takes no connection from the others."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

UNHURRIED_S = 60.0
"""Who has no deadline is served as if this one: before long it goes before those that come with one."""
COMPACT_MIN = 64
"""Discarded entries that may wait to be passed over, and as many as there are others."""

Waiting = TypeVar("Waiting", bound=Hashable)


class DeadlineQueue(Generic[Waiting]):
    """What waits to be sent, the earliest deadline first; each change costs a logarithm of the length at most."""

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Waiting]] = []
        self._late: list[tuple[float, int, Waiting]] = []  # who would have left before: the most patient first
        self._due: dict[Waiting, tuple[float, float]] = {}
        """The earliest deadline of each that waits, and until when an answer is of use."""
        self._n_put = 0

    def __len__(self) -> int:
        return len(self._due)

    def put(self, waiting: Waiting, due_at: float, leaves_at: float, now: float) -> None:
        """
        Let something wait, or hear of one more who waits for it.

        Its turn goes by the earliest deadline; as long as somebody will still be there, it is worth a request.

        Parameters
        ----------
        waiting
            What is to be sent.
        due_at, leaves_at, now
            By when its answer is asked for, or infinity; until when it is of use; and what time it is.
        """
        first_at = min(due_at, now + UNHURRIED_S)
        known = self._due.get(waiting)
        last_at = leaves_at if known is None else max(leaves_at, known[1])
        self._due[waiting] = (first_at if known is None else min(first_at, known[0])), last_at
        if known is None or first_at < known[0] or leaves_at > known[1]:
            self._n_put += 1
            heapq.heappush(self._order, (first_at, self._n_put, waiting))

    def discard(self, waiting: Waiting) -> None:
        """Let it wait no longer, if it does."""
        if self._due.pop(waiting, None) is not None and len(self._order) > COMPACT_MIN + 2 * len(self):
            self._order = [entry for entry in self._order if entry[2] in self._due]
            heapq.heapify(self._order)

    def take(self, answered_at: float, *, is_idle: bool) -> Waiting | None:
        """
        Return what is to be sent next, or None where nothing waits that is worth a request now.

        Parameters
        ----------
        answered_at
            When it would be answered, at the earliest.
        is_idle
            Whether nothing else is under way: then also what seems to come late is tried, the most patient first.
        """
        while self._order:
            _, n_put, waiting = heapq.heappop(self._order)
            due = self._due.get(waiting)
            if due is None:
                continue
            if due[1] >= answered_at:
                del self._due[waiting]
                return waiting
            heapq.heappush(self._late, (-due[1], n_put, waiting))
        while self._late:
            waiting = self._late[0][2]
            due = self._due.get(waiting)
            if due is not None and due[1] < answered_at and not is_idle:
                return None
            heapq.heappop(self._late)
            if due is not None:
                del self._due[waiting]
                return waiting
        return None
