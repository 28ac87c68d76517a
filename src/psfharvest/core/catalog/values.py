"""
What columns of a catalogue can hold: filters, chips and usual ranges by detector, for help texts and hints.

Nothing is refused on this ground: the archive has the last word; a query that matches nothing is explained with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.catalog.query import Query

_RANGES: Mapping[str, str] = {
    "exptime": "0..",
    "psf_flux": "0..",
    "qfit": "0..",
    "n_sat_pixels": "0..",
    "iso_index": "0..",
    "focus": "-10..10",
}
_CODES = {"subarray": ("0", "1"), "mtflag": ("0", "1")}
FILTER_COLUMNS = ("filter", "filter_1")
NEAR = 3


def values_of(column: str, detector: Detector) -> tuple[str, ...]:
    """
    Return what can be written after ``column=``: the values there are, or one usual range.

    Nothing where neither is known.
    """
    if column in FILTER_COLUMNS:
        return tuple(detector.filters.split())
    if column == "chip":
        return detector.chips
    if column in ("psf_x_center", "psf_y_center"):
        return (f"1..{detector.full_frame_px}",)
    if column in _CODES:
        return _CODES[column]
    return (_RANGES[column],) if column in _RANGES else ()


def hints(query: Query) -> list[str]:
    """Return why a query may match nothing: values that its columns do not have, with those that are near."""
    return [hint for criterion in query.criteria for hint in _hints(criterion, query.detector)]


def _hints(criterion: Criterion, detector: Detector) -> Iterator[str]:
    values = values_of(criterion.column, detector)
    is_range = len(values) == 1 and ".." in values[0]
    if isinstance(criterion, AnyOf) and values and not is_range:
        for value in criterion.values:
            if value not in values:
                yield _absent(criterion.column, value, values, detector)
    if isinstance(criterion, Between) and is_range:
        low, high = (float(end) if end else None for end in values[0].split(".."))
        is_below = low is not None and criterion.high is not None and criterion.high < low
        is_above = high is not None and criterion.low is not None and criterion.low > high
        if is_below or is_above:
            column = known.COLUMNS[criterion.column]
            yield f"{criterion.column} is {values[0]} on {detector.name} ({column.description})"


def _absent(column: str, value: str, values: tuple[str, ...], detector: Detector) -> str:
    near = near_values(value, values)
    noun = "filter" if column in FILTER_COLUMNS else column
    there = f"near: {', '.join(near)}" if near else f"there are {', '.join(values)}"
    return f"{detector.name} has no {noun} {value}; {there}"


def near_values(value: str, values: tuple[str, ...]) -> list[str]:
    """Return those of `values` that are most like one, the nearest first: same beginning, then same letters."""
    typed = value.strip().upper()
    begin = [v for v in values if typed and v.startswith(typed)]
    like = difflib.get_close_matches(typed, values, n=NEAR, cutoff=0.6)
    return list(dict.fromkeys([*begin, *like]))[:NEAR]


def allowed(column: str, detector: Detector) -> str:
    """Return in words what a column can be compared with."""
    entry = known.COLUMNS.get(column)
    values = values_of(column, detector)
    kind = {"int": "a whole number", "float": "a number", "str": "a text", None: "a text or a number"}[
        entry.kind if entry else None
    ]
    if not values or ".." in values[0]:
        return kind
    shown = ", ".join(values[:8])
    return f"one of {shown}" + (" and more" if len(values) > 8 else "")


def at_fault(words: str, query: Query) -> tuple[str, str] | None:
    """
    Return the column that an archive's SQL error is about, and a sentence with column, value and what is allowed.

    SQL names the value that it could not convert, or nothing; never the column.
    """
    suspects = [(_quoted(words, c), *_misfit(c, query.detector)) for c in query.criteria]
    found = [s for s in suspects if s[0] and s[2]] or [s for s in suspects if s[2]]
    if not found:
        return None
    _, column, sentence = found[0]
    return column, sentence


def _quoted(words: str, criterion: Criterion) -> bool:
    return isinstance(criterion, AnyOf) and any(f"'{value}'" in words for value in criterion.values)


def _misfit(criterion: Criterion, detector: Detector) -> tuple[str, str]:
    """Return a criterion's column, and what does not fit about its value, or nothing."""
    column = criterion.column
    entry = known.COLUMNS.get(column)
    if isinstance(criterion, AnyOf) and entry is not None and entry.kind != "str":
        wrong = [value for value in criterion.values if not _is_number(value, entry.kind)]
        if wrong:
            return (
                column,
                f"{column}={','.join(wrong)}: {allowed(column, detector)} is allowed ({entry.description})",
            )
    if isinstance(criterion, Between) and entry is not None and entry.kind == "str":
        ends = "..".join("" if end is None else str(end) for end in (criterion.low, criterion.high))
        return column, f"{column}={ends}: a text has no range; give values: {allowed(column, detector)}"
    return column, ""


def _is_number(value: str, kind: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return kind == "float" or (number == number // 1 and "." not in value and abs(number) < 2**63)
