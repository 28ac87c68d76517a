"""Even share of the work: how much a connection should be given so that all of them end together."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil


def even_share(n_left: int, outstanding: Sequence[float], connections: int) -> int:
    """
    Return how much of the work that is left an idle connection should be given.

    Parameters
    ----------
    n_left
        Work that no connection has yet.
    outstanding
        What each busy connection still has to do.
    connections
        All connections, busy or not.
    """
    busy = sorted(outstanding)
    connections = max(1, connections, len(busy))
    while busy:
        level = (n_left + sum(busy)) / connections
        if busy[-1] <= level:
            break
        busy.pop()  # it ends after the others anyway
        connections -= 1
        if not connections:
            return n_left
    return ceil((n_left + sum(busy)) / connections)
