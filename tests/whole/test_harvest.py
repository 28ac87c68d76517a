"""The main job, end to end, by command line and by API, on both loops."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest

from harness import check_every_file, command, rows_of, sampled
from psfharvest import Archive, Limits, Query
from psfharvest.core.fits import datauri
from psfharvest.simulator import Fault, Settings, Simulator

REAL = [
    27404778, 24233777, 25936982, 24883910, 23821761, 26447668, 23186113, 26114294, 25613026, 24702304, 19704186,
    22392319, 28058025, 26112457, 21965947, 19613415, 25899457, 26765366, 24389168,
    8184981, 8986399, 30113376, 32834736, 17177489,
]  # fmt: skip
NOTEBOOK = ["psf_x_center=100..102", "psf_y_center=100..102", "n_sat_pixels=0"]
KEYS = {"total", "done", "missing", "failed", "pending", "bytes", "elapsed_s", "requests", "reasons"}


def test_real_rows_by_command_line(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """The recorded real rows and the notebook's are queried, downloaded, accounted for, byte by byte."""
    ids = ",".join(map(str, REAL))
    words = ["harvest", "stars", "UVIS", f"id={ids}", "--suffix", "flt,flc", "--suffix", "raw"]
    run = psfharvest(*words, "--archive", simulator.url, "--json")

    assert run.status == 0, run.err
    assert set(run.account) >= KEYS
    assert (run.account["total"], run.account["done"], run.account["pending"]) == (72, 72, 0)
    assert check_every_file(tmp_path / "stars", simulator) == 72
    assert (tmp_path / "stars/WFC3PSF/ibc3/ibc302ioq/ibc302ioq_8184981_F814W_flt_cutout.fits").is_file()

    simulator.forget()
    again = psfharvest(*words, env={"PSFHARVEST_ARCHIVE": simulator.url}).status

    assert (again, simulator.count("any")) == (0, 0)


def test_the_notebooks_query(simulator: Simulator, psfharvest) -> None:
    """The notebook's query counts and shows its six sources."""
    counted = psfharvest("count", "uvis", *NOTEBOOK, "--archive", simulator.url)
    table = psfharvest("query", "UVIS", *NOTEBOOK, "--columns", "rootname,id", "--archive", simulator.url)

    assert counted.out == "6\n"
    assert table.out.split("\n")[2].split() == ["ibc302ioq", "8184981"]
    assert sum(line.strip() != "" for line in table.out.splitlines()[2:]) == 6


@pytest.mark.sample(1)
@pytest.mark.parametrize("detector", ["UVIS", "IR", "WFPC2"])
async def test_every_detector_by_api(simulator: Simulator, tmp_path: Path, detector: str) -> None:
    """All suffixes of a detector are harvested, saturated sources at 101 pixels."""
    query = Query(detector, limit=150)
    async with Archive(simulator.url) as archive:
        report = await archive.harvest(query, tmp_path / "d", suffixes=list(query.detector.suffixes))

    assert (150 * len(query.detector.suffixes), 0) == (report.done, report.exit_status)
    assert report.total == check_every_file(tmp_path / "d", simulator)
    assert {51, 101} == {datauri.parse(r["uri"]).size_px for r in rows_of(tmp_path / "d")}


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # both loops do the small ones
async def test_five_thousand_synthetic_sources(simulator: Simulator, tmp_path: Path) -> None:
    """5,000 sources over three detectors add up, file by file."""
    total = 0
    async with Archive(simulator.url, limits=Limits(max_connections=8)) as archive:
        for detector, suffix, n in (("UVIS", "flc", 2000), ("IR", "flt", 1500), ("WFPC2", "c0m", 1500)):
            folder = tmp_path / detector
            report = await archive.harvest(Query(detector, limit=n), folder, suffixes=[suffix])
            assert report.total == report.done
            total += check_every_file(folder, simulator)

    assert total == 5000


async def test_stream_gives_cutouts_in_memory(simulator: Simulator) -> None:
    """The API of the design's example works as it stands."""
    query = Query("UVIS", psf_x_center=(100, 102), psf_y_center=(100, 102), n_sat_pixels=0)
    seen = {}
    async with Archive(simulator.url) as archive:
        assert await archive.count(query) == 6
        table = await archive.query(query)
        async with archive.stream(query, suffixes=["flt"]) as cutouts:
            async for cutout in cutouts:
                seen[cutout.source["id"]] = cutout

    assert list(table["id"]) == sorted(seen)
    for cutout in seen.values():
        assert ((51, 51), np.float32) == (cutout.data.shape, cutout.data.dtype)
        assert np.isfinite(cutout.data).all()
        assert cutout.source["rootname"] == cutout.header["ROOTNAME"]
        assert simulator.render(cutout.uri) == cutout.raw


async def test_leaving_a_stream_early_leaves_nothing(simulator: Simulator) -> None:
    """A reader that has enough leaves, and the archive object goes on working."""
    async with Archive(simulator.url, limits=Limits(max_connections=4)) as archive:
        async with archive.stream(Query("UVIS", limit=500), suffixes=["flt"]) as cutouts:
            async for _ in cutouts:
                break
        assert await archive.count(Query("UVIS", limit=500)) == 500
    assert simulator.count("file") < 200


async def test_a_paused_reader_may_ask_on(simulator: Simulator) -> None:
    """While a stream waits for its reader, the same archive answers queries, many times over."""
    counts = set()
    async with (
        Archive(simulator.url, limits=Limits(max_connections=4)) as archive,
        archive.stream(Query("UVIS", limit=900), suffixes=["flt"]) as cutouts,
    ):
        with anyio.fail_after(60):
            await anyio.sleep(1.0)
            async for _ in cutouts:
                counts.add(await archive.count(Query("IR", limit=5)))
                if sum(cutouts.states.values()) > 10:
                    break

    assert {5} == counts


async def test_what_a_broken_source_gave_is_fetched(simulator: Simulator, tmp_path: Path) -> None:
    """A generator of the caller's that raises ends the harvest with its error, after what it gave has come."""

    async def broken(uris: list[str]):
        for uri in uris:
            yield uri
        raise LookupError("the caller's own")

    async with Archive(simulator.url) as archive:
        table = await archive.query(Query("UVIS", limit=40))
        place = Query("UVIS").detector
        uris = [str(datauri.build(row, place, "flt")) for row in map(dict, table)]
        with pytest.raises(LookupError, match="the caller's own"):
            await archive.harvest(broken(uris), tmp_path / "d")

    assert 40 == check_every_file(tmp_path / "d", simulator)


async def test_an_error_in_the_readers_body_comes_out_as_it_is(simulator: Simulator) -> None:
    """No exception group hides what the caller raised."""
    async with Archive(simulator.url) as archive:

        async def read() -> None:
            async with archive.stream(Query("UVIS", limit=50), suffixes=["flt"]) as cutouts:
                async for _ in cutouts:
                    raise LookupError("the reader's own")

        with pytest.raises(LookupError, match="the reader's own"):
            await read()


def uri_list(simulator: Simulator, n: int) -> list[str]:
    async def ask() -> list[str]:
        async with Archive(simulator.url) as archive:
            table = await archive.query(Query("UVIS", limit=n))
            place = Query("UVIS").detector
            return [str(datauri.build(row, place, "flt")) for row in map(dict, table)]

    return anyio.run(ask)


def test_lists_from_a_file_and_from_a_pipe(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A list is read with comments, doubles and bad lines; a pipe gives the same account."""
    uris = uri_list(simulator, 30)
    text = "# my stars\n\n" + "\n".join([*uris, uris[0], "not a uri", "mast:", uris[1]]) + "\n"
    (tmp_path / "uris.txt").write_text(text)
    by_file = psfharvest("harvest", "a", "--uris", "uris.txt", "--archive", simulator.url, "--json")
    by_pipe = psfharvest("harvest", "b", "--uris", "-", "--archive", simulator.url, "--json", stdin=text)

    for run, folder in ((by_file, "a"), (by_pipe, "b")):
        assert run.status == 3
        assert tuple(run.account[k] for k in ("total", "done", "failed")) == (32, 30, 2)
        assert run.account["reasons"] == {"bad_uri": 2}
        assert check_every_file(tmp_path / folder, simulator) == 30
        details = {r["uri"]: r["detail"] for r in rows_of(tmp_path / folder) if r["state"] == "failed"}
        assert details["not a uri"].startswith("line 34:")


def test_an_empty_pipe_is_nothing_to_do(simulator: Simulator, psfharvest) -> None:
    """An empty stream is total 0 and status 0."""
    run = psfharvest("harvest", "a", "--uris", "-", "--archive", simulator.url, "--json", stdin="")

    assert (run.status, run.account["total"]) == (0, 0)


def test_two_sizes_of_a_source_never_overwrite_each_other(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """DataURIs to which the archive gives one file name are stored side by side, in both layouts."""
    uris = [u.replace("&size=51", f"&size={s}") for u in uri_list(simulator, 5) for s in (51, 31, 77)]
    (tmp_path / "uris.txt").write_text("\n".join(uris))
    for layout in ("tree", "flat"):
        words = ["harvest", layout, "--uris", "uris.txt", "--layout", layout, "--archive", simulator.url]
        assert psfharvest(*words).status == 0
        assert len(set(uris)) == check_every_file(tmp_path / layout, simulator)


def test_paths_that_meet_by_accident_stay_apart(simulator: Simulator, tmp_path: Path) -> None:
    """A file whose path is that of a cutout, of a copy, or the same but for a slash, has a place of its own."""
    cutout = uri_list(simulator, 1)[0]
    name = datauri.file_name(cutout)
    root = name.partition("_")[0]
    others = [
        "X/a.fits",
        "X//a.fits",
        "X/a-2.fits",
        "X/a~2.fits",
        f"WFC3PSF/{root[:4]}/{root}/{name}",
        f"WFC3PSF/{name}",
    ]
    from psfharvest.core.model import WantedURI
    from psfharvest.store.manifest.manifest import Manifest
    from psfharvest.store.sinks.files import FileSink

    Manifest.create(tmp_path, sink="files", layout="tree").close()
    with Manifest.open(tmp_path) as manifest, manifest.transaction():
        items = manifest.add([WantedURI(cutout), *(WantedURI(f"mast:{path}") for path in others)])
    sink = FileSink(tmp_path)

    assert 7 == len({sink.location(item).casefold() for item in items})


def test_an_empty_result_says_so(simulator: Simulator, psfharvest) -> None:
    """A query that matches nothing is total 0, status 0, and a sentence."""
    words = ["harvest", "none", "UVIS", "psf_flux=1e29..", "--suffix", "flt", "--archive", simulator.url, "--json"]
    run = psfharvest(*words)

    assert (run.status, run.account["total"]) == (0, 0)
    assert "no source matches" in run.err


def test_missing_and_failed_are_told_with_their_reasons(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """What the archive does not have is missing, what it spoils is failed, and a later run mends it."""
    uris = uri_list(simulator, 20)
    (tmp_path / "uris.txt").write_text("\n".join(uris))
    bad, gone, away = (datauri.parse(u).rootname for u in uris[:3])
    simulator.faults = [
        Fault("html", match=bad, service="file"),
        Fault("status", code=404, match=gone, service="file"),
        Fault("text", body="Some image dimensions are negative for all planes", match=away, service="file"),
    ]
    words = ["harvest", "d", "--uris", "uris.txt", "--archive", simulator.url, "--json", "--attempts", "2"]
    run = psfharvest(*words)

    assert run.status == 3
    assert run.account["reasons"] == {"html_page": 1, "not_found": 1, "off_detector": 1}
    assert tuple(run.account[k] for k in ("total", "done", "missing", "failed")) == (20, 17, 2, 1)
    assert run.account["retried"] == {"html_page": 1}
    assert check_every_file(tmp_path / "d", simulator) == 17
    status = psfharvest("status", "d")
    assert uris[0] in status.out
    assert "html_page" in status.out

    simulator.faults = []
    simulator.forget()
    again = psfharvest(*words)
    assert (again.status, again.account["done"], simulator.count("file")) == (3, 18, 1)
    last = psfharvest("resume", "d", "--archive", simulator.url, "--retry", "missing", "--json")
    assert (last.status, last.account["done"]) == (0, 20)


ENDS = [("hang_up", "curl"), ("reset", "httpx"), ("hang_up", "httpx"), ("reset", "curl")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind_and_wire", sampled(ENDS, ENDS[:2]), ids="-".join)
async def test_every_request_is_counted(tmp_path: Path, kind_and_wire: tuple[str, str]) -> None:
    """A connection that dies costs a request, and an attempt unless the wire repeated the request by itself."""
    kind, wire = kind_and_wire
    with Simulator(Settings(sources=3000)) as simulator:
        simulator.faults = [Fault(kind, every=7, service="file")]
        async with httpx.AsyncClient() as client:
            theirs = client if wire == "httpx" else None
            async with Archive(simulator.url, client=theirs, limits=Limits(max_connections=4)) as archive:
                report = await archive.harvest(Query("UVIS", limit=120), tmp_path, suffixes=["flt"], via="file")
        n_files, n_all = simulator.count("file"), simulator.count("any")

    assert (120, 120) == (report.total, report.done)
    assert n_files > 120
    n_attempts = sum(row["attempts"] for row in rows_of(tmp_path))
    assert n_files == 120 + sum(report.retried.values())
    assert 120 <= n_attempts <= n_files
    assert n_all == report.requests
    assert {"reset"} == set(report.retried)


@pytest.mark.campaign
def test_status_while_another_process_harvests(psfharvest, tmp_path: Path) -> None:
    """The account can be read at any time, a second harvester is told who holds the folder."""
    with Simulator(Settings(sources=2000, latency_s=0.05)) as simulator:
        words = ["harvest", "d", "UVIS", "--limit", "400", "--suffix", "flt", "--archive", simulator.url]
        words += ["--max-connections", "4", "--via", "file"]
        with subprocess.Popen(command(*words), cwd=tmp_path, stderr=subprocess.PIPE) as busy:
            while simulator.count("file") < 40:
                assert busy.poll() is None
            status = psfharvest("status", "d", "--json").account
            second = psfharvest(*words)
            busy.communicate()

    assert status["total"] == sum(status[k] for k in ("done", "missing", "failed", "pending"))
    assert status["total"] == 400
    assert second.status == 2
    assert f"process {busy.pid}" in second.err
    assert (busy.returncode, psfharvest("status", "d", "--json").account["done"]) == (0, 400)


@pytest.mark.campaign
def test_past_the_archives_limits(tmp_path: Path, psfharvest) -> None:
    """With a small page and a still smaller cap of the archive's, all rows come, each once."""
    with Simulator(Settings(sources=5000, seed=3, max_answer_rows=150)) as simulator:
        n = int(psfharvest("count", "UVIS", "--archive", simulator.url).out)
        words = [
            "query",
            "UVIS",
            "--columns",
            "id",
            "-o",
            "t.csv",
            "--page-rows",
            "400",
            "--archive",
            simulator.url,
        ]
        assert psfharvest(*words).status == 0
        ids = [int(x) for x in (tmp_path / "t.csv").read_text().split()[1:]]

        assert sorted(simulator.catalogue["UVIS"].ids) == ids
        assert n == len(ids)


def test_limit_is_the_lowest_ids(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """--limit N takes the N lowest ids, also across parts."""
    words = ["query", "IR", "--limit", "321", "--columns", "id", "-o", "t.csv", "--page-rows", "100"]
    assert psfharvest(*words, "--archive", simulator.url).status == 0

    lowest = sorted(simulator.catalogue["IR"].ids)[:321]
    assert lowest == [int(x) for x in (tmp_path / "t.csv").read_text().split()[1:]]


@pytest.mark.sample(2)
@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits", "parquet"])
def test_tables_in_every_format(simulator: Simulator, psfharvest, tmp_path: Path, ending: str) -> None:
    """A table is read back by astropy from each format."""
    from astropy.table import Table
    from pyarrow.parquet import read_table

    words = ["query", "WFPC2", "--limit", "12", "--columns", "filter,id,chip", "-o", f"t.{ending}"]
    run = psfharvest(*words, "--archive", simulator.url, "--json")

    assert run.status == 0, run.err
    path = tmp_path / f"t.{ending}"
    table = Table(read_table(path).to_pydict()) if ending == "parquet" else Table.read(path)
    assert table.colnames == ["filter_1", "id", "chip"]
    assert 12 == len(table) == run.account["rows"]
    assert [f"t.{ending}"] == [p.name for p in tmp_path.iterdir()]


def test_fetch_one(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """One cutout lands under the archive's name, or where it was told to; what is missing is status 3."""
    uri = uri_list(simulator, 1)[0]
    run = psfharvest("fetch", uri, "--archive", simulator.url)

    assert (0, f"{datauri.file_name(uri)}\n") == (run.status, run.out)
    assert simulator.render(uri) == (tmp_path / datauri.file_name(uri)).read_bytes()
    assert psfharvest("fetch", uri, "-o", "star.fits", "--archive", simulator.url).status == 0
    gone = psfharvest("fetch", uri.replace(datauri.parse(uri).rootname, "zzzz99zzq"), "--archive", simulator.url)
    assert gone.status == 3
    assert "not_found" in gone.err


@pytest.mark.campaign
def test_an_archive_that_is_down_is_75(psfharvest) -> None:
    """Nobody listens: the command gives up after its patience, with status 75 and nothing left behind."""
    nowhere = "http://127.0.0.1:9"
    for words in (["count", "UVIS"], ["harvest", "d", "UVIS", "--suffix", "flt"], ["fetch", "mast:WFC3PSF/x.fits"]):
        run = psfharvest(*words, "--archive", nowhere, "--patience", "1")

        assert run.status == 75
        assert "run again later" in run.err
    assert 2 == psfharvest("status", "d").status


def test_an_outage_past_the_patience_leaves_work_that_goes_on(tmp_path: Path, psfharvest) -> None:
    """A harvest that meets an outage stops with 75, its account adds up, and the same command ends it."""
    with Simulator(Settings(sources=3000)) as simulator:
        words = ["harvest", "d", "UVIS", "--limit", "600", "--suffix", "flt", "--archive", simulator.url, "--json"]
        words += ["--via", "file"]
        simulator.faults = [Fault("outage", service="file", start=200)]
        run = psfharvest(*words, "--patience", "2")

        assert run.status == 75, run.err
        account = run.account
        assert 600 == account["total"] == account["done"] + account["pending"]
        assert account["done"] >= 150
        assert account["requests"] < 300
        simulator.faults = []
        simulator.forget()
        again = psfharvest(*words)
        assert (again.status, again.account["done"]) == (0, 600)
        assert 600 - account["done"] == simulator.count("file")


def test_json_is_the_last_line_of_standard_output(simulator: Simulator, psfharvest) -> None:
    """Progress goes to standard error, the account to standard output."""
    words = ["harvest", "d", "IR", "--limit", "5", "--suffix", "flt", "--archive", simulator.url, "--json"]
    run = psfharvest(*words)

    assert len(run.out.splitlines()) == 1
    assert "psfharvest: 5 of 5 cutouts" in run.err
    assert set(json.loads(run.out)) >= KEYS
    assert psfharvest(*words, "--quiet").err == ""
