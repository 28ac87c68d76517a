"""One column of all cutouts, a page at a time: numbers as they are, texts as places in a list."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog.criterion import Criterion
from psfharvest.store.manifest.block_arrays import ColumnArrays
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import pieces
from psfharvest.store.read.intervals import Numbers
from psfharvest.store.read.search import condition_of, holding
from psfharvest.store.read.sql_columns import (
    SQL_OF,
    SQL_OF_URI,
    check_known,
    tables_of,
    values_from_uris,
)


class ColumnPage(NamedTuple):
    """
    A column of some cutouts: numbers as they are, NaN for what is none; texts as places in `words`, from 1.

    `codes` is empty where there are no texts.
    """

    numbers: NDArray[np.float64]
    codes: NDArray[np.int64]
    words: list[str]


def values(manifest: Manifest, column: str) -> Iterator[ColumnPage]:
    """
    Yield the values of one column for every cutout, in the order of asking, page by page.

    Raises
    ------
    BadQuery
        When the folder knows no such column.
    """
    check_known(column, manifest)
    at_once = pieces.AT_ONCE
    after = 0
    while True:
        if column in SQL_OF:
            sql = f"SELECT {SQL_OF[column]} FROM {tables_of([column])} WHERE i.n > ? AND i.n <= ? ORDER BY i.n"  # noqa: S608
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
    return column not in SQL_OF


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
    check_known(column, manifest)
    conditions = [condition_of(c, manifest) for c in criteria]
    after = 0
    while True:
        some = _numbers_after(manifest, after)
        found = pieces.of(manifest, some)
        yield (
            _catalogue_page(manifest, column, some, found),
            holding(manifest, some, found, conditions),
        )
        if len(some) < pieces.AT_ONCE:
            return
        after += pieces.AT_ONCE


def _numbers_after(manifest: Manifest, after: int) -> Numbers:
    """Return the numbers of a page of cutouts, those above `after`; they have no gaps."""
    with manifest.connection() as db:
        last = db.execute("SELECT max(n) FROM item").fetchone()[0] or 0
    return np.arange(after + 1, min(last, after + pieces.AT_ONCE) + 1)


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
        if name in SQL_OF_URI and (lacking := pieces.lacking(piece, spans)).any():
            places = piece.places_where(lacking)
            put(places, _page_of(values_from_uris(manifest, page[places], name)))
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
