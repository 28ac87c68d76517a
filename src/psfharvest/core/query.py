"""
A query is a frozen value: a detector, criteria on columns, the columns wanted, and a limit.

It never touches the caller's objects, and two equal queries have the same `identity`, by which a harvest
folder recognises that it is asked for the same again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psfharvest.core import columns as known
from psfharvest.core.detectors import Detector, detector
from psfharvest.core.errors import BadQuery

OPEN_END = {"int": 2**31 - 1, "float": 1e30}
"""Sent for an open end of a range: how the archive reads a lone ``min`` is not known. Fits its int and real."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The column equals one of the values; they travel as strings, also for numeric columns."""

    column: str
    values: tuple[str, ...]

    def wire(self) -> dict[str, Any]:
        """Return the filter as Mashup takes it."""
        return {"paramName": self.column, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Between:
    """The column lies in the closed range ``low .. high``; None is an open end."""

    column: str
    low: float | None
    high: float | None

    def wire(self) -> dict[str, Any]:
        """Return the filter as Mashup takes it, always with both ends."""
        column = known.COLUMNS.get(self.column)
        far = OPEN_END["int" if column is not None and column.kind == "int" else "float"]
        low = -far if self.low is None else self.low
        high = far if self.high is None else self.high
        return {"paramName": self.column, "values": [{"min": low, "max": high}]}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter in Mashup's own words, as JSON, for what the others cannot say: several ranges, free text."""

    column: str
    text: str

    def wire(self) -> dict[str, Any]:
        """Return the filter as Mashup takes it."""
        return dict(json.loads(self.text))


Criterion = AnyOf | Between | Filter


@dataclass(frozen=True, init=False, slots=True)
class Query:
    """
    Which sources of which database.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``, in any case.
    columns
        Exactly the columns wanted, in that order; None is all that the archive has.
    limit
        The `limit` sources with the lowest ids; None is no limit.
    **criteria
        By column: a value; a list or other collection of values (any of them); or a pair, the closed range
        ``(low, high)`` with None for an open end. ``filter`` means ``filter_1`` on WFPC2.

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

    def __init__(
        self,
        detector: str | Detector,
        *,
        columns: Iterable[str] | None = None,
        limit: int | None = None,
        **criteria: Any,
    ) -> None:
        place = _detector(detector)
        found = tuple(_criterion(known.resolve(name, place), value) for name, value in criteria.items())
        _refuse_twice(found)
        object.__setattr__(self, "detector", place)
        object.__setattr__(self, "criteria", found)
        object.__setattr__(self, "columns", _columns(columns, place))
        object.__setattr__(self, "limit", _limit(limit))

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
        place = _detector(detector)
        query = cls(place, columns=columns, limit=limit)
        found = tuple(_parse(word, place) for word in criteria)
        _refuse_twice(found)
        object.__setattr__(query, "criteria", found)
        return query

    @classmethod
    def from_filters(
        cls,
        detector: str,
        filters: Iterable[Mapping[str, Any]],
        *,
        columns: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> Query:
        """
        Make a query from filters as Mashup takes them: ``{"paramName": column, "values": [...]}``.

        Raises
        ------
        BadQuery
            When a filter cannot be read, or the query cannot be.
        """
        place = _detector(detector)
        query = cls(place, columns=columns, limit=limit)
        found = tuple(_from_filter(given, place) for given in filters)
        _refuse_twice(found)
        object.__setattr__(query, "criteria", found)
        return query

    def with_columns(self, columns: Iterable[str] | None) -> Query:
        """Return the same query for other columns."""
        return replace_query(self, columns=_columns(columns, self.detector))

    def to_dict(self) -> dict[str, Any]:
        """Return the query as plain values for JSON."""
        return {
            "detector": self.detector.name,
            "criteria": [_plain(c) for c in self.criteria],
            "columns": None if self.columns is None else list(self.columns),
            "limit": self.limit,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Query:
        """Return the query that `to_dict` gave as `plain`."""
        query = cls(plain["detector"], columns=plain["columns"], limit=plain["limit"])
        found = tuple(_from_plain(c) for c in plain["criteria"])
        object.__setattr__(query, "criteria", found)
        return query

    @property
    def identity(self) -> str:
        """A text that is equal for queries that ask for the same sources, in whatever order."""
        plain = self.to_dict()
        for criterion in plain["criteria"]:
            if "values" in criterion:
                criterion["values"].sort()
        plain["criteria"].sort(key=lambda c: str(c["column"]))
        del plain["columns"]
        return json.dumps(plain, sort_keys=True)

    def __repr__(self) -> str:
        words = [repr(self.detector.name)]
        words += [f"{c.column}={_shown(c)}" for c in self.criteria]
        if self.columns is not None:
            words.append(f"columns={list(self.columns)!r}")
        if self.limit is not None:
            words.append(f"limit={self.limit}")
        return f"Query({', '.join(words)})"


def replace_query(query: Query, **changes: Any) -> Query:
    """Return `query` with fields changed; the values must be in their stored form."""
    new = Query(query.detector)
    for name in ("criteria", "columns", "limit"):
        object.__setattr__(new, name, changes.get(name, getattr(query, name)))
    return new


def criterion(column: str, value: Any) -> Criterion:
    """
    Return what a value asks of a column: one value, a list of values (any of), or a pair (a closed range).

    Raises
    ------
    BadQuery
        For a value that cannot be.
    """
    return _criterion(column, value)


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
        is_count = not isinstance(limit, bool) and int(limit) == limit and limit >= 0
    except (TypeError, ValueError, OverflowError):
        is_count = False
    if not is_count:
        raise BadQuery(f"limit {limit!r}: a whole number, 0 or more, is allowed", field="limit")
    return int(limit)


def _criterion(column: str, value: Any) -> Criterion:
    if isinstance(value, tuple):
        return _range(column, value)
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", None) == 0 or not isinstance(value, Iterable):
        return AnyOf(column, (_text(column, value),))
    values = tuple(dict.fromkeys(_text(column, v) for v in value))
    if not values:
        raise BadQuery(f"{column}: an empty list can match nothing; give at least one value", field=column)
    return AnyOf(column, values)


def _range(column: str, pair: tuple[Any, ...]) -> Between:
    if len(pair) != 2:
        raise BadQuery(
            f"{column}={pair!r}: a tuple is a closed range of two ends, (low, high); give a list for 'any of'",
            field=column,
        )
    low, high = _end(column, pair[0], -math.inf), _end(column, pair[1], math.inf)
    if low is not None and high is not None and low > high:
        raise BadQuery(f"{column}: the range {low:g}..{high:g} is empty; the lower end comes first", field=column)
    return Between(column, low, high)


def _end(column: str, end: Any, outward: float) -> float | None:
    if end is None:
        return None
    try:
        number = float(end)
    except (TypeError, ValueError, OverflowError):
        raise BadQuery(f"{column}: the end of a range is a number or open, not {end!r}", field=column) from None
    if math.isnan(number):
        raise BadQuery(f"{column}: the end of a range cannot be nan", field=column)
    if number == outward:
        return None
    if math.isinf(number):
        raise BadQuery(
            f"{column}: nothing lies beyond {end!r}; leave an open end away (None in Python)", field=column
        )
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _text(column: str, value: Any) -> str:
    item = getattr(value, "item", None)
    plain = item() if callable(item) and getattr(value, "mask", None) is None else value
    if isinstance(plain, bool):
        return str(int(plain))
    if isinstance(plain, (str, int)) or (isinstance(plain, float) and math.isfinite(plain)):
        return str(plain)
    raise BadQuery(f"{column}={value!r}: a value is a text or a finite number", field=column)


def _parse(word: str, place: Detector) -> Criterion:
    name, equals, text = word.partition("=")
    if not equals or not name.strip() or not text.strip():
        raise BadQuery(
            f"criterion {word!r}: write column=value, column=a,b,c or column=lo..hi, for example psf_flux=1e4..",
            field=name,
        )
    column = known.resolve(name.strip(), place)
    if ".." in text:
        low, _, high = text.partition("..")
        if not low.strip() and not high.strip():
            raise BadQuery(
                f"criterion {word!r}: a range needs at least one end: lo.., ..hi or lo..hi", field=column
            )
        return _range(column, (low.strip() or None, high.strip() or None))
    values = [v.strip() for v in text.split(",")]
    if not all(values):
        raise BadQuery(f"criterion {word!r}: an empty value between commas", field=column)
    return _criterion(column, values)


def _from_filter(given: Any, place: Detector) -> Criterion:
    name, values = (given.get(key) if isinstance(given, Mapping) else None for key in ("paramName", "values"))
    if not isinstance(name, str) or values is None:
        raise BadQuery(f"filter {given!r}: write {{'paramName': column, 'values': [...]}}")
    column = known.resolve(name, place)
    values = [values] if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable) else list(values)
    more = {k: v for k, v in given.items() if k not in ("paramName", "values") and v not in (None, "")}
    ranges = [_range(column, (v.get("min"), v.get("max"))) for v in values if isinstance(v, Mapping)]
    others = [v for v in values if not isinstance(v, Mapping)]
    if not more and len(ranges) == 1 and not others:
        return ranges[0]
    if not more and not ranges:
        return _criterion(column, others)
    if column == "id":  # the id is what queries are split on
        raise BadQuery("id: give values, or one range; for several ranges ask once for each", field=column)
    wire = {"paramName": column, "values": [*(_text(column, v) for v in others)], **more}
    wire["values"] += [r.wire()["values"][0] for r in ranges]
    try:
        return Filter(column, json.dumps(wire, sort_keys=True))
    except TypeError as error:
        raise BadQuery(f"{column}: {error}; a filter is made of texts and numbers", field=column) from None


def _plain(criterion: Criterion) -> dict[str, Any]:
    if isinstance(criterion, AnyOf):
        return {"column": criterion.column, "values": list(criterion.values)}
    if isinstance(criterion, Filter):
        return {"column": criterion.column, "filter": criterion.text}
    return {"column": criterion.column, "low": criterion.low, "high": criterion.high}


def _from_plain(plain: Mapping[str, Any]) -> Criterion:
    if "values" in plain:
        return AnyOf(plain["column"], tuple(plain["values"]))
    if "filter" in plain:
        return Filter(plain["column"], plain["filter"])
    return Between(plain["column"], plain["low"], plain["high"])


def _refuse_twice(criteria: tuple[Criterion, ...]) -> None:
    names = [c.column for c in criteria]
    for name in names:
        if names.count(name) > 1:
            raise BadQuery(
                f"column {name!r} has two criteria; give one: a list for 'any of', or one range", field=name
            )


def _shown(criterion: Criterion) -> str:
    if isinstance(criterion, Between):
        return repr((criterion.low, criterion.high))
    if isinstance(criterion, Filter):
        return criterion.text
    return repr(criterion.values[0] if len(criterion.values) == 1 else list(criterion.values))
