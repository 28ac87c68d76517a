"""A check of ours that refuses everything stops the run and says what lets it pass; `accept` does, and is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import rows_of, stored_bytes
from psfharvest import AllRefused, Archive, BadInput, CutoutFailed, Harvest, Limits, Query, RetryPolicy
from psfharvest.core.fits import accepted_deviations
from psfharvest.simulator import Fault, Settings, Simulator

QUICK = RetryPolicy(first_delay_s=0.01, max_delay_s=0.05, patience_s=20)
STARS = ("UVIS", "psf_x_center=100..180", "--suffix", "flt")
QUERY = Query("UVIS", psf_x_center=(100, 180))
OTHER_SHAPE = [Fault("wrong_shape", service="file"), Fault("bundle_corrupt", form="shape", members=10_000)]
NAMES = ["name_suffix", "name_association", "name_last_letter"]


def harvest(psfharvest, simulator: Simulator, *words: str):
    return psfharvest("harvest", "stars", *STARS, "--json", "--archive", simulator.url, *words)


def states(folder: Path) -> set[str]:
    return {row["state"] for row in rows_of(folder)}


@pytest.mark.sample(1)
@pytest.mark.parametrize("via", ["file", "bundle"])
def test_a_check_that_refuses_all_stops_the_run(psfharvest, simulator: Simulator, tmp_path: Path, via: str) -> None:
    """Status 75 after few requests, nothing is a verdict; the words name rule, what came, and what lets it pass."""
    simulator.faults = OTHER_SHAPE
    run = harvest(psfharvest, simulator, "--via", via)
    asked = simulator.count("file") + simulator.count("bundle")

    assert (75, "all_refused") == (run.status, run.account["stopped"]), run.err
    assert run.account["pending"] == run.account["total"] > 20
    assert states(tmp_path / "stars") == {"pending"}
    assert asked < 70
    for words in ("wrong_shape", "49x49 instead of 51x51", "mast:", "psfharvest doctor", "--accept wrong_shape"):
        assert words in run.err
        assert words in run.account["notes"][-1]

    run = harvest(psfharvest, simulator, "--via", via, "--accept", "wrong_shape")
    assert run.status == 0, run.err
    assert run.account["quirks"] == {"wrong_shape": run.account["total"]}
    for row in rows_of(tmp_path / "stars"):
        assert (row["quirk"], row["state"]) == ("wrong_shape", "done")
        assert b"NAXIS1  = %20d" % (row["size_px"] - 2) in stored_bytes(tmp_path / "stars", row)
    stars = Harvest(tmp_path / "stars")
    assert stars[0].data.shape == (49, 49)
    stack = stars.stack(size=51)
    np.testing.assert_array_equal(stack[0, 1:50, 1:50], stars[0].data)
    assert np.isnan(stack[:, 0]).all()
    assert stars.verify().ok == run.account["total"]


def test_what_is_accepted_is_kept_with_the_folder(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """A later `resume` needs no --accept; `status` counts the quirks."""
    simulator.faults = [*OTHER_SHAPE, Fault("status", code=500, service="file", rate=0.2)][::-1]
    first = harvest(psfharvest, simulator, "--via", "file", "--accept", "wrong_shape", "--attempts", "1")
    assert first.status == 3
    simulator.faults = OTHER_SHAPE

    run = psfharvest("resume", "stars", "--via", "file", "--archive", simulator.url, "--json")
    assert run.status == 0, run.err
    shown = psfharvest("status", "stars", "--json").account
    assert shown["quirks"] == {"wrong_shape": shown["total"]}
    assert shown["accepted"] == ["wrong_shape"]
    assert "accepted: wrong_shape" in psfharvest("status", "stars").out


@pytest.mark.campaign
def test_what_is_accepted_is_kept_by_merge_and_convert(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """The new folder passes what one of the old ones did, and needs no --accept to go on."""
    simulator.faults = OTHER_SHAPE
    for folder, x, name, status in [("a", "100..110", "wrong_shape", 0), ("b", "111..120", "truncated", 3)]:
        query = ("UVIS", f"psf_x_center={x}", "--suffix", "flt", "--via", "file", "--archive", simulator.url)
        run = psfharvest("harvest", folder, *query, "--accept", name)
        assert run.status == status, run.err
    assert psfharvest("merge", "a", "b", "merged").status == 3
    assert psfharvest("convert", "merged", "converted", "--sink", "shards").status == 3

    for folder in ("merged", "converted"):
        assert psfharvest("status", folder, "--json").account["accepted"] == ["truncated", "wrong_shape"]
        run = psfharvest("resume", folder, "--via", "file", "--archive", simulator.url, "--json")
        assert (run.status, run.account["done"]) == (0, run.account["total"]), run.err
        assert run.account["quirks"] == {"wrong_shape": run.account["total"]}


@pytest.mark.sample(1)
@pytest.mark.parametrize("via", ["file", "bundle"])
@pytest.mark.parametrize("name", NAMES)
async def test_names_that_differ_in_one_way_each_time_are_the_archives_own(
    tmp_path: Path, name: str, via: str
) -> None:
    """After 20 of 20 the difference is accepted with a quirk, and kept: everything comes."""
    with Simulator(Settings(sources=6000, seed=1, oddities=(name,))) as simulator:
        async with Archive(simulator.url, retry=QUICK) as archive:
            report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via=via)
            again = await archive.resume(tmp_path / "h")
        n_requests = simulator.count("file")

    assert (report.exit_status, report.done, report.quirks) == (0, report.total, {name: report.total})
    assert n_requests <= report.total + 60
    assert again.quirks == report.quirks


@pytest.mark.parametrize("way", ["file", "bundle"])
async def test_a_few_wrong_ones_among_many_are_refused(simulator: Simulator, tmp_path: Path, way: str) -> None:
    """Where others of the same kind pass, the check is right."""
    fault = Fault("wrong_source", service="file", rate=0.1)
    member = Fault("bundle_corrupt", form="source", rate=0.1)
    simulator.faults = [fault, member]
    async with Archive(simulator.url, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via=way)

    assert 0 < report.failed < 20
    assert (report.exit_status, report.reasons) == (3, {"wrong_source": report.failed})
    assert not report.quirks
    assert report.done == report.total - report.failed


def test_a_small_harvest_ends_and_says_what_would_let_it_pass(psfharvest, tmp_path: Path) -> None:
    """Twelve of twelve prove nothing: status 3, and the words; the same command with --accept has them all."""
    with Simulator(Settings(sources=6000, seed=1, oddities=("name_suffix",))) as simulator:
        run = harvest(psfharvest, simulator, "--limit", "12")
        assert (3, {"wrong_source": 12}) == (run.status, run.account["reasons"])
        assert "all 12 cutouts of UVIS flt" in run.err
        assert "--accept name_suffix" in run.err

        run = harvest(psfharvest, simulator, "--limit", "12", "--accept", "name_suffix")
        assert (0, {"name_suffix": 12}) == (run.status, run.account["quirks"]), run.err


@pytest.mark.parametrize("command", ["harvest", "resume", "fetch"])
def test_a_name_that_is_no_quirk(psfharvest, simulator: Simulator, tmp_path: Path, command: str) -> None:
    """Status 2 with all names and the nearest, before anything is made or asked."""
    words = {
        "harvest": ("harvest", "stars", *STARS),
        "resume": ("resume", "stars"),
        "fetch": ("fetch", "mast:HST/product/x.fits"),
    }[command]
    run = psfharvest(*words, "--accept", "wrong-shap", "--archive", simulator.url)

    assert run.status == 2
    assert "--accept wrong-shap" in run.err
    assert "did you mean wrong_shape" in run.err
    assert all(
        name in run.err
        for name in (*accepted_deviations.STORED, *accepted_deviations.COUNTED, *accepted_deviations.ALWAYS)
    )
    assert not (tmp_path / "stars").exists()
    assert not simulator.count()


async def test_in_python(simulator: Simulator, tmp_path: Path) -> None:
    """The report says it in Python's words; a stream raises it; one cutout fails by itself, and passes accepted."""
    simulator.faults = OTHER_SHAPE
    async with Archive(simulator.url, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via="file")
        assert (75, "all_refused", report.total) == (report.exit_status, report.stopped, report.pending)
        assert 'accept=["wrong_shape"]' in report.notes[-1]

        with pytest.raises(AllRefused, match="wrong_shape"):
            async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
                assert [cutout async for cutout in cutouts] == []
        async with archive.stream(QUERY, suffixes=["flt"], accept=["wrong_shape"]) as cutouts:
            assert len([cutout async for cutout in cutouts]) == report.total

        uri = rows_of(tmp_path / "h")[0]["uri"]
        with pytest.raises(CutoutFailed, match="wrong_shape"):
            await archive.fetch(uri)
        assert (await archive.fetch(uri, accept="wrong_shape")).data.shape == (49, 49)
        with pytest.raises(BadInput, match="accept 'wrong_shap'"):
            await archive.fetch(uri, accept="wrong_shap")


@pytest.mark.parametrize("kind", ["html", "text", "empty"])
async def test_pages_in_place_of_all_cutouts(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """They stop the run, too; accepted, they are counted as failed, since nothing can be stored."""
    simulator.faults = [Fault(kind, service="file")]
    reason = {"html": "html_page", "text": "text_page", "empty": "empty"}[kind]
    async with Archive(simulator.url, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via="file")
        assert (75, report.total) == (report.exit_status, report.pending)
        assert f'accept=["{reason}"] counts' in report.notes[-1]
        report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via="file", accept=[reason])

    assert (3, {reason: report.total}) == (report.exit_status, report.reasons)


async def test_what_passes_when_it_is_asked_for_again_is_no_fault_of_the_check(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Each first answer has another shape: the one asked for again proves the check, and all are retried."""
    simulator.faults = [Fault("wrong_shape", service="file", times=1)]
    async with Archive(simulator.url, retry=QUICK) as archive:
        report = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via="file")

    assert (0, report.total) == (report.exit_status, report.done)


async def test_nothing_but_bad_ones_left(simulator: Simulator, tmp_path: Path) -> None:
    """A folder whose others have come ends with 3 when it is run again, though the first 20 are refused."""
    simulator.faults = [Fault("wrong_source", service="file", rate=0.7)]
    async with Archive(simulator.url, retry=QUICK, limits=Limits(max_connections=4)) as archive:
        first = await archive.harvest(QUERY, tmp_path / "h", suffixes=["flt"], via="file")
        again = await archive.resume(tmp_path / "h", via="file")

    assert first.failed > 20
    assert (3, first.failed) == (again.exit_status, again.failed)


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
@pytest.mark.parametrize(("oddity", "words"), [("name_suffix", ()), ("", ("--accept", "wrong_shape"))])
def test_a_lost_manifest(psfharvest, tmp_path: Path, sink: str, oddity: str, words: tuple[str, ...]) -> None:
    """What was accepted is adopted again: names in the archive's way by themselves, the rest by --accept."""
    with Simulator(Settings(sources=6000, seed=1, oddities=(oddity,) if oddity else ())) as simulator:
        simulator.faults = [] if oddity else OTHER_SHAPE
        run = harvest(psfharvest, simulator, "--via", "file", "--sink", sink, *words)
    assert run.status == 0, run.err
    (tmp_path / "uris.txt").write_text("\n".join(row["uri"] for row in rows_of(tmp_path / "stars")))
    for file in (tmp_path / "stars").glob("manifest.sqlite*"):
        file.unlink()

    run = psfharvest("adopt", "stars", "--uris", "uris.txt", "--json", *words)
    assert (run.status, run.account["done"]) == (0, run.account["total"]), run.err
    assert run.account["quirks"] == {oddity or "wrong_shape": run.account["total"]}
