"""A folder with a plan and its parts, harvested one by one, for tests of what comes after."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from psfharvest import Archive, Part, Query, RetryPolicy
from psfharvest.run.rows import query_target
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget, folder_of

QUERY = Query("UVIS", limit=90)


def make_parts(
    url: str,
    folder: Path,
    *,
    sink: str = "shards",
    n_harvested: int | None = None,
    retry: RetryPolicy | None = None,
) -> list[Part]:
    """Plan `QUERY` and harvest its first parts, all by default."""

    async def make() -> list[Part]:
        async with Archive(url, retry=retry) as archive:
            parts = [part async for part in archive.plan(QUERY, 40)]
            target = query_target(QUERY, ["flc"], n_sources=90, unsat_size_px=51, sat_size_px=101)
            planned = [PlannedPart(0, part.low, part.high, part.n) for part in parts]
            (folder / PARTS_NAME).mkdir(parents=True)
            Plan([PlannedTarget("query", target.identity, target.spec)], sink, planned).write(folder)
            for n, part in list(enumerate(parts))[:n_harvested]:
                home = folder_of(folder, n)
                report = await archive.harvest(QUERY, home, suffixes=["flc"], part=part, sink=sink, via="file")
                assert part.n == report.total
            return parts

    return anyio.run(make)


def states_of(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Return state and hash of each cutout of a merged folder; each dataURI and place is there once."""
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = db.execute("SELECT uri, state, sha256, location FROM cutout").fetchall()
    db.close()
    done = [location for _, state, _, location in rows if state == "done"]
    assert len(rows) == len({row[0] for row in rows})
    assert len(done) == len(set(done))
    return {uri: (state, sha256) for uri, state, sha256, _ in rows}
