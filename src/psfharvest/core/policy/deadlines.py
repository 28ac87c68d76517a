"""Priority queue of requests, earliest deadline first; one that would be answered too late is put off."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

UNHURRIED_S = 60.0
"""Deadline assumed for a request that has none, so that requests with deadlines do not delay it for ever."""
COMPACT_MIN = 64
"""Stale heap entries that are tolerated however few requests wait; see `DeadlineQueue.discard`."""

Waiting = TypeVar("Waiting", bound=Hashable)


class DeadlineQueue(Generic[Waiting]):
    """Requests that wait to be sent, the earliest deadline first; a change costs O(log n), amortised."""

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Waiting]] = []
        self._late: list[tuple[float, int, Waiting]] = []  # would be answered too late; the latest first
        self._due: dict[Waiting, tuple[float, float]] = {}
        """Of each waiting request: its earliest deadline, and until when an answer is of use."""
        self._n_put = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, waiting: object) -> bool:
        return waiting in self._due

    def put(self, waiting: Waiting, due_at: float, leaves_at: float, now: float) -> None:
        """
        Add a request, or one more caller of a request that waits.

        The earliest deadline of its callers decides its turn; it is worth sending until the last one leaves.

        Parameters
        ----------
        waiting
            The request.
        due_at, leaves_at, now
            The caller's deadline, or infinity; until when an answer is of use to it; and the present time.
        """
        first_at = min(due_at, now + UNHURRIED_S)
        known = self._due.get(waiting)
        if known is None:
            self._due[waiting] = first_at, leaves_at
        else:
            self._due[waiting] = min(first_at, known[0]), max(leaves_at, known[1])
            if first_at >= known[0] and leaves_at <= known[1]:
                return
        self._n_put += 1
        heapq.heappush(self._order, (first_at, self._n_put, waiting))

    def discard(self, waiting: Waiting) -> None:
        """Remove a request if it waits; its heap entries stay until they outnumber the requests by far."""
        self._due.pop(waiting, None)
        if len(self._order) + len(self._late) > COMPACT_MIN + 3 * len(self):
            self._order, self._late = self._compacted(self._order), self._compacted(self._late)

    def take(self, answered_at: float, *, is_idle: bool) -> Waiting | None:
        """
        Return the request to send next, or None where none is worth sending now.

        Parameters
        ----------
        answered_at
            When a request that is sent now would be answered, at the earliest.
        is_idle
            Whether nothing else is under way: then one that seems too late is tried, too: the most patient.
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

    def _compacted(self, heap: list[tuple[float, int, Waiting]]) -> list[tuple[float, int, Waiting]]:
        """Return a heap's entries of requests that wait, the first one of each; sorted, so that it is a heap."""
        first = {entry[2]: entry for entry in sorted(heap, reverse=True) if entry[2] in self._due}
        return sorted(first.values())
