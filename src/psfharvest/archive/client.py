"""
`Archive`: the public class. It ties the query layer, the engine and the harvest folder together.

One `Archive` is one traffic light: all that is asked through it shares its ceiling, its rate and its pauses. It
holds no global, installs no signal handler, and leaves nothing behind when it is closed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread

from psfharvest import lists
from psfharvest.archive.bundle import BundleFetcher
from psfharvest.archive.download import FileFetcher
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.httpx_wire import HttpxWire
from psfharvest.archive.mashup import Mashup
from psfharvest.archive.routed import RoutedFetcher
from psfharvest.archive.rows import Rows
from psfharvest.archive.wire import Wire
from psfharvest.campaign import Campaign, Uris, query_ask, uris_of
from psfharvest.core import datauri, keys
from psfharvest.core.cutout import Cutout
from psfharvest.core.errors import BadInput, CutoutFailed, CutoutMissing
from psfharvest.core.model import Asked, Item, Limits, Outcome, Progress, Report, RetryPolicy, State
from psfharvest.core.ports import Fetcher
from psfharvest.core.query import Query
from psfharvest.core.route import Route
from psfharvest.engine.outlet import STREAM_BUFFER, Channel, CutoutStream
from psfharvest.engine.pump import Pump
from psfharvest.engine.traffic import Traffic
from psfharvest.store import folder as folders
from psfharvest.store.asks import Ask
from psfharvest.store.folder import Settings
from psfharvest.store.manifest import Manifest
from psfharvest.version import __version__

if TYPE_CHECKING:
    from astropy.table import Table

SHORT_PATIENCE_S = 60.0
LONG_PATIENCE_S = 3600.0
VIAS = ("auto", "file", "bundle")

What = Query | Uris
P = ParamSpec("P")
T = TypeVar("T")


class Archive:
    """
    The PSF databases at MAST, or a mirror or simulator of them.

    Parameters
    ----------
    url
        One base URL under which all of the archive's paths are found; None is the public archive.
    client
        Your own ``httpx.AsyncClient``, or one with the same API; it is used as it is and never closed.
    limits
        How hard to work, at most.
    retry
        How long to go on trying. Without it, a harvest bears an outage of an hour, anything else one of a minute.
    token
        A MAST token, for data that are not public; sent to the archive's own host only.

    Raises
    ------
    BadInput
        When the URL is none, or the token would be exposed.

    Examples
    --------
    >>> async with Archive() as archive:
    ...     report = await archive.harvest(Query("UVIS", filter="F606W"), "stars/", suffixes=["flt"])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        token: str | None = None,
    ) -> None:
        self._endpoints = Endpoints(url, token or "")
        self._limits = limits or Limits()
        self._retry = retry
        self._client = client
        self._wire: Wire | None = None
        self._traffic: Traffic | None = None

    async def __aenter__(self) -> Self:
        self._wire = self._make_wire()
        policy = self._policy(SHORT_PATIENCE_S)
        self._traffic = Traffic(self._limits, policy, is_public=self._endpoints.is_public)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is ours; the archive cannot be used after that."""
        wire, self._wire = self._wire, None
        if wire is not None:
            with anyio.CancelScope(shield=True):
                await wire.aclose()

    @property
    def endpoints(self) -> Endpoints:
        """Where the archive's paths are."""
        return self._endpoints

    async def count(self, query: Query) -> int:
        """
        Return the number of sources that the query matches, at most its limit.

        Raises
        ------
        BadQuery
            When the archive refuses the query; in its own words.
        ArchiveDown
            When it stays out of reach.
        """
        n = await self._mashup(SHORT_PATIENCE_S).count(query)
        return n if query.limit is None else min(n, query.limit)

    async def query(self, query: Query) -> Table:
        """
        Return the matching rows of the catalogue, sorted by id.

        Returns
        -------
        Table
            Exactly the query's columns in their order (all, when it names none), with astroquery's types.

        Raises
        ------
        BadQuery, ArchiveDown
            As `count` does.
        """
        parts = [part.rows async for part in self._mashup(SHORT_PATIENCE_S).parts(query)]
        rows = _stacked(parts) if parts else Rows.none(query.columns, query.detector)
        chosen = rows.only(query.columns) if query.columns else rows
        return await anyio.to_thread.run_sync(chosen.table)

    @asynccontextmanager
    async def stream(
        self,
        what: What,
        *,
        suffixes: Sequence[str] = (),
        unsat_size: int = 51,
        sat_size: int = 101,
        via: str = "auto",
    ) -> AsyncIterator[CutoutStream]:
        """
        Yield cutouts in memory as they arrive, in no particular order; nothing is stored.

        Parameters
        ----------
        what
            A query, or dataURIs.
        suffixes
            For a query: which products of each source.
        unsat_size, sat_size
            Side of the cutouts, in pixels, of unsaturated and saturated sources.
        via
            ``fitscut`` reads each cutout at its dataURL, straight from fitscut; ``auto`` and ``file`` by file.

        Yields
        ------
        CutoutStream
            Iterate over it; its `failures` tell what did not come.
        """
        traffic, policy = self._light(), self._policy(SHORT_PATIENCE_S)
        source = self._items_of(what, suffixes, unsat_size_px=unsat_size, sat_size_px=sat_size)
        send, receive = anyio.create_memory_object_stream[Outcome](STREAM_BUFFER)
        cutouts = CutoutStream(receive)
        pump = Pump(self._stream_fetcher(via), Channel(send), traffic, policy)
        error: Exception | None = None
        async with anyio.create_task_group() as group, receive:
            group.start_soon(cutouts.fill, pump, source, send)
            try:
                yield cutouts
            except Exception as raised:  # noqa: BLE001 - raised below: the caller's error, without a group around it
                error = raised
            group.cancel_scope.cancel()
        if error is not None:
            raise error

    async def fetch(self, uri: str) -> Cutout:
        """
        Return one cutout.

        Raises
        ------
        BadURI
            When `uri` is no dataURI.
        CutoutMissing
            When the archive says that there is none.
        CutoutFailed
            When it did not come whole within the attempts.
        ArchiveDown
            When the archive stays out of reach.
        """
        datauri.check(uri)
        async with self.stream([uri]) as cutouts:
            async for cutout in cutouts:
                return cutout
        outcome = cutouts.failures[0]
        error = CutoutMissing if outcome.state is State.MISSING else CutoutFailed
        raise error(f"{uri}: {outcome.reason}: {outcome.detail}", uri=uri, reason=str(outcome.reason))

    async def harvest(
        self,
        what: What | Path,
        folder: str | Path,
        *,
        suffixes: Sequence[str] = (),
        unsat_size: int = 51,
        sat_size: int = 101,
        sink: str | None = None,
        layout: str | None = None,
        via: str = "auto",
        fsync: bool = False,
        extend: bool = False,
        retry_states: Sequence[str] = ("failed",),
        progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """
        Download cutouts into a folder, resumably: the same call continues where the last one stopped.

        Parameters
        ----------
        what
            A query, (asynchronous) iterable of dataURIs, or the path of a file of dataURIs, one a line.
        folder
            The harvest folder; made when it does not exist.
        suffixes
            For a query: which products of each source.
        unsat_size, sat_size
            Side of the cutouts, in pixels, of unsaturated and saturated sources.
        via
            How they travel: ``file`` by file, in a ``bundle``, or ``auto``: whichever proves faster.
        sink, layout
            How cutouts are stored: ``files`` in a ``tree`` or ``flat``; fixed for a folder's life.
        fsync
            Whether claims survive power loss, too.
        extend
            Whether to add to a folder that holds another harvest.
        retry_states
            Which of ``failed`` and ``missing`` get fresh attempts.
        progress
            Called a few times a second.

        Returns
        -------
        Report
            The account; ``stopped`` says why work is pending, if it is.

        Raises
        ------
        BadInput
            When the call cannot be carried out; nothing was changed.
        LocalError
            When disk or manifest fail; what was claimed is kept.
        """
        path = Path(folder)
        settings = Settings(sink, layout, fsync)
        before = self._light().requests
        again = _states(retry_states)
        _check_via(via)
        ask = await self._ask_for(what, path, suffixes, unsat_size, sat_size)
        opened = folders.old_folder if folders.is_harvest(path) else folders.new_folder
        with ExitStack() as stack:
            manifest = await _in_thread(stack.enter_context, opened(path, settings))
            todo = await _in_thread(folders.todo, manifest, ask, extend=extend)
            streams = {a.n: what for a in todo if a.kind == "stream" and not isinstance(what, (Query, Path))}
            return await self._campaign(
                stack, path, manifest, settings, todo, via, again, progress, streams, before
            )

    async def resume(
        self,
        folder: str | Path,
        *,
        via: str = "auto",
        fsync: bool = False,
        retry_states: Sequence[str] = ("failed",),
        progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """Go on with what a folder's manifest has recorded; parameters and result are those of `harvest`."""
        path = Path(folder)
        settings = Settings(fsync=fsync)
        again = _states(retry_states)
        _check_via(via)
        with ExitStack() as stack:
            manifest = await _in_thread(stack.enter_context, folders.old_folder(path, settings))
            todo = await _in_thread(folders.todo, manifest, None, extend=False)
            return await self._campaign(
                stack, path, manifest, settings, todo, via, again, progress, {}, self._light().requests
            )

    async def _campaign(
        self,
        stack: ExitStack,
        path: Path,
        manifest: Manifest,
        settings: Settings,
        todo: Sequence[Ask],
        via: str,
        again: Sequence[State],
        progress: Callable[[Progress], None] | None,
        streams: Mapping[int, Uris],
        requests_before: int,
    ) -> Report:
        await _in_thread(manifest.reopen, again)
        sink = await _in_thread(folders.open_sink, path, manifest, settings)
        stack.callback(sink.close)
        campaign = Campaign(
            manifest=manifest,
            sink=sink,
            todo=todo,
            mashup=self._mashup(LONG_PATIENCE_S),
            fetcher=self._fetcher(via, lambda: manifest.tally().pending),
            traffic=self._light(),
            policy=self._policy(LONG_PATIENCE_S),
            requests_before=requests_before,
            watch=progress,
            streams=streams,
        )
        return await campaign.run()

    async def _ask_for(
        self, what: What | Path, path: Path, suffixes: Sequence[str], unsat_size: int, sat_size: int
    ) -> Ask:
        if isinstance(what, Query):
            asked = {"unsat_size_px": unsat_size, "sat_size_px": sat_size}
            ask = query_ask(what, suffixes, n_sources=0, **asked)
            if folders.knows(path, ask):
                return ask
            n_sources = await self._mashup(LONG_PATIENCE_S).count(what)
            return query_ask(what, suffixes, n_sources=n_sources, **asked)
        if isinstance(what, (str, bytes)):
            raise BadInput(f"{what!r} is one text: give a list of dataURIs, or the Path of a file of them")
        if suffixes:
            raise BadInput("suffixes go with a query; a dataURI names its product itself")
        if isinstance(what, Path):
            identity = await anyio.to_thread.run_sync(lists.identity, what, abandon_on_cancel=True)
            return Ask("file", identity, {"path": str(what.absolute())})
        return Ask("stream", "stream", {})

    async def _items_of(self, what: What, suffixes: Sequence[str], **sizes: int) -> AsyncIterator[list[Item]]:
        n = 0
        async for asked in self._asked(what, suffixes, **sizes):
            items = []
            for uri, parts, source in asked:
                n += 1
                key = keys.key_of(uri, parts)
                size_px, rootname = (parts.size_px, parts.rootname) if parts else (None, "")
                items.append(Item(n, uri, key, size_px, rootname, source))
            yield items

    async def _asked(
        self, what: What, suffixes: Sequence[str], **sizes: int
    ) -> AsyncIterator[list[tuple[str, datauri.CutoutURI | None, str]]]:
        if isinstance(what, Query):
            ask = query_ask(what, suffixes, n_sources=0, **sizes)
            async for part in self._mashup(SHORT_PATIENCE_S).parts(what):
                for row in part.rows.dicts():
                    yield [
                        (a.uri, a.parts, json.dumps(row))
                        for a in uris_of(row, what, ask.spec, 0)
                        if isinstance(a, Asked)
                    ]
            return
        async with aclosing(_strings(what)) as uris:
            async for uri in uris:
                yield [(uri, datauri.parse(uri), "")]

    def _make_wire(self) -> Wire:
        connections = self._limits.connections(is_public=self._endpoints.is_public)
        agent = f"psfharvest/{__version__} (Python {platform.python_version()}; {platform.system()})"
        if self._client is None and find_spec("pycurl") is not None:
            from psfharvest.archive.curl_wire import CurlWire  # noqa: PLC0415 - where libcurl is

            return CurlWire(connections=connections, user_agent=agent)
        return HttpxWire(self._client, connections=connections, user_agent=agent)

    def _fetcher(self, via: str, n_waiting: Callable[[], int]) -> RoutedFetcher:
        wire, traffic, route = self._open_wire(), self._light(), Route(via)
        files = FileFetcher(wire, traffic, self._endpoints, self._limits)
        bundles = BundleFetcher(wire, traffic, self._endpoints, self._limits, route)
        return RoutedFetcher(files, bundles, traffic, route, n_waiting)

    def _stream_fetcher(self, via: str) -> Fetcher:
        wire, traffic = self._open_wire(), self._light()
        if via == "fitscut":
            return FileFetcher(wire, traffic, self._endpoints, self._limits, at_data_urls=True)
        if via not in ("auto", "file"):
            # a bundle may prove damaged at its end, and what was handed to a reader cannot be taken back
            raise BadInput(
                f"via {via!r}: a stream travels by file (or fitscut); bundles go into a folder: harvest()"
            )
        return FileFetcher(wire, traffic, self._endpoints, self._limits)

    def _mashup(self, patience_s: float) -> Mashup:
        policy = self._policy(patience_s)
        return Mashup(self._open_wire(), self._light(), self._endpoints, self._limits, policy)

    def _policy(self, patience_s: float) -> RetryPolicy:
        return self._retry or RetryPolicy(patience_s=patience_s)

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise BadInput("this Archive is not open; use it as: async with Archive() as archive: ...")
        return self._wire

    def _light(self) -> Traffic:
        self._open_wire()
        assert self._traffic is not None  # noqa: S101 - both are made together
        return self._traffic


async def _strings(uris: Uris) -> AsyncGenerator[str, None]:
    if isinstance(uris, AsyncIterable):
        async for uri in uris:
            yield str(uri)
    else:
        for uri in uris:
            yield str(uri)


def _check_via(via: str) -> None:
    if via not in VIAS:
        raise BadInput(f"via {via!r}: one of {', '.join(VIAS)} is allowed")


def _states(names: Sequence[str]) -> list[State]:
    for name in names:
        if name not in (State.FAILED, State.MISSING):
            raise BadInput(f"retry_states {name!r}: failed and missing are allowed")
    return [State(name) for name in names]


async def _in_thread(do: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    return await anyio.to_thread.run_sync(lambda: do(*args, **named))


def _stacked(parts: Sequence[Rows]) -> Rows:
    first = parts[0]
    values = [row for part in parts for row in part.only(first.columns).values]
    return Rows(first.columns, first.kinds, values)
