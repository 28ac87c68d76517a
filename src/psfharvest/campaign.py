"""
One harvest of one folder: what is asked flows into the ledger, from there through the engine, and back.

The ledger stands between asking and fetching: whatever was asked is on disk before it is fetched, so that memory
stays flat and a killed run knows where it stood. All that touches the disk runs in one worker thread at a time.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream

from psfharvest import lists
from psfharvest.archive.mashup import Mashup, PartRows
from psfharvest.core import datauri
from psfharvest.core.errors import ArchiveDown, BadInput, BadURI, LocalError
from psfharvest.core.model import Asked, BadLine, Item, Outcome, Progress, Report, RetryPolicy, State
from psfharvest.core.partition import Part
from psfharvest.core.ports import Fetcher
from psfharvest.core.query import Query, replace_query
from psfharvest.engine.pump import Pump
from psfharvest.engine.traffic import Traffic
from psfharvest.store import asks
from psfharvest.store.asks import Ask
from psfharvest.store.manifest import Manifest, Stored, as_json

ITEMS_AT_ONCE = 512
ROWS_AT_ONCE = 1000
"""Rows asked for in one transaction: short, so that an interrupt never waits long."""
BACKLOG = 100_000
"""Pending cutouts beyond which the next part of a query is left for later."""
HANDED_MAX = 3
"""Batches of new items that are kept in memory on their way to the engine."""
WATCH_S = 0.2

Uris = Iterable[str] | AsyncIterable[str]
P = ParamSpec("P")
T = TypeVar("T")


class AccountingFetcher(Fetcher, Protocol):
    """A fetcher that can say what travelled how."""

    def account(self) -> dict[str, Any]:
        """Return what travelled how, and why, as plain values."""
        ...


class Sink(Protocol):
    """Where bytes go."""

    @property
    def needs_sources(self) -> bool:
        """Whether it stores the catalogue rows, too."""
        ...

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """Store the bodies durably; raise `SinkError`."""
        ...

    def checkpoint(self) -> Mapping[str, int]:
        """Return what the manifest must record together with a claim."""
        ...

    def forget(self, items: Sequence[Item]) -> None:
        """Let go of what claims stood for that were taken back."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass(slots=True)
class Campaign:
    """
    A run over a folder whose lock is held.

    Parameters
    ----------
    manifest, sink
        The folder's, open.
    todo
        What is to be asked for still.
    mashup, fetcher, traffic, policy
        The archive's side.
    requests_before
        How many requests the archive's traffic light had counted when this run began.
    watch
        Called with a `Progress` a few times a second.
    streams
        For an ask of kind ``stream``: its dataURIs.
    """

    manifest: Manifest
    sink: Sink
    todo: Sequence[Ask]
    mashup: Mashup
    fetcher: AccountingFetcher
    traffic: Traffic
    policy: RetryPolicy
    requests_before: int = 0
    watch: Callable[[Progress], None] | None = None
    streams: Mapping[int, Uris] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _disk: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    _pump: Pump = field(init=False)
    _run: int = 0
    _started_at: float = 0.0
    _handed: deque[list[Item]] = field(default_factory=deque)
    _asks: list[Ask] = field(default_factory=list)
    _is_asked: bool = False
    _n_left: int = 0
    _ask_error: Exception | None = None
    _pour_error: Exception | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _room: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self._pump = Pump(self.fetcher, self, self.traffic, self.policy)

    async def run(self) -> Report:
        """
        Ask for the rest, fetch what is pending, and return the account.

        An outage past the patience ends the run without an error: the account says ``stopped``.

        Raises
        ------
        LocalError
            When disk or manifest fail; with the account in its `report`.
        """
        self._started_at = time.monotonic()
        self._n_left = len(self.todo)
        self._run = await self._on_disk(self.manifest.begin_run)
        self._asks = await self._on_disk(asks.read_asks, self.manifest)
        stopped = "interrupted"
        try:
            stopped = await self._work()
        except LocalError as error:
            stopped = "local_error"
            error.report = self.report(stopped)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._close_run(stopped)
        return self.report(stopped)

    def report(self, stopped: str) -> Report:
        """Return the account as it stands."""
        tally = self.manifest.tally()
        return Report(
            total=tally.total,
            done=tally.done,
            missing=tally.missing,
            failed=tally.failed,
            pending=tally.pending,
            bytes=tally.bytes,
            elapsed_s=self._elapsed_s(),
            requests=self._requests(),
            reasons=tally.reasons,
            retried=self._retried(),
            stopped=stopped,
            notes=tuple(self.notes),
            is_fully_asked=self._n_left == 0,
            via=self.fetcher.account(),
        )

    def progress(self) -> Progress:
        """Return a look at the run."""
        expected = [ask.expected for ask in self._asks]
        return Progress(
            tally=self.manifest.tally(),
            expected=None if None in expected or self._n_left == 0 else sum(e or 0 for e in expected),
            in_flight=self.traffic.in_flight,
            waiting=self._pump.waiting,
            connections=self.traffic.throttle.limit,
            requests=self._requests(),
            elapsed_s=self._elapsed_s(),
            outage=self.traffic.health.words if self.traffic.is_down else "",
        )

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Store, then claim; a batch that was begun is ended, whatever happens."""
        with anyio.CancelScope(shield=True):
            await self._on_disk(self._keep, outcomes)
        self._room.set()

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        taken_back = [o.item for o in outcomes if o.state is State.PENDING]
        if taken_back:
            outcomes = _last_words(outcomes)
            with self.manifest.transaction():
                self.manifest.retract([item.number for item in taken_back])
            self.sink.forget(taken_back)
        stored = self.sink.store([o for o in outcomes if o.state is State.DONE])
        stored += [Stored(o) for o in outcomes if o.state is not State.DONE]
        with self.manifest.transaction():
            self.manifest.record(stored)
            self.manifest.set(**self.sink.checkpoint())
            self._note_run()

    def _note_run(self, **more: Any) -> None:
        self.manifest.update_run(
            self._run,
            elapsed_s=self._elapsed_s(),
            requests=self._requests(),
            retried=as_json(self._retried()),
            via=as_json(self.fetcher.account()),
            **more,
        )

    async def _work(self) -> str:
        error: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._ask_all)
            if self.watch is not None:
                group.start_soon(self._watch, self.watch)
            try:
                await self._pump.run(self._items())
            except Exception as raised:  # noqa: BLE001 - raised below, without an exception group
                error = raised
            group.cancel_scope.cancel()
        if isinstance(error, ArchiveDown):
            self.notes.append(str(error))
            return "archive_down"
        if error is not None:
            raise error
        return ""

    async def _close_run(self, stopped: str) -> None:
        def close() -> None:
            with self.manifest.transaction():
                self._note_run(stopped=stopped)

        try:
            await self._on_disk(close)
        except LocalError:
            if stopped != "local_error":
                raise

    async def _watch(self, watch: Callable[[Progress], None]) -> None:
        while True:
            watch(self.progress())
            await anyio.sleep(WATCH_S)

    async def _items(self) -> AsyncIterator[Sequence[Item]]:
        """Yield what is pending, as the asking goes on beside it."""
        after = 0
        while True:
            news, is_asked = self._news, self._is_asked
            batch = self._next_handed(after) or await self._on_disk(self._pending, after)
            if batch:
                after = batch[-1].number
                yield batch
            elif is_asked:
                break
            else:
                await news.wait()
        if self._ask_error is not None:
            raise self._ask_error

    def _next_handed(self, after: int) -> list[Item]:
        """Return new items that follow at once on what was given before, if they were handed over."""
        while self._handed and self._handed[0][0].number <= after + 1:
            items = self._handed.popleft()
            if items[0].number == after + 1:
                self.manifest.give(items)
                return items
        return []

    def _pending(self, after: int) -> list[Item]:
        return self.manifest.pending(after, ITEMS_AT_ONCE, with_source=self.sink.needs_sources)

    async def _ask_all(self) -> None:
        try:
            for ask in self.todo:
                if ask.kind == "stream" and ask.n not in self.streams:
                    self.notes.append("a list that came as a stream was cut off: give it again to 'harvest'")
                    continue
                await (self._ask_query(ask) if ask.kind == "query" else self._ask_list(ask))
                await self._on_disk(asks.complete, self.manifest, ask)
                self._n_left -= 1
        except Exception as error:  # noqa: BLE001 - raised by _items, once what was asked is fetched
            self._ask_error = error
        self._is_asked = True
        self._tell()

    async def _ask_query(self, ask: Ask) -> None:
        query = Query.from_dict(ask.spec["query"])
        finished = await self._on_disk(asks.finished_parts, self.manifest, ask)
        if query.limit is not None:
            had = await self._on_disk(asks.n_rows_of, self.manifest, ask)
            query = replace_query(query, limit=max(0, query.limit - had))
        async for part in self.mashup.parts(query, finished):
            for piece in _pieces(part):
                await self._on_disk(self._add_piece, ask, query, piece)
                self._tell()
            while self.manifest.tally().pending > BACKLOG:
                self._room = anyio.Event()
                await self._room.wait()

    def _add_piece(self, ask: Ask, query: Query, piece: PartRows) -> None:
        asked: list[Asked | BadLine] = []
        with self.manifest.transaction():
            numbers = self.manifest.sources(query.detector.name, piece.rows.columns, piece.rows.values)
            for number, row in zip(numbers, piece.rows.dicts(), strict=True):
                asked += uris_of(row, query, ask.spec, number)
            self.manifest.add(asked)
            asks.finish_part(self.manifest, ask, piece.part, len(piece.rows))

    async def _ask_list(self, ask: Ask) -> None:
        if ask.kind == "stream":
            await self._ask_stream(ask)
        else:
            path = Path(ask.spec["path"])
            if await self._on_disk(lists.identity, path) != ask.identity:
                raise BadInput(
                    f"{path} has changed since it was first given; harvest it as another list (--extend)"
                )
            batches = lists.from_file(path, ask.position, ask.lines)
            while (batch := await self._on_disk(next, batches, None)) is not None:
                await self._add_lines(ask, batch)
            return

    async def _ask_stream(self, ask: Ask) -> None:
        send, receive = anyio.create_memory_object_stream[str](lists.LINES_AT_ONCE)
        error: Exception | None = None
        async with anyio.create_task_group() as group, receive:
            group.start_soon(self._pour, self.streams[ask.n], send)
            try:
                async with aclosing(lists.gather(receive)) as batches:
                    async for batch in batches:
                        await self._add_lines(ask, batch)
            except Exception as raised:  # noqa: BLE001 - raised below, without an exception group
                error = raised
                group.cancel_scope.cancel()
        error = error or self._pour_error
        if error is not None:
            raise error

    async def _pour(self, uris: Uris, send: MemoryObjectSendStream[str]) -> None:
        try:
            await lists.pour(uris, send)
        except Exception as error:  # noqa: BLE001 - the caller's own, raised once the rest is done
            self._pour_error = error

    async def _add_lines(self, ask: Ask, batch: lists.Batch) -> None:
        def add() -> list[Item]:
            with self.manifest.transaction():
                asks.advance(self.manifest, ask, batch.position, batch.lines)
                return self.manifest.add(batch.asked)

        if batch.asked:
            self._hand_over(await self._on_disk(add))
            self._tell()

    def _hand_over(self, items: list[Item]) -> None:
        """Let new items go on without being read back, as far as memory allows; the manifest has them all."""
        if items and len(self._handed) < HANDED_MAX:
            self._handed.append(items)

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _on_disk(self, do: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(lambda: do(*args, **named), limiter=self._disk)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    def _requests(self) -> int:
        return self.traffic.requests - self.requests_before

    def _retried(self) -> dict[str, int]:
        return {reason.value: n for reason, n in sorted(self._pump.retried.items())}


def _last_words(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the last outcome of each item, unless that takes the others back."""
    last = {o.item.number: o for o in outcomes}
    return [o for o in last.values() if o.state is not State.PENDING]


def uris_of(row: dict[str, Any], query: Query, spec: Any, number: int) -> Iterator[Asked | BadLine]:
    """Yield what a catalogue row asks for: for each suffix a dataURI, or why there is none."""
    sizes = {"unsat_size_px": spec["unsat_size_px"], "sat_size_px": spec["sat_size_px"]}
    for suffix in spec["suffixes"]:
        try:
            parts = datauri.build_checked(row, query.detector, suffix, **sizes)
        except BadURI as error:
            text = f"{query.detector.name} source {row.get('id')} {suffix}"
            yield BadLine(text, str(error))
        else:
            yield Asked(str(parts), number, parts)


def _pieces(part: PartRows) -> Iterator[PartRows]:
    """Cut a part into pieces that are finished parts themselves, each up to its last id."""
    rows, low = iter(part.rows.values), part.part.low
    at = part.rows.columns.index("id")
    left = len(part.rows)
    while values := list(islice(rows, ROWS_AT_ONCE)):
        left -= len(values)
        high = int(values[-1][at]) if left else part.part.high
        yield PartRows(Part(low, high), type(part.rows)(part.rows.columns, part.rows.kinds, values))
        low = high + 1


def query_ask(
    query: Query, suffixes: Sequence[str], *, unsat_size_px: int, sat_size_px: int, n_sources: int
) -> Ask:
    """Return the ask of a query's cutouts."""
    chosen = query.detector.check_suffixes([suffixes] if isinstance(suffixes, str) else list(suffixes))
    for name, size in (("unsat_size", unsat_size_px), ("sat_size", sat_size_px)):
        if not 1 <= size <= 99_999:
            raise BadInput(f"{name} is {size}: a side of 1 to 99999 pixels is allowed")
    n = n_sources if query.limit is None else min(n_sources, query.limit)
    spec = {
        "query": query.to_dict(),
        "suffixes": list(chosen),
        "unsat_size_px": unsat_size_px,
        "sat_size_px": sat_size_px,
    }
    identity = json.dumps([query.identity, sorted(chosen), unsat_size_px, sat_size_px])
    return Ask("query", identity, spec, expected=n * len(chosen))
