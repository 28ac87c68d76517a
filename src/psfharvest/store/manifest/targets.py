"""
What a folder was asked for, and how far the asking has come: the checkpoints of queries and lists.

A folder recognises the same command by the target's identity, and refuses another one unless it is to be extended.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psfharvest.core.advice import in_shell
from psfharvest.core.catalog.partition import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import FolderRefused
from psfharvest.store.manifest.manifest import Manifest

if TYPE_CHECKING:
    from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a folder was asked for: a query, a list of dataURIs, or a stream of them.

    `kind` is ``query``, ``file``, ``stream``; `identity` is equal for the same target; `spec` is what it takes to
    go on with it; `expected` is the number of cutouts where it is known; `position` and `lines` say how much of a
    list has been read, in bytes and lines.
    """

    kind: str
    identity: str
    spec: Mapping[str, Any]
    n: int = 0
    expected: int | None = None
    position: int = 0
    lines: int = 0
    is_complete: bool = False


def read_targets(manifest: Manifest) -> list[Target]:
    """Return all that the folder was asked for, in order."""
    columns = "n, kind, identity, spec, expected, position, lines, is_complete"
    with manifest.connection() as db:
        rows = db.execute(f"SELECT {columns} FROM ask ORDER BY n").fetchall()  # noqa: S608 - no value in it
    try:
        return [
            Target(kind, identity, dict(json.loads(spec)), n, expected, position, lines, bool(is_complete))
            for n, kind, identity, spec, expected, position, lines, is_complete in rows
        ]
    except (TypeError, ValueError) as error:
        raise manifest.damaged(f"what was asked for cannot be read: {error}") from error


def find_or_add(manifest: Manifest, wanted: Sequence[Target], *, extend: bool) -> list[Target]:
    """
    Return the folder's own records of `wanted`, adding them to a folder that has none, or that is to be extended.

    A query whose limit is larger than the one recorded takes that one's place.

    Raises
    ------
    FolderRefused
        When the folder was asked for something else.
    """
    known = read_targets(manifest)
    by_identity = {old.identity: old for old in known}
    smaller = {new.identity: _smaller(new, known) for new in wanted if new.identity not in by_identity}
    added = [new for new in wanted if new.identity not in by_identity and smaller[new.identity] is None]
    if known and added and not extend:
        raise _refused(manifest, known, added)
    grown = [(old, new) for new in wanted if (old := smaller.get(new.identity)) is not None]
    if added or grown:
        with manifest.transaction() as db:
            for old, new in grown:
                _grow(db, old, new)
            for new in added:
                db.execute(
                    "INSERT INTO ask (kind, identity, spec, expected) VALUES (?, ?, ?, ?)",
                    (new.kind, new.identity, json.dumps(new.spec), new.expected),
                )
        by_identity = {target.identity: target for target in read_targets(manifest)}
    return [_moved(manifest, by_identity[new.identity], new) for new in wanted]


def _refused(manifest: Manifest, known: Sequence[Target], added: Sequence[Target]) -> FolderRefused:
    way_out = "choose another folder, or add to this one with extend=True"
    if any(_but_limit(old) == _but_limit(new) is not None for old in known for new in added):
        way_out = "a larger limit=… continues it, a smaller one needs another folder"
    error = FolderRefused(f"{manifest.folder} holds another harvest ({_in_python(known[0])}); {way_out}")
    held = f"{manifest.folder} holds another harvest ({describe(known[0])})"
    error.shell = f"{held}; {in_shell(way_out)}"
    return error


def _in_python(target: Target) -> str:
    """Return a target in the words of Python."""
    if target.kind != "query":
        return describe(target)
    return f"{Query.from_dict(target.spec['query'])!r}, suffixes={target.spec['suffixes']!r}"


def _but_limit(target: Target) -> str | None:
    """Return what is equal for queries that differ in their limit only; None for a list."""
    if target.kind != "query" or "part" in target.spec:
        return None
    query, *rest = json.loads(target.identity)
    return json.dumps([json.loads(query) | {"limit": None}, *rest], sort_keys=True)


def _smaller(new: Target, known: Sequence[Target]) -> Target | None:
    """Return the record of the same query with a smaller limit, if there is one."""
    identity = _but_limit(new)
    for old in known:
        if identity is not None and _but_limit(old) == identity:
            before, now = old.spec["query"]["limit"], new.spec["query"]["limit"]
            if before is not None and (now is None or before < now):
                return old
    return None


def _grow(db: Connection, old: Target, new: Target) -> None:
    """Give a query's record a larger limit; its last part, which the old one may have cut, is asked anew."""
    db.execute(
        "UPDATE ask SET identity = ?, spec = ?, expected = ?, is_complete = 0 WHERE n = ?",
        (new.identity, json.dumps(new.spec), new.expected, old.n),
    )
    db.execute("DELETE FROM part WHERE ask = ? AND low = (SELECT max(low) FROM part WHERE ask = ?)", (old.n, old.n))


def _moved(manifest: Manifest, old: Target, new: Target) -> Target:
    """Return the folder's own record, with the place where a list is now."""
    if old.kind != "file" or old.spec == new.spec:
        return old
    with manifest.transaction() as db:
        db.execute("UPDATE ask SET spec = ? WHERE n = ?", (json.dumps(new.spec), old.n))
    return replace(old, spec=new.spec)


def finished_parts(manifest: Manifest, target: Target) -> list[tuple[Part, int]]:
    """Return the parts of a query that have been had, and how many rows each held."""
    with manifest.connection() as db:
        rows = db.execute("SELECT low, high, n_rows FROM part WHERE ask = ? ORDER BY low", (target.n,))
        return [(Part(low, high), n_rows) for low, high, n_rows in rows]


def forget_parts(manifest: Manifest, target: Target, within: Part) -> None:
    """Take back the checkpoints within a range that is about to be given anew."""
    with manifest.transaction() as db:
        db.execute("DELETE FROM part WHERE ask = ? AND low >= ? AND high <= ?", (target.n, *within))


def note_lacking(manifest: Manifest, target: Target, lacking: int) -> None:
    """Record how many sources the archive counted but did not give."""
    if lacking or n_lacking(manifest, target):
        with manifest.transaction():
            manifest.set(**{f"lacking_{target.n}": lacking})


def n_lacking(manifest: Manifest, target: Target) -> int:
    """Return how many sources of a query the archive counted but did not give."""
    return int(manifest.setting(f"lacking_{target.n}", 0))


def finish_part(manifest: Manifest, target: Target, part: Part, n_rows: int) -> None:
    """Checkpoint a part; within the transaction that adds its cutouts."""
    with manifest.connection() as db:
        db.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", (target.n, part.low, part.high, n_rows))


def advance(manifest: Manifest, target: Target, position: int, lines: int) -> None:
    """Checkpoint a list; within the transaction that adds its cutouts."""
    with manifest.connection() as db:
        db.execute("UPDATE ask SET position = ?, lines = ? WHERE n = ?", (position, lines, target.n))


def complete(manifest: Manifest, target: Target) -> None:
    """Record that everything was asked for."""
    with manifest.transaction() as db:
        db.execute("UPDATE ask SET is_complete = 1 WHERE n = ?", (target.n,))


def reopen(manifest: Manifest, target: Target) -> None:
    """Record that a stream is given once more: what it held before is recognised line by line."""
    with manifest.transaction() as db:
        db.execute("UPDATE ask SET is_complete = 0, position = 0, lines = 0 WHERE n = ?", (target.n,))


def describe(target: Target) -> str:
    """Return a target in the words of the command line; a query is read back from them exactly."""
    if target.kind == "query":
        query = Query.from_dict(target.spec["query"])
        words = [*query.words, "--suffix", ",".join(target.spec["suffixes"])]
        words += ["--limit", str(query.limit)] if query.limit is not None else []
        for name, default in (("unsat_size", 51), ("sat_size", 101)):
            size_px = target.spec[f"{name}_px"]
            words += [f"--{name.replace('_', '-')}", str(size_px)] if size_px != default else []
        low, high = target.spec.get("part", ("", ""))
        return shlex.join(words) + (f" (its ids {low} to {high})" if "part" in target.spec else "")
    return f"the list {target.spec['path']}" if target.kind == "file" else "a stream of dataURIs"
