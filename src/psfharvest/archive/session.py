"""What an open `Archive` holds: one wire, one limiter, and the fetchers and queries that share them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import Context
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.deliveries import Deliveries
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.auto import RoutedFetcher
from psfharvest.archive.fetch.bundle import BundleFetcher
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.archive.wires.base import Wire, user_agent
from psfharvest.archive.wires.httpx_client import library_name, make_client
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.archive.wires.trust import authorities
from psfharvest.concurrency.loop_task import finish_in_loop, start_in_loop
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.errors import BadInput
from psfharvest.core.fits import names
from psfharvest.core.model import CONNECT_TRIES, Item, Limits, RetryPolicy
from psfharvest.core.policy.route import Route
from psfharvest.core.ports import Staging
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.share import Share
from psfharvest.engine.singles import SingleRequests
from psfharvest.engine.slot_keeper import SlotKeeper, Slots
from psfharvest.events.hub import Hub, Voice

SHORT_PATIENCE_S = 60.0
LONG_PATIENCE_S = 3600.0


class Session:
    """
    What stays open while an `Archive` is.

    Parameters
    ----------
    endpoints, limits
        Where the archive is, and how hard to work.
    retry
        How long to go on trying; None: as long as each kind of work deserves.
    client
        The caller's own HTTP client, or None.
    trust_env
        Whether proxies and certificates are what the environment's variables say.
    learnt
        What an earlier visit found out of this archive.
    hub
        Gets all events.
    slots
        For the connections, where those of other processes count, too.
    shared
        An open session whose connections, rate and pauses this one shares; it is outlived by none that shares it.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        limits: Limits,
        retry: RetryPolicy | None,
        client: Any,
        *,
        trust_env: bool = True,
        learnt: Learnt | None = None,
        hub: Hub | None = None,
        slots: Slots | None = None,
        shared: Session | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.hub = hub or Hub()
        self.hub.open()
        self._learnt = learnt or Learnt()
        self.known_names = frozenset(self._learnt.quirks).intersection(names.DIFFERENCES)
        """The archive's own ways to write the name of an exposure, as an earlier visit found them."""
        self._retry = retry
        self._is_owner = shared is None
        self._shares: list[Share] = []
        self._singles: dict[frozenset[str], SingleRequests] = {}
        """By what is accepted of cutouts."""
        self._keeper: SlotKeeper | None = None
        self.note = "" if slots is None else slots.note
        """What is to be said of how connections are counted."""
        self._wire: Wire
        self._limits: Limits
        self.limiter: ArchiveLimiter
        if shared is not None:
            self._wire, self._limits, self.limiter = shared._wire, shared._limits, shared.limiter
            self.note = shared.note
            return
        connections = limits.connections(is_public=endpoints.is_public)
        self._wire = _make_wire(
            client,
            connections,
            is_private=bool(endpoints.token),
            trust_env=trust_env,
            keeps_connections=slots is None,
        )
        if isinstance(self._wire, HttpxWire):  # the caller's pool may hold fewer
            limits = replace(limits, max_connections=self._wire.ceiling)
        self._limits = limits
        self.limiter = ArchiveLimiter(
            limits,
            self.policy(SHORT_PATIENCE_S),
            is_public=endpoints.is_public,
            is_queued=self._wire.depth > 0,
            hub=self.hub,
            where=endpoints.root,
        )
        if slots is not None:
            self._keeper = SlotKeeper(slots, self.limiter, self._wire)
            start_in_loop(self._keeper.run, "psfharvest-slots")

    def usable(self) -> Session:
        """Return itself; raise `BadInput` when the archive whose connections it shares was closed."""
        if self.limiter.is_closed and not self._is_owner:
            raise BadInput(
                "the Archive that this one shares connections with was closed; close it last, or open both anew"
            )
        return self

    async def aclose(self) -> None:
        """End what is under way, and close what is ours; a caller's client is not."""
        error = BadInput("this Archive was closed while it was at work")
        for share in self._shares:
            share.end(error)
        if self._is_owner:
            self.limiter.close(error)
        await finish_in_loop(partial(self._close, error), "psfharvest-closing")

    async def _close(self, error: Exception) -> None:
        for singles in self._singles.values():
            await singles.aclose(error)
        try:
            if self._is_owner:
                await self._wire.aclose()
        finally:
            if self._keeper is not None:
                await self._keeper.aclose()

    def policy(self, patience_s: float) -> RetryPolicy:
        """Return how long to go on trying: what was given, else what the kind of work deserves."""
        connect_tries = CONNECT_TRIES if patience_s == SHORT_PATIENCE_S else None
        return self._retry or RetryPolicy(patience_s=patience_s, connect_tries=connect_tries)

    async def limit(self, connections: int) -> None:
        """Use at most so many connections from now on, 0 for none; return once no more are open."""
        self.limiter.limit(connections)
        await self._wire.settle(min(connections, self.limiter.slots))

    def share(self, voice: Voice | None = None) -> Share:
        """Return the share of a new user, to be closed by it; its events are emitted by its voice."""
        self._shares = [share for share in self._shares if not share.is_closed]
        share = self.limiter.share(voice=voice or self.hub.voice())
        self._shares.append(share)
        return share

    def mashup(self, share: Share, patience_s: float) -> Mashup:
        """Return the query layer for a user."""
        learnt = Learnt.from_dict(self._learnt.to_dict())  # a query's own: what one meets is not true of all
        return Mashup(self._wire, share, self.endpoints, self._limits, self.policy(patience_s), learnt=learnt)

    def singles(self, make_item: Callable[[int, str], Item], accepted: frozenset[str]) -> SingleRequests:
        """Return what serves all single requests for which these deviations pass."""
        singles = self._singles.get(accepted)
        if singles is None:
            share = self.limiter.share(is_urgent=True, voice=self.hub.voice())
            deliveries = Deliveries("fetch", share)
            singles = self._singles[accepted] = SingleRequests(
                lambda: deliveries.timing(self._files(share, is_urgent=True, accepted=accepted)),
                share,
                make_item,
                self.policy(SHORT_PATIENCE_S),
                lambda run, name: start_in_loop(run, name, Context()),  # it serves many callers, not the first only
                deliveries,
            )
        return singles

    def harvester(
        self, share: Share, via: str, n_waiting: Callable[[], int], staging: Staging, accepted: Collection[str]
    ) -> RoutedFetcher:
        """Return the fetcher of a harvest; `staging` takes what bundles bring until their ends are verified."""
        route = Route(via, is_offered=via != "auto" or self._learnt.bundles is not False)
        bundles = BundleFetcher(self._wire, share, self.endpoints, self._limits, route, staging, accepted=accepted)
        return RoutedFetcher(self._files(share, accepted=accepted), bundles, share, route, n_waiting)

    def streamer(self, share: Share, via: str, accepted: Collection[str]) -> tuple[FileFetcher, Deliveries]:
        """
        Return the fetcher of a stream, and what emits the events of its outcomes.

        Raises
        ------
        BadInput
            For bundles: a cutout may only be handed over once its bundle's end is verified, which needs a folder
            where all of it waits until then.
        """
        if via not in ("auto", "file", "fitscut"):
            raise BadInput(
                f"via {via!r}: a stream travels by file (or fitscut); bundles go into a folder: harvest()"
            )
        deliveries = Deliveries("stream", share)
        files = self._files(share, at_data_urls=via == "fitscut", accepted=accepted)
        return deliveries.timing(files), deliveries

    def _files(
        self,
        share: Share,
        *,
        at_data_urls: bool = False,
        is_urgent: bool = False,
        accepted: Collection[str],
    ) -> FileFetcher:
        return FileFetcher(
            self._wire,
            share,
            self.endpoints,
            self._limits,
            at_data_urls=at_data_urls,
            is_urgent=is_urgent,
            count=self.mashup(share, SHORT_PATIENCE_S).control,
            accepted=accepted,
        )


def load_modules(client: Any) -> None:
    """Import what a session needs; in a thread, since it may take long enough to hold an event loop up."""
    "a".encode("idna")  # its tables are imported when a host's name is first encoded
    authorities(trust_env=False)  # where the system has no file of them, certifi is imported
    if client is None and find_spec("pycurl") is not None:
        import psfharvest.archive.wires.curl  # noqa: PLC0415 - where libcurl is
        import psfharvest.archive.wires.split_wire  # noqa: F401, PLC0415 - as above
    if client is None and (name := library_name()) is not None:
        import_module(name)


def _make_wire(
    client: Any, connections: int, *, is_private: bool, trust_env: bool, keeps_connections: bool
) -> Wire:
    """Return the caller's client as a wire; else libcurl for cutouts and httpx for queries, or what there is."""
    agent = user_agent()
    options: dict[str, Any] = {"is_private": is_private, "trust_env": trust_env}
    if client is not None or find_spec("pycurl") is None:
        return HttpxWire(
            client, connections=connections, user_agent=agent, keeps_connections=keeps_connections, **options
        )
    from psfharvest.archive.wires.curl import CurlWire  # noqa: PLC0415 - where libcurl is

    bulk = CurlWire(connections=connections, user_agent=agent, **options)
    if library_name() is None:
        return bulk
    from psfharvest.archive.wires.split_wire import SplitWire  # noqa: PLC0415 - as above

    make = partial(make_client, connections, agent, keeps_connections=False, **options)
    return SplitWire(bulk, make, connections=connections)
