"""
How items stand in the manifest's tables: a cutout's dataURI in its parts, any other as its text; each name once.

Functions over an open connection, called within the manifest's own transactions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.core.fits import datauri, keys
from psfharvest.core.model import BadLine, Item, Reason, State, WantedURI

if TYPE_CHECKING:
    from sqlite3 import Connection

COLUMNS = "n, instrument, rootname, suffix, extension, size_px, x, y, id, filter, copy, source, other"
"""Of table `item`, in the order in which rows come here."""
SOURCE_AT = 11
LOOK_UP_AT_ONCE = 500
"""Names in one statement: SQLite takes a limited number of values."""
AMONG = "IN (SELECT value FROM json_each(?))"
"""Compares with any number of values, given by `among` as one parameter."""
_NO_PARTS = (None,) * 9


class Added(NamedTuple):
    """
    What was new: items to fetch, and bad lines, which are accounted for at once.

    `sources` has a pair for each, ascending: its number, and that of its catalogue row.
    """

    items: list[Item]
    n_refused: int
    sources: list[tuple[int, int | None]]


def among(values: Iterable[float | str]) -> str:
    """Return numbers or texts as the one parameter of `AMONG`."""
    return f"[{','.join(map(_as_json, values))}]"


def _as_json(value: float | str) -> str:
    if value in (math.inf, -math.inf):  # JSON has no word for it, SQLite reads what is too large as it
        return "9e999" if value == math.inf else "-9e999"
    return json.dumps(value)


def columns_of(table: str) -> str:
    """Return the columns with the table's name before each."""
    return ", ".join(f"{table}.{column.strip()}" for column in COLUMNS.split(","))


def uri_of(row: Sequence[Any]) -> tuple[str, datauri.CutoutURI | None]:
    """Return a row's dataURI, and its parts, if it is a cutout's."""
    if row[12] is not None:
        return row[12], None
    parts = datauri.CutoutURI(*row[1:10])
    return str(parts), parts


def item_of(row: Sequence[Any]) -> Item:
    """Return a row's item."""
    uri, parts = uri_of(row)
    return _item(row[0], uri, keys.key_of(uri, parts, row[10]), parts)


def add(db: Connection, asked: Iterable[WantedURI | BadLine], first: int) -> Added:
    """Add what is new of a few hundred lines, numbered from `first`, bad lines included."""
    named = [_named(line) for line in asked]
    digests = [keys.digest(name) for _, _, name in named]
    bearers = _bearers(db, digests)
    items: list[Item] = []
    rows: list[tuple[Any, ...]] = []
    names: list[tuple[bytes, int]] = []
    refused: list[tuple[Any, ...]] = []
    learnt: list[tuple[int, int]] = []
    n = first
    for (line, parts, name), digest in zip(named, digests, strict=True):
        text = line[0]
        known = bearers.setdefault(digest, {})
        if text in known:
            learnt += [] if isinstance(line, BadLine) or line.source is None else [(line.source, known[text])]
            continue
        copy = len(known)
        known[text] = n
        names.append((digest, n))
        if isinstance(line, BadLine):
            rows.append((n, *_NO_PARTS, copy, None, text))
            refused.append((n, State.FAILED, 0, Reason.BAD_URI, line.detail))
        else:
            rows.append((n, *(parts or _NO_PARTS), copy, line.source, None if parts else text))
            items.append(_item(n, text, keys.key_of(text, parts, copy) if copy else name, parts))
        n += 1
    names.sort()  # near each other in the tree, too: fewer pages are touched
    db.executemany(f"INSERT INTO item ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)  # noqa: S608
    db.executemany("INSERT INTO name VALUES (?, ?)", names)
    db.executemany("INSERT INTO outcome (n, state, attempts, reason, detail) VALUES (?,?,?,?,?)", refused)
    # what came from a list, or was adopted, has no catalogue row until a query finds it, too
    db.executemany("UPDATE item SET source = ? WHERE n = ? AND source IS NULL", learnt)
    return Added(items, len(refused), [(row[0], row[SOURCE_AT]) for row in rows])


def with_refusals(db: Connection, found: list[Item]) -> list[Item]:
    """Return items, each with the answer that it was last refused with, if it was."""
    if not found:
        return found
    ends = (found[0].number, found[-1].number)
    refusals = dict(db.execute("SELECT n, fingerprint FROM refusal WHERE n BETWEEN ? AND ?", ends))
    return [i._replace(refusal=refusals.get(i.number, b"")) for i in found] if refusals else found


def keep_refusals(db: Connection, failed: Iterable[Item]) -> None:
    """Keep the answers that failed items were last refused with; within a transaction."""
    refusals = [(item.number, item.refusal) for item in failed if item.refusal]
    if refusals:
        db.executemany("INSERT OR REPLACE INTO refusal VALUES (?, ?)", refusals)


def done(db: Connection, limit: int) -> list[Item]:
    """Return the last items that are done, at most `limit`."""
    rows = db.execute(
        f"SELECT {columns_of('i')} FROM outcome o JOIN item i ON i.n = o.n "  # noqa: S608 - names of our own
        "WHERE o.state = 'done' ORDER BY o.n DESC LIMIT ?",
        (limit,),
    ).fetchall()
    return [item_of(row) for row in rows]


def pending_rows(db: Connection, after: int, limit: int, among_numbers: Iterable[int] | None = None) -> list[Any]:
    """Return the rows of pending items with a number above `after`, of all or of some, in the order of asking."""
    some = "" if among_numbers is None else f"AND i.n {AMONG} "
    return db.execute(
        f"SELECT {columns_of('i')} FROM item i WHERE i.n > ? {some}"  # noqa: S608 - no value in it
        "AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.n = i.n) ORDER BY i.n LIMIT ?",
        (after, *(() if among_numbers is None else (among(among_numbers),)), limit),
    ).fetchall()


def shards_of(db: Connection, numbers: Iterable[int]) -> frozenset[int]:
    """Return the shards that items are claimed in."""
    rows = db.execute(
        f"SELECT DISTINCT shard FROM outcome WHERE n {AMONG} AND shard IS NOT NULL",  # noqa: S608 - no value in it
        (among(numbers),),
    ).fetchall()
    return frozenset(shard for (shard,) in rows)


def claims_in(db: Connection, shard: int) -> list[tuple[int, int | None, int]]:
    """Return number, side and place of what is claimed in a shard."""
    return db.execute(
        "SELECT outcome.n, item.size_px, outcome.place FROM outcome JOIN item ON item.n = outcome.n "
        "WHERE outcome.shard = ? AND outcome.state = 'done'",
        (shard,),
    ).fetchall()


def is_any_pending(db: Connection, after: int) -> bool:
    """Return whether any item above a number is pending."""
    row = db.execute(
        "SELECT 1 FROM item i WHERE i.n > ? AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.n = i.n) LIMIT 1",
        (after,),
    ).fetchone()
    return row is not None


def examples(db: Connection) -> dict[str, str]:
    """Return one dataURI for each reason, with its detail."""
    rows = db.execute(
        "SELECT reason, uri, detail FROM cutout WHERE n IN "
        "(SELECT min(n) FROM outcome WHERE state IN ('missing', 'failed') GROUP BY reason)"
    ).fetchall()
    return {reason: f"{uri} ({detail})" if detail else uri for reason, uri, detail in rows}


def _named(line: WantedURI | BadLine) -> tuple[WantedURI | BadLine, datauri.CutoutURI | None, str]:
    """Return a line with its parts and the name that it bears; a bad line's name can be no key."""
    if isinstance(line, BadLine):
        return line, None, f"\n{line.text}"
    parts = line.parts or datauri.parts_of(line.uri)
    return line, parts, keys.key_of(line.uri, parts)


def _item(n: int, uri: str, key: str, parts: datauri.CutoutURI | None) -> Item:
    return Item(n, uri, key) if parts is None else Item(n, uri, key, parts.size_px, parts.rootname)


def _bearers(db: Connection, digests: Sequence[bytes]) -> dict[bytes, dict[str, int]]:
    """Return which dataURIs bear the names asked for, in their order, and their numbers."""
    found: dict[bytes, dict[str, int]] = {}
    for *row, digest in with_names(db, digests):
        found.setdefault(digest, {})[uri_of(row)[0]] = row[0]
    return found


def with_names(db: Connection, digests: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Return the rows that bear one of the names, each with the name's digest at its end."""
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(digests), LOOK_UP_AT_ONCE):
        some = digests[start : start + LOOK_UP_AT_ONCE]
        rows += db.execute(
            f"SELECT {columns_of('item')}, name.digest FROM name JOIN item ON item.n = name.n "  # noqa: S608
            f"WHERE name.digest IN ({','.join('?' * len(some))}) ORDER BY name.n",
            some,
        ).fetchall()
    return rows
