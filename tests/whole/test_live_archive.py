"""
Bad cutouts on an archive that lives, and an archive that answers everything in one wrong way.

The first end as failed or missing, by few requests, at once; the second is an outage, whatever it answers, and no
cutout gets a verdict from it. Over real HTTP, by file, by bundle, from a stream, and with few or many connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from harness import check_every_file, rows_of
from psfharvest import Archive, ArchiveDown, CutoutFailed, Limits, Report, RetryPolicy
from psfharvest.simulator import Fault, Settings, Simulator

QUICK = RetryPolicy(attempts=5, first_delay_s=0.02, max_delay_s=0.1, patience_s=60)
BRIEF = RetryPolicy(attempts=5, first_delay_s=0.05, max_delay_s=0.2, patience_s=1)
ROOTS = ("ibc302ioq", "ibc302i5q", "ibc301rpq", "ibc303o1q")


def uri_of(number: int, root: str = ROOTS[0]) -> str:
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={root}_flt[1]&size=21&x=99.4127&y=100.2683"
        f"&format=fits/{root}_{number}_F814W_flt_cutout.fits"
    )


GOOD = [uri_of(1000 + k) for k in range(120)]
BAD = [uri_of(2000 + k, ROOTS[1]) for k in range(60)]
MIXED = [*GOOD[:60], *BAD, *GOOD[60:]]
"""An exposure without a product in the middle of a healthy list."""


@pytest.fixture
def anyio_backend() -> str:
    """Both loops run the engine in tests/engine; here it is about what comes of it."""
    return "asyncio"


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    """An archive that has every exposure, until a fault is set."""
    with Simulator(Settings(sources=0)) as simulator:
        yield simulator


@pytest.fixture
def simulator(served: Simulator) -> Simulator:
    """The archive, mended and with an empty log."""
    served.faults = []
    served.forget()
    return served


async def harvest(
    url: str, folder: Path, uris: list[str], policy: RetryPolicy = QUICK, connections: int = 6, via: str = "file"
) -> Report:
    async with Archive(url, limits=Limits(max_connections=connections), retry=policy) as archive:
        with anyio.fail_after(60):
            return await archive.harvest(uris, folder, via=via)


def refused(code: int = 500, **more: object) -> Fault:
    return Fault("status", code=code, service="file", match=ROOTS[1], **more)  # type: ignore[arg-type]


ENDS = {
    "500": (refused(), "failed", "server_error"),
    "500, a page with words": (refused(body="no such file"), "failed", "server_error"),
    "400, a page": (refused(400), "failed", "http_error"),
    "404": (refused(404), "missing", "not_found"),
    "403": (refused(403), "failed", "forbidden"),
    "407": (refused(407), "failed", "http_error"),
    "503": (refused(503), "failed", "server_error"),
    "a text": (Fault("text", service="file", match=ROOTS[1], body="no such file"), "missing", "no_product"),
    "a page": (Fault("html", service="file", match=ROOTS[1]), "failed", "html_page"),
    "another shape": (Fault("wrong_shape", service="file", match=ROOTS[1]), "failed", "wrong_shape"),
    "nothing": (Fault("empty", service="file", match=ROOTS[1]), "failed", "empty"),
    "cut": (Fault("truncate", service="file", match=ROOTS[1]), "failed", "truncated"),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize(("name", "connections"), [*((name, 6) for name in ENDS), ("500", 1), ("404", 32)])
async def test_bad_cutouts_do_not_stop_a_live_archive(
    simulator: Simulator, tmp_path: Path, name: str, connections: int
) -> None:
    """Sixty adjacent bad cutouts get their own verdict, the others are done; again, all of it at once."""
    fault, state, reason = ENDS[name]
    simulator.faults = [fault]
    report = await harvest(simulator.url, tmp_path / "h", MIXED, connections=connections)

    assert (120, 60, 0, "") == (report.done, getattr(report, state) + report.failed * (state == "missing"), 0, "")
    assert (3, simulator.count()) == (report.exit_status, report.requests)
    assert report.reasons.get(reason, 0) >= 40
    assert 120 == check_every_file(tmp_path / "h", simulator)
    by_uri = Counter(uri for seen in simulator.requests for uri in seen.uris)
    is_learnt = reason in ("server_error", "http_error", "no_product", "html_page", "wrong_shape") and name not in (
        "503",
        "407",
    )
    assert not is_learnt or sum(by_uri[uri] for uri in BAD) <= 60 + 2 * 20 + 32

    simulator.forget()
    again = await harvest(simulator.url, tmp_path / "h", MIXED, connections=connections)

    assert (3, 120, 60) == (again.exit_status, again.done, again.missing + again.failed)
    assert not (is_learnt and state == "failed") or again.requests <= 60 + 8, "what was known bad is asked once"


@pytest.mark.sample(1)
@pytest.mark.parametrize("connections", [1, 6, 32])
@pytest.mark.parametrize("sink", ["files", "parquet"])
async def test_a_product_that_gives_a_cutout_is_not_absent(
    simulator: Simulator, tmp_path: Path, sink: str, connections: int
) -> None:
    """A text for the first forty settles some as missing; a cutout that comes later has them asked for again."""
    simulator.faults = [
        Fault("text", service="file", match=f"_{1000 + k}_", body="no such file", times=1) for k in range(40)
    ]
    async with Archive(simulator.url, limits=Limits(max_connections=connections), retry=QUICK) as archive:
        with anyio.fail_after(60):
            report = await archive.harvest(GOOD, tmp_path / "h", via="file", sink=sink)
            assert report.retried["no_product"] >= 20
            assert (0, 0) == (report.missing, report.pending)
            assert simulator.count() == report.requests
            assert set(report.reasons) <= {"text_page"}
            again = await archive.resume(tmp_path / "h", via="file")

    assert (0, len(GOOD)) == (again.exit_status, again.done)
    if sink == "files":
        assert len(GOOD) == check_every_file(tmp_path / "h", simulator)


async def test_a_rerun_with_nothing_but_bad_cutouts_ends_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """Two cutouts that always meet 500 end with 3 and their reason, in a new folder and again."""
    simulator.faults = [refused()]
    for _ in range(2):
        report = await harvest(simulator.url, tmp_path / "h", BAD[:2])

        assert (2, {"server_error": 2}, 3) == (report.failed, report.reasons, report.exit_status)
    assert 10 >= simulator.count()


@pytest.mark.parametrize("code", [500, 503])
async def test_one_cutout_that_always_meets_an_error_is_failed(simulator: Simulator, code: int) -> None:
    """It is not an archive out of reach."""
    simulator.faults = [refused(code)]
    async with Archive(simulator.url, retry=QUICK) as archive:
        with anyio.fail_after(60), pytest.raises(CutoutFailed, match=f"HTTP {code}"):
            await archive.fetch(BAD[0])


@pytest.mark.parametrize("code", [404, 405, 501])
async def test_a_server_without_a_query_service_is_not_down(
    simulator: Simulator, tmp_path: Path, code: int
) -> None:
    """Its control request fails in another way than the cutouts do: each gets its own verdict, without a wait."""
    simulator.faults = [Fault("wrong_shape", service="file"), Fault("status", code=code, service="query")]

    report = await harvest(simulator.url, tmp_path / "h", BAD[:19])

    assert (19, {"wrong_shape": 19}, 3) == (report.failed, report.reasons, report.exit_status)
    assert simulator.count() == report.requests


UNIFORM = {
    "403": Fault("status", code=403),
    "404": Fault("status", code=404),
    "407": Fault("status", code=407),
    "500": Fault("status", code=500),
    "503": Fault("status", code=503),
    "a page": Fault("html"),
    "a text": Fault("text", body="The archive is being maintained"),
    "nothing": Fault("empty"),
    "another shape": Fault("wrong_shape"),
    "reset": Fault("reset", at=0),
}
ALL = [uri_of(3000 + k, ROOTS[k % 4]) for k in range(300)]


def from_now_on(name: str, n: int) -> Fault:
    fields = {k: getattr(UNIFORM[name], k) for k in UNIFORM[name].__dataclass_fields__}
    return Fault(**fields | {"service": "file", "start": n})


@pytest.mark.sample(2)
@pytest.mark.parametrize(("name", "connections"), [*((name, 6) for name in UNIFORM), ("500", 1), ("404", 32)])
async def test_an_archive_that_answers_all_in_one_wrong_way_gives_no_verdict(
    simulator: Simulator, tmp_path: Path, name: str, connections: int
) -> None:
    """From one request on everything is wrong: what came before is done, all else pending; mended, it is done."""
    simulator.faults = [from_now_on(name, 101)]
    report = await harvest(simulator.url, tmp_path / "h", ALL, BRIEF, connections)

    assert (100, 200, 75) == (report.done, report.pending, report.exit_status)
    assert {"done", "pending"} == {row["state"] for row in rows_of(tmp_path / "h")}
    assert ("help desk" in report.notes[-1]) is (name == "403")
    assert simulator.count() <= 100 + 10 + 2 * connections + 40

    simulator.faults = []
    again = await harvest(simulator.url, tmp_path / "h", ALL)

    assert (300, 0) == (again.done, again.exit_status)
    assert {1} == {row["attempts"] for row in rows_of(tmp_path / "h")}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["404", "503", "a page"])
async def test_an_outage_that_passes_costs_nothing(simulator: Simulator, tmp_path: Path, name: str) -> None:
    """After a second of wrong answers the run goes on by itself: all done, one attempt each, but for the probes."""
    simulator.faults = [from_now_on(name, 101)]

    async def mend() -> None:
        await anyio.sleep(2)
        assert simulator.count("file") > 110
        simulator.faults = []

    async with anyio.create_task_group() as group:
        group.start_soon(mend)
        report = await harvest(simulator.url, tmp_path / "h", ALL)

    assert (300, 0) == (report.done, report.exit_status)
    assert {1} == {row["attempts"] for row in rows_of(tmp_path / "h")}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["404", "503", "a page"])
async def test_a_stream_meets_the_outage_as_an_error(simulator: Simulator, name: str) -> None:
    """Nothing of it is called missing or failed."""
    simulator.faults = [from_now_on(name, 51)]
    n, error = 0, None
    async with Archive(simulator.url, limits=Limits(max_connections=6), retry=BRIEF) as archive:
        with anyio.fail_after(60):
            async with archive.stream(ALL) as cutouts:
                try:
                    async for _ in cutouts:
                        n += 1
                except ArchiveDown as down:
                    error = down

    assert error is not None
    assert (50, 0) == (n, len(cutouts.failures))


async def test_bundles_and_files_that_fail_on_a_live_archive(simulator: Simulator, tmp_path: Path) -> None:
    """What bundles leave out and files answer with 500 fails by itself."""
    simulator.faults = [Fault("bundle_drop", match=ROOTS[1], members=1000), refused()]
    report = await harvest(simulator.url, tmp_path / "h", MIXED, via="bundle")

    assert (120, 60, 3) == (report.done, report.failed, report.exit_status)
    assert {"server_error": 60} == report.reasons
