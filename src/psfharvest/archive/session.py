"""An open line to the archive: one wire, one traffic light, and the fetchers and queries that share them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import anyio

from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.auto import RoutedFetcher
from psfharvest.archive.fetch.bundle import BundleFetcher
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.archive.wires.base import Wire
from psfharvest.archive.wires.httpx_client import library_name, make_client
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Limits, RetryPolicy
from psfharvest.core.policy.route import Route
from psfharvest.core.ports import Staging
from psfharvest.engine.traffic import Traffic
from psfharvest.version import __version__

SHORT_PATIENCE_S = 60.0
LONG_PATIENCE_S = 3600.0


class Line:
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
    ) -> None:
        self.endpoints = endpoints
        self._learnt = learnt or Learnt()
        self._retry = retry
        connections = limits.connections(is_public=endpoints.is_public)
        self._wire = _make_wire(client, connections, is_private=bool(endpoints.token), trust_env=trust_env)
        if isinstance(self._wire, HttpxWire):  # the caller's pool may hold fewer
            limits = replace(limits, max_connections=self._wire.ceiling)
        self._limits = limits
        self.traffic = Traffic(limits, self.policy(SHORT_PATIENCE_S), is_public=endpoints.is_public)

    async def aclose(self) -> None:
        """Close what is ours; a caller's client is not."""
        with anyio.CancelScope(shield=True):
            await self._wire.aclose()

    def policy(self, patience_s: float) -> RetryPolicy:
        """Return how long to go on trying: what was given, else what the kind of work deserves."""
        return self._retry or RetryPolicy(patience_s=patience_s)

    def mashup(self, patience_s: float) -> Mashup:
        """Return the query layer."""
        learnt = Learnt.from_dict(self._learnt.to_dict())  # a query's own: what one meets is not true of all
        return Mashup(
            self._wire, self.traffic, self.endpoints, self._limits, self.policy(patience_s), learnt=learnt
        )

    def harvester(self, via: str, n_waiting: Callable[[], int], staging: Staging) -> RoutedFetcher:
        """Return the fetcher of a harvest; `staging` takes what bundles bring until their ends are verified."""
        route = Route(via, is_offered=via != "auto" or self._learnt.bundles is not False)
        bundles = BundleFetcher(self._wire, self.traffic, self.endpoints, self._limits, route, staging)
        return RoutedFetcher(self._files(), bundles, self.traffic, route, n_waiting)

    def streamer(self, via: str) -> FileFetcher:
        """
        Return the fetcher of a stream.

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
        return self._files(at_data_urls=via == "fitscut")

    def _files(self, *, at_data_urls: bool = False) -> FileFetcher:
        return FileFetcher(
            self._wire,
            self.traffic,
            self.endpoints,
            self._limits,
            at_data_urls=at_data_urls,
            count=self.mashup(SHORT_PATIENCE_S).control,
        )


def _make_wire(client: Any, connections: int, *, is_private: bool, trust_env: bool) -> Wire:
    """Return the caller's client as a wire; else libcurl for cutouts and httpx for queries, or what there is."""
    agent = f"psfharvest/{__version__} (Python {platform.python_version()}; {platform.system()})"
    options: dict[str, Any] = {"is_private": is_private, "trust_env": trust_env}
    if client is not None or find_spec("pycurl") is None:
        return HttpxWire(client, connections=connections, user_agent=agent, **options)
    from psfharvest.archive.wires.curl import CurlWire  # noqa: PLC0415 - where libcurl is

    bulk = CurlWire(connections=connections, user_agent=agent, **options)
    if library_name() is None:
        return bulk
    from psfharvest.archive.wires.split_wire import SplitWire  # noqa: PLC0415 - as above

    make = partial(make_client, connections, agent, keeps_connections=False, **options)
    return SplitWire(bulk, make, connections=connections)
