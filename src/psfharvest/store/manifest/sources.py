"""
Catalogue rows in the manifest: the one module that keeps and reads them.

Rows are numbered from 1 in the order in which they come, and kept in blocks (`psfharvest.store.manifest.block`),
one row of the table `block` each: the number of its first catalogue row, how many rows it has, its layout (the
detector and the columns' names, in the table `layout`), and the blob. A block is never changed, and holds no number
of its own, so that it can be taken into another manifest as it is.

In a manifest of an earlier version, which is read and not changed, each row is a JSON array in the table `source`;
blocks are then made from it as they are asked for. A reader names ``main.block``, since the stand-in for a table
that an earlier version lacks would hide the one that a writer has made meanwhile.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.core.model import Item
from psfharvest.store.manifest import items
from psfharvest.store.manifest.block import Block, identity
from psfharvest.store.manifest.block_encoder import encode
from psfharvest.store.manifest.connection import pages

if TYPE_CHECKING:
    from sqlite3 import Connection

    import numpy as np
    from numpy.typing import NDArray

TABLE = """
CREATE TABLE block (first INTEGER PRIMARY KEY, n INTEGER NOT NULL, layout INTEGER NOT NULL, data BLOB NOT NULL)
"""
ROWS_MAX = 4096
"""Rows of one block."""
AT_ONCE = 16_384
"""Rows whose blocks are fetched by one statement, where most of them are asked for."""
KEPT_BLOCKS = 4
"""Decoded blocks that a reader holds: neighbours are asked for one after the other."""
EARLIER_ROWS = 1000
"""Rows of an earlier version that are made into one block."""

UNREADABLE = (IndexError, KeyError, TypeError, ValueError)
"""What reading damaged rows raises: an unknown layout, a block that is not as it was written."""


class Layout(NamedTuple):
    """What the rows of a block have in common: the database that they are from, and their columns' names."""

    detector: str
    columns: tuple[str, ...]


class Rows(NamedTuple):
    """A block, with the number of its first row."""

    first: int
    layout: Layout
    block: Block

    @property
    def end(self) -> int:
        """The number behind its last row."""
        return self.first + self.block.n_rows


def keep(
    db: Connection, detector: str, columns: Sequence[str], values: Sequence[Sequence[Any]], first: int
) -> list[int]:
    """Keep rows, numbered from `first`, and return their numbers; within a transaction."""
    layout = layout_number(db, detector, columns)
    for start in range(0, len(values), ROWS_MAX):
        keep_block(db, first + start, layout, values[start : start + ROWS_MAX], len(columns))
    return list(range(first, first + len(values)))


def keep_block(db: Connection, first: int, layout: int, values: Sequence[Sequence[Any]], n_columns: int) -> None:
    """Keep rows of one layout, `ROWS_MAX` of them at most, as a block; within a transaction."""
    db.execute(
        "INSERT INTO block (first, n, layout, data) VALUES (?, ?, ?, ?)",
        (first, len(values), layout, encode(values, n_columns)),
    )


def layout_number(db: Connection, detector: str, columns: Sequence[str]) -> int:
    """Return the number of a layout, which is added where it is new; within a transaction."""
    names = json.dumps(list(columns))
    db.execute("INSERT OR IGNORE INTO layout (detector, columns) VALUES (?, ?)", (detector, names))
    row = db.execute("SELECT n FROM layout WHERE detector = ? AND columns = ?", (detector, names)).fetchone()
    return int(row[0])


def last(db: Connection) -> int:
    """Return the number of the last row, 0 where there is none."""
    of_blocks = "SELECT first + n - 1 FROM main.block ORDER BY first DESC LIMIT 1"
    row = db.execute("SELECT max(n) FROM source" if is_earlier(db) else of_blocks).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def layouts(db: Connection) -> dict[int, Layout]:
    """Return all layouts by their numbers."""
    return {
        n: Layout(detector, tuple(json.loads(names)))
        for n, detector, names in db.execute("SELECT n, detector, columns FROM layout ORDER BY n").fetchall()
    }


def is_earlier(db: Connection) -> bool:
    """Return whether rows stand one by one, as an earlier version kept them."""
    sql = "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = 'source'"
    return db.execute(sql).fetchone() is not None


def earlier_pieces(db: Connection) -> Iterator[tuple[int, int, list[list[Any]]]]:
    """Yield the rows of an earlier version in pieces: number of the first, layout, values."""

    def rows_after(after: int) -> list[tuple[int, int, str]]:
        sql = "SELECT n, layout, vals FROM source WHERE n > ? ORDER BY n LIMIT ?"
        return db.execute(sql, (after, EARLIER_ROWS)).fetchall()

    for rows in pages(rows_after, EARLIER_ROWS):
        yield from _pieces(rows)


def sample(db: Connection, layout: int, limit: int) -> list[Sequence[Any]]:
    """Return some rows of a layout, at most `limit` of them."""
    if is_earlier(db):
        rows = db.execute("SELECT vals FROM source WHERE layout = ? LIMIT ?", (layout, limit)).fetchall()
        return [json.loads(vals) for (vals,) in rows]
    found: list[Sequence[Any]] = []
    for (data,) in db.execute("SELECT data FROM main.block WHERE layout = ? ORDER BY first", (layout,)):
        found += Block(data).rows()
        if len(found) >= limit:
            break
    return found[:limit]


def lacking(db: Connection, after: int, limit: int) -> list[tuple[int, CutoutURI]]:
    """Return cutouts with a number above `after` that have no row, with their parts, in the order of asking."""
    rows = db.execute(
        f"SELECT {items.columns_of('i')} FROM item i "  # noqa: S608 - names of our own
        "WHERE i.n > ? AND i.source IS NULL AND i.other IS NULL ORDER BY i.n LIMIT ?",
        (after, limit),
    ).fetchall()
    return [(row[0], parts) for row in rows if (parts := items.uri_of(row)[1]) is not None]


class Reader:
    """
    Reads rows and blocks over any connection to one manifest, and keeps the last few that it decoded.

    Every method raises one of `UNREADABLE` for what is damaged; `Manifest.rows` makes a `ManifestError` of it.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, tuple[int, bytes]], Block] = OrderedDict()
        self._layouts: dict[int, Layout] = {}
        self._is_in_blocks = False

    def between(self, db: Connection, low: int, high: int) -> Iterator[Rows]:
        """Yield the blocks that hold rows of the closed range, ascending; all of them are fetched at once."""
        if not self._is_in_blocks:
            self._is_in_blocks = not is_earlier(db)  # once they are, they stay
        if not self._is_in_blocks:
            yield from self._made_between(db, low, high)
            return
        found = db.execute(
            "SELECT first, layout, data FROM main.block WHERE first <= :high AND first >= coalesce("
            "(SELECT first FROM main.block WHERE first <= :low ORDER BY first DESC LIMIT 1), :low) ORDER BY first",
            {"low": low, "high": high},
        ).fetchall()
        for first, layout, data in found:
            rows = Rows(first, self._layout(db, layout), self._block(first, data))
            if rows.end > low:
                yield rows

    def of(self, db: Connection, numbers: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[Rows, slice]]:
        """Yield blocks, each with the part of the ascending `numbers` that it holds; an array will do, too."""
        at = 0
        while at < len(numbers):
            is_dense = at + ROWS_MAX < len(numbers) and numbers[at + ROWS_MAX] <= numbers[at] + AT_ONCE
            reach = AT_ONCE if is_dense else ROWS_MAX
            low = int(numbers[at])
            end = _place(numbers, low + reach, at, len(numbers))
            high = int(numbers[end - 1])
            has_all = high - low == end - 1 - at
            for rows in self.between(db, low, high):
                if has_all:
                    start, stop = at + max(0, rows.first - low), min(end, at + rows.end - low)
                else:
                    start = _place(numbers, rows.first, at, end)
                    stop = _place(numbers, rows.end, start, end)
                if stop > start:
                    yield rows, slice(start, stop)
            at = end

    def dicts(
        self, db: Connection, numbers: Sequence[int], names: Collection[str] | None = None
    ) -> dict[int, tuple[str, dict[str, Any]]]:
        """Return rows by number: each with its detector, and its values by column: all, or those of `names`."""
        found: dict[int, tuple[str, dict[str, Any]]] = {}
        wanted = sorted(set(numbers))
        for rows, part in self.of(db, wanted):
            columns, detector = rows.layout.columns, rows.layout.detector
            places = [number - rows.first for number in wanted[part]]
            chosen = [i for i, name in enumerate(columns) if names is None or name in names]
            for place, values in zip(places, _values(rows.block, places, chosen), strict=True):
                found[rows.first + place] = detector, {columns[i]: v for i, v in zip(chosen, values, strict=True)}
        return found

    def texts(self, db: Connection, numbers: Sequence[int]) -> dict[int, str]:
        """Return rows as JSON objects, by number; their ``detector`` is the database that they are from."""
        return {
            n: json.dumps({**row, "detector": detector}) for n, (detector, row) in self.dicts(db, numbers).items()
        }

    def with_sources(self, db: Connection, found: Sequence[Item], numbers: Sequence[int | None]) -> list[Item]:
        """Return items, each with the text of its row, whose number is given; "" where it has one that is lost."""
        texts = self.texts(db, [n for n in numbers if n is not None])
        pairs = zip(found, numbers, strict=True)
        return [item if n is None else item._replace(source=texts.get(n, "")) for item, n in pairs]

    def _layout(self, db: Connection, number: int) -> Layout:
        if number not in self._layouts:
            self._layouts = layouts(db)
        return self._layouts[number]

    def _block(self, first: int, data: bytes) -> Block:
        key = first, identity(data)
        block = self._kept.pop(key, None) or Block(data)
        self._kept[key] = block
        while len(self._kept) > KEPT_BLOCKS:
            self._kept.popitem(last=False)
        return block

    def _made_between(self, db: Connection, low: int, high: int) -> Iterator[Rows]:
        """Yield blocks made from rows of an earlier version."""
        start = low - (low - 1) % EARLIER_ROWS
        while start <= high:
            rows = db.execute(
                "SELECT n, layout, vals FROM source WHERE n BETWEEN ? AND ? ORDER BY n",
                (start, start + EARLIER_ROWS - 1),
            ).fetchall()
            for first, number, values in _pieces(rows):
                layout = self._layout(db, number)
                made = Rows(first, layout, self._block(first, encode(values, len(layout.columns))))
                if made.end > low and first <= high:
                    yield made
            start += EARLIER_ROWS


def _values(block: Block, places: Sequence[int], columns: Sequence[int]) -> list[Sequence[Any]]:
    """Return the values of some rows: whole columns are decoded only where that is less work."""
    if 4 * len(places) <= block.n_rows:
        return [block.row(place, columns) for place in places]
    if len(columns) == block.n_columns:
        return [block.rows()[place] for place in places]
    whole = [block.column(column).values() for column in columns]
    return [[values[place] for values in whole] for place in places]


def _place(numbers: Sequence[int] | NDArray[np.int64], number: int, low: int, high: int) -> int:
    """Return the position of the first of `numbers`, between two positions, that is not below `number`."""
    if isinstance(numbers, Sequence):
        return bisect.bisect_left(numbers, number, low, high)
    return low + int(numbers[low:high].searchsorted(number))


def _pieces(rows: Sequence[tuple[int, int, str]]) -> Iterator[tuple[int, int, list[list[Any]]]]:
    """Yield rows of one layout whose numbers follow on each other."""
    for _, group in itertools.groupby(enumerate(rows), key=lambda pair: (pair[1][0] - pair[0], pair[1][1])):
        some = [row for _, row in group]
        yield some[0][0], some[0][1], [json.loads(vals) for _, _, vals in some]
