"""The verbs without await: in scripts, threads and running loops; interruptible, and gone when they are done."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from harness import check_every_file, rows_of
from psfharvest import ArchiveDown, BadInput, BadQuery, Cutout, Limits, Query, RetryPolicy, blocking
from psfharvest.concurrency.background_loop import Background
from psfharvest.simulator import Fault, Settings, Simulator

NOTEBOOK = Query("UVIS", psf_x_center=(100, 102), psf_y_center=(100, 102), n_sat_pixels=0)


def uris_of(simulator: Simulator, n: int) -> list[str]:
    """DataURIs of the first sources of UVIS."""
    from psfharvest import mast_api_psf

    with blocking.Archive(simulator.url) as archive:
        return mast_api_psf.make_dataURIs(archive.query(Query("UVIS", limit=n)), "UVIS", ["flt"])


def settled(simulator: Simulator, service: str = "file") -> int:
    """The number of requests, once no more come."""
    seen, calm = -1, 0
    while calm < 4:
        time.sleep(0.1)
        now = simulator.count(service)
        calm = calm + 1 if now == seen else 0
        seen = now
    return seen


def all_verbs(simulator: Simulator, folder: Path) -> tuple:
    """Use each verb once, and return what they gave."""
    with blocking.Archive(simulator.url) as archive:
        n = archive.count(NOTEBOOK)
        table = archive.query(NOTEBOOK)
        with archive.stream(NOTEBOOK, suffixes=["flt"]) as cutouts:
            seen = {cutout.source["id"]: cutout.uri for cutout in cutouts}
        one = archive.fetch(next(iter(seen.values())))
        report = archive.harvest(NOTEBOOK, folder, suffixes=["flt"])
        again = archive.resume(folder)
    assert simulator.render(one.uri) == one.raw
    assert 6 == check_every_file(folder, simulator)
    return (n, len(table), sorted(seen) == list(table["id"]), report.done, again.done, again.requests)


EXPECTED = (6, 6, True, 6, 6, 0)


def test_the_verbs_in_a_script(simulator: Simulator, tmp_path: Path) -> None:
    """All verbs work with no loop in sight."""
    assert EXPECTED == all_verbs(simulator, tmp_path / "d")


def test_the_verbs_inside_a_running_loop(simulator: Simulator, tmp_path: Path) -> None:
    """All verbs work in the very thread of a running event loop, which goes on unpatched."""

    async def main() -> tuple:
        loop = asyncio.get_running_loop()
        run = type(loop).run_until_complete
        found = all_verbs(simulator, tmp_path / "d")
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        assert type(loop).run_until_complete is run
        return found

    assert EXPECTED == asyncio.run(main())


def test_the_verbs_in_another_thread(simulator: Simulator, tmp_path: Path) -> None:
    """All verbs work in a worker thread."""
    found: list[tuple] = []
    worker = threading.Thread(target=lambda: found.append(all_verbs(simulator, tmp_path / "d")))
    worker.start()
    worker.join()

    assert [EXPECTED] == found


def test_calls_from_several_threads_go_on_at_once(simulator: Simulator) -> None:
    """One archive serves many threads."""
    found: list[int] = []
    with blocking.Archive(simulator.url) as archive:
        workers = [threading.Thread(target=lambda: found.append(archive.count(NOTEBOOK))) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    assert [6] * 8 == found


def test_without_with_it_is_closed_by_close(simulator: Simulator) -> None:
    """The thread lives from the first call to close, which may be called twice; then every verb refuses."""
    archive = blocking.Archive(simulator.url)
    assert 6 == archive.count(NOTEBOOK)
    assert "psfharvest-blocking" in {t.name for t in threading.enumerate()}
    archive.close()
    archive.close()

    with pytest.raises(BadInput, match="closed"):
        archive.count(NOTEBOOK)
    with pytest.raises(BadInput, match="closed"):
        archive.stream(NOTEBOOK, suffixes=["flt"])


def test_a_forgotten_archive_takes_its_thread_along(simulator: Simulator) -> None:
    """An archive that nobody holds ends its thread, unclosed."""
    archive = blocking.Archive(simulator.url)
    archive.count(NOTEBOOK)
    (thread,) = [t for t in threading.enumerate() if t.name == "psfharvest-blocking"]
    del archive
    gc.collect()
    thread.join(10)

    assert not thread.is_alive()


@pytest.mark.campaign
def test_a_slow_reader_is_waited_for(simulator: Simulator) -> None:
    """A stream fetches ahead by a bounded number, and goes on when it is read."""
    uris = uris_of(simulator, 2000)
    with (
        blocking.Archive(simulator.url, limits=Limits(max_connections=4)) as archive,
        archive.stream(uris) as cutouts,
    ):
        next(cutouts)
        ahead = settled(simulator)
        rest = {cutout.uri for cutout in cutouts}

    assert 1000 > ahead
    assert 1999 == len(rest)


def test_leaving_a_stream_early_ends_its_requests(simulator: Simulator) -> None:
    """A stream left in the middle asks for no more, and the archive goes on working."""
    uris = uris_of(simulator, 2000)
    with blocking.Archive(simulator.url, limits=Limits(max_connections=4)) as archive:
        with archive.stream(uris) as cutouts:
            assert isinstance(next(cutouts), Cutout)
        assert [] == list(cutouts)
        for _ in archive.stream(uris):  # forgotten after one
            break
        assert 2000 > settled(simulator)
        assert 6 == archive.count(NOTEBOOK)


def test_a_stream_tells_what_did_not_come(simulator: Simulator) -> None:
    """What is missing stands in the stream's failures, and is counted."""
    uris = uris_of(simulator, 3)
    simulator.faults = [Fault("status", code=404, match=uris[1])]
    with blocking.Archive(simulator.url) as archive, archive.stream(uris) as cutouts:
        assert {uris[0], uris[2]} == {cutout.uri for cutout in cutouts}
        assert [uris[1]] == [outcome.item.uri for outcome in cutouts.failures]
        assert {"done": 2, "missing": 1} == cutouts.states


@pytest.mark.parametrize("work", ["query", "stream", "harvest"])
def test_errors_are_those_of_the_archive(simulator: Simulator, tmp_path: Path, work: str) -> None:
    """What the asynchronous archive raises is raised here, as it is."""
    asked = Query("UVIS", nosuchthing="1")
    does = {
        "query": lambda a: a.query(asked),
        "stream": lambda a: list(a.stream(asked, suffixes=["flt"])),
        "harvest": lambda a: a.harvest(asked, tmp_path / "d", suffixes=["flt"]),
    }
    with blocking.Archive(simulator.url) as archive, pytest.raises(BadQuery, match="nosuchthing"):
        does[work](archive)


def test_a_dead_archive_is_told_as_such() -> None:
    """An archive out of reach is an ArchiveDown; a URL that is none is refused at once."""
    with (
        blocking.Archive("http://127.0.0.1:9", retry=RetryPolicy(patience_s=0)) as archive,
        pytest.raises(ArchiveDown),
    ):
        archive.count(NOTEBOOK)
    with pytest.raises(BadInput, match="base URL"):
        blocking.Archive("not a url")


def test_progress_is_called_in_the_calling_thread(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback runs where harvest was called; one that raises is logged once and called no more."""
    uris = uris_of(simulator, 200)
    seen: list[tuple[int, bool]] = []
    me = threading.get_ident()
    with blocking.Archive(simulator.url) as archive:
        archive.harvest(
            uris, tmp_path / "a", progress=lambda p: seen.append((p.tally.total, me == threading.get_ident()))
        )

        def refuse(_: object) -> None:
            raise ZeroDivisionError

        assert 200 == archive.harvest(uris, tmp_path / "b", progress=refuse).done

    assert seen
    assert all(is_here for _, is_here in seen)
    assert 1 == sum("progress is not shown any more" in record.message for record in caplog.records)


CHILD = """
import json, sys, threading
from pathlib import Path
from psfharvest import blocking, Limits
uris = json.loads(Path("uris.json").read_text())
archive = blocking.Archive(sys.argv[1], limits=Limits(max_connections=4))

def work():
    if sys.argv[2] == "harvest":
        return archive.harvest(uris, "d", via="file").done
    return sum(1 for _ in archive.stream(uris))

def main():
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.readline()
    print(work(), flush=True)

if sys.argv[3] == "plain":
    main()
else:
    import asyncio
    async def inside():
        # asyncio's own handler would wait for the task to come back to the loop: a notebook's kernel has none
        import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    asyncio.run(inside())
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("where", ["plain", "inside"])
@pytest.mark.parametrize("work", ["harvest", "stream"])
def test_an_interrupt_ends_the_work_and_it_can_go_on(tmp_path: Path, work: str, where: str) -> None:
    """A real SIGINT is a KeyboardInterrupt at once; the same archive goes on, and the process ends by itself."""
    with Simulator(Settings(sources=3000)) as simulator:
        (tmp_path / "uris.json").write_text(json.dumps(uris_of(simulator, 300)))
        simulator.faults = [Fault("stall", seconds=600, service="file", start=100)]
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, simulator.url, work, where],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            try:
                while simulator.count("file") < 100:
                    assert child.poll() is None
                    time.sleep(0.01)
                n_asked = settled(simulator)  # what stalls has arrived, and no connection is free for more
                child.send_signal(signal.SIGINT)
                assert "interrupted\n" == child.stdout.readline()
                assert n_asked == settled(simulator)
                claimed = 0
                if work == "harvest":
                    claimed = sum(row["state"] == "done" for row in rows_of(tmp_path / "d"))
                    assert 0 < claimed < 300
                simulator.faults = []
                simulator.forget()
                out, _ = child.communicate("\n", timeout=60)
            finally:
                child.kill()  # it waits for a line, for ever where a check failed

        assert "300\n" == out
        assert 300 - claimed == simulator.count("file")
        assert 0 == child.returncode


def test_an_open_archive_does_not_keep_a_script_from_ending(simulator: Simulator) -> None:
    """A script that never closes its archive, nor its stream, ends by itself."""
    code = (
        "import sys\nfrom psfharvest import Query, blocking\n"
        "archive = blocking.Archive(sys.argv[1])\n"
        "stream = archive.stream(Query('UVIS'), suffixes=['flt'], progress=False)\n"
        "print(archive.count(Query('UVIS', limit=1)), next(stream).data.shape[0] in (51, 101))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, simulator.url], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "1 True\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_thread_that_outlives_the_main_thread_is_told_so(simulator: Simulator, is_new: bool) -> None:
    """Its archive ends with the main thread, and nobody has closed it."""
    code = (
        "import sys, threading\nfrom psfharvest import BadInput, Query, blocking\n"
        "archive = blocking.Archive(sys.argv[1])\narchive.count(Query('UVIS', limit=1))\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    if sys.argv[2] == 'new': globals()['archive'] = blocking.Archive(sys.argv[1])\n"
        "    try:\n"
        "        while True: archive.count(Query('UVIS', limit=1))\n"
        "    except BadInput as error: print(error)\n"
        "threading.Thread(target=work).start()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, simulator.url, "new" if is_new else "old"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert "main thread has ended" in done.stdout


def test_a_generators_own_error_is_raised(simulator: Simulator, tmp_path: Path) -> None:
    """What a caller's generator raises is raised as it is, and what it gave before is not forgotten."""
    uris = uris_of(simulator, 3)

    def broken() -> Iterator[str]:
        yield from uris
        raise ZeroDivisionError

    with blocking.Archive(simulator.url) as archive:
        with pytest.raises(ZeroDivisionError):
            archive.harvest(broken(), tmp_path / "d")
        with pytest.raises(ZeroDivisionError):
            list(archive.stream(broken()))

        assert 3 == archive.harvest([], tmp_path / "d").done


def test_a_generator_that_waits_does_not_hold_an_interrupt_back(simulator: Simulator, tmp_path: Path) -> None:
    """A caller's own slow generator is read aside: what it gave is fetched, and an interrupt is heard."""
    uris = uris_of(simulator, 3)
    hold = threading.Event()
    simulator.forget()

    def slow() -> Iterator[str]:
        yield from uris
        deadline = time.monotonic() + 30
        while simulator.count("file") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        hold.wait(30)

    with blocking.Archive(simulator.url) as archive:
        with pytest.raises(KeyboardInterrupt):
            archive.harvest(slow(), tmp_path / "d")
        assert not hold.is_set()
        hold.set()
        assert 3 == archive.harvest(uris, tmp_path / "d").done


def test_no_interrupt_can_hit_the_first_import_of_numpy() -> None:
    """Cut off there, numpy cannot be imported again in that process: it is imported before any waiting begins."""
    code = "import sys, psfharvest.blocking; print('numpy' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "True\n" == child.stdout


def test_the_last_message_of_work_is_heard() -> None:
    """However soon the work ends after it: a bar that was shown ends at the end."""
    heard: list[int] = []

    async def work(emit: Callable[[int], None]) -> None:
        for n in range(3):
            emit(n)

    background = Background(nullcontext())
    try:
        background.begin(work).run(heard.append)
    finally:
        background.end()
    assert 2 == heard[-1]
