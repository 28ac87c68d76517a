"""
What the manifest knows of cutouts, joined with their catalogue rows: found by criteria, read in stretches.

Where a cutout came without a catalogue row (a list of dataURIs), what its dataURI tells stands in for it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion, Filter
from psfharvest.core.errors import BadQuery
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.store import row_schema
from psfharvest.store.manifest import items
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.intervals import IntervalSet, Numbers

BATCH_SIZE = 512
_NUMBERS_AT_ONCE = 50_000
_VALUES_AT_ONCE = 20_000

OURS = ("detector", "suffix", "extension", "size_px", "x", "y", "uri", "state", "location", "size_bytes", "sha256",
        "attempts", "reason", "detail", "quirk")  # fmt: skip
"""Columns that every cutout has, beside those of its catalogue row."""


def _whens() -> Iterator[str]:
    """Yield SQL that gives a cutout's detector from its dataURI, as `detectors.holder` does."""
    for instrument, alike in detectors.OF_INSTRUMENT.items():
        for place in sorted(alike, key=lambda d: not d.own_filters):
            patterns = place.own_filters or (("[A-Z]*",) if len(alike) > 1 else ("*",))
            named = " OR ".join(f"upper(i.filter) GLOB '{pattern}'" for pattern in patterns)
            yield f"WHEN i.instrument = '{instrument}' AND ({named}) THEN '{place.name}'"


_PLAIN = {
    "id": "i.id", "rootname": "i.rootname", "filter": "i.filter", "filter_1": "i.filter",
    "suffix": "i.suffix", "extension": "i.extension", "size_px": "i.size_px", "size": "i.size_px",
    "x": "CAST(i.x AS REAL)", "y": "CAST(i.y AS REAL)",
    "uri": "c.uri", "state": "coalesce(o.state, 'pending')", "reason": "o.reason", "location": "c.location",
    "detail": "o.detail", "quirk": "o.quirk",
    "size_bytes": "o.size_bytes", "attempts": "coalesce(o.attempts, 0)", "sha256": "c.sha256",
    "detector": f"coalesce(l.detector, CASE {' '.join(_whens())} END)",
}  # fmt: skip
"""What can be asked for without looking into catalogue rows."""
_NEEDS_VIEW = frozenset({"uri", "location", "sha256"})
_FROM_URI = {"x_raw": "x", "y_raw": "y", "x_cal": "x", "y_cal": "y"}


@dataclass(frozen=True, slots=True)
class Found:
    """
    One cutout that was asked for.

    `source` is its catalogue row, or what its dataURI tells of it; `ours` has the columns of `OURS`.
    """

    number: int
    source: Mapping[str, Any]
    ours: Mapping[str, Any]


def layouts(manifest: Manifest) -> dict[int, tuple[str, list[str]]]:
    """Return for each layout of catalogue rows its detector and columns."""
    with manifest.look() as db:
        return {
            n: (detector, json.loads(names))
            for n, detector, names in db.execute("SELECT n, detector, columns FROM layout")
        }


def numbers(manifest: Manifest, criteria: Sequence[Criterion] = (), *, only_done: bool = False) -> IntervalSet:
    """
    Return the numbers of all cutouts that fit the criteria, ascending.

    Raises
    ------
    BadQuery
        When a column is known neither to the catalogue rows of this folder nor to its manifest.
    """
    if not criteria:
        tally = manifest.tally()
        if tally.done == tally.total or not only_done:
            return IntervalSet.between(1, tally.total)
    kept = layouts(manifest)
    found = [_condition(c, kept) for c in criteria]
    wheres = [sql for sql, _ in found] + (["o.state = 'done'"] if only_done else [])
    tables = _tables([c.column for c in criteria])
    wheres.append("i.n > ?")
    sql = f"SELECT i.n FROM {tables} WHERE {' AND '.join(wheres)} ORDER BY i.n LIMIT ?"  # noqa: S608 - no value in it
    return IntervalSet.of(number_pages(manifest, sql, [v for _, values in found for v in values]))


def columns(manifest: Manifest) -> list[str]:
    """Return the names of all columns that can be asked for: the catalogue's, then those that every cutout has."""
    kept = layouts(manifest)
    return list(dict.fromkeys([*(name for _, names in kept.values() for name in names), *OURS]))


def values(manifest: Manifest, column: str, *, at_once: int = _VALUES_AT_ONCE) -> Iterator[list[Any]]:
    """
    Yield the values of one column for every cutout, in the order of asking, page by page.

    Raises
    ------
    BadQuery
        When the folder knows no such column.
    """
    value = _expression(column, layouts(manifest))
    sql = f"SELECT {value} FROM {_tables([column])} WHERE i.n > ? AND i.n <= ? ORDER BY i.n"  # noqa: S608 - no value in it
    after = 0
    while True:
        with manifest.look() as db:
            rows = db.execute(sql, (after, after + at_once)).fetchall()
        yield [value for (value,) in rows]
        if len(rows) < at_once:  # numbers have no gaps
            return
        after += at_once


def number_pages(
    manifest: Manifest, sql: str, values: Sequence[Any], *, at_once: int = _NUMBERS_AT_ONCE
) -> Iterator[Numbers]:
    """Yield the numbers that a statement finds, page by page, with no transaction open between two of them."""
    after = 0
    while True:
        with manifest.look() as db:
            rows = db.execute(sql, (*values, after, at_once)).fetchall()
        found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        yield found
        if len(rows) < at_once:
            return
        after = int(found[-1])


def sizes(manifest: Manifest) -> list[int]:
    """Return the sides of all cutouts asked for, in pixels, ascending."""
    with manifest.look() as db:
        found = db.execute("SELECT DISTINCT size_px FROM item WHERE size_px IS NOT NULL ORDER BY 1").fetchall()
    return [size_px for (size_px,) in found]


def places(manifest: Manifest, wanted: Numbers) -> list[tuple[int, str, str, int]]:
    """Return number, dataURI, location and size in bytes of stored cutouts, ascending by number."""
    where, values = _among(wanted)
    with manifest.look() as db:
        return db.execute(
            f"SELECT n, uri, location, size_bytes FROM cutout c WHERE {where} AND state = 'done' ORDER BY n",  # noqa: S608
            values,
        ).fetchall()


def rows(manifest: Manifest, wanted: Numbers, kept: Mapping[int, tuple[str, list[str]]]) -> list[Found]:
    """Return all that is known of these cutouts, ascending by number; `kept` is what `layouts` gave."""
    where, values = _among(wanted)
    with manifest.look() as db:
        found = db.execute(
            "SELECT c.n, c.uri, c.state, c.location, c.size_bytes, c.sha256, c.attempts, c.reason, c.detail, "  # noqa: S608
            "c.quirk, i.instrument, "
            "i.rootname, i.suffix, i.extension, i.size_px, i.x, i.y, i.id, i.filter, s.layout, s.vals "
            "FROM cutout c JOIN item i ON i.n = c.n LEFT JOIN source s ON s.n = c.source "
            f"WHERE {where} ORDER BY c.n",
            values,
        ).fetchall()
    return [_found(row, kept) for row in found]


def _tables(names: Sequence[str]) -> str:
    """Return the tables that it takes to look into these columns."""
    tables = "item i LEFT JOIN outcome o ON o.n = i.n"
    if any(name not in _PLAIN or name == "detector" for name in names):
        tables += " LEFT JOIN source s ON s.n = i.source LEFT JOIN layout l ON l.n = s.layout"
    if any(name in _NEEDS_VIEW for name in names):
        tables += " JOIN cutout c ON c.n = i.n"
    return tables


def _among(wanted: Numbers) -> tuple[str, list[Any]]:
    if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
        return "c.n BETWEEN ? AND ?", [int(wanted[0]), int(wanted[-1])]
    return f"c.n {items.AMONG}", [items.among(wanted.tolist())]


def _found(row: Sequence[Any], kept: Mapping[int, tuple[str, list[str]]]) -> Found:
    n, uri, state, location, size_bytes, sha256, attempts, reason, detail, quirk, *parts, layout, vals = row
    asked = None if parts[1] is None else CutoutURI(*parts)
    _, _, suffix, extension, size_px, x, y, *_ = parts
    named = None if asked is None else detectors.holder(asked.instrument, asked.filter)
    detector, names = kept[layout] if layout is not None else (named, [])
    source = dict(zip(names, json.loads(vals), strict=True)) if vals else {}
    ours = dict(
        zip(
            OURS,
            (detector, suffix, extension, size_px, _float(x), _float(y), uri, state, location, size_bytes, sha256,
             attempts, reason, detail, quirk),
            strict=True,
        )
    )  # fmt: skip
    if asked is not None:
        for name, value in row_schema.of_uri(asked).items():
            source.setdefault(name, value)
    return Found(n, source, ours)


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _condition(criterion: Criterion, kept: Mapping[int, tuple[str, list[str]]]) -> tuple[str, list[Any]]:
    value = _expression(criterion.column, kept)
    if isinstance(criterion, Between):
        is_number = f"(typeof({value}) IN ('integer', 'real') OR {value} GLOB '[0-9]*')"
        ends = [(">=", criterion.low), ("<=", criterion.high)]
        bounds = "".join(f" AND CAST({value} AS REAL) {sign} ?" for sign, end in ends if end is not None)
        return is_number + bounds, [end for _, end in ends if end is not None]
    if isinstance(criterion, Filter):
        name = criterion.column
        raise BadQuery(f"{name}: a folder is searched by values or one range, not by a filter", field=name)
    return _any_of(value, criterion)


def _any_of(value: str, criterion: AnyOf) -> tuple[str, list[Any]]:
    """Compare as texts, and as numbers where both sides are: ``0`` finds 0.0, and ``2`` finds chip ``"2"``."""
    amounts = [n for text in criterion.values if (n := _float(text)) is not None and not math.isnan(n)]
    as_text = f"CAST({value} AS TEXT) {items.AMONG}"
    texts = items.among(criterion.values)
    if not amounts:
        return as_text, [texts]
    as_number = f"typeof({value}) IN ('integer', 'real') AND {value} {items.AMONG}"
    return f"({as_text} OR {as_number})", [texts, items.among(amounts)]


def _expression(column: str, kept: Mapping[int, tuple[str, list[str]]]) -> str:
    if column in _PLAIN:
        return _PLAIN[column]
    cases = "".join(
        f" WHEN {int(n)} THEN json_extract({_JSON}, '$[{names.index(column)}]')"
        for n, (_, names) in kept.items()
        if column in names
    )
    inside = f"CASE s.layout{cases} END" if cases else ""
    if column in _FROM_URI:
        is_raw = "IN" if column.endswith("raw") else "NOT IN"
        outside = f"CASE WHEN i.suffix {is_raw} ('raw', 'd0m') THEN CAST(i.{_FROM_URI[column]} AS REAL) END"
        return f"coalesce({inside}, {outside})" if inside else outside
    if not inside:
        raise BadQuery(_unknown(column, kept), field=column)
    return inside


_JSON = (
    "CASE WHEN json_valid(s.vals) THEN s.vals ELSE replace(replace(s.vals, 'NaN', 'null'), 'Infinity', '9e999') END"
)
"""Python writes what is no number as NaN, which JSON does not know."""


def _unknown(column: str, kept: Mapping[int, tuple[str, list[str]]]) -> str:
    there = dict.fromkeys([*(name for _, names in kept.values() for name in names), *_PLAIN])
    near = difflib.get_close_matches(column.lower(), there, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"column {column!r} is not in this harvest: {hint}it has {', '.join(there)}"
