"""Columns and rows of a folder are the same, however its catalogue rows lie: blocks, pages, suffixes, layouts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from psfharvest import Archive, BadQuery, Harvest, Query
from psfharvest.core.model import Outcome, State
from psfharvest.run.rows import uris_of
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.manifest.manifest import Manifest, Stored

NAMES = ["id", "rootname", "filter", "chip", "psf_x_center", "psf_y_center", "psf_flux", "qfit", "n_sat_pixels",
         "focus", "x_raw", "y_raw", "x_cal", "y_cal", "more", "proptype"]  # fmt: skip
N_ROWS = 2400


def rows(n: int, seed: int) -> Iterator[list[Any]]:
    """Catalogue rows with nulls, -0.0, integers that no float holds, and a column that becomes text late."""
    draw = random.Random(seed)
    for k in range(n):
        x, y = round(draw.uniform(60, 1900), 4), round(draw.uniform(60, 1900), 4)
        yield [
            2**54 + 10_000 * seed + k, f"ibe8{k % 7}2npq", draw.choice(["F606W", "F814W"]), "2", x, y,
            round(draw.lognormvariate(9, 2), 2), round(draw.random(), 3), None if draw.random() < 0.3 else k % 5,
            None if k < 1500 else -0.0 if k % 9 == 0 else draw.random(), x + 24, y, x - 1, y - 1,
            None if k < 900 else k / 2 if k < 2000 else f"word {k}", "" if k % 3 else None,
        ]  # fmt: skip


def make(folder: Path, suffixes: list[str], *, with_gaps: bool) -> Harvest:
    """Make a folder whose blocks have odd lengths; some of its cutouts are missing, where it has gaps."""
    folder.mkdir()
    query, draw = Query("UVIS"), random.Random(3)
    with Manifest.create(folder, sink="shards", layout="tree") as manifest:
        for seed, names in ((1, NAMES), (2, NAMES[:-2])):
            coming = rows(N_ROWS, seed)
            while piece := [row[: len(names)] for row in islice(coming, draw.randrange(300, 1000))]:
                with manifest.transaction():
                    numbers = manifest.sources("UVIS", names, piece)
                    spec = {"suffixes": suffixes, "unsat_size_px": 51, "sat_size_px": 101}
                    manifest.add(
                        [
                            line
                            for number, row in zip(numbers, piece, strict=True)
                            for line in uris_of({"n_sat_pixels": 0} | _plain(names, row), query, spec, number)
                        ]
                    )
        after = 0
        while items := manifest.pending(after, 1000):
            after = items[-1].number
            states = [State.MISSING if with_gaps and item.number % 11 == 0 else State.DONE for item in items]
            outcomes = [
                Outcome(item, state, 1, b"x" * 2880 if state == State.DONE else None, bytes(32))
                for item, state in zip(items, states, strict=True)
            ]
            with manifest.transaction():
                manifest.record([Stored(one, 0, 512 * one.item.number) for one in outcomes])
    return Harvest(folder)


def _plain(names: list[str], row: list[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


@pytest.fixture(scope="module", params=["one suffix", "two suffixes", "gaps"])
def stars(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Harvest:
    folder = tmp_path_factory.mktemp("columns") / "d"
    suffixes = ["flt", "raw"] if request.param == "two suffixes" else ["flt"]
    return make(folder, suffixes, with_gaps=request.param == "gaps")


def same(value: Any, row: Any) -> bool:
    """Return whether a column's value is exactly a row's, which may be an integer among floats or texts."""
    if isinstance(value, float):
        return repr(value) == repr(math.nan if row is None else float(row))
    return value == (str(row) if isinstance(value, str) and row is not None else row)


@pytest.mark.sample(1)
def test_columns_are_the_rows(stars: Harvest) -> None:
    """The table, and the pages that exports read, have the values and nulls of the rows, one by one."""
    found = [{**one.source, **one.ours} for one in stars.rows()]
    assert len(stars) == len(found) > 4096
    table = stars.table()
    for name in table.colnames:
        values = table[name].tolist()
        assert all(same(v, row.get(name)) for v, row in zip(values, found, strict=True)), name

    at = 0
    for page in stars.column_pages():
        n = len(page["uri"][0])
        for name in {*found[at], *NAMES}:
            wanted = [row.get(name) for row in found[at : at + n]]
            if name not in page:
                assert wanted == [None] * n, name
                continue
            values, nulls = page[name]
            assert [row is None for row in wanted] == (np.zeros(n, bool) if nulls is None else nulls).tolist(), name
            given = [None if row is None else v for v, row in zip(values.tolist(), wanted, strict=True)]
            assert all(same(v, row) for v, row in zip(given, wanted, strict=True)), name
        at += n
    assert len(found) == at


def test_a_search_finds_what_the_rows_say(stars: Harvest) -> None:
    """Two ranges, a list, and nulls, which nothing finds."""
    every = [{**one.source, **one.ours} for one in stars.rows()]

    chosen = stars.select(psf_flux=(1e3, 1e5), qfit=(0.1, 0.6), n_sat_pixels=[0, 2], focus=(0, 0.8))

    wanted = [
        row["uri"]
        for row in every
        if 1e3 <= row["psf_flux"] <= 1e5
        and 0.1 <= row["qfit"] <= 0.6
        and row["n_sat_pixels"] in (0, 2)
        and row["focus"] is not None
        and row["focus"] <= 0.8
    ]
    assert wanted
    assert wanted == chosen.table(["uri"])["uri"].tolist()


def test_no_cutouts_have_the_columns_of_their_folder(tmp_path: Path) -> None:
    """A selection that found nothing has a table with the types of the whole; columns are known before any came."""
    stars = make(tmp_path / "stars", ["flt"], with_gaps=False)
    whole, nothing = stars.table(), stars.select(id=-1)

    assert 0 == len(nothing.table())
    assert whole.colnames == nothing.table().colnames
    kinds = [{name: table[name].dtype.kind for name in table.colnames} for table in (whole, nothing.table())]
    assert {name for name in kinds[0] if kinds[0][name] != kinds[1][name]} <= {"more"}
    assert ["qfit", "uri"] == nothing.table(["qfit", "uri"]).colnames
    assert {"ra", "dec"} <= {*nothing.table(sky=True).colnames}
    assert ["id", "ra"] == stars[:0].table(["id", "ra"]).colnames
    with pytest.raises(BadQuery, match="nosuch"):
        nothing.table(["nosuch"])


def test_a_folder_without_cutouts_knows_the_columns_of_its_query(tmp_path: Path) -> None:
    """A query that matched nothing: its folder is searched like any other, and finds nothing."""
    home = tmp_path / "none"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", id=-1), home, suffixes=["flt"])

    with Simulator(Settings(sources=100)) as simulator:
        anyio.run(work, simulator.url)
    stars = Harvest(home)

    assert 0 == len(stars.select(qfit=(0, 0.1), filter="F606W"))
    assert "f" == stars.table()["qfit"].dtype.kind
    assert "filter_1" not in stars.table().colnames
    with pytest.raises(BadQuery, match="nosuch"):
        stars.select(nosuch=1)


def test_a_column_that_some_cutouts_lack_is_null_there(tmp_path: Path) -> None:
    """Asked for by name, a column of other rows of the folder is there, and null."""
    stars = make(tmp_path / "stars", ["flt"], with_gaps=False)
    late = stars[-5:].table(["id", "proptype"])

    assert late["proptype"].mask.all()
    assert ["proptype" in table.colnames for table in (stars.table(), stars[-5:].table())] == [True, False]
