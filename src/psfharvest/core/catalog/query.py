"""
A query is a frozen value: a detector, criteria on columns, the columns wanted, and a limit.

It never touches the caller's objects, and two equal queries have the same `identity`, by which a harvest
folder recognises that it is asked for the same again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog import criterion
from psfharvest.core.catalog.criterion import Criterion
from psfharvest.core.catalog.detectors import Detector, detector
from psfharvest.core.errors import BadQuery
from psfharvest.core.html_table import html_table
from psfharvest.core.names import DetectorName


@dataclass(frozen=True, init=False, slots=True)
class Query:
    """
    Which sources of which database.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``, in any case.
    columns
        Exactly the columns wanted, in that order; None is all: in `Archive.query` all
        that the archive has, in a harvest those that are known; ``["*"]`` is all that the archive has in both.
    limit
        The `limit` sources with the lowest ids; None is no limit.
    **criteria
        By column: a value; a list or other collection of values (any of them); or a pair, the closed range
        ``(low, high)`` with None for an open end. ``filter`` means ``filter_1`` on WFPC2. Quantities are converted
        to the column's unit; ``date="2012-01-01..2013-01-01"`` is a range of days.

    Raises
    ------
    BadQuery
        For a detector, column or value that cannot be.

    Examples
    --------
    >>> Query("UVIS", filter=["F606W", "F814W"], psf_flux=(1e4, None), chip="2")
    Query('UVIS', filter=['F606W', 'F814W'], psf_flux=(10000.0, None), chip='2')
    """

    detector: Detector
    criteria: tuple[Criterion, ...]
    columns: tuple[str, ...] | None = field(default=None)
    limit: int | None = field(default=None)
    wants_all: bool = field(default=False, compare=False)
    """Whether all columns that the archive has were asked for by name, as ``*``."""

    def __init__(
        self,
        detector: DetectorName | Detector,
        *,
        columns: Iterable[str] | None = None,
        limit: int | None = None,
        **criteria: Any,
    ) -> None:
        place = _detector(detector)
        columns = [columns] if isinstance(columns, str) else None if columns is None else list(columns)
        found = tuple(criterion.of(known.resolve(name, place), value, place) for name, value in criteria.items())
        refuse_twice(found)
        object.__setattr__(self, "detector", place)
        object.__setattr__(self, "criteria", found)
        object.__setattr__(self, "columns", _columns(columns, place))
        object.__setattr__(self, "limit", _limit(limit))
        object.__setattr__(self, "wants_all", columns == ["*"])

    @classmethod
    def parse(
        cls,
        detector: str,
        criteria: Iterable[str],
        *,
        columns: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> Query:
        """
        Make a query from words as typed: ``column=value``, ``column=a,b,c``, ``column=lo..hi``.

        Raises
        ------
        BadQuery
            When a word cannot be read, or the query cannot be.
        """
        query = cls(_detector(detector), columns=columns, limit=limit)
        return query._with_criteria(criterion.parse(word, query.detector) for word in criteria)

    @classmethod
    def from_filters(
        cls,
        detector: str,
        filters: Iterable[Mapping[str, Any]],
        *,
        columns: Iterable[str] | None = None,
    ) -> Query:
        """
        Make a query from filters as Mashup takes them: ``{"paramName": column, "values": [...]}``.

        Raises
        ------
        BadQuery
            When a filter cannot be read, or the query cannot be.
        """
        query = cls(_detector(detector), columns=columns)
        return query._with_criteria(criterion.from_filter(given, query.detector) for given in filters)

    def _with_criteria(self, criteria: Iterable[Criterion]) -> Query:
        found = tuple(criteria)
        refuse_twice(found)
        object.__setattr__(self, "criteria", found)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the query as plain values for JSON."""
        return {
            "detector": self.detector.name,
            "criteria": [criterion.plain(c) for c in self.criteria],
            "columns": ["*"] if self.wants_all else None if self.columns is None else list(self.columns),
            "limit": self.limit,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Query:
        """Return the query that `to_dict` gave as `plain`."""
        query = cls(plain["detector"], columns=plain["columns"], limit=plain["limit"])
        found = tuple(criterion.from_plain(c) for c in plain["criteria"])
        object.__setattr__(query, "criteria", found)
        return query

    @property
    def words(self) -> tuple[str, ...]:
        """The query as words of the command line, from which `parse` makes it again; without columns and limit."""
        return (self.detector.name, *(criterion.word(c, self.detector) for c in self.criteria))

    @property
    def identity(self) -> str:
        """A text that is equal for queries that ask for the same sources, in whatever order."""
        plain = self.to_dict()
        for one in plain["criteria"]:
            if "values" in one:
                one["values"].sort()
        plain["criteria"].sort(key=lambda c: str(c["column"]))
        del plain["columns"]
        return json.dumps(plain, sort_keys=True)

    def __repr__(self) -> str:
        words = [repr(self.detector.name)]
        words += [f"{c.column}={criterion.shown(c)}" for c in self.criteria]
        if self.columns is not None:
            words.append(f"columns={list(self.columns)!r}")
        if self.limit is not None:
            words.append(f"limit={self.limit}")
        return f"Query({', '.join(words)})"

    def _repr_html_(self) -> str:
        """Return the query for notebooks: detector, criteria, columns, limit."""
        rows = [("detector", self.detector.name), *((c.column, criterion.shown(c)) for c in self.criteria)]
        rows += [("columns", ", ".join(self.columns))] if self.columns is not None else []
        rows += [("limit", f"{self.limit:,}")] if self.limit is not None else []
        return html_table(rows)


def replace_query(query: Query, **changes: Any) -> Query:
    """Return `query` with fields changed; the values must be in their stored form."""
    new = Query(query.detector)
    for name in ("criteria", "columns", "limit", "wants_all"):
        object.__setattr__(new, name, changes.get(name, getattr(query, name)))
    return new


def _detector(given: str | Detector) -> Detector:
    return given if isinstance(given, Detector) else detector(given)


def _columns(names: Iterable[str] | None, place: Detector) -> tuple[str, ...] | None:
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    return None if names in (["*"], []) else known.resolve_all(names, place)


def _limit(limit: int | None) -> int | None:
    if limit is None:
        return None
    try:
        is_count = not isinstance(limit, bool) and int(limit) == limit and 0 <= limit < 2**63
    except (TypeError, ValueError, OverflowError):
        is_count = False
    if not is_count:
        raise BadQuery(f"limit {limit!r}: a whole number, 0 or more, is allowed", field="limit")
    return int(limit)


def refuse_twice(criteria: Iterable[Criterion]) -> None:
    """Raise `BadQuery` where a column has two criteria."""
    names = [c.column for c in criteria]
    for name in names:
        if names.count(name) > 1:
            raise BadQuery(
                f"column {name!r} has two criteria; give one: a list for 'any of', or one range", field=name
            )
