"""
`Archive`: the public class. It ties the query layer, the engine and the harvest folder together.

All users of one `Archive` share its connections (in fair parts, single requests first), its rate and its pauses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread

from psfharvest.archive.catalog.listing import Listing
from psfharvest.archive.catalog.table_builder import TableBuilder
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.session import SHORT_PATIENCE_S, Session
from psfharvest.archive.share_rules import Basis, Home, chosen, of_kind
from psfharvest.cluster import on_cluster
from psfharvest.core import ranges
from psfharvest.core.catalog.plan import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, BadURI
from psfharvest.core.fits import accepted_deviations
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.html_table import html_table
from psfharvest.core.model import Limits, Report, RetryPolicy
from psfharvest.core.names import DetectorName, FinalName, LayoutName, SinkName, StreamViaName, SuffixName, ViaName
from psfharvest.core.policy.suspicion import Suspicion
from psfharvest.engine.pump import Pump
from psfharvest.engine.stream import AHEAD_EACH, CutoutStream, stream_progress
from psfharvest.events.hub import STREAM_MAX, EventStream, Hub, Listener
from psfharvest.events.log import LogListener
from psfharvest.metrics.detect import fetch_span, observe
from psfharvest.run import Job, What, item_of, items_of, results
from psfharvest.run.parts import plan
from psfharvest.show.bar import Watch, watching
from psfharvest.store.folder import Settings

if TYPE_CHECKING:
    from astropy.table import Table


class Archive:
    """
    The PSF databases at MAST, or a mirror or simulator of them.

    Parameters
    ----------
    url
        One base URL under which all of the archive's paths are found. None: the client's own ``base_url``, else
        what ``PSFHARVEST_ARCHIVE`` says, else the public archive.
    client
        Your own ``httpx.AsyncClient``, or one with the same API; it is used as it is and never closed.
    limits
        How hard to work, at most.
    retry
        How long to go on trying. Without it, a harvest bears an outage of an hour, anything else one of a minute.
    token
        A MAST token, for data that are not public; sent to the archive's own host only. None: ``MAST_API_TOKEN``.
    trust_env
        Whether ``PSFHARVEST_ARCHIVE``, ``MAST_API_TOKEN``, and the variables for proxies and certificates count.
    events
        Called with every event (`psfharvest.events`), in the event loop; one that raises is logged and dropped.
    share
        Another `Archive`, open in the same event loop: connections, rate and pauses are counted together with its
        own. Address, client, token and limits are the other's; it must be closed last.

    Raises
    ------
    BadInput
        When the URL is none, the token would be exposed, or something is given that `share` decides.

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
        trust_env: bool = True,
        events: Listener | None = None,
        share: Archive | None = None,
    ) -> None:
        theirs = None if share is None else of_kind(share, Archive)._basis
        self._basis: Basis = chosen(theirs, url, limits, client, token, trust_env=trust_env)
        self._endpoints, self._limits, self._client = self._basis
        self._trust_env, self._retry, self._shared = trust_env, retry, share
        self._hub = Hub(LogListener(), events)
        self._session: Session | None = None

    async def __aenter__(self) -> Self:
        learnt = await anyio.to_thread.run_sync(results.prepared, self._endpoints.root, self._client)
        slots = await results.slots_for(self._endpoints.is_public and self._shared is None)
        if self._session is not None:  # asked after the last wait: two tasks may open it at once
            raise BadInput("this Archive is open already; make another one, with share= to have the same limits")
        self._home = Home()
        self._session = Session(
            self._endpoints,
            results.limits_now(self._limits, is_public=self._endpoints.is_public),
            self._retry,
            self._client,
            trust_env=self._trust_env,
            hub=self._hub,
            learnt=learnt,
            slots=slots,
            shared=None if self._shared is None else self._shared._open(),
        )
        observe(self._hub, self._session.limiter, self._endpoints.root, is_own_wire=self._client is None)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is ours; the archive cannot be used after that."""
        session, self._session = self._session, None
        with closing(self._hub):
            if session is not None:
                await session.aclose()

    @property
    def endpoints(self) -> Endpoints:
        """Where the archive's paths are."""
        return self._endpoints

    def __repr__(self) -> str:
        return f"<Archive {self._endpoints.root} ({'closed' if self._session is None else 'open'})>"

    def _repr_html_(self) -> str:
        """Return address, connections and state for notebooks."""
        n = self._limits.connections(is_public=self._endpoints.is_public)
        state = "closed" if self._session is None else self.outage or "open"
        return html_table([("archive", self._endpoints.root), ("connections", f"{n} at most"), ("state", state)])

    def events(self, size: int = STREAM_MAX) -> EventStream:
        """Return all events until it is closed, for this event loop; beyond `size` unread the oldest are lost."""
        return self._hub.stream(size, self._require_home)

    @property
    def outage(self) -> str:
        """The archive's last words about its trouble while it is down, or has not answered yet; else nothing."""
        return "" if self._session is None else self._session.limiter.trouble

    @property
    def has_answered(self) -> bool:
        """Whether any request was answered well."""
        return self._session is not None and self._session.limiter.has_answered

    async def limit(self, connections: int) -> None:
        """
        Change the ceiling of connections while work is under way; 0 holds all of it.

        Lowered, it returns once no more connections than that are open: what has been requested comes first. The
        public archive's own ceiling stands. It raises `BadInput` for what is no number of connections.
        """
        n = results.connections_now(connections, self._limits, is_public=self._endpoints.is_public)
        await self._open().limit(n)

    def hold(self, seconds: float) -> None:
        """
        Send no request for so long; what is under way goes on, and nothing counts as an outage.

        It raises `BadInput` for what is no time.
        """
        ranges.PATIENCE_S.check("seconds", seconds)
        self._open().limiter.hold(seconds)

    async def plan(self, query: Query | DetectorName, part_rows: int = 50_000) -> AsyncIterator[Part]:
        """
        Yield parts of a query, ascending, by counts alone; each has `part_rows` sources at most.

        Each goes to `harvest` with a folder of its own; together they cover the query. It raises as `count` does.
        """
        ranges.PAGE_ROWS.check("part_rows", part_rows)
        with (session := self._open()).share() as share:
            async with aclosing(
                plan(session.mashup(share, SHORT_PATIENCE_S), results.as_query(query), part_rows)
            ) as parts:
                async for part in parts:
                    yield part

    async def count(self, query: Query | DetectorName) -> int:
        """
        Return the number of sources that the query matches, at most its limit; a detector's name is for all of it.

        Raises
        ------
        BadQuery, ArchiveDown
            When the archive refuses the query, in its own words; when it stays out of reach.
        """
        query = results.as_query(query)
        with (session := self._open()).share() as share:
            n = await session.mashup(share, SHORT_PATIENCE_S).count(query)
        return n if query.limit is None else min(n, query.limit)

    async def query(self, query: Query | DetectorName, *, progress: bool | Watch | None = None) -> Table:
        """
        Return the matching rows of the catalogue, sorted by id.

        Parameters
        ----------
        query
            A query, or a detector's name.
        progress
            True draws a bar of rows (tqdm's); a function is called with a `Progress` for each answer.

        Returns
        -------
        Table
            Exactly the query's columns in their order (all, when it names none), with astroquery's types. ``meta``
            has ``query``, ``archive``, ``version`` and ``date`` (UTC). Of one that was not as expected, it has
            `notes` about it, and the number of sources that it counts but does not give as `lacking`.

        Raises
        ------
        BadQuery, ArchiveDown
            As `count` does.
        """
        query = results.as_query(query)
        with (session := self._open()).share() as share, watching(progress, unit="row") as watch:
            mashup = session.mashup(share, SHORT_PATIENCE_S)
            listing = Listing(mashup, query, every_column=True)
            rows = TableBuilder()
            async with aclosing(listing.parts()) as coming:
                async for part in coming:
                    await anyio.to_thread.run_sync(rows.add, part.rows, part.is_again or part.part is None)
                    if watch is not None:
                        watch(results.rows_so_far(len(rows), listing.total))
        table = await anyio.to_thread.run_sync(results.table_of, query, rows)
        table.meta |= results.origin_of(query, self._endpoints.root, mashup.notes, listing.lacking)
        return table

    @asynccontextmanager
    async def stream(
        self,
        what: What,
        *,
        suffixes: Sequence[SuffixName] = (),
        unsat_size: int = 51,
        sat_size: int = 101,
        via: StreamViaName = "auto",
        ahead: int | None = None,
        accept: str | Sequence[str] = (),
        progress: bool | Watch | None = None,
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
            ``fitscut`` reads each cutout at its dataURL; ``auto`` and ``file`` by file.
        ahead
            How many cutouts may be requested beyond those that were read; None: two a connection.
        accept
            As in `harvest`. A check of ours that refuses all raises `AllRefused` where the stream is read.
        progress
            True draws a bar (tqdm's); a function is called with a `Progress` a few times a second.

        Yields
        ------
        CutoutStream
            Iterate over it; its `failures` tell what did not come.
        """
        if ahead is not None:
            ranges.AHEAD.check("ahead", ahead)
        session = self._open()
        suspicion = Suspicion(accepted_deviations.checked(accept) | session.known_names)
        with session.share() as share, watching(progress) as watch:
            fetcher, tell = session.streamer(share, via, suspicion.accepted)  # may refuse: nothing is open yet
            mashup = session.mashup(share, SHORT_PATIENCE_S)
            cutouts = CutoutStream(lambda: ahead or AHEAD_EACH * share.connections, tell, self._home.require)
            source = items_of(
                mashup, what, suffixes, cutouts.refuse, unsat_size_px=unsat_size, sat_size_px=sat_size
            )
            pump = Pump(
                fetcher,
                cutouts,
                share,
                session.policy(SHORT_PATIENCE_S),
                gather_s=0.0,
                budget=cutouts.budget,
                suspicion=suspicion,
            )
            total = partial(self.expected_cutouts, what, suffixes)
            shown = [] if watch is None else [partial(results.watch_stream, cutouts, watch, total)]
            try:
                async with cutouts.filling(pump, source, *shown):
                    yield cutouts
            finally:
                if watch is not None:
                    watch(stream_progress(cutouts.states, None))

    async def fetch(self, uri: str, *, deadline_s: float | None = None, accept: str | Sequence[str] = ()) -> Cutout:
        """
        Return one cutout.

        Single requests go before streams and harvests; among them, the earliest `deadline_s` goes first. Calls for
        the same dataURI at the same time share one request; a call that is cancelled before its request was sent
        takes it back.

        Parameters
        ----------
        uri
            Its dataURI.
        deadline_s
            How long this call may take in all; None: as long as attempts and patience last.
        accept
            Names of deviations that pass, as in `harvest`.

        Raises
        ------
        BadURI
            When `uri` is no dataURI.
        CutoutMissing
            When the archive says that there is none.
        CutoutFailed
            When it did not come whole within the attempts.
        DeadlinePassed
            When it did not come within `deadline_s`; a `CutoutFailed` and a `TimeoutError`.
        ArchiveDown
            When the archive stays out of reach.
        """
        if deadline_s is not None:
            ranges.TIMEOUT_S.check("deadline_s", deadline_s)
        if not isinstance(uri, str):
            raise BadURI(repr(uri), "it is a text, and one call takes one")
        session = self._open()
        singles = session.singles(item_of, accepted_deviations.checked(accept) | session.known_names)
        with fetch_span(uri):
            return results.cutout_of(await singles.fetch(uri, deadline_s))

    async def harvest(
        self,
        what: What | Path,
        folder: str | Path,
        *,
        suffixes: Sequence[SuffixName] = (),
        unsat_size: int = 51,
        sat_size: int = 101,
        sink: SinkName | None = None,
        layout: LayoutName | None = None,
        via: ViaName = "auto",
        fsync: bool = False,
        manifest: str | Path | None = None,
        shard_bytes: int | None = None,
        extend: bool = False,
        retry_states: Sequence[FinalName] = ("failed",),
        max_bytes: int | None = None,
        accept: str | Sequence[str] = (),
        part: Part | None = None,
        cluster: Any = None,
        part_rows: int | None = None,
        events: Listener | None = None,
        progress: bool | Watch | None = None,
    ) -> Report:
        """
        Download cutouts into a folder, resumably: the same call continues where the last one stopped.

        Parameters
        ----------
        what
            A query, a list of them, an (asynchronous) iterable of dataURIs, or the path of a file with one a line.
        folder
            The harvest folder; made when it does not exist.
        suffixes, unsat_size, sat_size
            For a query: which products of each source; side in pixels of unsaturated and of saturated ones.
        via
            How they travel: by ``file``, in a ``bundle``, or ``auto``: whichever proves faster.
        sink, layout
            How cutouts are stored: ``files`` in a ``tree`` or ``flat``; fixed for a folder's life.
        fsync
            Whether claims survive power loss, too.
        manifest
            Where a new folder's manifest is kept, if not in the folder: a file on a local disk, which it notes.
        shard_bytes
            With ``sink="shards"``: the size at which the next is begun, 1 GB by default; each reader takes one.
        extend
            Whether to add to a folder that holds another harvest.
        retry_states
            Which of ``failed`` and ``missing`` get fresh attempts.
        max_bytes
            Size of all its cutouts beyond which the run ends (``stopped`` is ``max_bytes``); None is no limit.
        accept
            Names of deviations of cutouts that pass, such as ``wrong_shape``; the folder keeps them. Such cutouts
            are stored as they come, where astropy reads an image, and counted as `quirks`. A check of ours that
            refuses the first 20 of a database ends the run (``all_refused``) with the name that lets it pass.
        part
            Of a query, as `plan` gives them: only this is harvested; ``psfharvest merge`` makes one folder of all.
        cluster, part_rows
            A `distributed.Client`: the harvest is cut into parts of at most `part_rows` sources (50,000), its
            workers share `limits`, and the parts are merged at the end. Needs the extra ``dask``; stores shards by
            default.
        events
            Called with every event of this harvest, as `Archive(events=...)` is with all.
        progress
            True draws a bar (tqdm's); a function is called with a `Progress` a few times a second.

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
        at = None if manifest is None else Path(manifest)
        settings = await anyio.to_thread.run_sync(Settings, sink, layout, fsync, at, shard_bytes, bool(part))
        sizes = {"unsat_size_px": unsat_size, "sat_size_px": sat_size}
        given: dict[str, Any] = {"extend": extend, "part": part, **sizes}
        accepted, states = accepted_deviations.checked(accept), tuple(retry_states)
        with watching(progress) as watch:
            job = Job(self._open(), Path(folder), settings, via, states, watch, max_bytes, events, accepted)
            work = partial(job.harvest, what, suffixes, **given)
            if cluster is None and part_rows is not None:
                raise BadInput("part_rows goes with cluster=…: give a distributed.Client, or leave part_rows away")
            if cluster is not None:
                limits = self._limits, self._retry, part_rows
                work = partial(on_cluster, cluster, job, *limits, what, suffixes, **given)
            return await results.explained(work(), Path(folder))

    async def resume(
        self,
        folder: str | Path,
        *,
        via: ViaName = "auto",
        fsync: bool = False,
        retry_states: Sequence[FinalName] = ("failed",),
        max_bytes: int | None = None,
        accept: str | Sequence[str] = (),
        events: Listener | None = None,
        progress: bool | Watch | None = None,
    ) -> Report:
        """Go on with what a folder's manifest has recorded; parameters and result are those of `harvest`."""
        settings = Settings(fsync=fsync)
        accepted, states = accepted_deviations.checked(accept), tuple(retry_states)
        with watching(progress) as watch:
            job = Job(self._open(), Path(folder), settings, via, states, watch, max_bytes, events, accepted)
            return await results.explained(job.resume(), Path(folder))

    async def expected_cutouts(self, what: What, suffixes: Sequence[str]) -> int | None:
        """Return how many cutouts a stream will give at most, or None where that is not known before its end."""
        return await results.expected_cutouts(self.count, what, suffixes)

    def _require_home(self) -> None:
        if self._session is not None:
            self._home.require()

    def _open(self) -> Session:
        if self._session is None:
            raise BadInput("this Archive is not open; use it as: async with Archive() as archive: ...")
        self._home.require()
        return self._session.usable()
