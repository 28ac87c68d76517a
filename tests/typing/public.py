"""Typed uses of the public names: checked by mypy and pyright, run by nobody."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from astropy.table import Table

import psfharvest
from psfharvest import (
    Archive,
    Cutout,
    CutoutStream,
    DetectorName,
    Harvest,
    LayoutName,
    Limits,
    Outcome,
    Progress,
    Query,
    Report,
    RetryPolicy,
    SinkName,
    State,
    SuffixName,
    Tally,
    ViaName,
    blocking,
    events,
)
from psfharvest.simulator import AsgiArchive, asgi


async def in_an_async_program(query: Query, folder: Path) -> None:
    async with Archive(limits=Limits(max_connections=4), retry=RetryPolicy(attempts=3)) as archive:
        assert_type(await archive.count(query), int)
        table: Table = await archive.query(query)
        assert_type(len(table), int)
        async with archive.stream(query, suffixes=["flc"]) as cutouts:
            assert_type(cutouts, CutoutStream)
            async for cutout in cutouts:
                assert_type(cutout, Cutout)
            assert_type(list(cutouts.failures), list[Outcome])
        report = await archive.harvest(query, folder, suffixes=["flc"], sink="shards", progress=seen)
        assert_type(report, Report)
        assert_type(report.done, int)
        assert_type(await archive.fetch("mast:WFC3PSF/some/file.fits"), Cutout)


def seen(progress: Progress) -> None:
    assert_type(progress.expected, int | None)
    assert_type(progress.tally, Tally)


def told(event: events.Event) -> None:
    if isinstance(event, events.Settled):
        assert_type(event.done, int)
        assert_type(event.durations, tuple[int, ...])
    elif isinstance(event, events.Ended):
        assert_type(event.report, Report)


def chosen(detector: DetectorName, suffix: SuffixName, via: ViaName, sink: SinkName, layout: LayoutName) -> None:
    with psfharvest.blocking.Archive(events=told) as archive:
        query = Query(detector, filter="F606W")
        archive.harvest(query, "stars", suffixes=[suffix], via=via, sink=sink, layout=layout)


async def misspelt(archive: Archive, query: Query) -> None:
    Query("UVSI")  # type: ignore[arg-type]
    await archive.harvest(query, "stars", suffixes=["ftl"])  # type: ignore[list-item]
    await archive.harvest(query, "stars", suffixes=["flt"], via="bundles")  # type: ignore[arg-type]
    await archive.harvest(query, "stars", suffixes=["flt"], sink="shard")  # type: ignore[arg-type]
    await archive.harvest(query, "stars", suffixes=["flt"], layout="trees")  # type: ignore[arg-type]


def without_a_socket() -> None:
    assert_type(asgi(), AsgiArchive)


def in_a_script(query: Query) -> None:
    with blocking.Archive() as archive:
        assert_type(archive.count(query), int)
        assert_type(archive.harvest(query, "stars", suffixes=["flt"]), Report)


def reading_back(folder: str) -> None:
    stars = Harvest(folder)
    assert_type(len(stars), int)
    assert_type(stars[0], Cutout)
    assert_type(stars[:10], Harvest)
    assert_type(stars.select(filter="F606W", state=State.DONE), Harvest)
    for cutout in stars:
        assert_type(cutout.uri, str)
        assert_type(cutout.raw, bytes)
