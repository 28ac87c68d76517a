"""What the Python interface shows: bars, reports, HTML for notebooks, and an interrupt in one sentence."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import psfharvest
from psfharvest import Archive, BadInput, Harvest, Limits, Progress, Query, Report, blocking, mast_api_psf
from psfharvest.simulator import Fault, Simulator

WANTED = Query("UVIS", filter="F606W", limit=40)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory):
    """A simulator and a finished harvest of it."""
    folder = tmp_path_factory.mktemp("held") / "stars"
    with Simulator() as simulator:
        with blocking.Archive(simulator.url) as archive:
            report = archive.harvest(WANTED, folder, suffixes=["flt"], progress=False)
        yield simulator, folder, report


async def test_a_bar_for_each_verb(held, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """True draws tqdm's bar to standard error, which ends in the final count; None draws nothing."""
    simulator, _, _ = held
    async with Archive(simulator.url) as archive:
        await archive.query(WANTED)
        assert "" == capfd.readouterr().err
        await archive.query(WANTED, progress=True)
        assert "40/40" in capfd.readouterr().err
        await archive.harvest(WANTED, tmp_path / "d", suffixes=["flt"], progress=True)
        assert "40/40" in capfd.readouterr().err
        await archive.resume(tmp_path / "d", progress=True)
        assert "40/40" in capfd.readouterr().err
        async with archive.stream(WANTED, suffixes=["flt"], progress=True) as cutouts:
            assert 40 == len([cutout async for cutout in cutouts])
        assert "40/40" in capfd.readouterr().err


def test_blocking_draws_bars_unless_told_not_to(held, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The bar is on by default without await."""
    simulator, _, _ = held
    with blocking.Archive(simulator.url) as archive:
        for is_on in (True, False):
            more = {} if is_on else {"progress": False}
            shown = []
            archive.query(WANTED, **more)
            shown.append(capfd.readouterr().err)
            archive.harvest(WANTED, tmp_path / f"{is_on}", suffixes=["flt"], **more)
            shown.append(capfd.readouterr().err)
            archive.resume(tmp_path / f"{is_on}", **more)
            shown.append(capfd.readouterr().err)
            with archive.stream(WANTED, suffixes=["flt"], **more) as cutouts:
                assert 40 == len(list(cutouts))
            shown.append(capfd.readouterr().err)
            assert [is_on] * 4 == ["40/40" in text for text in shown]
            assert is_on or not any(shown)


async def test_progress_may_be_a_function(held, tmp_path: Path) -> None:
    """It gets looks whose expected number is never forgotten; the last one is the final state."""
    simulator, _, _ = held
    seen: dict[str, list[Progress]] = {"query": [], "harvest": [], "stream": []}
    async with Archive(simulator.url) as archive:
        await archive.query(WANTED, progress=seen["query"].append)
        await archive.harvest(WANTED, tmp_path / "d", suffixes=["flt"], progress=seen["harvest"].append)
        async with archive.stream(WANTED, suffixes=["flt"], progress=seen["stream"].append) as cutouts:
            assert 40 == len([cutout async for cutout in cutouts])

    assert [40, 40, 40] == [looks[-1].tally.done for looks in seen.values()]
    expected = [look.expected for look in seen["harvest"]]
    assert None not in expected[expected.index(40) :]


@pytest.mark.parametrize("progress", ["yes", 1, 0, [], object()])
async def test_any_other_progress_is_bad_input(held, tmp_path: Path, progress: object) -> None:
    """The message says what is allowed; nothing was made."""
    simulator, _, _ = held
    async with Archive(simulator.url) as archive:
        for work in (
            archive.query(WANTED, progress=progress),
            archive.harvest(WANTED, tmp_path / "d", suffixes=["flt"], progress=progress),
        ):
            with pytest.raises(BadInput, match="progress is"):
                await work
    with blocking.Archive(simulator.url) as archive, pytest.raises(BadInput, match="progress is"):
        archive.stream(WANTED, suffixes=["flt"], progress=progress)

    assert not (tmp_path / "d").exists()


def test_a_printed_report_is_the_shells_account(held) -> None:
    """Counts, bytes, reasons with what to do."""
    _, _, report = held
    assert str(report).startswith("40 of 40 cutouts (")
    broken = Report(10, 3, 4, 2, 1, 999, 1.0, 12, {"not_found": 4, "timeout": 2}, stopped="interrupted")
    text = str(broken)

    assert "3 of 10 cutouts, 4 missing, 2 failed, 1 pending" in text
    assert "4 not_found: the archive has no such product" in text
    assert "work is left" in text


def test_html_for_notebooks(held) -> None:
    """Report, Harvest, Query and both Archives show themselves; texts are escaped."""
    simulator, folder, report = held
    with blocking.Archive(simulator.url) as archive:
        shown = archive._repr_html_()
    assert simulator.url in shown
    assert simulator.url in Archive(simulator.url)._repr_html_()
    assert "<th>done</th><td style='text-align:right'>40" in report._repr_html_()
    assert "F606W" in WANTED._repr_html_()
    assert "<script>" not in Query("UVIS", rootname="<script>")._repr_html_()
    with Harvest(folder) as stars:
        assert "40" in stars._repr_html_()
        assert "<img" in stars._repr_html_()


@pytest.mark.parametrize("module", [psfharvest, blocking, mast_api_psf])
def test_dir_shows_the_public_surface(module) -> None:
    """Only what is public."""
    assert sorted(module.__all__) == dir(module)


async def test_a_detectors_name_is_a_query(held) -> None:
    """`count("UVIS")` counts all of it."""
    simulator, _, _ = held
    async with Archive(simulator.url) as archive:
        assert await archive.count("uvis") == await archive.count(Query("UVIS"))
        with pytest.raises(BadInput, match="a detector is a word"):
            await archive.count(None)


SCRIPT = """
import sys
from psfharvest import Limits, Query, blocking
archive = blocking.Archive(sys.argv[1], limits=Limits(max_per_second=20))
print("begun", flush=True)
if sys.argv[2] == "harvest":
    archive.harvest(Query("UVIS", limit=300), "d", suffixes=["flt"], via="file", progress=False)
elif sys.argv[2] == "stream":
    for _ in archive.stream(Query("UVIS", limit=300), suffixes=["flt"], progress=False):
        pass
else:
    archive.count(Query("UVIS"))
"""


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("verb", "words"),
    [("harvest", " of 300 stored; run the same again to go on"), ("stream", " cutouts had come"), ("count", "")],
)  # fmt: skip
def test_an_interrupt_is_one_sentence(held, tmp_path: Path, verb: str, words: str) -> None:
    """KeyboardInterrupt carries it, and the traceback has at most three frames of ours."""
    simulator, _, _ = held
    simulator.faults = [Fault("stall", seconds=600, service="query")] if verb == "count" else []
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, simulator.url, verb],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as busy:  # fmt: skip
        busy.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            busy.wait(3)
        busy.send_signal(signal.SIGINT)
        _, err = busy.communicate(timeout=30)
    simulator.faults = []

    last = err.strip().splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: interrupted"), err
    assert words in last
    assert err.count("/psfharvest/") <= 3, err


async def _cancelled(url: str, folder: Path) -> asyncio.CancelledError:
    async with Archive(url, limits=Limits(max_per_second=30)) as archive:
        task = asyncio.ensure_future(
            archive.harvest(Query("UVIS", limit=300), folder, suffixes=["flt"], via="file")
        )
        while not list(folder.rglob("*.fits")):  # noqa: ASYNC110 - files come without an event
            await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return error
        raise AssertionError("it was not cancelled")


def test_a_cancelled_task_says_how_far_it_came(held, tmp_path: Path) -> None:
    """asyncio's own CancelledError carries the sentence, with at most three frames of ours."""
    simulator, _, _ = held
    error = asyncio.run(_cancelled(simulator.url, tmp_path / "d"))
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/psfharvest/" in frame.filename]

    assert " of 300 stored; run the same again to go on" in str(error)
    assert len(ours) <= 3


async def test_a_scope_that_cancels_still_ends_its_work(held, tmp_path: Path) -> None:
    """A deadline of the caller's own works as ever, on both event loops."""
    import anyio

    simulator, _, _ = held
    with anyio.move_on_after(0.5) as scope:
        async with Archive(simulator.url, limits=Limits(max_per_second=20)) as archive:
            await archive.harvest(Query("UVIS", limit=300), tmp_path / "d", suffixes=["flt"], via="file")

    assert scope.cancelled_caught


async def test_advice_is_in_pythons_words(held, tmp_path: Path) -> None:
    """A refusal shows the query as Python writes it, and what to give; with the folder's name."""
    simulator, folder, _ = held
    async with Archive(simulator.url) as archive:
        with pytest.raises(BadInput) as caught:
            await archive.harvest(Query("IR", limit=3), folder, suffixes=["flt"])

    words = str(caught.value)
    assert str(folder) in words
    assert "Query('UVIS', filter='F606W', limit=40), suffixes=['flt']" in words
    assert "extend=True" in words
    assert "--" not in words


async def test_a_cancel_with_words_of_its_own_keeps_them(held, tmp_path: Path) -> None:
    """`task.cancel("why")` is the caller's message."""
    simulator, _, _ = held

    async def work() -> None:
        async with Archive(simulator.url, limits=Limits(max_per_second=30)) as archive:
            await archive.harvest(Query("UVIS", limit=300), tmp_path / "d", suffixes=["flt"], via="file")

    def run() -> None:
        async def cancelled() -> None:
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0.5)
            task.cancel("the user has left")
            await task

        asyncio.run(cancelled())

    with pytest.raises(asyncio.CancelledError, match="the user has left"):
        await anyio.to_thread.run_sync(run)
