"""Parts that are harvested by themselves: of a query a range of ids, of a list those with some file names."""

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


@dataclass(frozen=True, slots=True)
class ListPart:
    """
    A part of a list of dataURIs: those whose file names fall to it, in a list of its own.

    Attributes
    ----------
    number, n_parts
        Which of how many.
    identity, path
        Of the whole list, as the manifest knows it.
    """

    number: int
    n_parts: int
    identity: str
    path: str
