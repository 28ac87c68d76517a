"""
Run the cases of the fault table, each as a harvest of its own folder, many at a time against one simulator.

A case owns its dataURIs, so a fault that is bound to one of them befalls no other case; it owns its client and its
connections, so a connection that one case ruins is no other's.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import anyio
import httpx

from psfharvest import Archive, Limits, Report, RetryPolicy
from psfharvest.simulator import Simulator
from psfharvest.simulator.http.record import Seen
from whole.fault_table import ATTEMPTS, Case

BATCH_SIZE = 12
"""Harvests that work at a time; as many that mostly wait, for a deadline of their own, are beside them."""
N_GOOD = 3
STEP = N_GOOD + 1
PATIENCE_S = 300.0
"""A harvest that takes longer hangs."""
POLICY = RetryPolicy(attempts=ATTEMPTS, first_delay_s=0.01, max_delay_s=0.02, patience_s=60)
_AT = {"good": ("ibc302ioq", 99.4127), "absent": ("ibc399zzq", 99.4127), "off": ("ibc302ioq", -9000.5)}


def uri_of(number: int, kind: str = "good", size_px: int = 21) -> str:
    """Return a dataURI that no other number has; the simulator draws a star for each."""
    root, x = _AT[kind]
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={root}_flt[1]&size={size_px}&x={x}&y=100.2683"
        f"&format=fits/{root}_{number}_F814W_flt_cutout.fits"
    )


@dataclass(frozen=True, eq=False)
class Spot:
    """One case on one wire, into one sink."""

    wire: str
    sink: str
    case: Case

    def __str__(self) -> str:
        return f"{self.wire}-{self.case.way}-{self.sink}-{self.case.name}"


@dataclass
class Run:
    """One harvest: what was asked for, and what came of it."""

    spot: Spot
    folder: Path
    first: int
    """Its first number; the next ones are its, too."""
    report: Report | None = None
    error: BaseException | None = None
    seen: list[Seen] = field(default_factory=list)
    """The requests that held its own dataURI, in order."""

    @property
    def mark(self) -> str:
        """A text that only the dataURI in question holds."""
        return f"_{self.first}_"

    @property
    def own(self) -> str:
        """The dataURI that the fault is about."""
        return uri_of(self.first, self.spot.case.row.own, self.spot.case.row.size_px)

    @property
    def good(self) -> list[str]:
        """The dataURIs beside it."""
        size_px = self.spot.case.row.size_px
        return [uri_of(self.first + k, size_px=size_px) for k in range(1, N_GOOD + 1)]

    @property
    def uris(self) -> list[str]:
        """All, in asking order: a file's own one first, on a fresh connection; a bundle's last, past a cut."""
        is_first = self.spot.case.way == "file"
        return [self.own, *self.good] if is_first else [*self.good, self.own]


def run_all(simulator: Simulator, spots: Sequence[Spot], base: Path) -> dict[Spot, Run]:
    """Carry out all; what one raises is kept with it."""
    numbers = range(1_000_000, 1_000_000 + STEP * len(spots), STEP)
    runs = [Run(spot, base / str(first), first) for spot, first in zip(spots, numbers, strict=True)]
    simulator.faults = [fault for run in runs for fault in run.spot.case.faults(run.mark)]
    simulator.forget()
    anyio.run(_run_all, simulator, runs)
    simulator.faults = []
    by_uri = {run.own: run for run in runs}
    for seen in simulator.requests:
        for uri in seen.uris:
            if uri in by_uri:
                by_uri[uri].seen.append(seen)
    return {run.spot: run for run in runs}


async def _run_all(simulator: Simulator, runs: Sequence[Run]) -> None:
    rooms = {is_slow: anyio.CapacityLimiter(BATCH_SIZE) for is_slow in (False, True)}
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(_run_one, simulator, run, rooms[run.spot.case.row.is_slow])


async def _run_one(simulator: Simulator, run: Run, room: anyio.CapacityLimiter) -> None:
    row = run.spot.case.row
    limits = Limits(
        max_connections=2,
        timeout_s=row.timeout_s,
        total_timeout_s=row.total_timeout_s,
        max_body_bytes=2**20,
    )
    async with room, AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(_client()) if run.spot.wire == "httpx" else None
            archive = await stack.enter_async_context(
                Archive(simulator.url, client=client, limits=limits, retry=POLICY)
            )
            with anyio.fail_after(PATIENCE_S):
                run.report = await archive.harvest(run.uris, run.folder, sink=run.spot.sink, via=run.spot.case.way)
        except Exception as error:  # noqa: BLE001 - one case's, told by its test
            run.error = error


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=_context())


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
