"""
Record what is asked in the manifest and pass it to the engine: a list's lines, a query's rows, a caller's stream.

Whatever was asked is on disk before it is fetched, so that memory stays flat and a killed run knows where it stood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from psfharvest.archive.catalog.listing import Listing, PartRows, id_range
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.concurrency.cancellation import is_error
from psfharvest.core.catalog.partition import Part, gaps
from psfharvest.core.catalog.query import Query, replace_query
from psfharvest.core.errors import BadInput
from psfharvest.core.model import BadLine, Item, UriBatch, WantedURI
from psfharvest.run import uri_lists
from psfharvest.run.disk import Disk
from psfharvest.run.rows import pieces, uris_of
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.targets import Target

ITEMS_AT_ONCE = 512
BACKLOG = 100_000
"""Pending cutouts beyond which the next part of a query is left for later."""
AGAIN_MAX = 8192
"""Cutouts whose bytes are gone that wait to be asked for again; beyond that no more are looked for."""
HANDED_MAX = 3
"""Batches of new items that are kept in memory on their way to the engine."""

Uris = Iterable[str] | AsyncIterable[str]


class OnAsked(Protocol):
    """Takes note of what has entered the manifest."""

    def __call__(self, target: Target, asked: Sequence[WantedURI | BadLine], *, is_complete: bool = False) -> None:
        """Take note of it."""
        ...


class TargetReader:
    """
    Record the dataURIs of a run's targets in the manifest, and stream the items that are to be fetched.

    Parameters
    ----------
    manifest, disk
        Where what is asked is kept, and the way there.
    mashup
        Answers queries.
    todo
        What is to be asked for still.
    streams
        For a target of kind ``stream``: its dataURIs.
    with_source
        Whether items carry their catalogue row.
    on_asked
        Called with a target and what has entered the manifest for it, after the transaction.
    """

    def __init__(
        self,
        manifest: Manifest,
        disk: Disk,
        mashup: Mashup,
        todo: Sequence[Target],
        streams: Mapping[int, Uris],
        *,
        with_source: bool,
        on_asked: OnAsked,
    ) -> None:
        self.n_left = len(todo)
        """Asks that are not complete yet."""
        self.lacking = 0
        """Sources that the archive counts but did not give."""
        self.notes: list[str] = []
        """Notes for the user."""
        self._manifest = manifest
        self._disk = disk
        self._mashup = mashup
        self._todo = todo
        self._streams = streams
        self._with_source = with_source
        self._on_asked = on_asked
        self._handed: deque[list[Item]] = deque()
        self._again: set[int] = set()
        self._again_taken = anyio.Event()
        self._is_searching = False
        self._is_over = False
        self._error: BaseException | None = None
        self._pour_error: BaseException | None = None
        self._news = anyio.Event()
        self._room = anyio.Event()

    async def run(self) -> None:
        """Ask for all; what goes wrong is raised by `items`, once what was asked until then is fetched."""
        try:
            for target in self._todo:
                if target.kind == "stream" and target.n not in self._streams:
                    self.notes.append("a list that came as a stream was cut off: give it again to 'harvest'")
                    continue
                await (self._ask_query(target) if target.kind == "query" else self._ask_list(target))
                await self._disk.do(targets.complete, self._manifest, target)
                self.n_left -= 1
                self._on_asked(target, (), is_complete=True)
        except BaseException as error:
            if not is_error(error):
                raise
            self._error = error  # raised by items()
        self._is_over = True
        self._notify()

    async def items(self) -> AsyncIterator[Sequence[Item]]:
        """
        Yield what is pending, as the asking goes on beside it.

        Raises
        ------
        Exception
            What stopped the asking, at the end.
        """
        after = 0
        while True:
            news, is_over = self._news, self._is_over and not self._is_searching
            batch = await self._next_again(after) or self._next_handed(after)
            batch = batch or await self._disk.do(self._pending, after)
            if batch:
                after = max(after, batch[-1].number)
                self._again.difference_update(item.number for item in batch)
                self._again_taken.set()
                yield batch
            elif is_over:
                break
            else:
                await news.wait()
        if self._error is not None:
            raise self._error

    def make_room(self) -> None:
        """Let a query that waits for the backlog go on."""
        self._room.set()

    def begin_search(self) -> None:
        """Expect calls of `again` until `end_search`: there may be more items to come."""
        self._is_searching = True

    async def again(self, numbers: Sequence[int]) -> None:
        """Give items out again that are pending anew; waits while too many of them wait."""
        self._again.update(numbers)
        self._notify()
        while len(self._again) > AGAIN_MAX:
            self._again_taken = anyio.Event()
            await self._again_taken.wait()

    def end_search(self) -> None:
        """End what `begin_search` began."""
        self._is_searching = False
        self._notify()

    async def _next_again(self, after: int) -> list[Item]:
        """Return items that are pending anew and were passed; the others will come by themselves."""
        due = sorted(n for n in self._again if n <= after)[:ITEMS_AT_ONCE]
        if not due:
            return []
        items = await self._disk.do(
            lambda: self._manifest.pending(0, ITEMS_AT_ONCE, with_source=self._with_source, among=due)
        )
        self._again.difference_update(due)
        return items

    def _next_handed(self, after: int) -> list[Item]:
        """Return new items that follow at once on what was given before, if they were handed over."""
        while self._handed and self._handed[0][0].number <= after + 1:
            items = self._handed.popleft()
            if items[0].number == after + 1:
                self._manifest.give(items)
                return items
        return []

    def _pending(self, after: int) -> list[Item]:
        return self._manifest.pending(after, ITEMS_AT_ONCE, with_source=self._with_source)

    async def _ask_query(self, target: Target) -> None:
        query = Query.from_dict(target.spec["query"])
        finished = await self._disk.do(targets.finished_parts, self._manifest, target)
        if "part" in target.spec:
            finished += [(part, 0) for part in gaps([Part(*target.spec["part"])], id_range(query.criteria))]
        if query.limit is not None:
            query = replace_query(query, limit=max(0, query.limit - sum(n for _, n in finished)))
        total = None if target.expected is None else target.expected // len(target.spec["suffixes"])
        listing = Listing(self._mashup, query, finished, total=total if query.limit is None else None)
        async with aclosing(listing.parts()) as parts:
            async for part in parts:
                if part.is_again and part.part is not None:
                    await self._disk.do(targets.forget_parts, self._manifest, target, part.part)
                cut = pieces(part)
                while (piece := await self._disk.do(next, cut, None)) is not None:
                    self._on_asked(target, await self._disk.do(self._add_piece, target, query, piece))
                    self._notify()
                while self._manifest.tally().pending > BACKLOG:
                    self._room = anyio.Event()
                    await self._room.wait()
        await self._disk.do(targets.note_lacking, self._manifest, target, listing.lacking)
        self.lacking += listing.lacking

    def _add_piece(self, target: Target, query: Query, piece: PartRows) -> list[WantedURI | BadLine]:
        asked: list[WantedURI | BadLine] = []
        with self._manifest.transaction():
            kinds = dict(zip(piece.rows.columns, piece.rows.kinds, strict=True))
            numbers = self._manifest.sources(query.detector.name, piece.rows.columns, piece.rows.values, kinds)
            for number, row in zip(numbers, piece.rows.dicts(), strict=True):
                asked += uris_of(row, query, target.spec, number)
            self._manifest.add(asked)
            if piece.part is not None:
                targets.finish_part(self._manifest, target, piece.part, len(piece.rows))
        return asked

    async def _ask_list(self, target: Target) -> None:
        if target.kind == "stream":
            await self._ask_stream(target)
        else:
            path = Path(target.spec["path"])
            is_part = "parent" in target.spec
            if not is_part and await self._disk.do(uri_lists.identity, path) != target.identity:
                raise BadInput(
                    f"{path} has changed since it was first given; harvest it as another list with extend=True"
                )
            batches = uri_lists.from_file(path, target.position, target.lines, is_numbered=is_part)
            while (batch := await self._disk.do(next, batches, None)) is not None:
                await self._add_lines(target, batch)

    async def _ask_stream(self, target: Target) -> None:
        send, receive = anyio.create_memory_object_stream[str](uri_lists.BATCH_LINES)
        error: BaseException | None = None
        async with anyio.create_task_group() as group, receive:
            group.start_soon(self._pour, self._streams[target.n], send)
            try:
                async with aclosing(uri_lists.gather(receive)) as batches:
                    async for batch in batches:
                        await self._add_lines(target, batch)
            except Exception as raised:  # noqa: BLE001 - raised below, without an exception group
                error = raised
                group.cancel_scope.cancel()
        error = error or self._pour_error
        if error is not None:
            raise error

    async def _pour(self, uris: Uris, send: MemoryObjectSendStream[str]) -> None:
        try:
            await uri_lists.pour(uris, send)
        except BaseException as error:
            if not is_error(error):
                raise
            self._pour_error = error  # the caller's own, raised once the rest is done

    async def _add_lines(self, target: Target, batch: UriBatch) -> None:
        def add() -> list[Item]:
            with self._manifest.transaction():
                targets.advance(self._manifest, target, batch.position, batch.lines)
                return self._manifest.add(batch.asked)

        if batch.asked:
            self._keep_new(await self._disk.do(add))
            self._on_asked(target, batch.asked)
            self._notify()

    def _keep_new(self, items: list[Item]) -> None:
        """Let new items go on without being read back, as far as memory allows; the manifest has them all."""
        if items and len(self._handed) < HANDED_MAX:
            self._handed.append(items)

    def _notify(self) -> None:
        self._news.set()
        self._news = anyio.Event()
