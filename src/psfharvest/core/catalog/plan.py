"""A part of a query that is harvested by itself: a range of ids and how many sources it has."""

from __future__ import annotations

from dataclasses import dataclass

from psfharvest.core.catalog import partition


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """
    A part of a query, as `Archive.plan` gives them: disjoint, ascending, together all of it.

    Attributes
    ----------
    low, high
        A closed range of ids; the ends of a query without one are those of `psfharvest.core.catalog.partition`.
    n
        Sources in it, as the archive counted them.
    """

    low: int
    high: int
    n: int

    @property
    def ids(self) -> partition.Part:
        """The range alone."""
        return partition.Part(self.low, self.high)
