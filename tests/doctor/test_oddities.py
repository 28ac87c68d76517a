"""Archives that differ from what is expected: all that can be had is obtained, and doctor names what differs."""

from __future__ import annotations

import random
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import trustme

from harness import sampled
from psfharvest import Archive, Harvest, Limits, Query, RetryPolicy
from psfharvest.archive.endpoints import endpoints_for
from psfharvest.core.catalog.detectors import DETECTORS
from psfharvest.core.fits import datauri
from psfharvest.core.model import Report
from psfharvest.doctor.examination import examine
from psfharvest.simulator import ODDITIES, Catalogue, Fault, Settings, Simulator
from psfharvest.simulator.sky.fitscut import Fitscut

SOURCES, SEED = 6000, 1
QUICK = RetryPolicy(first_delay_s=0.01, max_delay_s=0.05, patience_s=20)
ALL = tuple(DETECTORS.values())
WIDE = frozenset({"ends", "id", "size", "star", "count"})
"""Groups that show in queries of more than one part."""
COLUMNS = {"columns UVIS", "columns IR", "columns WFPC2"}
SAMPLES = {*COLUMNS, "large page"}
FRAMES = {*SAMPLES, "six rows"}
STARS = {"flt", "IR flt", "WFPC2 c0m", "raw", "flc", "near an edge", "chip 1"}
BUNDLES = {"bundle of 6", "bundle of 100"}
RED = {
    "count": {"count"},
    "status": {"count", *FRAMES},
    "fields": FRAMES,
    "selected": FRAMES,
    "star": COLUMNS,
    "new": COLUMNS,
    "size": {"large page"},
    "ends": {"range ends"},
    "id": {"unique ids"},
    "qfit": SAMPLES,
    "filter": SAMPLES,
    "padding": SAMPLES,
    "subarray": SAMPLES,
    "keys": SAMPLES,
    "chip": SAMPLES,
    "body": STARS,
    "edge": {"near an edge"},
    "name": STARS,
    "redirect": STARS,
    "transport": STARS,
    "missing": {"made-up rootname", "no such product"},
    "bundle": BUNDLES,
    "bundle_form": BUNDLES,
}
"""Which checks an oddity of a group turns red."""
RED_ALONE = {
    "no_id_criterion": {"id criterion", "range ends", "open ends", "halves"},
    "page_repeats": {"id criterion", "range ends", "open ends", "halves"},
    "chip_null": {"columns IR"},
    "chip_ir": {"columns IR"},
    "no_chip_column": {"columns IR"},
    "chip_named": {"columns UVIS", "columns WFPC2", "large page"},
    "no_subarray_column": COLUMNS,
    "sql_types": FRAMES,
}
MAY_BE_RED = {"missing": {*STARS, "dataURL", "same bytes twice", *BUNDLES}, "id": {"id criterion"}}
"""Checks that are red only where the star or the bundle of a visit happens to be hit."""
REPORTED = {"null_keys"}
"""Oddities by which cutouts are lost, so that a report is asked for; the rest is dealt with."""
NOW = [
    "count_selected", "no_count", "lower_status", "no_fields", "no_star", "large_500", "row_cap", "exclusive_low",
    "no_id_criterion", "page_repeats", "id_twice", "row_twice", "chip_ir", "no_chip_column", "qfit_null",
    "filter_blank", "padded_texts", "no_subarray_column", "null_keys", "degenerate_axes", "gzip_body", "edge_crop",
    "no_names", "name_suffix", "redirect_cookie", "redirect_http", "http_1_0", "status_202",
    "missing_500", "missing_html", "missing_204", "bundle_flat", "bundle_renamed",
]  # fmt: skip


@cache
def plain(group_id: str) -> tuple[Catalogue, Fitscut]:
    """The same archive without what is odd, but for oddities of the catalogue itself."""
    settings = Settings(sources=SOURCES, seed=SEED, oddities=(group_id,) if group_id else ())
    catalogue = Catalogue(settings)
    return catalogue, Fitscut(catalogue, settings)


def test_each_group_is_in_the_tables() -> None:
    """No oddity is left without an expectation."""
    assert {oddity.group for oddity in ODDITIES.values()} == set(RED)
    assert set(RED_ALONE) | REPORTED | set(NOW) <= set(ODDITIES)


@pytest.fixture
def anyio_backend() -> str:
    """One event loop: what an archive sends does not depend on it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


async def harvested(url: str, folder: Path, oddities: tuple[str, ...], x_px: tuple[float, float]) -> Report:
    groups = {ODDITIES[name].group for name in oddities}
    detector = "IR" if any(name in ("chip_null", "chip_ir", "no_chip_column") for name in oddities) else "UVIS"
    via = "bundle" if groups & {"bundle", "bundle_form"} else "file"
    query = Query(detector, psf_x_center=x_px)
    async with Archive(url, limits=Limits(page_rows=100), retry=QUICK) as archive:
        return await archive.harvest(query, folder, suffixes=["flt"], via=via)


def check_account(report: Report, folder: Path, oddities: tuple[str, ...], x_px: tuple[float, float]) -> None:
    """Hold account and pixels against the catalogue, and against what a plain archive renders."""
    in_catalogue = next((name for name in oddities if name in ("id_twice", "row_twice")), "")
    catalogue, fitscut = plain(in_catalogue)
    detector = "IR" if any(name in ("chip_null", "chip_ir", "no_chip_column") for name in oddities) else "UVIS"
    rows = catalogue.rows(detector)
    inside = np.flatnonzero((rows["psf_x_center"] >= x_px[0]) & (rows["psf_x_center"] <= x_px[1]))
    sources = {
        (int(rows["id"][i]), str(rows["rootname"][i]), float(rows["x_cal"][i]), float(rows["y_cal"][i]))
        for i in inside
    }
    has_null = {s for s in sources if "null_keys" in oddities and s[0] % 20 == 0}
    is_missing = any(name.startswith("missing_") for name in oddities)
    unserved = {s for s in sources - has_null if is_missing and zlib.crc32(s[1].encode()) % 8 == 0}
    assert (report.total, report.pending, report.lacking, report.stopped) == (len(sources), 0, 0, "")
    assert report.done == len(sources) - len(has_null) - len(unserved)
    assert report.failed + report.missing == len(has_null) + len(unserved)
    assert report.reasons.get("bad_uri", 0) == len(has_null)
    n_done = 0
    for cutout in Harvest(folder):
        expected = fitscut.render(cutout.uri)
        assert datauri.parts_of(cutout.uri) is not None
        np.testing.assert_array_equal(cutout.data, pixels_of(expected))
        n_done += 1
    assert n_done == report.done


def pixels_of(body: bytes) -> np.ndarray:
    header, _, _ = body.partition(b"END" + b" " * 77)
    start = -(-(len(header) + 80) // 2880) * 2880
    side = int(body[3 * 80 + 10 : 3 * 80 + 30])
    return np.frombuffer(body, ">f4", side * side, start).reshape(side, side)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", sampled(ODDITIES, NOW))
async def test_one_oddity(tmp_path: Path, name: str) -> None:
    """All that can be had is obtained with an exact account; doctor is red at this oddity's checks alone."""
    group = ODDITIES[name].group
    x_px = (100.0, 420.0) if group in WIDE else (100.0, 170.0)
    settings = Settings(sources=SOURCES, seed=SEED, oddities=(name,))
    with Simulator(settings) as simulator:
        report = await harvested(simulator.url, tmp_path / "stars", (name,), x_px)
        n_requests = len(simulator.requests)
        diagnosis = await examine(endpoints_for(simulator.url, ""), ALL, per_second=1000, timeout_s=10)

    check_account(report, tmp_path / "stars", (name,), x_px)
    assert n_requests <= 2 * report.total + 60
    red = {check.name: check.finding for check in diagnosis.checks if check.finding.verdict != "as expected"}
    must = RED_ALONE.get(name, RED[group])
    assert must <= set(red) <= must | MAY_BE_RED.get(group, set()), red
    verdicts = {finding.verdict for finding in red.values()}
    assert verdicts == {"differs: please report" if name in REPORTED else "differs: adapted"}, red


def drawn(seed: int) -> tuple[str, ...]:
    """Ten oddities that can be at once."""
    chance = random.Random(seed)
    groups: dict[str, list[str]] = {}
    for name, oddity in ODDITIES.items():
        groups.setdefault(oddity.group, []).append(name)
    return tuple(chance.choice(groups[group]) for group in chance.sample(sorted(groups), 10))


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", sampled(range(50), [0, 1, 2]))
async def test_ten_oddities_at_once(tmp_path: Path, seed: int) -> None:
    """Ten at once: every obtainable cutout is obtained, and the account is exact."""
    oddities = drawn(seed)
    x_px = (100.0, 260.0)
    with Simulator(Settings(sources=SOURCES, seed=SEED, oddities=oddities)) as simulator:
        report = await harvested(simulator.url, tmp_path / "stars", oddities, x_px)

    check_account(report, tmp_path / "stars", oddities, x_px)


def test_oddities_are_checked_and_listed(psfharvest) -> None:
    """A name that is none, and two of one group, are refused with what is allowed; the help lists all."""
    unknown = psfharvest("simulate", "--oddity", "nonesuch")
    both = psfharvest("simulate", "--oddity", "chip_ir", "--oddity", "chip_null")
    listed = psfharvest("simulate", "--help").out

    assert (unknown.status, both.status) == (2, 2)
    assert "unknown oddity 'nonesuch'" in unknown.err
    assert "exclude each other" in both.err
    assert all(name in listed for name in ODDITIES)


async def test_from_https_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cutout is redirected from https to plain http: it is asked for over https, and comes; doctor says so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = (str(tmp_path / "server.pem"), str(tmp_path / "server.pem"))
    settings = Settings(sources=SOURCES, seed=SEED, oddities=("redirect_http",))
    with Simulator(settings, tls=tls) as simulator:
        assert simulator.url.startswith("https:")
        report = await harvested(simulator.url, tmp_path / "stars", ("redirect_http",), (100.0, 170.0))
        diagnosis = await examine(endpoints_for(simulator.url, ""), ALL, per_second=1000, timeout_s=10)

    check_account(report, tmp_path / "stars", ("redirect_http",), (100.0, 170.0))
    red = {check.name for check in diagnosis.checks if check.finding.verdict != "as expected"}
    assert red == RED["redirect"]


@pytest.mark.parametrize(("code", "reason"), [(202, "html_page"), (204, "empty")])
async def test_no_cutout_comes_at_all(tmp_path: Path, code: int, reason: str) -> None:
    """A page or nothing, with a success status, for all cutouts: the run stops and names the check."""
    with Simulator(Settings(sources=SOURCES, seed=SEED)) as simulator:
        simulator.faults = [Fault("status", service="file", code=code, body="")]
        report = await harvested(simulator.url, tmp_path / "stars", (), (100.0, 170.0))

    assert (75, "all_refused", report.total) == (report.exit_status, report.stopped, report.pending)
    assert f'accept=["{reason}"]' in report.notes[-1]
