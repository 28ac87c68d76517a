"""
The table: which clients meet on which server, and the ratios to reach.

The law: a target compares two figures of the same run, or one with what the server's latency allows at best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import machine, peers, place, server
from benchmarks.measure import Series, Terms, rounds
from benchmarks.peers import Client

SHARDS, FILES, BUNDLES = "psfharvest, shards", "psfharvest, files", "psfharvest, bundles"
CURL_AND_TAR = "curl + tar"
CURL, ARIA2C, PARFIVE, REQUESTS = "curl --parallel", "aria2c", "parfive", "requests + pool"
SAME_JOB = "curl, sha256sum, check"
"""What has to be done by hand for what a harvest promises, timed together."""
ALL = (SHARDS, FILES, CURL, SAME_JOB, "wget2", ARIA2C, "aiohttp", PARFIVE, "httpx", REQUESTS)
LATENCY_S = 0.15
STORED_BYTES = 21_000
"""What a cutout takes on a disk, at most: as a file, or in a shard with what stands beside it there."""
FIRST_WAVES = 2
"""Requests that each connection sends in the small run, where the server is slow."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One server, one kind of place, one number of connections, and who meets there."""

    name: str
    title: str
    clients: tuple[str, ...]
    on: Literal["ext4", "tmpfs"] = "ext4"
    connections: int = 32
    tls: bool = False
    latency_s: float = 0.0
    is_bundled: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio to reach: of rates, or of rates per core, to a peer's or to a plain number."""

    scenario: str
    ours: str
    versus: str | float
    wanted: float
    unit: Literal["per_s", "per_cpu_s"] = "per_s"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    seconds: float
    """What the large run of a client should take, about."""
    waves: int
    """Requests that each connection sends in the large run, where the server is slow."""
    n_rounds: int
    image: Path
    """A folder with room for the image of a fresh ext4."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario gave."""

    scenario: Scenario
    server: str
    place: str
    write_mb_per_s: float
    series: list[Series]
    absent: list[str]


SCENARIOS = (
    Scenario("loopback-ext4", "loopback, 32 connections, fresh ext4", ALL),
    Scenario(
        "loopback-tmpfs",
        "loopback, 32 connections, in memory",
        (SHARDS, FILES, CURL, SAME_JOB, "aiohttp"),
        on="tmpfs",
    ),
    Scenario(
        "tls-ext4",
        "loopback over TLS, 32 connections, fresh ext4",
        (SHARDS, FILES, CURL, SAME_JOB, ARIA2C),
        tls=True,
    ),
    *(
        Scenario(
            f"latency-{n}",
            f"a server with {LATENCY_S * 1000:.0f} ms latency, {n} connections, in memory",
            (SHARDS, CURL, ARIA2C, "aiohttp", "httpx"),
            on="tmpfs",
            connections=n,
            latency_s=LATENCY_S,
        )
        for n in (64, 256)
    ),
    Scenario(
        "bundles",
        f"bundles of about {peers.BUNDLE_SIZE:,}, fresh ext4",
        (BUNDLES, CURL_AND_TAR, "requests + tarfile"),
        is_bundled=True,
    ),
)

TARGETS = (
    Target("loopback-ext4", SHARDS, CURL, 1.5),
    Target("loopback-tmpfs", SHARDS, CURL, 1.2),
    Target("tls-ext4", SHARDS, CURL, 1.5),
    Target("loopback-ext4", FILES, CURL, 1.0),
    Target("loopback-tmpfs", FILES, CURL, 0.75),
    Target("tls-ext4", FILES, CURL, 1.0),
    Target("loopback-ext4", FILES, SAME_JOB, 1.0),
    Target("loopback-tmpfs", FILES, SAME_JOB, 1.0),
    Target("loopback-ext4", FILES, PARFIVE, 5.0),
    Target("loopback-ext4", FILES, ARIA2C, 3.0),
    Target("loopback-ext4", FILES, REQUESTS, 15.0),
    Target("latency-64", SHARDS, 64 / LATENCY_S, 0.95),
    Target("latency-256", SHARDS, 256 / LATENCY_S, 0.95),
    Target("bundles", BUNDLES, 6_000.0, 1.0, unit="per_cpu_s"),
)


def play(scenario: Scenario, effort: Effort, python: str, tell: Callable[[str], None]) -> Outcome:
    """
    Run one scenario.

    Parameters
    ----------
    scenario
        Which.
    effort
        How long.
    python
        The interpreter that has the peers written in Python.
    tell
        Receives progress.
    """
    everyone = peers.bundlers(python) if scenario.is_bundled else peers.everyone(python)
    invited = [client for client in everyone if client.name in scenario.clients]
    clients = [client for client in invited if client.version is not None]
    sizes = {client.name: _sizes(client, scenario, effort) for client in clients}
    cores = machine.cores()
    with server.pinned(cores.server), _server(scenario, cores.server) as where:
        is_static = not scenario.is_bundled and where.name != server.SIMULATOR
        body_bytes = len(server.cutout()) if is_static else None
        terms = Terms(where, scenario.connections, cores.client, body_bytes, effort.n_rounds)
        with _place(scenario, {}, effort)() as probe:
            name, write_mb_per_s = probe.name, probe.write_mb_per_s()
        tell(f"{scenario.title}: {where.name}, on {name} ({write_mb_per_s:,.0f} MB/s written durably)")
        series = rounds(clients, sizes, terms, _place(scenario, sizes, effort), tell)
    absent = [client.name for client in invited if client.version is None]
    return Outcome(scenario, where.name, name, write_mb_per_s, series, absent)


def ratio(target: Target, outcome: Outcome) -> float | None:
    """
    Return what a target's client reached.

    Parameters
    ----------
    target
        Which.
    outcome
        Of its scenario.

    Returns
    -------
    float or None
        None where one of the two has no figure.
    """
    figures = {one.client.name: getattr(one, target.unit) for one in outcome.series}
    ours = figures.get(target.ours)
    theirs = figures.get(target.versus) if isinstance(target.versus, str) else target.versus
    return ours / theirs if ours and theirs else None


def _sizes(client: Client, scenario: Scenario, effort: Effort) -> tuple[int, int]:
    """Return a small and a large number of cutouts."""
    n = scenario.connections
    if not scenario.latency_s:
        large = max(10 * n, int(client.per_s * effort.seconds))
        return large // 10, large
    # A slow client takes more than the latency for a wave: what it sends is bounded by what it can manage.
    manageable = int(client.per_s * effort.seconds * 32 / n)
    return FIRST_WAVES * n, FIRST_WAVES * n + min(effort.waves * n, max(FIRST_WAVES * n, manageable))


def _server(scenario: Scenario, core: int | None) -> AbstractContextManager[server.Server]:
    if scenario.is_bundled:  # a bundle is made of what was asked for: no static file can be one
        return server.simulated(core)
    return server.static(core, tls=scenario.tls, latency_s=scenario.latency_s)


def _place(
    scenario: Scenario, sizes: dict[str, tuple[int, int]], effort: Effort
) -> Callable[[], AbstractContextManager[place.Place]]:
    if scenario.on == "tmpfs":
        return lambda: place.memory(STORED_BYTES * max((large for _, large in sizes.values()), default=0))
    n_files = sum(small + large for small, large in sizes.values())

    @contextmanager
    def ext4() -> Iterator[place.Place]:
        with place.fresh_ext4(STORED_BYTES * n_files, n_files, effort.image) as where:
            yield where

    return ext4
