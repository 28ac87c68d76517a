"""The criteria of a query within a part of it, as they are sent: an archive may leave out the ends of a range."""

from __future__ import annotations

import math
from collections.abc import Iterable

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion
from psfharvest.core.catalog.learnt import Ends
from psfharvest.core.catalog.partition import HIGHEST, LOWEST, WHOLE, Part


def criteria_within(criteria: Iterable[Criterion], part: Part, ends: Ends | None) -> tuple[Criterion, ...] | None:
    """
    Return the criteria narrowed to the ids of `part`, or None when nothing can match.

    Parameters
    ----------
    criteria, part
        Those of the query, and a range of ids.
    ends
        Which ends of a range the archive takes to be within, where that is known.
    """
    given = tuple(criteria)
    if part == WHOLE:
        return _sent(given, ends)
    others = tuple(c for c in given if c.column != "id")
    listed = [c for c in given if c.column == "id" and isinstance(c, AnyOf)]
    if not listed:
        low, high = (None if end in (LOWEST, HIGHEST) else end for end in part)  # open: the ends fit no SQL int
        return _sent((*others, Between("id", low, high)), ends)
    chosen = tuple(v for v in listed[0].values if _is_within(v, part))
    return (*_sent(others, ends), AnyOf("id", chosen)) if chosen else None


def _sent(criteria: tuple[Criterion, ...], ends: Ends | None) -> tuple[Criterion, ...]:
    """Return criteria as they must be sent, so that both ends of their ranges are included."""
    if ends is None or all(ends):
        return criteria
    return tuple(_widened(c, ends) if isinstance(c, Between) else c for c in criteria)


def _widened(criterion: Between, ends: Ends) -> Between:
    low, high = criterion.low, criterion.high
    column = known.COLUMNS.get(criterion.column)
    is_whole = column is not None and column.kind == "int"
    if low is not None and not ends.low:
        low = math.ceil(low) - 1 if is_whole else math.nextafter(low, -math.inf)
    if high is not None and not ends.high:
        high = math.floor(high) + 1 if is_whole else math.nextafter(high, math.inf)
    return Between(criterion.column, low, high)


def _is_within(value: str, part: Part) -> bool:
    try:
        return part.low <= int(value) <= part.high
    except ValueError:
        return part.low <= 0 <= part.high
