"""``harvest --dry-run``: what a harvest would take, from counts and a few measured cutouts."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from psfharvest.cli import unmatched
from psfharvest.cli.output import result, result_json, say
from psfharvest.core import estimate, ranges
from psfharvest.core.catalog import criterion
from psfharvest.core.catalog.query import Query, replace_query
from psfharvest.core.errors import ArchiveError, BadURI
from psfharvest.core.estimate import SizeClass
from psfharvest.core.fits import datauri
from psfharvest.core.model import BadLine, Limits, WantedURI
from psfharvest.run import uri_lists
from psfharvest.run.line_stream import LineStream, is_read_once
from psfharvest.run.targets import targets_of
from psfharvest.show.durations import clock
from psfharvest.store.folder import is_harvest
from psfharvest.store.read.account import account
from psfharvest.store.sink_kinds import is_synced

if TYPE_CHECKING:
    from psfharvest.client import Archive
    from psfharvest.run import What

MOST_PROBES = 4
SHARD_BYTES = 10**9
REMEMBERED = 2_000_000
"""Lines of a list among which doubles are found."""


@dataclass(slots=True)
class Plan:
    """What is wanted, how many of which kind, and what was measured."""

    sources: int = 0
    cutouts: Counter[SizeClass] = field(default_factory=Counter)
    bad_lines: int = 0
    examples: dict[SizeClass, str] = field(default_factory=dict)
    header_bytes: dict[str, int] = field(default_factory=dict)
    measured_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def n_cutouts(self) -> int:
        """Number of cutouts."""
        return self.cutouts.total()

    @property
    def bytes(self) -> int:
        """Size of all cutouts."""
        return sum(n * kind.size_bytes(self.header_bytes) for kind, n in self.cutouts.items())

    @property
    def single_s(self) -> float:
        """Time of one cutout on one connection."""
        return sum(self.measured_s) / len(self.measured_s) if self.measured_s else estimate.PUBLISHED_S


async def make_plan(
    archive: Archive, what: What | Path, suffixes: Sequence[str], *, unsat_size: int, sat_size: int
) -> Plan:
    """
    Return what is wanted: counted by the archive for queries, read from a list; then measured on a few cutouts.

    Raises
    ------
    BadInput, ArchiveDown
        As the harvest would.
    """
    plan = Plan()
    for query, chosen in targets_of(what, suffixes):
        if isinstance(query, Query):
            await _plan_query(archive, plan, query, chosen, unsat_size, sat_size)
        else:
            await _plan_list(plan, query)
    for kind, uri in list(plan.examples.items())[:MOST_PROBES]:
        await _measure(archive, plan, kind, uri)
    return plan


async def _plan_query(
    archive: Archive, plan: Plan, query: Query, suffixes: Sequence[str], unsat_size: int, sat_size: int
) -> None:
    chosen = query.detector.check_suffixes(list(suffixes))
    for name, side_px in (("unsat_size", unsat_size), ("sat_size", sat_size)):
        ranges.SIDE_PX.check(name, side_px)
    everything = await archive.count(replace_query(query, limit=None))
    n = everything if query.limit is None else min(everything, query.limit)
    if not everything:
        plan.notes += await unmatched.explain(archive, query)
    if not n:
        return
    saturated = 0
    if unsat_size != sat_size and all(c.column != "qfit" for c in query.criteria):
        of_saturated = replace_query(query, criteria=(*query.criteria, criterion.of("qfit", 0)), limit=None)
        saturated = round(await archive.count(of_saturated) * n / everything)
    plan.sources += n
    rows = await archive.query(replace_query(query, limit=1, columns=None, wants_all=False))
    for suffix in chosen:
        for side_px, count in ((unsat_size, n - saturated), (sat_size, saturated)):
            plan.cutouts[SizeClass(suffix, side_px)] += count
        try:
            parts = datauri.build(
                dict(rows[0]), query.detector, suffix, unsat_size_px=unsat_size, sat_size_px=sat_size
            )
        except (BadURI, IndexError):
            continue
        plan.examples.setdefault(SizeClass(suffix, parts.size_px), str(parts))


async def _plan_list(plan: Plan, what: Any) -> None:
    seen: set[int] = set()
    async with aclosing(_lines(what)) as lines:
        async for line in lines:
            if isinstance(line, BadLine):
                plan.bad_lines += 1
                continue
            key = hash(line.uri)
            if key in seen:
                continue
            if len(seen) < REMEMBERED:
                seen.add(key)
            kind = SizeClass(line.parts.suffix, line.parts.size_px) if line.parts else SizeClass("", 0)
            plan.cutouts[kind] += 1
            plan.examples.setdefault(kind, line.uri)


async def _lines(what: Any) -> AsyncGenerator[WantedURI | BadLine, None]:
    if isinstance(what, Path) and is_read_once(what):
        what = LineStream(what)
    if isinstance(what, Path):
        await anyio.to_thread.run_sync(uri_lists.identity, what)
        batches = uri_lists.from_file(what, 0, 0)
        while (batch := await anyio.to_thread.run_sync(next, batches, None)) is not None:
            for asked in batch.asked:
                yield asked
        return
    async with aclosing(what):
        await what.open()
        number = 0
        async for text in what:
            number += 1
            line = uri_lists.read_line(text, number)
            if line is not None:
                yield line


async def _measure(archive: Archive, plan: Plan, kind: SizeClass, uri: str) -> None:
    began = time.monotonic()
    try:
        cutout = await archive.fetch(uri)
    except ArchiveError as error:
        plan.notes.append(f"sizes of {kind} are estimated: {error}")
        return
    plan.measured_s.append(time.monotonic() - began)
    plan.header_bytes[kind.suffix] = len(cutout.raw) - (estimate.image_bytes(kind.side_px) if kind.side_px else 0)


def show(
    plan: Plan, folder: Path, archive: Archive, limits: Limits, *, sink: str | None, via: str, as_json: bool
) -> None:
    """Print what `plan` takes in `folder`: a table, or one JSON object."""
    connections = limits.connections(is_public=archive.endpoints.is_public)
    figures: dict[str, Any] = {
        "sources": plan.sources,
        "cutouts": plan.n_cutouts,
        "bytes": plan.bytes,
        "inodes": _inodes(plan, sink),
        "requests": estimate.count_requests(
            plan.n_cutouts, plan.sources, limits.page_rows, is_bundled=via == "bundle"
        ),
        "seconds": round(estimate.duration_s(plan.n_cutouts, connections, plan.single_s, limits.max_per_second), 1),
        "connections": connections,
        **_free(folder),
        "bad_lines": plan.bad_lines,
        "sizes": {str(kind): kind.size_bytes(plan.header_bytes) for kind in sorted(plan.cutouts)},
    }
    if is_harvest(folder):
        figures["done"] = account(folder).done
    for note in [*plan.notes, *_warnings(figures, folder)]:
        say(note)
    if as_json:
        result_json(figures)
        return
    _table(plan, figures, folder)


def _table(plan: Plan, figures: dict[str, Any], folder: Path) -> None:
    kinds = [
        (f"{n:,}", f"{kind}: {kind.size_bytes(plan.header_bytes):,} bytes each")
        for kind, n in sorted(plan.cutouts.items())
        if n
    ]
    how = f"{plan.single_s:.2f} s each ({'measured' if plan.measured_s else 'published'}), "
    how += f"{figures['connections']} connections"
    lines = [
        ("sources", f"{figures['sources']:,}" if plan.sources else "-", ""),
        ("cutouts", f"{figures['cutouts']:,}", ""),
        *(("", n, words) for n, words in kinds),
        ("stored", f"{figures['bytes'] / 1e6:,.1f} MB", f"{figures['inodes']:,} files and folders"),
        ("free", f"{figures['free_bytes'] / 1e6:,.1f} MB", f"where {folder} is to be"),
        ("requests", f"{figures['requests']:,}", "at most"),
        ("time", clock(round(figures["seconds"])), how),
    ]  # fmt: skip
    if "done" in figures:
        lines.append(("done", f"{figures['done']:,}", f"in {folder} already"))
    for name, figure, words in lines:
        result(f"{name:>10} {figure:>14}  {words}".rstrip())
    result("nothing was made; the same command without --dry-run begins")


def _inodes(plan: Plan, sink: str | None) -> int:
    if is_synced(sink):
        return 2 + -(-plan.bytes // SHARD_BYTES)
    exposures = min(plan.n_cutouts, max(1, plan.sources))
    return plan.n_cutouts + (exposures + 2 if plan.n_cutouts else 0)


def _free(folder: Path) -> dict[str, int | None]:
    """Return free bytes and inodes of the file system on which the folder is, or would be."""
    at = folder.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    inodes = os.statvfs(at).f_favail if hasattr(os, "statvfs") else 0
    return {"free_bytes": shutil.disk_usage(at).free, "free_inodes": inodes or None}


def _warnings(figures: dict[str, Any], folder: Path) -> list[str]:
    found = []
    if figures["bytes"] > figures["free_bytes"]:
        found.append(f"{folder}: more bytes are needed than are free; another disk, or --max-bytes, is needed")
    if figures["free_inodes"] is not None and figures["inodes"] > figures["free_inodes"]:
        found.append(f"{folder}: more files are needed than inodes are free; --sink shards needs few")
    return found
