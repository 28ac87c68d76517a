"""
What is asked of a column: one of several values, a closed range, or a filter in the archive's own words.

Each way of writing it (Python values, a word of the command line, the notebook's filters) gives the same values.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog import conversion
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.errors import BadQuery

OPEN_END = {"int": 2**31 - 1, "float": 1e30}
"""Sent for an open end of a range: how the archive reads a lone ``min`` is not known. Fits its int and real."""


_CASES: Mapping[str, Callable[[str], str]] = dict.fromkeys(("filter", "filter_1", "filter_2"), str.upper)
"""Columns whose values have one case in the archive, and are compared exactly there."""
_KINDS = {"int": "a whole number", "float": "a finite number", "str": "a text"}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,300}\s*", re.ASCII)


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


def of(column: str, value: Any, place: Detector | None = None) -> Criterion:
    """
    Return what a value asks of a column: one value, a list of values (any of), or a pair (a closed range).

    Raises
    ------
    BadQuery
        For a value that cannot be.
    """
    if column == "date" and type(value) in (str, int) and (period := _period_of(str(value))) is not None:
        return period
    if isinstance(value, tuple):
        return _range(column, value, place)
    value = conversion.plain(column, value, place)
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", None) == 0 or not isinstance(value, Iterable):
        return AnyOf(column, (_text(column, value),))
    values = tuple(dict.fromkeys(_text(column, conversion.plain(column, v, place)) for v in value))
    if not values:
        raise BadQuery(f"{column}: an empty list can match nothing; give at least one value", field=column)
    return AnyOf(column, values)


def parse(word: str, place: Detector | None) -> Criterion:
    """
    Return the criterion that a word of the command line writes: ``column=value``, ``=a,b,c`` or ``=lo..hi``.

    A filter in Mashup's own form, as JSON, says what these cannot: a value with a comma, several ranges.

    Parameters
    ----------
    word
        As typed.
    place
        The detector whose columns are meant; None takes a column's name as it is, as `Harvest.select` does.

    Raises
    ------
    BadQuery
        When it writes none.
    """
    if word.lstrip().startswith("{"):
        return _parse_json(word, place)
    name, equals, text = word.partition("=")
    if not equals or not name.strip() or not text.strip():
        raise BadQuery(
            f"criterion {word!r}: write column=value, column=a,b,c or column=lo..hi, for example psf_flux=1e4..",
            field=name,
        )
    column = _resolved(name.strip(), place)
    if ".." in text:
        low, _, high = text.partition("..")
        if not low.strip() and not high.strip():
            raise BadQuery(
                f"criterion {word!r}: a range needs at least one end: lo.., ..hi or lo..hi", field=column
            )
        return _range(column, (low.strip() or None, high.strip() or None), place)
    values = [v.strip() for v in text.split(",")]
    if not all(values):
        raise BadQuery(f"criterion {word!r}: an empty value between commas", field=column)
    return of(column, values[0] if len(values) == 1 else values, place)


def word(criterion: Criterion, place: Detector | None) -> str:
    """Return the word of the command line that `parse` reads back as exactly this criterion."""
    if isinstance(criterion, Filter):
        return criterion.text
    if isinstance(criterion, Between):
        low, high = ("" if end is None else repr(end) for end in (criterion.low, criterion.high))
        if low or high:
            return f"{criterion.column}={low}..{high}"
        return json.dumps({"paramName": criterion.column, "values": [{"max": None, "min": None}]})
    plain = f"{criterion.column}={','.join(criterion.values)}"
    try:
        is_exact = plain.isprintable() and plain.isascii() and parse(plain, place) == criterion
    except BadQuery:
        is_exact = False
    return plain if is_exact else json.dumps({"paramName": criterion.column, "values": list(criterion.values)})


def _resolved(name: str, place: Detector | None) -> str:
    return name if place is None else known.resolve(name, place)


def _parse_json(word: str, place: Detector | None) -> Criterion:
    try:
        given = json.loads(word)
    except (ValueError, RecursionError) as error:
        raise BadQuery(
            f"criterion {word!r}: no JSON ({error}); write column=value, column=a,b,c or column=lo..hi"
        ) from None
    return from_filter(given, place)


def from_filter(given: Any, place: Detector | None) -> Criterion:
    """
    Return the criterion of a filter in Mashup's own form, ``{'paramName': column, 'values': [...]}``.

    Raises
    ------
    BadQuery
        When it is none.
    """
    name, values = (given.get(key) if isinstance(given, Mapping) else None for key in ("paramName", "values"))
    if not isinstance(name, str) or values is None:
        raise BadQuery(f"filter {given!r}: write {{'paramName': column, 'values': [...]}}")
    column = _resolved(name, place)
    values = [values] if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable) else list(values)
    more = {k: v for k, v in given.items() if k not in ("paramName", "values") and v not in (None, "")}
    ranges = [_range(column, (v.get("min"), v.get("max"))) for v in values if isinstance(v, Mapping)]
    others = [v for v in values if not isinstance(v, Mapping)]
    if not more and len(ranges) == 1 and not others:
        return ranges[0]
    if not more and not ranges:
        return of(column, others)
    if column == "id":  # the id is what queries are split on
        raise BadQuery("id: give values, or one range; for several ranges ask once for each", field=column)
    wire = {"paramName": column, "values": [*(_text(column, v) for v in others)], **more}
    wire["values"] += [r.wire()["values"][0] for r in ranges]
    try:
        return Filter(column, json.dumps(wire, sort_keys=True))
    except TypeError as error:
        raise BadQuery(f"{column}: {error}; a filter is made of texts and numbers", field=column) from None


def plain(criterion: Criterion) -> dict[str, Any]:
    """Return a criterion as plain values, from which `from_plain` makes it again."""
    if isinstance(criterion, AnyOf):
        return {"column": criterion.column, "values": list(criterion.values)}
    if isinstance(criterion, Filter):
        return {"column": criterion.column, "filter": criterion.text}
    return {"column": criterion.column, "low": criterion.low, "high": criterion.high}


def from_plain(plain: Mapping[str, Any]) -> Criterion:
    """Return the criterion that plain values stand for."""
    if "values" in plain:
        return AnyOf(plain["column"], tuple(plain["values"]))
    if "filter" in plain:
        return Filter(plain["column"], plain["filter"])
    return Between(plain["column"], plain["low"], plain["high"])


def shown(criterion: Criterion) -> str:
    """Return a criterion's value as it is written in Python."""
    if isinstance(criterion, Between):
        return repr((criterion.low, criterion.high))
    if isinstance(criterion, Filter):
        return criterion.text
    is_one = len(criterion.values) == 1 and criterion.column != "date"  # a date by itself may mean a whole year
    return repr(criterion.values[0] if is_one else list(criterion.values))


def _period_of(text: str) -> Between | None:
    """Return the range of MJD that a text for the column `date` means; None for a single day, which is compared."""
    low, dots, high = text.partition("..")
    found = conversion.date_range(low.strip() or None, (high if dots else low).strip() or None)
    if found is None:
        what = "a range of dates is written" if dots else "a date is 2012, 2012-05 or 2012-05-31, a range"
        raise BadQuery(f"date={text!r}: {what} 2012-01-01..2013-05-31", field="date")
    is_one_day = not dots and text.count("-") > 1
    return None if is_one_day else _range("mjd", found)


def _range(column: str, pair: tuple[Any, ...], place: Detector | None = None) -> Between:
    if len(pair) != 2:
        raise BadQuery(
            f"{column}={pair!r}: a tuple is a closed range of two ends, (low, high); give a list for 'any of'",
            field=column,
        )
    dates = conversion.date_range(*pair) if column == "date" else None
    if dates is not None:
        column, pair = "mjd", dates
    first, last = (conversion.end(column, end, place) for end in pair)
    low, high = _end(column, first, -math.inf), _end(column, last, math.inf)
    if low is not None and high is not None and low > high:
        raise BadQuery(f"{column}: the range {low!r}..{high!r} is empty; the lower end comes first", field=column)
    return Between(column, low, high)


def _end(column: str, end: Any, outward: float) -> float | None:
    if end is None:
        return None
    try:
        number = math.nan if getattr(end, "mask", False) else float(end)  # numpy warns of masked values
    except (TypeError, ValueError, OverflowError):
        kind = "a date such as 2012-05-31" if column == "date" else "a number"
        raise BadQuery(f"{column}: the end of a range is {kind} or open, not {end!r}", field=column) from None
    if math.isnan(number):
        raise BadQuery(f"{column}: the end of a range cannot be nan", field=column)
    if number == outward:
        return None
    if math.isinf(number):
        raise BadQuery(
            f"{column}: nothing lies beyond {end!r}; leave an open end away (None in Python)", field=column
        )
    if isinstance(end, (str, bytes)):
        is_whole = _WHOLE.fullmatch(end if isinstance(end, str) else end.decode("ascii", "replace")) is not None
        return int(end) if is_whole else _plain(number)
    return int(end) if hasattr(end, "__index__") else _plain(number)


def _is_beyond_all(value: str | float) -> bool:
    """Return whether a value is a number that no column can hold: infinite, not a number, or too large."""
    try:
        return not math.isfinite(float(value))
    except OverflowError:
        return True
    except ValueError:
        return False


def _plain(number: float) -> float:
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _text(column: str, value: Any) -> str:
    item = getattr(value, "item", None)
    plain = item() if callable(item) and getattr(value, "mask", None) is None else value
    if isinstance(plain, bool):
        return str(int(plain))
    entry = known.COLUMNS.get(column)
    is_number = isinstance(plain, (int, float)) or (entry is not None and entry.kind != "str")
    if isinstance(plain, (str, int, float)) and not (is_number and _is_beyond_all(plain)):
        return _CASES.get(column, str)(str(plain))
    kind = _KINDS[entry.kind] if entry is not None else "a text or a finite number"
    more = f" ({entry.description})" if entry is not None else ""
    raise BadQuery(f"{column}={value!r}: {kind} is allowed{more}; a list is any of, a pair a range", field=column)
