"""A query or dataURIs, as a target for the manifest, or as items for a stream that keeps none."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import anyio.lowlevel
import anyio.to_thread

from psfharvest.archive.catalog.listing import Listing
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.catalog.questions import Questions
from psfharvest.core.aclosing import closing
from psfharvest.core.catalog.partition import WHOLE
from psfharvest.core.catalog.plan import ListPart, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput
from psfharvest.core.fits import datauri, keys
from psfharvest.core.model import BadLine, Item, Outcome, Reason, State, WantedURI
from psfharvest.run import uri_lists
from psfharvest.run.list_parts import list_part_target
from psfharvest.run.parts import part_target
from psfharvest.run.planner import Uris
from psfharvest.run.rows import query_target, uris_of
from psfharvest.store import folder as folders
from psfharvest.store.manifest.targets import Target

What = Query | Sequence[Query] | Uris
_Lines = list[tuple[WantedURI | BadLine, str]]
"""What is asked for, each with its catalogue row as text."""
ROWS_AT_ONCE = 200
"""Rows whose items are made in one go, in a thread."""
Refuse = Callable[[Outcome], Awaitable[None]]


async def ask_for(
    mashup: Mashup,
    what: What | Path,
    folder: Path,
    suffixes: Sequence[str],
    part: Part | ListPart | None = None,
    **sizes: int,
) -> Target:
    """
    Return the target of what a caller wants in a folder; a query is counted, unless the folder or its part tells.

    Raises
    ------
    BadInput
        When it cannot be asked for.
    """
    if part is not None:
        return _part_of(what, part, suffixes, **sizes)
    if isinstance(what, Query):
        target = query_target(what, suffixes, n_sources=0, **sizes)
        if folders.knows(folder, target):
            return target
        n_sources = await mashup.count(what)
        if n_sources:
            await check_columns(mashup, what)
        return query_target(what, suffixes, n_sources=n_sources, **sizes)
    if isinstance(what, Path):
        return await file_target(what, suffixes)
    _refuse_suffixes(suffixes)
    return Target("stream", "stream", {})


async def file_target(path: Path, suffixes: Sequence[str]) -> Target:
    """Return the target of a file of dataURIs; raises `BadInput` where it cannot be read, or suffixes are given."""
    _refuse_suffixes(suffixes)
    identity = await anyio.to_thread.run_sync(uri_lists.identity, path, abandon_on_cancel=True)
    return Target("file", identity, {"path": str(path.absolute())})


def _refuse_suffixes(suffixes: Sequence[str]) -> None:
    if suffixes:
        raise BadInput("suffixes go with a query; a dataURI names its product itself")


async def check_columns(mashup: Mashup, query: Query) -> None:
    """
    Ask for one row with the columns that a query names, before anything is recorded: a count does not name them.

    Raises
    ------
    BadQuery
        When the archive refuses one.
    """
    if query.columns is not None:
        await Questions(mashup, query, every_column=False).page(WHOLE, 1, page_rows=1)


def _part_of(what: What | Path, part: Part | ListPart, suffixes: Sequence[str], **sizes: int) -> Target:
    """Return the target of one part of what a caller wants."""
    if isinstance(part, ListPart) and isinstance(what, Path):
        return list_part_target(what, part)
    if isinstance(part, ListPart) or not isinstance(what, Query):
        raise BadInput("a part belongs to a query: give the query that it was planned for")
    return part_target(query_target(what, suffixes, n_sources=0, **sizes), what, part)


def targets_of(what: What | Path, suffixes: Sequence[str]) -> list[tuple[What | Path, Sequence[str]]]:
    """
    Return what a call asks for one by one: each of several queries with the suffixes that its detector has.

    Raises
    ------
    BadQuery
        When a suffix fits none of the queries' detectors, or a detector has none of the suffixes.
    """
    queries = queries_of(what)
    if not queries:
        _refuse_no_list(what)
    if len(queries) < 2:
        return [(queries[0] if queries else what, suffixes)]
    names = [suffixes] if isinstance(suffixes, str) else list(suffixes)
    having = {suffix for query in queries for suffix in query.detector.suffixes}
    for query in queries:
        own = [suffix for suffix in names if suffix in query.detector.suffixes]
        query.detector.check_suffixes(own if own and having.issuperset(names) else names)
    return [(query, [s for s in names if s in query.detector.suffixes]) for query in queries]


def _refuse_no_list(what: object) -> None:
    """Refuse what gives no dataURIs when it is iterated, but letters, rows, or names of columns."""
    if isinstance(what, (str, bytes)):
        raise BadInput(
            f'{what!r} is one text: give a Query (Query("UVIS")), a list of dataURIs, or the Path of a file of them'
        )
    if hasattr(what, "columns") or hasattr(what, "table"):
        raise BadInput(
            f"a {type(what).__name__} is no list of dataURIs: give its column of them, or the Query that its rows "
            "came from"
        )


def queries_of(what: object) -> list[Query]:
    """Return the queries that a caller gave, one or a list of them; nothing for dataURIs."""
    if isinstance(what, Query):
        return [what]
    if isinstance(what, (list, tuple)) and what and all(isinstance(one, Query) for one in what):
        return list(what)
    return []


def as_uris(what: What) -> Uris:
    """Return what is no query as what it is then: dataURIs."""
    return cast("Uris", what)


async def items_of(
    mashup: Mashup, what: What, suffixes: Sequence[str], refuse: Refuse, **sizes: int
) -> AsyncIterator[list[Item]]:
    """
    Yield items as they become known.

    What gives no dataURI (a catalogue row, a text of a list) goes to `refuse` as a failure with reason
    ``bad_uri``, as a harvest records it.
    """
    n = 0
    async with closing(_asked(mashup, what, suffixes, **sizes)) as batches:
        async for asked in batches:
            items = []
            for line, source in asked:
                n += 1
                if isinstance(line, BadLine):
                    item = Item(n, line.text, "", source=source)
                    await refuse(Outcome(item, State.FAILED, 0, reason=Reason.BAD_URI, detail=line.detail))
                    continue
                items.append(_item(n, line.uri, line.parts, source))
            if items:
                yield items


def item_of(number: int, uri: str) -> Item:
    """
    Return the item of one dataURI.

    Raises
    ------
    BadURI
        When it is none.
    """
    return _item(number, *datauri.read(uri), "")


def _item(number: int, uri: str, parts: datauri.CutoutURI | None, source: str) -> Item:
    size_px, rootname = (parts.size_px, parts.rootname) if parts else (None, "")
    return Item(number, uri, keys.key_of(uri, parts), size_px, rootname, source)


async def _asked(mashup: Mashup, what: What, suffixes: Sequence[str], **sizes: int) -> AsyncGenerator[_Lines, None]:
    """Yield what is asked for, in batches that are made without holding the event loop up."""
    queries = [(query, chosen) for query, chosen in targets_of(what, suffixes) if isinstance(query, Query)]
    for query, chosen in queries:
        target = query_target(query, chosen, n_sources=0, **sizes)
        async with aclosing(Listing(mashup, query).parts()) as parts:
            async for part in parts:
                rows = part.rows.dicts()
                while (batch := await anyio.to_thread.run_sync(_next_lines, rows, query, target)) is not None:
                    yield batch
    if not queries:
        async with aclosing(_listed(as_uris(what))) as batches:
            async for batch in batches:
                yield batch


async def _listed(uris: Uris) -> AsyncGenerator[_Lines, None]:
    number = 0
    async with aclosing(_strings(uris)) as texts:
        async for text in texts:
            number += 1
            line = uri_lists.read_line(text, number)
            if line is not None:
                yield [(line, "")]
            if number % ROWS_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()


def _next_lines(rows: Iterator[dict[str, Any]], query: Query, target: Target) -> _Lines | None:
    """Return what the next rows ask for, each with its row as text; None at their end."""
    lines: _Lines = []
    some = list(islice(rows, ROWS_AT_ONCE))
    for row in some:
        text = json.dumps(row)
        lines += [(line, text) for line in uris_of(row, query, target.spec, 0)]
    return lines if some else None


async def _strings(uris: Uris) -> AsyncGenerator[str, None]:
    if isinstance(uris, AsyncIterable):
        async for uri in uris:
            yield str(uri)
    else:
        for uri in uris:
            yield str(uri)
