"""The notebook's nine functions: their results, their errors, and what they must never do."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

from harness import check_every_file, extract_all, rows_of
from psfharvest import ArchiveDown, BadQuery, BadURI, CutoutFailed, CutoutMissing, Query, blocking, mast_api_psf
from psfharvest.core.fits import datauri
from psfharvest.core.model import State
from psfharvest.core.reasons import MISSING
from psfharvest.simulator import Fault, Settings, Simulator

COLUMNS = ["id", "rootname", "filter", "x_cal", "y_cal", "x_raw", "y_raw", "chip", "qfit", "subarray"]
CENTER = [{"min": 100, "max": 102}]
FILTS = [
    {"paramName": "psf_x_center", "values": CENTER},
    {"paramName": "psf_y_center", "values": CENTER},
    {"paramName": "n_sat_pixels", "values": ["0"]},
]
POOL = re.compile(r"MAST_\d{4}-\d\d-\d\dT\d{4}/WFC3PSF")
ROW = {
    "id": 7, "rootname": "ibc302ioq", "filter": "F814W", "chip": "2", "subarray": 0, "qfit": 0.1,
    "x_cal": 99.5, "y_cal": 1e-05, "x_raw": 124.5, "y_raw": 99.0,
}  # fmt: skip


@pytest.fixture
def obs(here: Path) -> Table:
    """The notebook's six sources."""
    return mast_api_psf.mast_query_psf_database("UVIS", FILTS, COLUMNS)


@pytest.fixture
def uris(obs: Table) -> list[str]:
    """Their dataURIs."""
    return mast_api_psf.make_dataURIs(obs, "UVIS", ["flt"])


def test_set_min_max_and_set_filters() -> None:
    """Both give the notebook's printed values, in order, with the caller's own objects inside."""
    parameters = {"psf_x_center": mast_api_psf.set_min_max(100, 102), "n_sat_pixels": ["0"], "filter": ("F606W",)}
    before = copy.deepcopy(parameters)
    filts = mast_api_psf.set_filters(parameters)

    assert CENTER == mast_api_psf.set_min_max(100, 102)
    assert ["psf_x_center", "n_sat_pixels", "filter"] == [f["paramName"] for f in filts]
    assert all(f["values"] is parameters[f["paramName"]] for f in filts)
    assert before == parameters


def test_the_query_gives_a_table_of_the_columns_asked_for(obs: Table, here: Path) -> None:
    """Six sources, exactly the columns in their order; all columns by default."""
    assert (6, COLUMNS) == (len(obs), obs.colnames)
    assert {"psf_flux", "proptype"} < set(mast_api_psf.mast_query_psf_database("UVIS", FILTS).colnames)


def test_wfpc2_is_forgiven_its_filter_and_nothing_of_the_callers_changes(here: Path) -> None:
    """``filter`` means ``filter_1`` on WFPC2, in criteria and columns; the lists stay as they were."""
    filts = mast_api_psf.set_filters({"filter": ["F606W"], "chip": ["3"]})
    columns = ["id", "filter", "qfit"]
    before = copy.deepcopy((filts, columns))
    table = mast_api_psf.mast_query_psf_database("WFPC2", filts, columns)

    assert ["id", "filter_1", "qfit"] == table.colnames
    assert {"F606W"} == set(table["filter_1"])
    assert before == (filts, columns)


@pytest.mark.parametrize(
    ("filt", "matches"),
    [
        ({"paramName": "chip", "values": ["1", "2"]}, lambda row: True),
        ({"paramName": "filter", "values": "F606W"}, lambda row: row["filter"] == "F606W"),
        ({"paramName": "qfit", "values": [{"min": 0.05, "max": 0.1}]}, lambda row: 0.05 <= row["qfit"] <= 0.1),
        ({"paramName": "qfit", "values": [{"min": 0.1, "max": None}]}, lambda row: row["qfit"] >= 0.1),
        (
            {"paramName": "exptime", "values": [{"min": 0, "max": 50}, {"min": 300, "max": 400}]},
            lambda row: row["exptime"] <= 50 or 300 <= row["exptime"] <= 400,
        ),
        (
            {"paramName": "n_sat_pixels", "values": ["0", {"min": 3, "max": 9}]},
            lambda row: row["n_sat_pixels"] == 0 or 3 <= row["n_sat_pixels"] <= 9,
        ),
        ({"paramName": "rootname", "values": [], "freeText": "ib%"}, lambda row: row["rootname"].startswith("ib")),
    ],
)
def test_every_form_of_filter_means_what_mashup_takes_it_for(
    here: Path, filt: dict, matches: Callable[[Any], bool]
) -> None:
    """Values, a range, several ranges, both, and free text choose the sources that they describe."""
    every = mast_api_psf.mast_query_psf_database("UVIS", [{"paramName": "id", "values": [{"min": 0, "max": 2e9}]}])
    expected = [row["id"] for row in every if matches(row)]

    assert expected == list(mast_api_psf.mast_query_psf_database("UVIS", [filt], ["id"])["id"])


def test_a_query_of_filters_survives_its_way_through_json() -> None:
    """Several ranges are kept in a harvest's record and recognised again."""
    filt = {"paramName": "qfit", "values": [{"min": 0, "max": 1}, {"min": 2, "max": 3}]}
    query = Query.from_filters("UVIS", [filt])

    assert query == Query.from_dict(json.loads(json.dumps(query.to_dict())))
    assert query.identity != Query("UVIS").identity
    assert "qfit" in repr(query)


WRONG = [
    (lambda m: m.set_filters([]), TypeError, "parameters must be a dict, not list"),
    (lambda m: m.mast_query_psf_database(["UVIS"], []), TypeError, "detector must be a string, not list"),
    (lambda m: m.mast_query_psf_database("UVIS", {}), TypeError, "filts must be a list, not dict"),
    (lambda m: m.mast_query_psf_database("UVIS", [], "*"), TypeError, "columns must be a list, not str"),
    (lambda m: m.mast_query_psf_database("UVIS", [], [1]), TypeError, "a column must be a string, not int"),
    (lambda m: m.mast_query_psf_database("WFC1", []), ValueError, "unknown detector 'WFC1'"),
    (lambda m: m.mast_query_psf_database("UVIS", [{"values": []}]), BadQuery, "paramName"),
    (lambda m: m.mast_query_psf_database("UVIS", ["x"]), BadQuery, "paramName"),
    (
        lambda m: m.mast_query_psf_database("UVIS", [{"paramName": "id", "values": CENTER * 2}]),
        BadQuery,
        "one range",
    ),
    (lambda m: m.make_dataURIs([ROW], 1, ["flt"]), TypeError, "detector must be a string"),
    (lambda m: m.make_dataURIs([ROW], "UVIS", "flt"), TypeError, "file_suffix must be a list, not str"),
    (lambda m: m.make_dataURIs([ROW], "UVIS", []), ValueError, "no suffix"),
    (lambda m: m.make_dataURIs([ROW], "UVIS", ["drz"]), ValueError, "unknown suffix 'drz'"),
    (lambda m: m.make_dataURIs([ROW], "IR", ["flc"]), ValueError, "IR does not have"),
    (lambda m: m.make_dataURIs([ROW], "WFPC2", ["flt"]), ValueError, "WFPC2 does not have"),
    (lambda m: m.make_dataURIs([ROW], "UVIS", ["flt"], unsat_size=51.0), TypeError, "whole number"),
    (lambda m: m.make_dataURIs([ROW], "UVIS", ["flt"], sat_size=0), ValueError, "sat_size is 0"),
    (lambda m: m.make_dataURIs(5, "UVIS", ["flt"]), TypeError, "obs must be a Table"),
    (lambda m: m.make_dataURIs([5], "UVIS", ["flt"]), TypeError, "a row of obs"),
    (lambda m: m.make_dataURIs([{"id": 1}], "UVIS", ["flt"]), BadURI, "absent"),
    (lambda m: m.download_request_file("mast:x"), TypeError, "must be a list, not str"),
    (lambda m: m.download_request_file(["mast:x"]), ValueError, "1 parts"),
    (lambda m: m.download_request_file(["mast:x", 5]), TypeError, "filename must be a string"),
    (lambda m: m.download_request_file(["ftp:x", "a"]), BadURI, "begins with 'mast:'"),
    (lambda m: m.download_request_file(["mast:x", "no/folder"]), ValueError, "does not exist"),
    (lambda m: m.download_request_file(["mast:x", "."]), ValueError, "folder"),
    (lambda m: m.download_request_bundle([], "a.tar.gz"), ValueError, "dataURIs is empty"),
    (lambda m: m.download_request_bundle("mast:x", "a.tar.gz"), TypeError, "must be a list, not str"),
    (lambda m: m.download_request_bundle(["mast:x", "y"], "a.tar.gz"), BadURI, "'y'"),
    (lambda m: m.download_request_pool([]), ValueError, "dataURIs is empty"),
    (lambda m: m.download_request_pool([5]), TypeError, "each of dataURIs must be a string, not int"),
    (lambda m: m.download_request_pool(["mast:x"], cpu_count=-1), ValueError, "cpu_count is -1"),
    (lambda m: m.download_request_pool(["mast:x"], cpu_count="4"), TypeError, "whole number"),
    (lambda m: m.convert_dataURIs_to_dataURLs([]), ValueError, "dataURIs is empty"),
    (lambda m: m.convert_dataURIs_to_dataURLs(["mast:HST/x.fits"]), BadURI, "dataURL"),
    (lambda m: m.extract_cutouts_pool([]), ValueError, "dataURLs is empty"),
    (lambda m: m.extract_cutouts_pool(["https://archive.stsci.edu/x"]), BadURI, "dataURL"),
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG, ids=[f"{n}: {row[2]}" for n, row in enumerate(WRONG)])
def test_a_wrong_call_is_told_what_is_right(
    here: Path, simulator: Simulator, call: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    """Types and values that cannot be are refused in words, without a request or a file."""
    with pytest.raises(error, match=re.escape(words)):
        call(mast_api_psf)

    assert 0 == simulator.count("any")
    assert [] == list(here.iterdir())


def test_dataURIs_are_those_of_the_grammar(capfd: pytest.CaptureFixture[str]) -> None:  # noqa: N802
    """For each row each suffix, by the notebook's sizes or the caller's, with a bar that counts rows."""
    saturated = {**ROW, "id": 8, "qfit": 0.0, "chip": 1}
    uris = mast_api_psf.make_dataURIs([ROW, saturated], "UVIS", ["flt", "raw"], unsat_size=31, sat_size=71)
    start = "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_"

    assert [
        f"{start}flt[1]&size=31&x=99.5&y=1e-05&format=fits/ibc302ioq_7_F814W_flt_cutout.fits",
        f"{start}raw[1]&size=31&x=124.5&y=99.0&format=fits/ibc302ioq_7_F814W_raw_cutout.fits",
        f"{start}flt[4]&size=71&x=99.5&y=1e-05&format=fits/ibc302ioq_8_F814W_flt_cutout.fits",
        f"{start}raw[4]&size=71&x=124.5&y=99.0&format=fits/ibc302ioq_8_F814W_raw_cutout.fits",
    ] == uris
    assert "100%" in (bar := capfd.readouterr().err)
    assert "2/2" in bar


FORMS: dict[str, Callable[[Table], Any]] = {
    "table": Table,
    "with units": QTable,
    "masked": lambda table: Table(table, masked=True),
    "bytes": lambda table: Table([c.astype("S") if c.dtype.kind == "U" else c for c in table.columns.values()]),
    "all texts": lambda table: Table([c.astype("U") for c in table.columns.values()]),
    "all bytes": lambda table: Table([c.astype("S") for c in table.columns.values()]),
    "rows": list,
    "dicts": lambda table: [dict(zip(row.colnames, row, strict=True)) for row in table],
    "array": lambda table: table.as_array(),
    "another order": lambda table: table[table.colnames[::-1]],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_kind_of_table_gives_the_same(obs: Table, uris: list[str], form: Callable[[Table], Any]) -> None:
    """Columns of texts, bytes, masked, with units, rows and arrays: one and the same list."""
    assert uris == mast_api_psf.make_dataURIs(form(obs), "UVIS", ["flt"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, np.ma.masked])
def test_a_row_without_coordinates_is_left_out_by_name(obs: Table, bad: Any) -> None:
    """A masked, infinite or missing coordinate costs its own dataURI, which a warning names; alone, an error."""
    obs = Table(obs, masked=True)
    obs["x_cal"][3] = bad

    with pytest.warns(UserWarning, match=f"1 of 6 .*source {obs['id'][3]} of {obs['rootname'][3]}.*x_cal is"):
        assert 5 == len(mast_api_psf.make_dataURIs(obs, "UVIS", ["flt"]))
    with pytest.raises(BadURI, match="x_cal is"):
        mast_api_psf.make_dataURIs(obs[3:4], "UVIS", ["flt"])
    assert 6 == len(mast_api_psf.make_dataURIs(obs, "UVIS", ["raw"]))


def test_no_rows_give_no_dataURIs(obs: Table) -> None:  # noqa: N802
    """A query that matches nothing is no error here."""
    assert [] == mast_api_psf.make_dataURIs(obs[:0], "UVIS", ["flt"])


def test_one_file(uris: list[str], simulator: Simulator, here: Path) -> None:
    """The file lies where its name says, byte for byte the archive's, and nothing lies beside it."""
    name = uris[0].split("/")[-1]
    (here / "sub").mkdir()
    pair = [uris[0], name]

    assert name == mast_api_psf.download_request_file(pair)
    assert "sub/a.fits" == mast_api_psf.download_request_file((uris[1], "sub/a.fits"))
    assert simulator.render(uris[0]) == (here / name).read_bytes()
    assert simulator.render(uris[1]) == (here / "sub/a.fits").read_bytes()
    assert {name, "sub"} == {p.name for p in here.iterdir()}
    assert [uris[0], name] == pair


def test_an_error_page_is_never_saved(uris: list[str], simulator: Simulator, here: Path) -> None:
    """Whatever the archive sends instead of a cutout, an error is raised and no file appears."""
    kinds = ["html", "text", "empty", "truncate", "wrong_shape", "wrong_source"]
    simulator.faults = [
        Fault(kind, service=service, match=datauri.parse(uri).rootname, size=31 if kind == "wrong_shape" else None)
        for kind, uri in zip(kinds, uris, strict=True)
        for service in ("file", "fitscut")
        if service == "file" or not kind.startswith("wrong")
    ]
    urls = mast_api_psf.convert_dataURIs_to_dataURLs(uris[:4])
    calls: list[Callable[[], Any]] = [
        lambda: mast_api_psf.download_request_file([uris[0], "a.fits"]),
        lambda: mast_api_psf.download_request_bundle(uris, "a.tar.gz"),
        lambda: mast_api_psf.download_request_pool(uris),
        lambda: mast_api_psf.extract_cutouts_pool(urls),
    ]
    with ThreadPoolExecutor() as threads:  # all at once: each waits out its attempts
        errors = [future.exception() for future in [threads.submit(call) for call in calls]]

    assert [CutoutFailed] * 4 == [type(error) for error in errors], errors
    assert [] == [p for p in here.rglob("*") if p.suffix in (".fits", ".gz", ".partial")]


def test_what_is_not_there_is_missing(uris: list[str], simulator: Simulator, here: Path) -> None:
    """What the archive does not have is told apart from what failed, by every function."""
    simulator.faults = [Fault("status", code=404, service=name) for name in ("file", "bundle", "fitscut")]
    urls = mast_api_psf.convert_dataURIs_to_dataURLs(uris)
    calls: list[Callable[[], Any]] = [
        lambda: mast_api_psf.download_request_file([uris[0], "a.fits"]),
        lambda: mast_api_psf.download_request_bundle(uris, "a.tar.gz"),
        lambda: mast_api_psf.download_request_pool(uris),
        lambda: mast_api_psf.extract_cutouts_pool(urls),
    ]
    for call in calls:
        with pytest.raises(CutoutMissing):
            call()


def test_a_bundle_is_as_the_notebook_opens_it(uris: list[str], simulator: Simulator, here: Path) -> None:
    """The first member is the root, two levels down lie exactly the cutouts, and the manifest tells each."""
    assert "b.tar.gz" == mast_api_psf.download_request_bundle(uris, filename="b.tar.gz")
    with tarfile.open("b.tar.gz", "r:gz") as tar:
        root = tar.getnames()[0]
        extract_all(tar)
    page = (here / root / "MANIFEST.HTML").read_text()

    assert POOL.fullmatch(f"{root}/WFC3PSF")
    assert {uri.split("/")[-1] for uri in uris} == {p.name for p in here.glob(f"{root}/*/*")}
    assert all(simulator.render(uri) == (here / root / "WFC3PSF" / uri.split("/")[-1]).read_bytes() for uri in uris)
    assert "Total Files: 6" in page
    assert all(uri.replace("&", "&amp;") in page for uri in uris)
    assert {root, "b.tar.gz"} == {p.name for p in here.iterdir()}


def test_two_sizes_of_one_source_are_two_members(obs: Table, simulator: Simulator, here: Path) -> None:
    """DataURIs with one file name get names of their own, in a bundle and in a pool; a repeated one comes once."""
    small = mast_api_psf.make_dataURIs(obs[:1], "UVIS", ["flt"], unsat_size=31)
    large = mast_api_psf.make_dataURIs(obs[:1], "UVIS", ["flt"])
    given = small + large + small
    mast_api_psf.download_request_bundle(given, "b.tar.gz")
    folder = mast_api_psf.download_request_pool(given)
    with tarfile.open("b.tar.gz") as tar:
        names = [n for n in tar.getnames() if n.endswith(".fits")]
        bundled = {tar.extractfile(n).read() for n in names}
    expected = {simulator.render(small[0]), simulator.render(large[0])}

    assert (2, 2) == (len(names), len(set(names)))
    assert expected == bundled == {p.read_bytes() for p in here.glob(f"{folder}/*")}


def test_what_did_not_come_is_told(uris: list[str], simulator: Simulator, here: Path) -> None:
    """The rest is saved, a warning names how many did not come and why, and bundle and manifest name which."""
    simulator.faults = [Fault("status", code=404, match="iepp20nkq"), Fault("status", code=403, match="ibc301rpq")]
    with pytest.warns(UserWarning, match=r"2 of 6 cutouts did not come: .*1 not_found"):
        mast_api_psf.download_request_bundle(uris, "b.tar.gz")
    with pytest.warns(UserWarning, match=r"2 of 6 cutouts did not come: .*the same call asks"):
        folder = mast_api_psf.download_request_pool(uris)
    with tarfile.open("b.tar.gz") as tar:
        page = tar.extractfile(tar.getnames()[-1]).read().decode()

    assert "Total Files: 4" in page
    assert page.count("not_found") == page.count("forbidden") == 1
    assert 4 == check_every_file((here / folder).parent, simulator)

    simulator.faults = simulator.faults[:1]
    with pytest.warns(UserWarning, match="1 of 6"):
        assert folder == mast_api_psf.download_request_pool(uris)
    assert 5 == check_every_file((here / folder).parent, simulator)


def test_a_pool_is_a_harvest_in_a_folder_of_the_minute(
    uris: list[str], simulator: Simulator, here: Path, psfharvest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flat files, a manifest that adds up and that the command knows, a full bar, the caller's list untouched."""
    before = list(uris)
    folder = mast_api_psf.download_request_pool(uris, cpu_count=3)
    bar = capfd.readouterr().err

    assert POOL.fullmatch(folder)
    assert {uri.split("/")[-1] for uri in uris} == {p.name for p in here.glob(f"{folder}/*")}
    assert 6 == check_every_file((here / folder).parent, simulator)
    assert "100%" in bar
    assert "6/6" in bar
    assert before == uris
    status = psfharvest("status", folder.split("/")[0], "--json")
    assert (0, 6) == (status.status, status.account["done"])


def test_no_two_jobs_share_a_folder(uris: list[str], here: Path) -> None:
    """Bundles and pools of one minute, extracted or not yet, keep apart, each named as the notebook names it."""
    roots = []
    for n in range(2):
        mast_api_psf.download_request_bundle(uris[:2], f"{n}.tar.gz")
        with tarfile.open(f"{n}.tar.gz") as tar:
            roots.append(tar.getnames()[0])
    for n in range(2):
        with tarfile.open(f"{n}.tar.gz") as tar:
            extract_all(tar)
    pools = [mast_api_psf.download_request_pool(uris[2:4]) for _ in range(3)]
    folders = [*(f"{root}/WFC3PSF" for root in roots), *pools]

    assert 5 == len(set(folders))
    assert all(POOL.fullmatch(folder) for folder in folders)
    assert [2] * 5 == [len(list(here.glob(f"{folder}/*"))) for folder in folders]


def test_instruments_mixed(here: Path, simulator: Simulator) -> None:
    """A list of one instrument is in its folder; of two, in the folder above both."""
    table = mast_api_psf.mast_query_psf_database("WFPC2", [{"paramName": "chip", "values": ["3"]}])[:2]
    old = mast_api_psf.make_dataURIs(table, "WFPC2", ["c0m"])
    new = mast_api_psf.make_dataURIs(mast_api_psf.mast_query_psf_database("UVIS", FILTS)[:1], "UVIS", ["flt"])
    only, both = mast_api_psf.download_request_pool(old), mast_api_psf.download_request_pool(new + old)

    assert "WFPC2PSF" == only.split("/")[1]
    assert POOL.fullmatch(f"{both}/WFC3PSF")
    assert 3 == len(list(here.glob(f"{both}/*/*.fits")))


def test_dataURLs_start_with_the_archive_asked(uris: list[str], simulator: Simulator, here: Path) -> None:  # noqa: N802
    """Each dataURL is the grammar's, under the archive that the environment names."""
    urls = mast_api_psf.convert_dataURIs_to_dataURLs(uris)

    assert [datauri.data_url(uri, simulator.url) for uri in uris] == urls
    assert [(simulator.url, uri) for uri in uris] == [datauri.from_data_url(url) for url in urls]


def test_extracted_cutouts_are_in_the_lists_order(
    uris: list[str], simulator: Simulator, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Arrays come in order, also for a repeated dataURL, read from fitscut and from nowhere else, with no file."""
    urls = mast_api_psf.convert_dataURIs_to_dataURLs(uris)
    given = [*urls[::-1], urls[2]]
    before = list(given)
    simulator.forget()
    capfd.readouterr()
    cutouts = mast_api_psf.extract_cutouts_pool(given, cpu_count=2)
    bar = capfd.readouterr().err

    for cutout, uri in zip(cutouts, [*uris[::-1], uris[2]], strict=True):
        assert (51, 51) == cutout.shape
        assert 0 == (cutout != fits.getdata(io.BytesIO(simulator.render(uri)))).sum()
    assert (6, 0) == (simulator.count("fitscut"), simulator.count("file"))
    assert "7/7" in bar
    assert before == given
    assert [] == list(here.iterdir())


def test_a_gap_in_extracted_cutouts_is_an_error_that_holds_the_rest(
    uris: list[str], simulator: Simulator, here: Path
) -> None:
    """A list with a gap would be out of order: the error holds what came, None where nothing did."""
    urls = mast_api_psf.convert_dataURIs_to_dataURLs(uris)
    simulator.faults = [Fault("status", code=404, service="fitscut", match="iepp20nkq")]
    gap = [n for n, uri in enumerate(uris) if "iepp20nkq" in uri]
    with pytest.raises(CutoutMissing, match="1 of 6") as caught:
        mast_api_psf.extract_cutouts_pool(urls)

    assert gap == [n for n, cutout in enumerate(caught.value.cutouts) if cutout is None]


def test_an_archive_that_goes_down_is_told_and_the_same_call_continues(uris: list[str], here: Path) -> None:
    """What stops for an outage says so; the command's resume, or the same call, finishes it."""
    from psfharvest.core.model import Report
    from psfharvest.notebook import verdict

    stopped = Report(6, 2, 0, 0, 4, 100, 1.0, 3, stopped="archive_down", notes=("out of reach",))
    with pytest.raises(ArchiveDown, match="2 of 6 cutouts are in F, and the same call continues"):
        verdict.judge_report(stopped, "F")


@pytest.mark.parametrize("reason", sorted(MISSING))
def test_every_reason_of_a_missing_cutout_is_a_missing_cutout(reason: str) -> None:
    """The notebook's functions raise what `Archive.fetch` raises."""
    from psfharvest.notebook import verdict

    with pytest.raises(CutoutMissing):
        verdict.judge({State.MISSING: 2}, {reason: 2}, "")


def test_a_reason_of_a_newer_version_is_no_error_of_its_own() -> None:
    """A folder that a newer version has written may hold reasons that this one does not know."""
    from psfharvest.notebook import verdict

    with pytest.raises(CutoutFailed, match="2 from_the_future"):
        verdict.judge({State.FAILED: 2}, {"from_the_future": 2}, "")


def settled(simulator: Simulator) -> int:
    """The number of requests, once no more come."""
    seen, calm = -1, 0
    while calm < 4:
        time.sleep(0.1)
        now = simulator.count("any")
        calm = calm + 1 if now == seen else 0
        seen = now
    return seen


FEW = 190
"""Too few to travel in bundles, however slow this machine is just now."""

CHILD = """
import json, sys
from pathlib import Path
from psfharvest import mast_api_psf
uris = json.loads(Path("uris.json").read_text())
work = {
    "pool": lambda: mast_api_psf.download_request_pool(uris, cpu_count=4),
    "bundle": lambda: mast_api_psf.download_request_bundle(uris, "b.tar.gz"),
    "extract": lambda: len(mast_api_psf.extract_cutouts_pool(mast_api_psf.convert_dataURIs_to_dataURLs(uris), 4)),
}[sys.argv[1]]
try:
    work()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
print(work(), flush=True)
"""


@pytest.mark.campaign
@pytest.mark.parametrize("work", ["pool", "bundle", "extract"])
def test_an_interrupt_is_heard_and_the_same_call_continues(tmp_path: Path, work: str) -> None:
    """A real SIGINT is a KeyboardInterrupt; no request follows; a pool goes on with its folder."""
    with Simulator(Settings(sources=3000)) as simulator:
        with blocking.Archive(simulator.url) as archive:
            table = archive.query(Query("UVIS", limit=FEW))
        (tmp_path / "uris.json").write_text(json.dumps(mast_api_psf.make_dataURIs(table, "UVIS", ["flt"])))
        simulator.faults = [Fault("stall", seconds=600, service="any", start=102)]
        told = tmp_path / "told.txt"
        with (
            told.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, "-c", CHILD, work],
                cwd=tmp_path,
                env={**os.environ, "PSFHARVEST_ARCHIVE": simulator.url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as child,
        ):
            while simulator.count("any") < 102:
                assert child.poll() is None
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            assert "interrupted\n" == child.stdout.readline()
            left = {p.name for p in tmp_path.iterdir()} - {"uris.json", told.name}
            settled(simulator)
            simulator.faults = []
            simulator.forget()
            assert 0 == settled(simulator)
            claimed = sum(r["state"] == "done" for name in left for r in rows_of(tmp_path / name))
            out, _ = child.communicate("\n", timeout=60)

        assert 0 == child.returncode, told.read_text()
        if work == "pool":
            assert [out.split("/")[0]] == list(left)
            assert 0 < claimed < FEW
            assert FEW - claimed == simulator.count("file")
            assert FEW == check_every_file(tmp_path / out.split("/")[0], simulator)
        else:
            assert set() == left
            assert {"bundle": "b.tar.gz\n", "extract": f"{FEW}\n"}[work] == out


def test_a_warning_points_at_the_callers_line(uris: list[str], simulator: Simulator, here: Path) -> None:
    """What did not come is told at the line that asked."""
    simulator.faults = [Fault("status", code=404, match="iepp20nkq")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mast_api_psf.download_request_pool(uris)

    assert [__file__] == [warning.filename for warning in caught]
