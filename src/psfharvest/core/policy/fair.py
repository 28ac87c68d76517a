"""Max-min fair division: small needs are met in full, the others get equal parts of what is left."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def fair_parts(total: int, needs: Sequence[int]) -> list[int]:
    """
    Return how much of `total` each need gets, in the order of the needs.

    No part is larger than its need, nothing is left over while a need is unmet, and unmet needs differ by at most
    one; where the division leaves a remainder, equal needs get it in their order.
    """
    parts = [0] * len(needs)
    left = max(0, total)
    n_left = len(needs)
    for place in sorted(range(len(needs)), key=needs.__getitem__):
        parts[place] = min(needs[place], -(-left // n_left))
        left -= parts[place]
        n_left -= 1
    return parts


def fair_slots(free: int, held: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """
    Return how many of `free` slots each user gets, in the order of the users.

    Each slot goes to the user that holds the fewest then, of those that still want one; the first of equals.
    """
    given = [0] * len(held)
    heap = [(n, place) for place, n in enumerate(held) if wanted[place]]
    heapq.heapify(heap)
    for _ in range(free):
        if not heap:
            break
        n, place = heap[0]
        given[place] += 1
        if given[place] < wanted[place]:
            heapq.heapreplace(heap, (n + 1, place))
        else:
            heapq.heappop(heap)
    return given
