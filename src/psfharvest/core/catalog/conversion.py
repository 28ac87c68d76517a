"""Values of a criterion in other forms (quantities with a unit, dates, times) as the column's own numbers."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.errors import BadQuery

MJD_COLUMNS = ("mjd", "midexp")
_MJD_ZERO = dt.date(1858, 11, 17).toordinal()
_DAY_S = 86400.0
_PERIOD = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2}))?)?", re.ASCII)


def plain(column: str, value: Any, place: Detector | None) -> Any:
    """
    Return a value as the column has it: a quantity in the column's unit, a date or time as MJD or text.

    Raises
    ------
    BadQuery
        When a quantity's unit does not fit the column.
    """
    if hasattr(value, "to_value") and hasattr(value, "unit"):
        return _in_unit(column, value, place)
    moment = _moment(value)
    if moment is None:
        return value
    if column in MJD_COLUMNS:
        return _mjd(moment)
    return moment.date().isoformat() if column == "date" else value


def end(column: str, value: Any, place: Detector | None) -> Any:
    """Return the end of a range as `plain` does; the MJD of a date's text, too."""
    found = plain(column, value, place)
    if column in MJD_COLUMNS and isinstance(found, str) and "-" in found.strip()[1:]:
        period = _period(found)
        return found if period is None else period[0]
    return found


def date_range(low: Any, high: Any) -> tuple[float | None, float | None] | None:
    """
    Return the range of MJD from the beginning of one date to the end of another, both included.

    A date is a year, a month (``2012-05``), a day, or a moment; None is open. None where an end is no date.
    """
    first, last = (None if moment is None else _period(moment) for moment in (low, high))
    if (low is not None and first is None) or (high is not None and last is None) or (low is None and high is None):
        return None
    return (None if first is None else first[0], None if last is None else last[1])


def _in_unit(column: str, value: Any, place: Detector | None) -> Any:
    entry = known.COLUMNS.get(column)
    unit = "" if entry is None else entry.unit_for(place) if place is not None else entry.unit
    try:
        return value.to_value(unit)
    except Exception as error:
        allowed = f"a quantity in {unit}, or a plain number" if unit else "a plain number (the column has no unit)"
        raise BadQuery(f"{column}={value!s}: {allowed} is allowed", field=column) from error


def _moment(value: Any) -> dt.datetime | None:
    """Return a date or time of Python's, numpy's or astropy's, which all have one in UTC."""
    if isinstance(value, dt.datetime):
        return value if value == value else None  # noqa: PLR0124 - pandas' NaT is a datetime, and no time
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if hasattr(value, "to_datetime") and hasattr(value, "mjd"):
        found = value.to_datetime()
        return found if isinstance(found, dt.datetime) else None
    if type(value).__name__ == "datetime64":
        return _parsed(str(value)[:26])
    return None


def _parsed(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _mjd(moment: dt.datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC)
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
    return moment.toordinal() - _MJD_ZERO + seconds / _DAY_S


def _period(value: Any) -> tuple[float, float] | None:
    """Return the first and last MJD of a year, month, day, or moment."""
    moment = _moment(value)
    if moment is not None:
        is_day = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
        return _day(moment.date()) if is_day else (_mjd(moment), _mjd(moment))
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    found = _PERIOD.fullmatch(str(value).strip())
    if found is None:
        # A day in another of ISO's forms (20120531, 2012-W22) would be taken for its first instant.
        parsed = _parsed(value) if isinstance(value, str) and re.search("[:T]", value) else None
        return None if parsed is None else (_mjd(parsed), _mjd(parsed))
    year, month, day = (None if part is None else int(part) for part in found.groups())
    try:
        first = dt.date(year or 0, month or 1, day or 1)
        if day is not None:
            return _day(first)
        after = dt.date(first.year + (month in (None, 12)), 1 if month in (None, 12) else first.month + 1, 1)
    except ValueError:
        return None
    return float(first.toordinal() - _MJD_ZERO), _before(after.toordinal() - _MJD_ZERO)


def _day(day: dt.date) -> tuple[float, float]:
    start = day.toordinal() - _MJD_ZERO
    return float(start), _before(start + 1)


def _before(mjd: int) -> float:
    return math.nextafter(float(mjd), -math.inf)
