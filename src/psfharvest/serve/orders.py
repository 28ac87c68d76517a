"""
Which cutouts a question finds, and in which order: filters and sorts over all rows, kept for the next page of them.

A sort reads one column into an array, once; a filter is a set of runs of numbers. While a harvest goes on, what was
found a moment ago is used again, so that a page which asks each second does not read a million rows each second.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog.criterion import Criterion
from psfharvest.core.errors import BadQuery
from psfharvest.serve.stop import ClientLeft
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import column_pages, search
from psfharvest.store.read.conditions import number_of
from psfharvest.store.read.intervals import IntervalSet, Numbers

V = TypeVar("V")
AnyNumbers = NDArray[np.signedinteger[Any]]
IsLeft = Callable[[], bool]
KEPT_ORDERS = 8
KEPT_COLUMNS = 2
WORDS_MAX = 100_000
"""Different texts of a column that is sorted by; dataURIs and checksums have more."""
FRESH_FOR_S = 2.0
FRESH_TIMES_COST = 20.0
"""What took long to find is used for so many times as long."""
NOT_SORTED = frozenset({"uri", "location", "sha256", "detail"})
"""Columns of long texts, each its own."""


class Selection(NamedTuple):
    """What is asked for: all criteria must hold; `sort` is a column's name, or empty for the order of asking."""

    criteria: tuple[Criterion, ...] = ()
    sort: str = ""
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column of all cutouts, in the order of asking; numbers as they are, texts as positions in `words`.

    What has no value is NaN.
    """

    values: NDArray[np.float64]
    words: tuple[str, ...] = ()


class Orders:
    """The filters and sorts of one folder; used by one thread at a time."""

    def __init__(self) -> None:
        self._columns = _Kept[Column](KEPT_COLUMNS)
        self._filters = _Kept[IntervalSet](KEPT_ORDERS)
        self._orders = _Kept[AnyNumbers](KEPT_ORDERS)

    def members(self, manifest: Manifest, selection: Selection, is_left: IsLeft) -> AnyNumbers | IntervalSet:
        """
        Return the numbers of the selected cutouts in their order.

        Raises
        ------
        BadQuery
            When a column is not there, or cannot be sorted by.
        """
        if not selection.sort:
            return self.matching(manifest, selection.criteria, is_left)
        version = _version(manifest)
        return self._orders.get(selection, version, lambda: self._sorted(manifest, selection, is_left))

    def matching(self, manifest: Manifest, criteria: tuple[Criterion, ...], is_left: IsLeft) -> IntervalSet:
        """Return the numbers of the cutouts that fit all criteria, ascending."""
        if not criteria:
            return search.numbers(manifest)
        found = self._filters.get(criteria, _version(manifest), lambda: search.numbers(manifest, criteria))
        _check(is_left)
        return found

    def column(self, manifest: Manifest, name: str, is_left: IsLeft) -> Column:
        """
        Return one column of all cutouts.

        Raises
        ------
        BadQuery
            When it is not there, or has too many different texts.
        """
        if name in NOT_SORTED:
            raise BadQuery(f"{name}: every cutout has its own; sort by another column", field=name)
        return self._columns.get(name, _version(manifest), lambda: _column(manifest, name, is_left))

    def _read_together(self, manifest: Manifest, selection: Selection, is_left: IsLeft) -> None:
        """Read the column of a sort and find what fits its criteria in one pass, where neither is kept."""
        name, criteria, version = selection.sort, selection.criteria, _version(manifest)
        is_any_kept = self._columns.has(name, version) or self._filters.has(criteria, version)
        if is_any_kept or not criteria or name in NOT_SORTED:
            return
        if not all(map(column_pages.is_of_rows, [name, *(criterion.column for criterion in criteria)])):
            return
        fits: list[Numbers] = []

        def pages() -> Iterator[column_pages.ColumnPage]:
            for page, numbers in column_pages.values_and_fits(manifest, name, criteria):
                fits.append(numbers)
                yield page

        self._columns.get(name, version, lambda: _gathered(pages(), manifest, name, is_left))
        self._filters.get(criteria, version, lambda: IntervalSet.of(fits))

    def _sorted(self, manifest: Manifest, selection: Selection, is_left: IsLeft) -> AnyNumbers:
        self._read_together(manifest, selection, is_left)
        values = self.column(manifest, selection.sort, is_left).values
        runs = self.matching(manifest, selection.criteria, is_left)
        numbers = runs.numbers(0, len(runs))
        numbers = numbers[numbers <= len(values)]  # what was asked for since the column was read comes next time
        small: AnyNumbers = numbers.astype(np.int32 if len(values) < 2**31 else np.int64)  # kept, and half as large
        keys = values[numbers - 1]
        if selection.is_descending:
            np.negative(keys, out=keys)
        return np.take(small, np.argsort(keys, kind="stable"))  # NaN comes last either way


class _Kept(Generic[V]):
    """The last few answers, each with what it took to find."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[Hashable, tuple[Any, float, float, V]] = OrderedDict()

    def has(self, key: Hashable, version: Any) -> bool:
        """Return whether an answer is kept that is fresh enough."""
        known = self._answers.get(key)
        if known is None:
            return False
        found_for, found_at, cost_s, _ = known
        return bool(
            found_for == version or time.monotonic() - found_at < max(FRESH_FOR_S, FRESH_TIMES_COST * cost_s)
        )

    def get(self, key: Hashable, version: Any, find: Callable[[], V]) -> V:
        """Return a kept answer that is fresh enough, or find it."""
        if self.has(key, version):
            self._answers.move_to_end(key)
            return self._answers[key][3]
        self._answers.pop(key, None)  # before the new one is made: both are large
        started_at = time.monotonic()
        answer = find()
        now = time.monotonic()
        self._answers[key] = version, now, now - started_at, answer
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)
        return answer


def _version(manifest: Manifest) -> Any:
    manifest.refresh()
    tally = manifest.tally()
    return tally.total, tally.done, tally.missing, tally.failed


def _check(is_left: IsLeft) -> None:
    if is_left():
        raise ClientLeft


def _column(manifest: Manifest, name: str, is_left: IsLeft) -> Column:
    return _gathered(column_pages.values(manifest, name), manifest, name, is_left)


def _gathered(pages: Iterable[column_pages.ColumnPage], manifest: Manifest, name: str, is_left: IsLeft) -> Column:
    values = np.empty(manifest.tally().total)
    codes = np.zeros(0, np.int32)
    words: dict[str, int] = {}
    at = 0
    for page in pages:
        _check(is_left)
        n = min(len(page.numbers), len(values) - at)  # what was asked for meanwhile comes next time
        if page.words:
            if not len(codes):
                codes = np.zeros(len(values), np.int32)
            known = np.array([0, *(words.setdefault(word, len(words) + 1) for word in page.words)], np.int32)
            codes[at : at + n] = known[page.codes[:n]]
        values[at : at + n] = page.numbers[:n]
        at += n
        if len(words) > WORDS_MAX:
            raise BadQuery(f"{name} has more than {WORDS_MAX:,} different texts; sort by another", field=name)
    return _with_words(values[:at], codes[:at], list(words)) if words else Column(values[:at])


def _with_words(values: NDArray[np.float64], codes: NDArray[np.int32], words: list[str]) -> Column:
    """Put texts in their place: as the numbers that they write, if all do, or else as positions in their order."""
    amounts = [number_of(word) for word in words]
    if all(amount is not None for amount in amounts):
        return Column(np.where(codes > 0, np.array([math.nan, *amounts], np.float64)[codes], values))
    plain = values[~np.isnan(values)]
    if plain.size:  # both kinds: all of them as texts
        different, at = np.unique(plain, return_inverse=True)
        if len(different) + len(words) > WORDS_MAX:
            raise BadQuery(f"a column of texts and more than {WORDS_MAX:,} numbers cannot be sorted by")
        codes = codes.copy()
        codes[~np.isnan(values)] = at + len(words) + 1
        words = [*words, *(f"{number:g}" for number in different.tolist())]
    in_order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words) + 1)
    rank[0] = math.nan
    rank[np.array(in_order) + 1] = np.arange(len(words))
    return Column(rank[codes], tuple(words[i] for i in in_order))
