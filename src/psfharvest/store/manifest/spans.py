"""
Which catalogue row belongs to which item, in stretches: a million items of one query are one row of `source_span`.

The column ``item.source`` says it for each item. Here stands the same once more for long stretches in which it is
regular, so that a column of all cutouts is read without a look at each item: item ``first + k``, for `k` below `n`,
has the catalogue row ``source + k // per``. An item's catalogue row is given once and never changed, so that a
stretch stays right; items in no stretch are looked up one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from psfharvest.store.manifest.connection import pages

if TYPE_CHECKING:
    from sqlite3 import Connection

    import numpy as np
    from numpy.typing import NDArray

TABLE = """
CREATE TABLE source_span (
    first INTEGER PRIMARY KEY, n INTEGER NOT NULL, source INTEGER NOT NULL, per INTEGER NOT NULL
)
"""
ITEMS_MIN = 32
"""A shorter stretch is recorded only where it continues another: it would cost more than it saves."""
_AT_ONCE = 50_000
_GAP = 1000
"""Items looked up with others of their neighbourhood, though a stretch between them is known."""


class Span(NamedTuple):
    """A stretch of items."""

    first: int
    n: int
    source: int
    per: int

    @property
    def end(self) -> int:
        """The number behind its last item."""
        return self.first + self.n

    def is_continued_by(self, other: Span) -> bool:
        """Return whether both are one stretch."""
        return (
            other.first == self.end
            and other.per == self.per
            and self.n % self.per == 0
            and other.source == self.source + self.n // self.per
        )


def record(db: Connection, pairs: Sequence[tuple[int, int | None]]) -> None:
    """Record what is regular of items and their catalogue rows, ascending by item; within a transaction."""
    if all(source is None for _, source in pairs):
        return
    row = db.execute("SELECT first, n, source, per FROM source_span ORDER BY first DESC LIMIT 1").fetchone()
    last = None if row is None else Span(*row)
    whole = _whole(pairs)
    for span in _joined(_spans(pairs)) if whole is None else (whole,):
        if last is not None and last.is_continued_by(span):
            last = last._replace(n=last.n + span.n)
        elif span.n >= ITEMS_MIN:
            last = span
        else:
            continue
        db.execute("INSERT OR REPLACE INTO source_span VALUES (?, ?, ?, ?)", last)


def cover(db: Connection) -> None:
    """Record what is regular behind the last stretch; within a transaction."""
    row = db.execute("SELECT max(first + n) FROM source_span").fetchone()

    def pairs_after(after: int) -> list[tuple[int, int | None]]:
        sql = "SELECT n, source FROM item WHERE n > ? ORDER BY n LIMIT ?"
        return db.execute(sql, (after, _AT_ONCE)).fetchall()

    for pairs in pages(pairs_after, _AT_ONCE, after=(row[0] or 1) - 1):
        record(db, pairs)


def sources_of(db: Connection, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the catalogue rows of items, whose numbers are given ascending; 0 where an item has none."""
    import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

    if not len(numbers):
        return np.zeros(0, np.int64)
    low, high = int(numbers[0]), int(numbers[-1])
    rows = db.execute(
        "SELECT first, n, source, per FROM source_span WHERE first <= :high AND first >= coalesce("
        "(SELECT first FROM source_span WHERE first <= :low ORDER BY first DESC LIMIT 1), :low) ORDER BY first",
        {"low": low, "high": high},
    ).fetchall()
    if len(rows) == 1 and rows[0][0] <= low and high < rows[0][0] + rows[0][1]:
        return _of_span(Span(*rows[0]), numbers)
    found = np.full(len(numbers), -1, np.int64)
    for span in itertools.starmap(Span, rows):
        start, stop = np.searchsorted(numbers, (span.first, span.end))
        found[start:stop] = _of_span(span, numbers[start:stop])
    lacking = np.flatnonzero(found < 0)
    for part in np.split(lacking, np.flatnonzero(np.diff(lacking) > _GAP) + 1):
        found[part] = _looked_up(db, numbers[part])
    return found


def _of_span(span: Span, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the catalogue rows of items of one stretch."""
    if span.per == 1:
        return numbers + (span.source - span.first)
    return span.source + (numbers - span.first) // span.per


def _looked_up(db: Connection, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the catalogue rows recorded with each item, page by page."""
    import numpy as np  # noqa: PLC0415 - a harvest needs no arrays

    found = np.zeros(len(numbers), np.int64)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        pairs = db.execute(
            "SELECT n, source FROM item WHERE n BETWEEN ? AND ? AND source IS NOT NULL ORDER BY n",
            (int(some[0]), int(some[-1])),
        ).fetchall()
        if pairs:
            given = np.array(pairs, np.int64)
            places = np.minimum(np.searchsorted(given[:, 0], some), len(given) - 1)
            found[start : start + len(some)] = np.where(given[places, 0] == some, given[places, 1], 0)
    return found


def _whole(pairs: Sequence[tuple[int, int | None]]) -> Span | None:
    """Return items that are one stretch, as those of a query's piece are: found without a look at each pair."""
    if not pairs or pairs[-1][0] - pairs[0][0] + 1 != len(pairs):
        return None
    first, source = pairs[0]
    if source is None:
        return None
    per = next((k for k, pair in enumerate(pairs) if pair[1] != source), len(pairs))
    is_regular = [source + k // per for k in range(len(pairs))] == [given for _, given in pairs]
    return Span(first, len(pairs), source, per) if is_regular else None


def _spans(pairs: Iterable[tuple[int, int | None]]) -> Iterator[Span]:
    """Yield for each catalogue row the items that follow on each other and have it."""
    last: Span | None = None
    for n, source in pairs:
        if last is not None and last.source == source and n == last.end:
            last = last._replace(n=last.n + 1, per=last.per + 1)
            continue
        if last is not None:
            yield last
        last = None if source is None else Span(n, 1, source, 1)
    if last is not None:
        yield last


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    last: Span | None = None
    for span in spans:
        if last is not None and last.is_continued_by(span):
            last = last._replace(n=last.n + span.n)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
