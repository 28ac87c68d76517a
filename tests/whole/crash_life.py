"""
What a life does: one harvest, or one command, in a process that may be killed at any instant.

Everything is the package's own, put together as `Archive.harvest` does it; only shards and journals are made small,
by their own parameters, so that they are rolled many times in a small harvest.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx

from psfharvest import Archive, Limits, Query, Report, RetryPolicy
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.auto import RoutedFetcher
from psfharvest.archive.fetch.bundle import BundleFetcher
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.archive.wires.base import Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.errors import PsfharvestError
from psfharvest.core.policy.route import Route
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.run import Run, query_target, uri_lists
from psfharvest.store import folder as folders
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.targets import Target
from psfharvest.store.sinks.parquet import ParquetSink
from psfharvest.store.sinks.shards import ShardSink
from psfharvest.store.staging import StagingFolder
from whole import crash_points

BROKEN = 99
"""The exit status of a life that ended by an error that is none of ours."""
CONNECTIONS = 8
PAGE_ROWS = 35
ROLL_BYTES = 80_000
"""Shards and journals are full at this size."""
STAGED_IN_MEMORY_BYTES = 30_000
"""Of a bundle whose end is to come; the rest of it goes to the disk."""
SIZES = {"unsat_size": 21, "sat_size": 31}


def query(x_max: float = 190) -> Query:
    """Return the query that lives ask: the sources up to a column of the detector."""
    return Query("UVIS", psf_x_center=(0, x_max))


def warm_up() -> None:
    """Import what lives will need, and start nothing."""
    for name in (
        "anyio._backends._asyncio", "certifi", "encodings.idna", "httpcore", "httpx", "mimetypes", "pandas",
        "pyarrow.parquet", "pycurl",
        "psfharvest.client", "psfharvest.archive.wires.curl", "psfharvest.show.progress",
        "psfharvest.store.read.account", "psfharvest.store.recover.audit", "psfharvest.store.read.search",
        "psfharvest.simulator", *(f"psfharvest.cli.{name}" for name in ("harvest", "simulate", "status", "verify")),
    ):  # fmt: skip
        importlib.import_module(name)


def live(life: dict[str, Any]) -> int:
    """
    Live, and return the exit status.

    Parameters
    ----------
    life
        ``words``: a command line; else a harvest by ``folder, url, wire, sink, via, list`` (or none: the query),
        ``rolls``: with small shards and journals. ``point, nth``, or ``nth`` alone: where to die. ``limits``: of
        resources, by their names; a file that grows too long is an error, or with ``is_torn`` the end.
        ``spare_files``: how many files may be open beside those that are. ``is_plain``: without the power to write
        where nobody may. ``events, trail``: points, and the file into which their names go as they are passed.
        ``x_max``: how far the query goes. ``page_rows, timeout_s, patience_s``: limits of the harvest. ``clock``:
        the file from which libfaketime, where it is loaded, reads by how much the wall clock is wrong.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _set_limits(life)
    if "clock" in life:
        os.environ["FAKETIME_TIMESTAMP_FILE"] = life["clock"]
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if life.get("is_torn") else signal.SIG_IGN)
    if life.get("is_plain"):
        _give_up_power()
    if "events" in life:
        crash_points.leave_trail([crash_points.Point(*event) for event in life["events"]], life["trail"])
    if "nth" in life:
        points = [crash_points.point_named(life["point"], life["sink"])] if "point" in life else []
        crash_points.die_at(points, life["nth"])
    if "words" in life:
        return _command(life["words"])
    try:
        report = anyio.run(_harvest, life)
    except PsfharvestError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_status
    sys.stdout.write(f"{json.dumps(report.to_dict())}\n")
    return report.exit_status


def _set_limits(life: dict[str, Any]) -> None:
    for name, value in life.get("limits", {}).items():
        number = getattr(resource, name)
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    if "spare_files" in life:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + life["spare_files"],) * 2)


def _give_up_power() -> None:
    """Let root be bound by the modes of files, as everybody is; only Linux lets root give its power up in parts."""
    if os.geteuid() == 0:
        version_3 = 0x20080522
        header = (ctypes.c_uint32 * 2)(version_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None, use_errno=True).capset(header, nothing) == 0, os.strerror(ctypes.get_errno())


def _command(words: list[str]) -> int:
    from psfharvest.cli import main

    sys.argv = ["psfharvest", *words]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("the command line always exits")


def _query(life: dict[str, Any]) -> Query:
    return query(life.get("x_max", 190))


async def _harvest(life: dict[str, Any]) -> Report:
    limits = Limits(
        max_connections=CONNECTIONS, page_rows=life.get("page_rows", PAGE_ROWS), timeout_s=life.get("timeout_s")
    )
    retry = RetryPolicy(first_delay_s=0.05, max_delay_s=0.2, patience_s=life.get("patience_s", 30))
    async with contextlib.AsyncExitStack() as stack:
        client = None
        if life["wire"] == "httpx":
            client = await stack.enter_async_context(httpx.AsyncClient(verify=False, trust_env=False))
        if life.get("rolls"):
            wire = HttpxWire(client) if client else CurlWire(connections=CONNECTIONS)
            stack.push_async_callback(wire.aclose)
            return await _harvest_rolling(life, wire, limits, retry)
        archive = await stack.enter_async_context(Archive(life["url"], client=client, limits=limits, retry=retry))
        what: Any = Path(life["list"]) if life.get("list") else _query(life)
        words: dict[str, Any] = {} if life.get("list") else {"suffixes": ["flt"], **SIZES}
        more = {"via": life["via"], "sink": life["sink"], "fsync": life.get("fsync", False)}
        return await archive.harvest(what, life["folder"], **words, **more)


async def _harvest_rolling(life: dict[str, Any], wire: Wire, limits: Limits, retry: RetryPolicy) -> Report:
    """Do what `Archive.harvest` does, into shards and journals that are soon full."""
    folder, settings = Path(life["folder"]), folders.Settings(life["sink"])
    endpoints, limiter, route = (
        Endpoints(life["url"], ""),
        ArchiveLimiter(limits, retry, is_public=False, is_queued=wire.depth > 0).share(),
        Route(life["via"]),
    )
    mashup = Mashup(wire, limiter, endpoints, limits, retry)
    files = FileFetcher(wire, limiter, endpoints, limits, count=mashup.control)
    if life.get("list"):
        path = Path(life["list"])
        target = Target("file", uri_lists.identity(path), {"path": str(path)})
    else:
        sizes = {"unsat_size_px": SIZES["unsat_size"], "sat_size_px": SIZES["sat_size"]}
        asked = _query(life)
        target = query_target(asked, ["flt"], n_sources=await mashup.count(asked), **sizes)
    opened = folders.old_folder if folders.is_harvest(folder) else folders.new_folder
    in_thread = anyio.to_thread.run_sync
    with contextlib.ExitStack() as stack:
        manifest = await in_thread(stack.enter_context, opened(folder, settings))
        todo = await in_thread(lambda: folders.todo(manifest, [target], extend=False))
        sink = await in_thread(_rolling_sink, folder, manifest)
        staging = await in_thread(stack.enter_context, contextlib.closing(StagingFolder(folder)))
        bundles = BundleFetcher(
            wire, limiter, endpoints, limits, route, staging, memory_bytes=STAGED_IN_MEMORY_BYTES
        )
        fetcher = RoutedFetcher(files, bundles, limiter, route, lambda: manifest.tally().pending)
        report = await Run(manifest, sink, todo, mashup, fetcher, limiter, retry, folder).run()
        await in_thread(sink.close)
        return report


def _rolling_sink(folder: Path, manifest: Manifest) -> ShardSink | ParquetSink:
    def claimed() -> tuple[int, int]:
        return manifest.setting("shard", 0), manifest.setting("shard_end", 0)

    shard, end = claimed()
    if manifest.setting("sink") == "shards":
        return ShardSink(folder, shard=shard, end=end, shard_bytes=ROLL_BYTES)
    return ParquetSink(folder, shard=shard, end=end, claimed=claimed, journal_bytes=ROLL_BYTES)
