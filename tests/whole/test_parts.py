"""A query in parts, each a harvest of its own, merged again; ceilings and pauses that change while work goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfharvest import Archive, BadInput, Harvest, Limits, Part, Query
from psfharvest.core.catalog.partition import WHOLE
from psfharvest.simulator import Simulator
from psfharvest.store.merge import merge, result
from psfharvest.store.recover.verification import verify

QUERY = Query("UVIS", filter="F606W")


def uris_of(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = db.execute("SELECT uri FROM cutout").fetchall()
    db.close()
    assert len(rows) == len(set(rows))
    return {uri for (uri,) in rows}


async def planned(archive: Archive, query: Query, part_rows: int) -> list[Part]:
    return [part async for part in archive.plan(query, part_rows)]


def check_cover(parts: Sequence[Part], low: int, high: int) -> None:
    """Parts are ascending, touch each other, and reach from end to end."""
    assert (low, high) == (parts[0].low, parts[-1].high)
    assert all(one.high + 1 == other.low for one, other in zip(parts, parts[1:], strict=False))


async def test_a_plan_covers_the_query_by_counts_alone(simulator: Simulator) -> None:
    """No part is larger than asked, and there are about as many requests as parts."""
    async with Archive(simulator.url) as archive:
        total = await archive.count(QUERY)
        before = simulator.count("query")
        parts = await planned(archive, QUERY, 20)

    check_cover(parts, *WHOLE)
    assert total == sum(part.n for part in parts)
    assert max(part.n for part in parts) <= 20
    assert len(parts) > 3
    assert simulator.count("query") - before <= 4 * len(parts) + 60
    assert simulator.count("file") == simulator.count("bundle") == 0


async def test_a_users_own_ids_and_limit_survive(simulator: Simulator) -> None:
    """Parts of a range of ids, of a list of ids and of a query with a limit hold just these."""
    async with Archive(simulator.url) as archive:
        ids = [int(n) for n in (await archive.query(Query("UVIS", limit=60)))["id"]]
        ranged = await planned(archive, Query("UVIS", id=(ids[5], ids[30])), 10)
        listed = await planned(archive, Query("UVIS", id=ids[10:40]), 10)
        limited = await planned(archive, Query("UVIS", limit=25), 10)

    check_cover(ranged, ids[5], ids[30])
    assert (26, 30, 25) == tuple(sum(part.n for part in parts) for parts in (ranged, listed, limited))


@pytest.mark.campaign
async def test_merged_parts_are_the_whole_harvest(simulator: Simulator, tmp_path: Path) -> None:
    """What the parts hold together is what the query's own harvest holds, and its command asks for nothing more."""
    query = Query("UVIS", limit=60)
    async with Archive(simulator.url) as archive:
        await archive.harvest(query, tmp_path / "whole", suffixes=["flc"])
        parts = await planned(archive, query, 25)
        folders = [tmp_path / f"{n}" for n in range(len(parts))]
        for part, folder in zip(parts, folders, strict=True):
            report = await archive.harvest(query, folder, suffixes=["flc"], part=part)
            assert (0, part.n) == (report.exit_status, report.done)
            assert part.n == (await archive.harvest(query, folder, suffixes=["flc"], part=part)).done
        assert len(parts) > 1
        list(merge(folders[:1], tmp_path / "some"))
        assert 75 == result(tmp_path / "some").exit_status
        list(merge(folders, tmp_path / "all"))
        assert 0 == result(tmp_path / "all").exit_status
        simulator.forget()
        again = await archive.harvest(query, tmp_path / "all", suffixes=["flc"])
        assert (60, 0) == (again.done, again.requests)
        assert not simulator.requests
        rest = await archive.harvest(query, tmp_path / "some", suffixes=["flc"])
        assert (0, 60) == (rest.exit_status, rest.done)

    assert uris_of(tmp_path / "whole") == uris_of(tmp_path / "all") == uris_of(tmp_path / "some")
    assert 0 == verify(tmp_path / "all").broken
    assert 60 == len(Harvest(tmp_path / "all").table())


async def test_the_ceiling_may_change_while_it_runs(simulator: Simulator, tmp_path: Path) -> None:
    """0 holds a harvest: nothing is open or sent; raised again, it goes on within the new ceiling."""
    async with Archive(simulator.url, limits=Limits(max_connections=8)) as archive:
        await archive.limit(0)
        simulator.forget()
        async with anyio.create_task_group() as group:

            async def harvest() -> None:
                report = await archive.harvest(
                    Query("UVIS", limit=150), tmp_path / "d", suffixes=["flc"], via="file"
                )
                assert 150 == report.done

            group.start_soon(harvest)
            await anyio.sleep(0.3)
            assert not simulator.requests
            await archive.limit(2)
            while simulator.count("file") < 20:  # noqa: ASYNC110 - the server knows no event
                await anyio.sleep(0.01)
            await archive.limit(0)
            n = simulator.count("any")
            await anyio.sleep(0.3)
            assert n == simulator.count("any")
            assert simulator.peak_in_flight <= 2
            await archive.limit(8)


async def test_a_hold_delays_what_comes_next(simulator: Simulator) -> None:
    """Nothing is sent before it is over."""
    async with Archive(simulator.url) as archive:
        await archive.count(QUERY)
        began_at = anyio.current_time()
        archive.hold(0.4)
        await archive.count(QUERY)

        assert anyio.current_time() - began_at >= 0.4


@settings(max_examples=10)
@given(number=st.sampled_from([-1, 1.5, float("nan"), 10**9]))
def test_what_is_no_ceiling_is_refused(number: float) -> None:
    """Numbers outside the range are named."""

    async def refuse() -> None:
        async with Archive("http://127.0.0.1:9") as archive:
            with pytest.raises(BadInput):
                await archive.limit(number)  # type: ignore[arg-type]

    anyio.run(refuse)
