"""How the connections of one host are divided among its users: each its fair part, single requests first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psfharvest.core.policy.fair import fair_parts, fair_slots

if TYPE_CHECKING:
    from psfharvest.engine.share import Share


def in_order(shares: Sequence[Share]) -> Sequence[Share]:
    """Return the users, the least recently served first."""
    return sorted(shares, key=lambda s: s.served_at) if len(shares) > 1 else shares


def queued_part(share: Share, shares: Sequence[Share], limit: int, *, keeps_one: bool) -> int:
    """
    Return how many requests a user may have at a wire that starts them itself, each user's in turn.

    Parameters
    ----------
    share, shares
        The user, and all of them in their order.
    limit
        Connections that may be in use.
    keeps_one
        Whether one of them is kept for single requests.
    """
    users = [s for s in shares if s.need or s is share]
    n_urgent = sum(s.need for s in users if s.is_urgent)
    others = [s for s in users if not s.is_urgent]
    if share.is_urgent:
        users, total = [s for s in users if s.is_urgent], max(1, limit - 1) if others else limit
    else:
        users, total = others, max(1, limit - max(n_urgent, int(keeps_one)))
    needs = [limit if s is share else min(s.need, limit) for s in users]
    return total if len(users) == 1 else max(1, fair_parts(total, needs)[users.index(share)])


def free_part(share: Share, shares: Sequence[Share], limit: int, free: int) -> int:
    """Return how many of the connections that are free now are a user's; parameters as for `queued_part`."""
    users = [s for s in shares if s.n_waiting or s is share]
    if limit > 1 and any(s.is_urgent for s in users):
        others = [s for s in users if not s.is_urgent]
        n_others = sum(s.in_flight for s in shares if not s.is_urgent)
        n_kept = int(bool(others) and not n_others)  # single requests never take all of it
        if share.is_urgent:
            users, free = [s for s in users if s.is_urgent], free - n_kept
        else:
            n_urgent = sum(s.n_waiting for s in users if s.is_urgent)
            users, free = others, free - max(0, min(n_urgent, free - n_kept))
    if len(users) == 1:
        return free
    wanted = [limit if s is share else min(s.n_waiting, limit) for s in users]
    return fair_slots(max(0, free), [s.in_flight for s in users], wanted)[users.index(share)]


def rate_part(share: Share, shares: Sequence[Share], total: int) -> int:
    """Return how many of the requests that may start now are a user's."""
    users = [s for s in shares if s.n_waiting or s is share]
    if not share.is_urgent:
        total -= sum(s.n_waiting for s in users if s.is_urgent)
    users = [s for s in users if s.is_urgent == share.is_urgent]
    return fair_parts(total, [max(1, min(s.n_waiting, total)) for s in users])[users.index(share)]
