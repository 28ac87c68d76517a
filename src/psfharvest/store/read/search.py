"""
What the manifest knows of cutouts, joined with their catalogue rows: found by criteria, read in stretches.

Where a cutout came without a catalogue row (a list of dataURIs), what its dataURI tells stands in for it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion, Filter
from psfharvest.core.errors import BadQuery
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.store import row_schema
from psfharvest.store.manifest import items, sources
from psfharvest.store.manifest.block_arrays import ColumnArrays
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import known_columns, pieces
from psfharvest.store.read.conditions import Condition, check_values
from psfharvest.store.read.intervals import IntervalSet, Numbers

BATCH_SIZE = 512
_NUMBERS_AT_ONCE = 50_000

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
}  # fmt: skip
"""What can be asked for without looking into catalogue rows."""
_NEEDS_VIEW = frozenset({"uri", "location", "sha256"})
_FROM_URI = {
    "detector": f"CASE {' '.join(_whens())} END",
    **{
        f"{axis}_{frame}": f"CASE WHEN i.suffix {is_in} ('raw', 'd0m') THEN CAST(i.{axis} AS REAL) END"
        for axis in "xy"
        for frame, is_in in (("raw", "IN"), ("cal", "NOT IN"))
    },
}
"""SQL for columns of a dataURI, used where the catalogue row lacks them or is not there."""


@dataclass(frozen=True, slots=True)
class FoundCutout:
    """
    One cutout that was asked for.

    `source` is its catalogue row, or what its dataURI tells of it; `ours` has the columns of `OURS`.
    """

    number: int
    source: Mapping[str, Any]
    ours: Mapping[str, Any]


class ColumnPage(NamedTuple):
    """
    A column of some cutouts: numbers as they are, NaN for what is none; texts as places in `words`, from 1.

    `codes` is empty where there are no texts.
    """

    numbers: NDArray[np.float64]
    codes: NDArray[np.int64]
    words: list[str]


def layouts(manifest: Manifest) -> dict[int, sources.Layout]:
    """Return for each layout of catalogue rows its detector and columns."""
    with manifest.connection() as db, manifest.rows():
        return sources.layouts(db)


def numbers(manifest: Manifest, criteria: Sequence[Criterion] = (), *, only_done: bool = False) -> IntervalSet:
    """
    Return the numbers of all cutouts that fit the criteria, ascending.

    Raises
    ------
    BadQuery
        When a column is known neither to the catalogue rows of this folder nor to its manifest, or cannot have
        such a value.
    """
    for criterion in criteria:
        check_values(criterion)
    tally = manifest.tally()
    is_any_state = tally.done == tally.total or not only_done
    plain = [_sql_condition(c) for c in criteria if c.column in _PLAIN]
    others = [_condition(c, manifest) for c in criteria if c.column not in _PLAIN]
    if not plain and is_any_state:
        every = IntervalSet.between(1, tally.total)
        if not others:
            return every
        return IntervalSet.of(
            _holding(manifest, page, pieces.of(manifest, page), others) for page in every.pieces(pieces.AT_ONCE)
        )
    wheres = [sql for sql, _ in plain] + ([] if is_any_state else ["o.state = 'done'"])
    tables = _tables([c.column for c in criteria])
    wheres.append("i.n > ?")
    sql = f"SELECT i.n FROM {tables} WHERE {' AND '.join(wheres)} ORDER BY i.n LIMIT ?"  # noqa: S608 - no value in it
    pages = number_pages(manifest, sql, [v for _, values in plain for v in values])
    return IntervalSet.of(
        _holding(manifest, page, pieces.of(manifest, page), others) if others else page for page in pages
    )


def columns(manifest: Manifest) -> list[str]:
    """Return the names of all columns that can be asked for: the catalogue's, then those that every cutout has."""
    kept = layouts(manifest)
    return list(dict.fromkeys([*(name for layout in kept.values() for name in layout.columns), *OURS]))


def values(manifest: Manifest, column: str) -> Iterator[ColumnPage]:
    """
    Yield the values of one column for every cutout, in the order of asking, page by page.

    Raises
    ------
    BadQuery
        When the folder knows no such column.
    """
    _check_known(column, manifest)
    at_once = pieces.AT_ONCE
    after = 0
    while True:
        if column in _PLAIN:
            sql = f"SELECT {_PLAIN[column]} FROM {_tables([column])} WHERE i.n > ? AND i.n <= ? ORDER BY i.n"  # noqa: S608
            with manifest.connection() as db:
                rows = db.execute(sql, (after, after + at_once)).fetchall()
            page = _page_of([value for (value,) in rows])
        else:
            some = _numbers_after(manifest, after)
            page = _catalogue_page(manifest, column, some, pieces.of(manifest, some))
        yield page
        if len(page.numbers) < at_once:  # numbers have no gaps
            return
        after += at_once


def is_of_rows(column: str) -> bool:
    """Return whether a column's values are those of catalogue rows, and not the manifest's own."""
    return column not in _PLAIN


def values_and_fits(
    manifest: Manifest, column: str, criteria: Sequence[Criterion]
) -> Iterator[tuple[ColumnPage, Numbers]]:
    """
    Yield the pages of `values`, each with the numbers of those of its cutouts that fit the criteria: in one pass.

    All columns must be such that `is_of_rows` is true.

    Raises
    ------
    BadQuery
        When the folder knows no such column.
    """
    _check_known(column, manifest)
    conditions = [_condition(c, manifest) for c in criteria]
    after = 0
    while True:
        some = _numbers_after(manifest, after)
        found = pieces.of(manifest, some)
        yield (
            _catalogue_page(manifest, column, some, found),
            _holding(manifest, some, found, conditions),
        )
        if len(some) < pieces.AT_ONCE:
            return
        after += pieces.AT_ONCE


def number_pages(
    manifest: Manifest, sql: str, values: Sequence[Any], *, at_once: int = _NUMBERS_AT_ONCE
) -> Iterator[Numbers]:
    """Yield the numbers that a statement finds, page by page, with no transaction open between two of them."""
    for rows in manifest.pages(sql, values, size=at_once):
        yield np.fromiter((row[0] for row in rows), np.int64, len(rows))


def sizes(manifest: Manifest) -> list[int]:
    """Return the sides of all cutouts asked for, in pixels, ascending."""
    with manifest.connection() as db:
        found = db.execute("SELECT DISTINCT size_px FROM item WHERE size_px IS NOT NULL ORDER BY 1").fetchall()
    return [size_px for (size_px,) in found]


def places(manifest: Manifest, wanted: Numbers) -> list[tuple[int, str, str, int]]:
    """Return number, dataURI, location and size in bytes of stored cutouts, ascending by number."""
    where, values = _among(wanted)
    with manifest.connection() as db:
        return db.execute(
            f"SELECT n, uri, location, size_bytes FROM cutout c WHERE {where} AND state = 'done' ORDER BY n",  # noqa: S608
            values,
        ).fetchall()


def rows(manifest: Manifest, wanted: Numbers, names: Collection[str] | None = None) -> list[FoundCutout]:
    """
    Return what is known of these cutouts, ascending by number.

    Parameters
    ----------
    names
        Columns of the catalogue that are wanted; others may be left out. None is all.
    """
    where, values = _among(wanted)
    with manifest.connection() as db:
        found = db.execute(
            "SELECT c.n, c.uri, c.state, c.location, c.size_bytes, c.sha256, c.attempts, c.reason, c.detail, "  # noqa: S608
            "c.quirk, i.instrument, "
            "i.rootname, i.suffix, i.extension, i.size_px, i.x, i.y, i.id, i.filter, c.source "
            "FROM cutout c JOIN item i ON i.n = c.n "
            f"WHERE {where} ORDER BY c.n",
            values,
        ).fetchall()
        with manifest.rows() as reader:
            kept = reader.dicts(db, [row[-1] for row in found if row[-1] is not None], names)
    return [_found(row[:-1], kept.get(row[-1])) for row in found]


def ours(manifest: Manifest, wanted: Numbers, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return columns of `OURS`, but for ``detector``: for each a tuple with the values of these cutouts."""
    where, values = _among(wanted, "i.n")
    as_text = {"x": "i.x", "y": "i.y"}
    chosen = ", ".join(as_text.get(name, _PLAIN[name]) for name in names)
    with manifest.connection() as db:
        found = db.execute(
            f"SELECT {chosen} FROM {_tables(names)} WHERE {where} ORDER BY i.n",  # noqa: S608 - no value in it
            values,
        ).fetchall()
    return list(zip(*found, strict=True)) if found else [() for _ in names]


def _tables(names: Sequence[str]) -> str:
    """Return the tables that it takes to look into these columns."""
    tables = "item i LEFT JOIN outcome o ON o.n = i.n"
    if any(name in _NEEDS_VIEW for name in names):
        tables += " JOIN cutout c ON c.n = i.n"
    return tables


def _among(wanted: Numbers, number: str = "c.n") -> tuple[str, list[Any]]:
    if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
        return f"{number} BETWEEN ? AND ?", [int(wanted[0]), int(wanted[-1])]
    return f"{number} {items.AMONG}", [items.among(wanted.tolist())]


def _found(row: Sequence[Any], kept: tuple[str, dict[str, Any]] | None) -> FoundCutout:
    n, uri, state, location, size_bytes, sha256, attempts, reason, detail, quirk, *parts = row
    asked = None if parts[1] is None else CutoutURI(*parts)
    _, _, suffix, extension, size_px, x, y, *_ = parts
    named = None if asked is None else detectors.holder(asked.instrument, asked.filter)
    detector, source = (named, {}) if kept is None else kept
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
    return FoundCutout(n, source, ours)


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _condition(criterion: Criterion, manifest: Manifest) -> Condition:
    _check_known(criterion.column, manifest)
    return Condition(criterion)


def _numbers_after(manifest: Manifest, after: int) -> Numbers:
    """Return the numbers of a page of cutouts, those above `after`; they have no gaps."""
    with manifest.connection() as db:
        last = db.execute("SELECT max(n) FROM item").fetchone()[0] or 0
    return np.arange(after + 1, min(last, after + pieces.AT_ONCE) + 1)


def _holding(
    manifest: Manifest, page: Numbers, found: Sequence[pieces.Piece], conditions: Sequence[Condition]
) -> Numbers:
    """Return those numbers of a page, given with its pieces, whose cutouts fulfil all conditions."""
    fits = np.ones(len(page), np.bool_)
    for piece in found:
        there = fits[piece.places]
        for condition in conditions:
            there = there & _of_piece(manifest, page, piece, condition)
            if not there.any():
                break
        fits[piece.places] = there
    return page[fits]


def _of_piece(manifest: Manifest, page: Numbers, piece: pieces.Piece, condition: Condition) -> NDArray[np.bool_]:
    name = condition.column
    if name == "detector" and piece.layout is not None:
        return np.full(piece.n, condition.holds(piece.layout.detector))
    spans = piece.spans(name)
    found = np.zeros(piece.n, np.bool_)
    for span in spans:
        found[span.within] = condition.of_column(span.column)[span.rows]
    if name in _FROM_URI:
        lacking = _lacking(piece, spans)
        if lacking.any():
            found[lacking] = condition.of_values(_from_uris(manifest, page[piece.places_where(lacking)], name))
    return found


def _lacking(piece: pieces.Piece, spans: Sequence[pieces.Span]) -> NDArray[np.bool_]:
    """Return which cutouts of a piece have no value in a column of their blocks."""
    found = np.ones(piece.n, np.bool_)
    for span in spans:
        nulls = span.column.nulls()
        found[span.within] = False if nulls is None else nulls[span.rows]
    return found


def _from_uris(manifest: Manifest, wanted: Numbers, name: str) -> list[Any]:
    """Return a column of cutouts from their dataURIs."""
    where, values = _among(wanted, "i.n")
    with manifest.connection() as db:
        sql = f"SELECT {_FROM_URI[name]} FROM item i WHERE {where} ORDER BY i.n"  # noqa: S608 - no value in it
        return [value for (value,) in db.execute(sql, values).fetchall()]


def _catalogue_page(manifest: Manifest, name: str, page: Numbers, found: Sequence[pieces.Piece]) -> ColumnPage:
    numbers = np.full(len(page), math.nan)
    codes = np.zeros(len(page), np.int64)
    words: dict[str, int] = {}

    def put(places: Numbers | slice, given: ColumnPage, chosen: Any = slice(None)) -> None:
        numbers[places] = given.numbers[chosen]
        if len(given.codes):
            codes[places] = _known(words, given.words)[given.codes][chosen]

    for piece in found:
        if name == "detector" and piece.layout is not None:
            codes[piece.places] = words.setdefault(piece.layout.detector, len(words) + 1)
            continue
        spans = piece.spans(name)
        for span in spans:
            if span.column.is_worded:
                put(piece.places_of(span), _page_of(span.column.words), span.column.array()[span.rows])
            else:
                numbers[piece.places_of(span)] = _with_nan(span.column)[span.rows]
        if name in _FROM_URI and (lacking := _lacking(piece, spans)).any():
            places = piece.places_where(lacking)
            put(places, _page_of(_from_uris(manifest, page[places], name)))
    return ColumnPage(numbers, codes if words else codes[:0], list(words))


def _with_nan(column: ColumnArrays) -> NDArray[Any]:
    """Return a column of numbers with NaN for null."""
    nulls = column.nulls()
    return column.array() if nulls is None else np.where(nulls, math.nan, column.array())


def _known(words: dict[str, int], others: Sequence[str]) -> NDArray[np.int64]:
    """Return the places of other words in `words`, to which those that are new are added; 0 stays 0."""
    return np.array([0, *(words.setdefault(word, len(words) + 1) for word in others)], np.int64)


def _page_of(found: Sequence[Any]) -> ColumnPage:
    """Return plain values as a page."""
    numbers = np.array([value if isinstance(value, int | float) else None for value in found], np.float64)
    words: dict[str, int] = {}
    codes = np.zeros(0, np.int64)
    if any(isinstance(value, str) for value in found):
        codes = np.array(
            [words.setdefault(value, len(words) + 1) if isinstance(value, str) else 0 for value in found], np.int64
        )
    return ColumnPage(numbers, codes, list(words))


def _sql_condition(criterion: Criterion) -> tuple[str, list[Any]]:
    value = _PLAIN[criterion.column]
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


def _check_known(column: str, manifest: Manifest) -> None:
    if column in _PLAIN or column in _FROM_URI:
        return
    there = dict.fromkeys([*known_columns.catalogue_columns(manifest), *_PLAIN, "detector"])
    if column in there:
        return
    near = difflib.get_close_matches(column.lower(), there, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    words = f"column {column!r} is not in this harvest: {hint}it has {', '.join(there)}"
    raise BadQuery(words, field=column)
