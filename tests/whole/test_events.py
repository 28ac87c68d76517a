"""Events: their sum is the account; listeners that fail are dropped; logs, pulses and notes come from them."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfharvest import Archive, Limits, Query, Report, RetryPolicy, blocking, events
from psfharvest.core.errors import BadInput
from psfharvest.events.model import N_BUCKETS
from psfharvest.mast_api_psf import make_dataURIs
from psfharvest.simulator import Fault, Settings, Simulator
from psfharvest.store.manifest import history
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.account import account

pytestmark = pytest.mark.anyio
QUERY = Query("UVIS", filter="F606W", limit=60)
QUICK = RetryPolicy(attempts=2, first_delay_s=0.01, max_delay_s=0.05, patience_s=20.0)
FAULTS = {
    "500": Fault("status", code=500, service="file", rate=0.2),
    "404": Fault("status", code=404, service="file", rate=0.2),
    "cut": Fault("truncate", service="file", rate=0.2),
    "bundle": Fault("bundle_cut", times=2),
    "bits": Fault("bundle_corrupt", form="stream", times=1),
}
BAD = "http://nowhere.example/no-data-uri"


def summed(seen: list[events.Event]) -> Counter[str]:
    """All `Settled` less all `TakenBack`."""
    total = Counter[str]()
    for event in seen:
        if isinstance(event, events.Settled | events.TakenBack):
            sign = 1 if isinstance(event, events.Settled) else -1
            for name in ("done", "missing", "failed", "bytes"):
                total[name] += sign * getattr(event, name)
    return total


def pending_law(seen: list[events.Event]) -> int:
    """What is pending in the end, by the sum of the events."""
    n = 0
    for event in seen:
        match event:
            case events.Started(pending=pending):
                n += pending
            case events.Asked(n_new=n_new):
                n += n_new
            case events.TakenBack(n=n_back):
                n += n_back
            case events.Settled(done=done, missing=missing, failed=failed):
                n -= done + missing + failed
    return n


def stands(report: Report | None) -> Counter[str]:
    names = ("done", "missing", "failed", "bytes")
    return Counter({name: 0 if report is None else getattr(report, name) for name in names})


async def uris_of(archive: Archive) -> list[str]:
    sources = await archive.query(QUERY)
    return make_dataURIs(sources, "UVIS", ["flt"])


@pytest.fixture(scope="module")
def world() -> Any:
    with Simulator(Settings(sources=3000, seed=4)) as simulator:
        yield simulator


async def test_the_story_of_a_run(simulator: Simulator, tmp_path: Path) -> None:
    """It begins with Started and ends with Ended, in order of time, each with its run; a stream has the same."""
    seen: list[events.Event] = []
    async with Archive(simulator.url, token="a-secret-token") as archive:
        stream = archive.events()
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], events=seen.append)
        own = [event for event in seen if event.run]

    every = [event async for event in stream]
    assert isinstance(own[0], events.Started)
    assert isinstance(own[-1], events.Ended)
    assert report.done == own[-1].report.done == 60
    assert {1} == {event.run for event in own}
    assert sorted(event.at for event in every) == [event.at for event in every]
    assert {repr(event) for event in own} <= {repr(event) for event in every}
    assert any(isinstance(event, events.Pulse) for event in own)
    assert any(isinstance(event, events.Queried) and event.n >= 60 for event in every)
    asked = [event for event in own if isinstance(event, events.Asked)]
    assert 60 == sum(event.n for event in asked) == sum(event.n_new for event in asked)
    settled = [event for event in own if isinstance(event, events.Settled)]
    assert 60 == sum(sum(event.durations) for event in settled)
    assert {N_BUCKETS} == {len(event.durations) for event in settled}
    assert 60 == sum(sum(event.via.values()) for event in settled)
    assert "a-secret-token" not in repr(every)


@settings(max_examples=6)
@given(
    faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=3),
    n_bad=st.integers(0, 2),
    via=st.sampled_from(["file", "bundle", "auto"]),
    cancel_after=st.one_of(st.none(), st.integers(1, 3)),
)
def test_settled_less_taken_back_is_the_change_of_the_account(
    world: Simulator, tmp_path_factory: pytest.TempPathFactory, faults: list[str], n_bad: int, via: str,
    cancel_after: int | None,
) -> None:  # fmt: skip
    """For each run over a folder: with faults, bad lines, a cancellation, and failed ones that are tried again."""
    folder = tmp_path_factory.mktemp("law") / "d"

    async def run(what: Any, cancel: int | None) -> None:
        before = account(folder) if (folder / "manifest.sqlite").exists() else None
        seen: list[events.Event] = []
        with anyio.CancelScope() as scope:

            def listen(event: events.Event) -> None:
                seen.append(event)
                n = sum(isinstance(e, events.Settled) for e in seen)
                if cancel is not None and n >= cancel:
                    scope.cancel()

            async with Archive(world.url, retry=QUICK, limits=Limits(max_connections=4)) as archive:
                await archive.harvest(what, folder, via=via, events=listen)
        change = stands(account(folder))
        change.subtract(stands(before))
        assert +change == +summed(seen)
        assert -change == -summed(seen)
        assert isinstance(seen[-1], events.Ended)
        assert pending_law(seen) == seen[-1].report.pending

    async def all_runs() -> None:
        async with Archive(world.url) as archive:
            listed = await uris_of(archive) + [f"{BAD}/{n}" for n in range(n_bad)]
        world.faults = [FAULTS[name] for name in faults]
        await run(listed, cancel_after)
        await run(listed, None)
        world.faults = []

    anyio.run(all_runs)


async def test_failed_ones_that_get_fresh_attempts_are_taken_back(simulator: Simulator, tmp_path: Path) -> None:
    """What was failed or missing and is asked for again is announced as taken back, by reason."""
    known = "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[4]&size=51&x=1&y=1&format=fits/no_such.fits"
    uris = ["mast:HST/product/nothing_here.fits", known]
    seen: list[events.Event] = []
    async with Archive(simulator.url, retry=QUICK) as archive:
        first = await archive.harvest(uris, tmp_path / "d")
        again = await archive.harvest(uris, tmp_path / "d", retry_states=["failed", "missing"], events=seen.append)

    taken = [event for event in seen if isinstance(event, events.TakenBack)]
    n_left = first.missing + first.failed - first.reasons.get("bad_uri", 0)
    assert n_left == sum(event.n for event in taken)
    assert n_left
    change = stands(again)
    change.subtract(stands(first))
    assert +change == +summed(seen)


async def test_a_listener_that_fails_is_logged_and_dropped(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets no more events; the harvest and other listeners go on."""
    calls: list[events.Event] = []
    others: list[events.Event] = []

    def broken(event: events.Event) -> None:
        calls.append(event)
        raise RuntimeError("the listener's own")

    async with Archive(simulator.url, events=broken) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], events=others.append)

    assert 60 == report.done
    assert 1 == len(calls)
    assert isinstance(others[-1], events.Ended)
    assert 1 == sum("event listener failed" in record.message for record in caplog.records)


async def test_a_listener_may_cause_events_itself_and_fail(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is called for an event that its own call has caused; when both calls fail, the harvest goes on."""
    calls: list[events.Event] = []

    def broken(event: events.Event) -> None:
        calls.append(event)
        if len(calls) == 1:
            archive.hold(0.05)
        raise RuntimeError("the listener's own")

    async with Archive(simulator.url, events=broken) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"])

    assert 60 == report.done
    assert isinstance(calls[1], events.Paused)
    assert 2 == len(calls) == sum("event listener failed" in record.message for record in caplog.records)


async def test_an_event_stream_is_bounded(simulator: Simulator, tmp_path: Path) -> None:
    """A reader that comes late finds the newest, and how many it has lost."""
    seen: list[events.Event] = []
    async with Archive(simulator.url, events=seen.append) as archive:
        stream = archive.events(size=3)
        await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"])

    assert seen[-3:] == [event async for event in stream]
    assert len(seen) - 3 == stream.dropped


async def test_several_tasks_read_one_event_stream(simulator: Simulator, tmp_path: Path) -> None:
    """Each event goes to one of them, and all of them come to the end."""
    seen: list[events.Event] = []
    read: list[events.Event] = []

    async def work() -> None:
        read.extend([event async for event in stream])

    async with Archive(simulator.url, events=seen.append) as archive:
        stream = archive.events()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(work)
                await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"])
                await archive.aclose()

    assert sorted(map(id, seen)) == sorted(map(id, read))


async def test_an_event_stream_of_a_closed_archive_ends_at_once(simulator: Simulator) -> None:
    """Made before the archive is opened it has all events; after its end, none; opened once more, those of then."""
    archive = Archive(simulator.url)
    early = archive.events()
    for _ in range(2):
        async with archive:
            stream = archive.events()
            await archive.count("UVIS")
        assert [event async for event in stream]
        with anyio.fail_after(60):
            assert [] == [event async for event in archive.events()]
    assert [event async for event in early]


async def test_a_listener_whose_result_nobody_awaits_is_logged_and_dropped(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain function that gives a coroutine looks as if it worked, and would do nothing."""
    n_run = 0

    async def waits(_: events.Event) -> None:
        nonlocal n_run
        n_run += 1

    async with Archive(simulator.url, events=lambda event: waits(event)) as archive:  # noqa: PLW0108 - so it is given
        await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"])

    assert 0 == n_run
    assert 1 == sum("gave a coroutine" in record.message for record in caplog.records)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "x", None])
async def test_what_is_no_number_of_events_is_refused(simulator: Simulator, size: Any) -> None:
    """The range is named."""
    with pytest.raises(BadInput, match=r"size is .*a whole number of events from 1"):
        Archive(simulator.url).events(size)


async def test_listeners_that_cannot_be_called_are_refused() -> None:
    """An async function would never be awaited; a wrong value is no function."""

    async def waits(event: events.Event) -> None: ...

    for wrong in (waits, "print"):
        with pytest.raises(BadInput, match="events="):
            Archive(events=wrong)  # type: ignore[arg-type]


async def test_an_outage_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Down says why, since when and until when; it is logged, and kept as a note."""
    seen: list[events.Event] = []
    caplog.set_level(logging.INFO, "psfharvest")
    with Simulator(Settings(sources=2000, seed=3)) as simulator:
        async with Archive(simulator.url) as archive:
            await archive.harvest([BAD + "x", "mast:HST/product/a.fits"], tmp_path / "d")
        url = simulator.url
    async with Archive(url, retry=RetryPolicy(first_delay_s=0.01, patience_s=0.5)) as archive:
        report = await archive.harvest(
            ["mast:HST/product/a.fits", "mast:HST/product/b.fits"], tmp_path / "d", extend=True, events=seen.append,
            retry_states=["failed", "missing"],
        )  # fmt: skip

    assert "archive_down" == report.stopped
    down = next(event for event in seen if isinstance(event, events.Down))
    assert (2, True) == (down.run, bool(down.why))
    assert 0.4 < down.gives_up_at - down.since < 0.6
    assert any(isinstance(event, events.Retried) and event.n and event.example for event in seen)
    assert any(record.levelno == logging.INFO and "archive is down" in record.message for record in caplog.records)
    records = [r for r in caplog.records if r.name.startswith("psfharvest.")]
    assert {"psfharvest.run", "psfharvest.archive"} <= {record.name for record in records}
    assert all("event" in record.psfharvest for record in records)
    json.dumps([record.psfharvest for record in records])
    with Manifest.read(tmp_path / "d") as manifest:
        assert "Down" in [note.event for note in history.notes(manifest)]
        pulse = history.last_pulse(manifest)
        assert pulse is not None
        assert 2 == pulse.run


def test_pulses_are_thinned_and_the_newest_is_kept(tmp_path: Path) -> None:
    """However long a run: no more than so many pulses, evenly apart, the newest among them; the last notes only."""
    with Manifest.create(tmp_path, sink="files", layout="tree") as manifest:
        run = manifest.begin_run()
        writer = history.History(n_max=16)
        for n in range(203):
            row = history.Pulse(run, float(n), 1, *[n] * 11, 1.0, 1.0, None, "", None, None, 0.0, 0.0)
            with manifest.transaction() as db:
                writer.add_pulse(db, row)
                writer.add_notes(db, [history.Note(run, float(k), "INFO", "Up", "words") for k in range(10)])
            kept = history.pulses(manifest)
            assert len(kept) <= 17
            assert n == kept[-1].done
        assert 1 == len({b.at - a.at for a, b in zip(kept[:-1], kept[1:-1], strict=False)})
        assert history.NOTES_MAX == len(history.notes(manifest, 5000))
        assert 203 - 1 == history.last_pulse(manifest).done
        assert 5 >= len(history.pulses(manifest, 5))
    db = sqlite3.connect(tmp_path / "manifest.sqlite")
    assert 0 < db.execute("SELECT count(*) FROM pulse").fetchone()[0] <= 17
    db.close()


def test_a_folder_whose_name_is_no_text_is_harvested(simulator: Simulator, tmp_path: Path) -> None:
    """A name that is no UTF-8 harms neither the notes nor the log file."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/st\xffrs"))
    seen: list[Any] = []
    with blocking.Archive(simulator.url, events=seen.append) as archive:
        report = archive.harvest(Query("UVIS", limit=5), folder, suffixes=["flt"], progress=False)

    assert 5 == report.done
    for event in seen:
        json.dumps(events.plain(event), ensure_ascii=False).encode("utf-8")
    with Manifest.read(folder) as manifest:
        assert any("\\xff" in note.words or "\\udcff" in note.words for note in history.notes(manifest))
