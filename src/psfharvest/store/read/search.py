"""Which cutouts of a folder fit criteria on the manifest's own columns and on those of their catalogue rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion, Filter
from psfharvest.core.errors import BadQuery
from psfharvest.store.manifest import items
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import pieces
from psfharvest.store.read.conditions import Condition, check_values, number_of
from psfharvest.store.read.intervals import IntervalSet, Numbers
from psfharvest.store.read.sql_columns import SQL_OF, SQL_OF_URI, check_known, tables_of, values_from_uris

BATCH_SIZE = 512
_NUMBERS_AT_ONCE = 50_000


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
    plain = [_sql_condition(c) for c in criteria if c.column in SQL_OF]
    others = [condition_of(c, manifest) for c in criteria if c.column not in SQL_OF]
    if not plain and is_any_state:
        every = IntervalSet.between(1, tally.total)
        if not others:
            return every
        return IntervalSet.of(
            holding(manifest, page, pieces.of(manifest, page), others) for page in every.pieces(pieces.AT_ONCE)
        )
    wheres = [sql for sql, _ in plain] + ([] if is_any_state else ["o.state = 'done'"])
    tables = tables_of([c.column for c in criteria])
    wheres.append("i.n > ?")
    sql = f"SELECT i.n FROM {tables} WHERE {' AND '.join(wheres)} ORDER BY i.n LIMIT ?"  # noqa: S608 - no value in it
    pages = number_pages(manifest, sql, [v for _, values in plain for v in values])
    return IntervalSet.of(
        holding(manifest, page, pieces.of(manifest, page), others) if others else page for page in pages
    )


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


def condition_of(criterion: Criterion, manifest: Manifest) -> Condition:
    """Return a criterion as a test of values; raises `BadQuery` when the folder knows no such column."""
    check_known(criterion.column, manifest)
    return Condition(criterion)


def holding(
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
    if name in SQL_OF_URI:
        lacking = pieces.lacking(piece, spans)
        if lacking.any():
            found[lacking] = condition.of_values(
                values_from_uris(manifest, page[piece.places_where(lacking)], name)
            )
    return found


def _sql_condition(criterion: Criterion) -> tuple[str, list[Any]]:
    value = SQL_OF[criterion.column]
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
    amounts = [n for text in criterion.values if (n := number_of(text)) is not None and not math.isnan(n)]
    as_text = f"CAST({value} AS TEXT) {items.AMONG}"
    texts = items.among(criterion.values)
    if not amounts:
        return as_text, [texts]
    as_number = f"typeof({value}) IN ('integer', 'real') AND {value} {items.AMONG}"
    return f"({as_text} OR {as_number})", [texts, items.among(amounts)]
