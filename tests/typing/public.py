"""Typed uses of the public names: checked by mypy and pyright, run by nobody."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from astropy.table import Table

from psfharvest import Archive, Cutout, Harvest, Limits, Progress, Query, Report, RetryPolicy, State, blocking


async def in_an_async_program(query: Query, folder: Path) -> None:
    async with Archive(limits=Limits(max_connections=4), retry=RetryPolicy(attempts=3)) as archive:
        assert_type(await archive.count(query), int)
        table: Table = await archive.query(query)
        assert_type(len(table), int)
        async with archive.stream(query, suffixes=["flc"]) as cutouts:
            async for cutout in cutouts:
                assert_type(cutout, Cutout)
        report = await archive.harvest(query, folder, suffixes=["flc"], sink="shards", progress=seen)
        assert_type(report, Report)
        assert_type(report.done, int)
        assert_type(await archive.fetch("mast:WFC3PSF/some/file.fits"), Cutout)


def seen(progress: Progress) -> None:
    assert_type(progress.expected, int | None)


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
