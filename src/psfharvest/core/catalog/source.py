"""
A catalogue row read as what a dataURI needs: numbers and texts in whatever form, or which column is at fault.

Rows come from JSON, from tables of astropy or pandas, and from hand: a number may be a text, a text may be padded
with blanks, and nothing may be None, a masked cell, NaN, an empty text or a column that is not there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.errors import BadURI

NO_FILTER = "--"
"""What the published module puts into a file name for a filter that is null: a masked cell as astropy prints it."""
_NOTHING = frozenset({"", "--", "nan", "none", "null", "n/a"})
_CHIP = re.compile(r"[A-Za-z]*[ _-]?([0-9]{1,4})(?:\.0*)?")
_CHIPS = {str(n): n for n in range(1, 10)}
_NO = frozenset({"f", "false", "n", "no"})
_YES = frozenset({"t", "true", "y", "yes"})


def is_nothing(value: Any) -> bool:
    """Return True for what stands where there is no value."""
    if isinstance(value, (int, float)):
        return value != value  # noqa: PLR0124 - NaN
    return value is None or str(value).strip().lower() in _NOTHING


def rootname(row: Mapping[str, Any]) -> str:
    """Return the exposure's name."""
    return str(_value(row, "rootname")).strip()


def filter_name(row: Mapping[str, Any], detector: Detector) -> str:
    """Return the filter's name; nothing but a file name depends on it, so that there is always one."""
    value = row.get(detector.filter_column)
    return NO_FILTER if is_nothing(value) else str(value).strip()


def whole(row: Mapping[str, Any], column: str) -> int:
    """Return a whole number, never a rounded one."""
    value = _value(row, column)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    try:
        if isinstance(value, str):
            return int(value)
    except ValueError:
        pass  # "7.0" is a whole number, too
    number = finite(row, column)
    if number != int(number):
        raise _bad(row, f"{column} is {value!r}, not a whole number")
    return int(value) if not isinstance(value, str) else int(number)


def finite(row: Mapping[str, Any], column: str) -> float:
    """Return a finite number."""
    value = row.get(column)
    if type(value) is float and math.isfinite(value):
        return value
    value = _value(row, column)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _bad(row, f"{column} is {_shown(value)}, not a finite number")
    return number


def is_saturated(row: Mapping[str, Any]) -> bool:
    """Return True where the source is saturated: `qfit` is 0, or there is none, as the published module has it."""
    qfit = row.get("qfit")
    return is_nothing(qfit) or not finite(row, "qfit") > 0


def extension(row: Mapping[str, Any], detector: Detector) -> int:
    """Return the number of the FITS extension that holds the source."""
    chip = _chip(row, detector)
    if detector.full_frame_extensions is None:
        return chip
    is_full = chip in detector.full_frame_extensions and not _is_subarray(row)
    return detector.full_frame_extensions[chip] if is_full else 1


def _chip(row: Mapping[str, Any], detector: Detector) -> int:
    value = row.get("chip")
    if isinstance(value, str) and value in _CHIPS:
        return _CHIPS[value]
    found = None if is_nothing(value) else _CHIP.fullmatch(str(value).strip())
    if found is not None:
        return int(found[1])
    alias = detector.chip_names.get("" if is_nothing(value) else str(value).strip().upper())
    if alias is None:
        value = _value(row, "chip")
        raise _bad(row, f"chip is {_shown(value)}, no chip of {detector.name}")
    return alias


def _is_subarray(row: Mapping[str, Any]) -> bool:
    value = row.get("subarray")
    if value in (0, 1) and isinstance(value, int):
        return bool(value)
    if is_nothing(value):
        return False
    word = str(value).strip().lower()
    if word in _NO or word in _YES:
        return word in _YES
    return whole(row, "subarray") != 0


def _value(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise _bad(row, f"the column {column!r} is absent")
    value = row[column]
    if is_nothing(value):
        raise _bad(row, f"{column} is null")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _bad(row: Mapping[str, Any], why: str) -> BadURI:
    id_, root = (None if is_nothing(row.get(name)) else row.get(name) for name in ("id", "rootname"))
    return BadURI(f"source {id_} of {root}", why)
