"""The API: what it tells of a folder is what the folder's own readers tell."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import shutil
import struct
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest
from astropy.io import fits
from prometheus_client.parser import text_string_to_metric_families
from serving import N_STARS, client_of

from harness import rows_of, stored_bytes
from psfharvest import BadInput, Harvest
from psfharvest.core.exit_status import BY_STOP
from psfharvest.serve.live import STOPPED


async def get(client: httpx.AsyncClient, address: str, **parameters: object) -> dict:
    found = await client.get(address, params=parameters)
    assert found.status_code == 200, found.text
    return found.json()


async def test_the_account_is_that_of_status(client: httpx.AsyncClient, stars: Path, psfharvest) -> None:
    """Every figure of ``status --json`` is on the page, with reasons, remedies and examples beside it."""
    status = psfharvest("status", stars, "--json").account
    del status["learnt"], status["accepted"]  # what is known of the archive and was allowed: no figures

    account, now = await get(client, "/api/account"), await get(client, "/api/now")

    for found in (account, now):
        assert status == {name: found[name] for name in status}
    assert [("not_found", 2)] == [(why["reason"], why["n"]) for why in account["why"]]
    assert all(why["remedy"] and why["example"].startswith("mast:") for why in account["why"])
    assert [{"harvest": 0, "name": "stars"}] == account["harvests"]


async def test_nothing_new_is_204(client: httpx.AsyncClient) -> None:
    """A question that names the state it knows is answered without a body until something changes."""
    known = (await get(client, "/api/now"))["version"]

    again = await client.get("/api/now", params={"version": known})
    other = await client.get("/api/now", params={"version": "other"})

    assert (204, b"") == (again.status_code, again.content)
    assert other.json()["version"] == known


async def test_what_a_harvest_changes_is_seen(tmp_path: Path, stars: Path, psfharvest, simulator) -> None:
    """A folder that grows under the open service is followed: account, rows and samples."""
    words = ["harvest", tmp_path / "d", "UVIS", "--suffix", "flt", "--archive", simulator.url, "--quiet"]
    assert psfharvest(*words, "--limit", "10").status == 0
    async with client_of(tmp_path / "d") as client:
        before = await get(client, "/api/now")
        sorted_before = await get(client, "/api/rows", sort="qfit", columns="qfit", count=100)
        assert psfharvest(*words, "--limit", "30", "--extend").status == 0
        for _ in range(100):  # what was found a moment ago may be shown once more
            after = await get(client, "/api/now")
            found = await get(client, "/api/rows", sort="qfit", columns="qfit", count=100)
            if after["done"] == 30 and found["total"] == 30:
                break
            await anyio.sleep(0.1)

    assert (10, 10, 30, 30) == (before["done"], sorted_before["total"], after["done"], found["total"])
    assert len((await get_series(tmp_path / "d"))["at_s"]) >= 1


async def test_what_runs_have_noted_is_told(tmp_path: Path, psfharvest, simulator) -> None:
    """A page that is opened after two runs shows both: how the account grew; what happened, the latest first."""
    words = ["harvest", tmp_path / "d", "UVIS", "--suffix", "flt", "--archive", simulator.url, "--quiet"]
    assert psfharvest(*words, "--limit", "10").status == 0
    assert psfharvest(*words, "--limit", "30").status == 0
    series = await get_series(tmp_path / "d")
    async with client_of(tmp_path / "d") as client:
        notes = (await get(client, "/api/notes"))["notes"]
        now = await get(client, "/api/now")

    assert 1 == len({len(column) for column in series.values()})
    assert 2 <= len(series["at_s"])
    assert series["at_s"] == sorted(series["at_s"])
    assert all(n <= 30 for n in series["done"])
    begun_and_ended = [note["event"] for note in notes if note["event"] in ("Started", "Ended")]
    assert ["Ended", "Started"] * 2 == begun_and_ended
    assert [note["at"] for note in notes] == sorted((note["at"] for note in notes), reverse=True)
    assert now["last_note"] >= len(notes)


async def test_prometheus_reads_the_metrics(client: httpx.AsyncClient) -> None:
    """The account as Prometheus' own parser finds it."""
    text = (await client.get("/metrics")).text
    now = await get(client, "/api/now")
    found = {
        (sample.name, sample.labels.get("state")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert 1 == found["psfharvest_up", None]
    for state in ("done", "missing", "failed", "pending"):
        assert now[state] == found["psfharvest_cutouts", state]
    assert now["requests"] == found["psfharvest_requests_total", None]


async def get_series(folder: Path) -> dict:
    async with client_of(folder) as client:
        return await get(client, "/api/series")


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ([], {}),
        (["state=done"], {"state": "done"}),
        (["filter=F606W,F814W"], {"filter": ["F606W", "F814W"]}),
        (["psf_flux=2e4..", "qfit=..0.2"], {"psf_flux": (2e4, None), "qfit": (None, 0.2)}),
        (["size_px=51", "state=missing,done"], {"size_px": 51, "state": ["missing", "done"]}),
        (['{"paramName": "filter", "values": ["F606W"]}'], {"filter": "F606W"}),
    ],
)
async def test_a_filter_is_select(client: httpx.AsyncClient, stars: Path, where: list[str], selected: dict) -> None:
    """Criteria as words find what `Harvest.select` finds; the line of Python given with them finds the same."""
    found = await get(client, "/api/rows", where=where, columns="uri", count=500)

    expected = list(Harvest(stars).select(**selected).table(["uri"], state=None)["uri"])
    assert expected == [row["uri"] for row in found["rows"]]
    assert len(expected) == found["total"]
    again = eval(found["python"], {"Harvest": Harvest})
    assert expected == list(again.table(["uri"], state=None)["uri"])
    program = shlex.split(found["shell"])
    assert program[:2] in (["psfharvest", "query"], ["python", "-c"])


@pytest.mark.parametrize("column", ["psf_flux", "qfit", "filter", "chip", "rootname", "id", "state", "reason"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_sort_orders_all_rows(client: httpx.AsyncClient, column: str, order: str) -> None:
    """Pages of a sort, put together, are all rows in order; what has no value comes last either way."""
    pages = [
        await get(client, "/api/rows", sort=column, order=order, at=at, count=25, columns=column)
        for at in range(0, N_STARS, 25)
    ]

    rows = [row for page in pages for row in page["rows"]]
    assert sorted(row["n"] for row in rows) == list(range(1, N_STARS + 1))
    known = [row[column] for row in rows if row[column] is not None]
    assert known == sorted(known, reverse=order == "desc")
    assert known == [row[column] for row in rows[: len(known)]]


@pytest.mark.parametrize(("sort", "count"), [("", 3), ("qfit", 7), ("qfit", N_STARS)])
async def test_some_columns_of_rows(client: httpx.AsyncClient, sort: str, count: int) -> None:
    """Rows of chosen columns are those of whole rows without the others, wherever a column comes from."""
    chosen = ["sky", "qfit", "filter", "id", "x_cal", "detector", "state", "uri"]
    whole = await get(client, "/api/rows", sort=sort, count=count, at=0)
    found = await get(client, "/api/rows", sort=sort, count=count, at=0, columns=",".join(chosen))

    assert [{name: row[name] for name in ("n", *chosen)} for row in whole["rows"]] == found["rows"]


@pytest.mark.parametrize(
    ("where", "column"),
    [
        (["psf_flux=2e4..", "qfit=..0.2"], "sky"),
        (["filter=F606W"], "filter"),
        (["x_cal=..1000"], "psf_flux"),
        (["state=done"], "qfit"),
        (["qfit=5.."], "sky"),
    ],
)
async def test_a_filtered_sort_is_that_part_of_the_whole_one(stars: Path, where: list[str], column: str) -> None:
    """Which is read first, the filter, the sort or both at once, makes no difference."""
    async with client_of(stars) as client:
        both = await get(client, "/api/rows", sort=column, where=where, count=500)
    async with client_of(stars) as client:
        filtered = await get(client, "/api/rows", where=where, count=500)
        ordered = await get(client, "/api/rows", sort=column, count=500)
        again = await get(client, "/api/rows", sort=column, where=where, count=500)

    among = {row["n"] for row in filtered["rows"]}
    expected = [row for row in ordered["rows"] if row["n"] in among]
    assert expected == both["rows"] == again["rows"]
    assert len(among) == both["total"]


async def test_a_page_behind_the_end_is_empty(client: httpx.AsyncClient) -> None:
    found = await get(client, "/api/rows", at=10**15)

    assert ([], N_STARS) == (found["rows"], found["total"])


async def test_pixels_are_those_of_the_files(client: httpx.AsyncClient, stars: Path) -> None:
    """Each record is number, sides and the FITS image's own values; what is not stored has no pixels."""
    done = {n: row for n, row in enumerate(rows_of(stars), 1) if row["state"] == "done"}
    asked = [7, 3, 5, 10**6]

    body = (await client.get("/api/pixels", params={"n": ",".join(map(str, asked))})).content

    for n in asked:
        number, ny, nx = struct.unpack_from("<IHH", body)
        image = np.frombuffer(body, "<f4", ny * nx, 8).reshape(ny, nx)
        body = body[8 + 4 * ny * nx :]
        assert n == number
        if n in done:
            expected = fits.getdata(io.BytesIO(stored_bytes(stars, done[n])))
            np.testing.assert_array_equal(expected.astype("f4"), image)
        else:
            assert (0, 0) == (ny, nx)
    assert b"" == body


async def test_one_star(client: httpx.AsyncClient, stars: Path) -> None:
    """One star has its row, header and file; one that is missing has its reason and no file."""
    done = next(n for n, row in enumerate(rows_of(stars), 1) if row["state"] == "done")
    missing = next(n for n, row in enumerate(rows_of(stars), 1) if row["state"] == "missing")

    found = await get(client, f"/api/cutout/{done}")
    file = await client.get(f"/api/fits/{done}")
    lost = await get(client, f"/api/cutout/{missing}")

    assert stored_bytes(stars, rows_of(stars)[done - 1]) == file.content
    assert f'filename="{found["file_name"]}"' in file.headers["content-disposition"]
    assert (
        fits.Header.fromstring("".join(card.ljust(80) for card in found["header"]))["NAXIS1"] == found["shape"][1]
    )
    assert ("missing", "not_found") == (lost["row"]["state"], lost["row"]["reason"])
    assert "header" not in lost
    assert (await client.get(f"/api/fits/{missing}")).status_code == 404
    assert (await client.get("/api/cutout/999999")).status_code == 404


async def test_facets_count_what_is_there(client: httpx.AsyncClient, stars: Path) -> None:
    """Counts, extremes and histogram of a column are those of the table, within the selection."""
    table = Harvest(stars).table(state=None)
    columns = {c["name"]: c for c in (await get(client, "/api/facets"))["columns"]}

    by_filter = await get(client, "/api/facets", column="filter")
    flux = await get(client, "/api/facets", column="psf_flux", where="state=done")
    reason = await get(client, "/api/facets", column="reason")

    assert set(table.colnames) == set(columns)
    assert columns["exptime"]["unit"] == "s"
    names, counts = np.unique(table["filter"], return_counts=True)
    assert dict(zip(map(str, names), counts.tolist(), strict=True)) == dict(by_filter["values"])
    done = table[table["state"] == "done"]
    assert math.isclose(flux["max"], float(done["psf_flux"].max()))
    assert sum(flux["bins"]["counts"]) == len(done) == flux["total"]
    assert ([["not_found", 2]], N_STARS - 2) == (reason["values"], reason["without"])


async def test_points_of_two_columns(client: httpx.AsyncClient, stars: Path) -> None:
    """A plot's points are number, x and y of every selected cutout that has both."""
    body = (await client.get("/api/points", params={"x": "psf_flux", "y": "qfit"})).content
    total, n = struct.unpack_from("<II", body)
    numbers = np.frombuffer(body, "<u4", n, 8)
    x, y = np.frombuffer(body, "<f4", 2 * n, 8 + 4 * n).reshape(2, n)

    table = Harvest(stars).table(state=None)
    assert (N_STARS, N_STARS) == (total, n)
    np.testing.assert_array_equal(np.arange(1, n + 1), numbers)
    np.testing.assert_allclose(table["psf_flux"], x, rtol=1e-6)
    np.testing.assert_allclose(table["qfit"], y, rtol=1e-6)
    assert (await client.get("/api/points", params={"x": "filter", "y": "qfit"})).status_code == 400


async def test_export_is_the_whole_selection(client: httpx.AsyncClient, stars: Path) -> None:
    """Every format holds all selected rows, in the order asked for."""
    asked = {"where": "state=done", "sort": "psf_flux"}
    rows = (await get(client, "/api/rows", **asked, count=500))["rows"]

    table = list(csv.DictReader(io.StringIO((await client.get("/api/export", params=asked)).text)))
    lines = (await client.get("/api/export", params={**asked, "format": "jsonl"})).text.splitlines()
    uris = (await client.get("/api/export", params={**asked, "format": "txt"})).text.splitlines()

    assert [row["uri"] for row in rows] == uris == [row["uri"] for row in table]
    assert rows == [{"n": row["n"], **json.loads(line)} for row, line in zip(rows, lines, strict=True)]


async def test_several_harvests(stars: Path, tmp_path: Path, psfharvest, simulator) -> None:
    """Each harvest is asked for by its position; the first is the one that is meant without."""
    words = ["harvest", tmp_path / "other", "IR", "--suffix", "flt", "--limit", "5", "--archive", simulator.url]
    assert psfharvest(*words).status == 0

    async with client_of([stars, tmp_path / "other"]) as client:
        first, second = await get(client, "/api/now"), await get(client, "/api/now", harvest=1)
        refused = await client.get("/api/now", params={"harvest": 2})
        metrics = (await client.get("/metrics")).text

    assert (N_STARS, 5) == (first["total"], second["total"])
    assert refused.status_code == 400
    assert 'psfharvest_cutouts{harvest="other",state="done"} 5\n' in metrics
    assert 'psfharvest_unavailable{harvest="stars",reason="not_found"} 2\n' in metrics


async def test_folders_of_one_name(stars: Path, tmp_path: Path) -> None:
    """Each is called by as much of its path as tells it apart: Prometheus takes no series twice."""
    for place in ("a/stars", "b/stars", "b/other"):
        shutil.copytree(stars, tmp_path / place)
    folders = [tmp_path / "a/stars", tmp_path / "b/stars", tmp_path / "b/other"]
    async with client_of(folders) as client:
        account = await get(client, "/api/account", harvest=1)
        export = await client.get("/api/export", params={"harvest": 1, "format": "txt"})
        families = list(text_string_to_metric_families((await client.get("/metrics")).text))

    assert ["a/stars", "b/stars", "other"] == [one["name"] for one in account["harvests"]]
    assert "b/stars" == account["name"]
    assert 'filename="b-stars.txt"' in export.headers["content-disposition"]
    series = [(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples]
    assert len(series) == len(set(series))
    with pytest.raises(BadInput, match="is given twice"):
        client_of([stars, tmp_path, stars])


async def test_a_folder_that_goes_away(tmp_path: Path, stars: Path) -> None:
    """While the manifest is gone every question says so; when it is back, answers come again."""
    shutil.copytree(stars, tmp_path / "d")
    async with client_of(tmp_path / "d") as client:
        assert (await get(client, "/api/now"))["total"] == N_STARS
        (tmp_path / "d" / "manifest.sqlite").rename(tmp_path / "away")
        gone = [await client.get(a) for a in ("/api/account", "/api/rows", "/api/cutout/1", "/api/series")]
        up = (await client.get("/metrics")).text
        (tmp_path / "away").rename(tmp_path / "d" / "manifest.sqlite")
        assert (await get(client, "/api/rows"))["total"] == N_STARS

    assert {503} == {answer.status_code for answer in gone}
    assert all("has no manifest.sqlite" in answer.json()["error"] for answer in gone)
    assert 'psfharvest_up{harvest="d"} 0\n' in up


def test_every_way_to_stop_has_a_sentence() -> None:
    """The page says in words why the last run stopped, whichever way that was."""
    assert set(BY_STOP) <= set(STOPPED)
