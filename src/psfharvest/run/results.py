"""Arguments and results of the methods of `Archive`: normalised, and put into their final form."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Awaitable, Callable, Sequence, Sized
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from psfharvest.archive.catalog.rows import Rows
from psfharvest.archive.catalog.table_builder import TableBuilder
from psfharvest.archive.session import load_modules
from psfharvest.concurrency.cancellation import is_error
from psfharvest.core import ranges
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import CutoutFailed, CutoutMissing
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Limits, Outcome, Progress, Report, State, Tally
from psfharvest.core.names import DetectorName
from psfharvest.engine.stream import CutoutStream, stream_progress
from psfharvest.filesystem import connection_slots, libraries, open_limit
from psfharvest.filesystem.connection_slots import ConnectionSlots
from psfharvest.run import interrupt_words, learnt_cache
from psfharvest.run.targets import What, queries_of
from psfharvest.version import __version__

if TYPE_CHECKING:
    from astropy.table import Table

WATCH_S = 0.2
_log = logging.getLogger("psfharvest")


def cutout_of(outcome: Outcome) -> Cutout:
    """Return what a single request brought; raise `CutoutMissing` or `CutoutFailed` where that is nothing."""
    uri = outcome.item.uri
    if outcome.body is not None:
        return Cutout.of(uri, outcome.body, outcome.item.source)
    error = CutoutMissing if outcome.state is State.MISSING else CutoutFailed
    raise error(f"{uri}: {outcome.reason}: {outcome.detail}", uri=uri, reason=str(outcome.reason))


def prepared(root: str, client: Any) -> Learnt:
    """Return what is known of an archive, with the modules imported that a session needs; call it off the loop."""
    libraries.read_ahead("pycurl")
    load_modules(client)
    return learnt_cache.read(root)


async def explained(work: Awaitable[Report], folder: Path) -> Report:
    """Await a harvest; a cancellation of asyncio's own leaves with one sentence and without our frames."""
    try:
        return await work
    except BaseException as error:
        if not interrupt_words.is_native(error):
            raise
        error.args = (interrupt_words.words(folder),)
        raise error.with_traceback(None) from None


def origin_of(query: Query, archive: str, notes: Sequence[str], lacking: int) -> dict[str, Any]:
    """Return the provenance of a table of catalogue rows, and its notes, under names that FITS headers can hold."""
    odd = {"notes": list(notes), "lacking": lacking} if notes or lacking else {}
    return {
        "query": shlex.join(query.words),
        "archive": archive,
        "version": f"psfharvest {__version__}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **odd,
    }


def rows_so_far(n_rows: int, total: int | None) -> Progress:
    """Return how far a query has come."""
    return Progress(Tally(done=n_rows), total, in_flight=0, waiting=0, connections=1, requests=0, elapsed_s=0.0)


def table_of(query: Query, rows: TableBuilder) -> Table:
    """Return the rows of a query as a table, of no rows one with the columns that it would have."""
    if not rows.columns:
        rows.add(Rows.none(query.columns, query.detector))
    return rows.table(query.columns or None)


def connections_now(connections: int, limits: Limits, *, is_public: bool) -> int:
    """Return how many connections a changed ceiling comes to; 0 stays 0, and an absurd number raises `BadInput`."""
    if connections != 0:
        ranges.CONNECTIONS.check("connections", connections)
    wanted = replace(limits, max_connections=max(1, connections)).connections(is_public=is_public)
    return min(connections, open_limit.connections_at_most(wanted))


async def slots_for(is_counted: bool) -> ConnectionSlots | None:
    """Return the slots for connections that all programs of the user share, where those are counted."""
    return await anyio.to_thread.run_sync(connection_slots.of_this_machine) if is_counted else None


def as_query(query: Query | DetectorName) -> Query:
    """Return a query, for a detector's name that of all its sources."""
    return query if isinstance(query, Query) else Query(query)


async def expected_cutouts(
    count: Callable[[Query], Awaitable[int]], what: What, suffixes: Sequence[str]
) -> int | None:
    """Return how many cutouts a stream will give at most, or None where that is not known before its end."""
    queries = queries_of(what)
    if queries:
        names = [suffixes] if isinstance(suffixes, str) else suffixes
        counts = [await count(query) for query in queries]
        fitting = [sum(name in query.detector.suffixes for name in names) for query in queries]
        return sum(n * k for n, k in zip(counts, fitting, strict=True))
    return len(what) if isinstance(what, Sized) else None


def limits_now(limits: Limits, *, is_public: bool) -> Limits:
    """Return the limits, with as many connections as leave files for sink and manifest."""
    open_limit.require(open_limit.NEEDED)
    wanted = limits.connections(is_public=is_public)
    n = open_limit.connections_at_most(wanted)
    if n == wanted:
        return limits
    _log.warning("%d connections instead of %d: few files may be open; raise ulimit -n", n, wanted)
    return replace(limits, max_connections=n)


async def watch_stream(
    cutouts: CutoutStream, watch: Callable[[Progress], object], expect: Callable[[], Awaitable[int | None]]
) -> None:
    """Show a stream's progress until it is cancelled; without a total where that cannot be had."""
    expected = None
    try:
        expected = await expect()
    except BaseException as error:  # the stream meets it, too, and tells it
        if not is_error(error):
            raise
    while True:
        watch(stream_progress(cutouts.states, expected))
        await anyio.sleep(WATCH_S)
