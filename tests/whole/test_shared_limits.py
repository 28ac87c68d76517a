"""
Never more than ten connections to the public archive: of one process, of several, and after one was killed.

The simulator plays the public archive as a proxy would: programs ask for ``http://mast.stsci.edu``, and
``http_proxy`` leads there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from psfharvest import Archive, BadInput, Limits, Query, blocking
from psfharvest.core.model import PUBLIC_CEILING
from psfharvest.filesystem import connection_slots
from psfharvest.simulator import Settings, Simulator

PUBLIC = "http://mast.stsci.edu"
PATIENCE_S = 90.0
REAL_URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size=51&x=99.4127&y=100.2683&format=fits"
    "/ibc302ioq_8184981_F814W_flt_cutout.fits"
)

STREAM = """
import sys, anyio
from psfharvest import Archive, Limits, Query
async def main():
    async with Archive(sys.argv[1], limits=Limits(max_connections=int(sys.argv[2]))) as archive:
        n = 0
        async with archive.stream(Query("UVIS", limit=int(sys.argv[3])), suffixes=["flt"]) as cutouts:
            async for _ in cutouts:
                n += 1
                if n == 20: print("at work", flush=True)
        print(n, flush=True)
anyio.run(main)
"""


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(sources=8000, static=True, latency_s=0.03)) as simulator:
        yield simulator


@pytest.fixture
def env(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """The environment of a login of its own, where the public archive is the simulator."""
    return os.environ | {"http_proxy": simulator.url, "XDG_RUNTIME_DIR": str(tmp_path)}


def streaming(env: dict[str, str], connections: int, n: int, url: str = PUBLIC) -> subprocess.Popen[str]:
    """Start a program that streams `n` cutouts."""
    words = [sys.executable, "-c", STREAM, url, str(connections), str(n)]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.campaign
def test_several_processes_and_a_kill(env: dict[str, str], simulator: Simulator) -> None:
    """Three programs that want 22 connections have ten together, each its part, also after one was killed."""
    endless = streaming(env, 10, 100_000)
    assert line(endless) == "at work"
    others = [streaming(env, 6, 150), streaming(env, 6, 150)]
    assert [line(other) for other in others] == ["at work"] * 2  # though the first could use all ten
    endless.send_signal(signal.SIGKILL)
    endless.wait(PATIENCE_S)

    assert [line(other) for other in others] == ["150", "150"]
    assert [other.wait(PATIENCE_S) for other in others] == [0, 0]
    assert simulator.peak_connections <= PUBLIC_CEILING  # how near it comes is a matter of the load
    for process in (endless, *others):
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.campaign
def test_a_stopped_process_keeps_what_it_has(env: dict[str, str], simulator: Simulator) -> None:
    """Connections of a process that was stopped are open still: the others do with the rest."""
    stopped, other = streaming(env, 6, 100_000), streaming(env, 10, 150)
    try:
        assert line(stopped) == "at work"
        stopped.send_signal(signal.SIGSTOP)
        assert line(other) == "at work"
        assert line(other) == "150"
        other.wait(PATIENCE_S)
    finally:
        stopped.kill()
        stopped.wait()
    assert simulator.peak_connections <= PUBLIC_CEILING
    for process in (stopped, other):
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> str:
    """The public archive's address, within this process, too."""
    for name in ("http_proxy", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, env[name])
    return PUBLIC


async def read(archive: Archive, n: int) -> int:
    """Stream cutouts and return how many came."""
    async with archive.stream(Query("IR", limit=n), suffixes=["flt"]) as cutouts:
        return len([cutout async for cutout in cutouts])


async def test_several_archives_of_one_process(public: str, simulator: Simulator) -> None:
    """Three archives of six connections have ten together."""
    counts: list[int] = []

    async def use(archive: Archive) -> None:
        counts.append(await read(archive, 200))

    limits = Limits(max_connections=6)
    with anyio.fail_after(PATIENCE_S):
        async with (
            Archive(public, limits=limits) as a,
            Archive(public, limits=limits) as b,
            Archive(public) as c,
            anyio.create_task_group() as group,
        ):
            for archive in (a, b, c):
                group.start_soon(use, archive)

    assert counts == [200, 200, 200]
    assert simulator.peak_connections <= PUBLIC_CEILING


@pytest.mark.campaign
async def test_an_idle_archive_leaves_its_connections_to_others(public: str, simulator: Simulator) -> None:
    """A notebook that has an archive open and does nothing takes nothing away; it goes on when it is used again."""
    limits = Limits(max_connections=10)
    with anyio.fail_after(PATIENCE_S):
        async with Archive(public, limits=limits) as notebook:
            assert await read(notebook, 30) == 30
            async with Archive(public, limits=limits) as other:
                assert await read(other, 200) == 200
            await notebook.fetch(REAL_URI)

    assert simulator.peak_connections <= PUBLIC_CEILING


async def test_where_no_file_can_be_locked(
    monkeypatch: pytest.MonkeyPatch,
    public: str,
    simulator: Simulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One note in the report, and the archives of this process count their connections together."""
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no folder"))
    async with Archive(public, limits=Limits(max_connections=6)) as a, Archive(public) as b:
        report = await a.harvest(Query("IR", limit=40), tmp_path / "stars", suffixes=["flt"])
        assert await read(b, 40) == 40

    assert (report.total, report.done) == (40, 40)
    assert [note for note in report.notes if "counted for this process only" in note] == [*report.notes]
    assert simulator.peak_connections <= PUBLIC_CEILING


async def test_a_mirror_has_no_slots(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other hosts are not the public archive: nothing is counted beyond the archive's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with Archive(simulator.url, limits=Limits(max_connections=16)) as archive:
        assert await read(archive, 300) == 300

    assert simulator.peak_connections > PUBLIC_CEILING
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_public", [True, False])
async def test_archives_that_share(public: str, simulator: Simulator, is_public: bool) -> None:
    """Archives that share have the connections of one; each ends its own work, the first one ends all."""
    url, limits = public if is_public else simulator.url, Limits(max_connections=4)
    counts: list[int] = []

    async def use(archive: Archive) -> None:
        counts.append(await read(archive, 150))

    with anyio.fail_after(PATIENCE_S):
        async with Archive(url, limits=limits) as first:
            async with (
                Archive(share=first) as second,
                Archive(url, share=second) as third,
                anyio.create_task_group() as group,
            ):
                for archive in (first, second, third):
                    group.start_soon(use, archive)
            assert await read(first, 20) == 20
            with pytest.raises(BadInput, match="not open"):
                await second.count("IR")
            late = await Archive(share=first).__aenter__()
        with pytest.raises(BadInput, match="closed"):
            await late.count("IR")
        await late.aclose()

    assert counts == [150, 150, 150]
    assert simulator.peak_connections <= 4


@pytest.mark.campaign
async def test_closing_ends_the_own_work_only(simulator: Simulator) -> None:
    """What an archive that shares had under way ends with it; the other's goes on."""
    errors: list[Exception] = []

    async def use(archive: Archive) -> None:
        try:
            await read(archive, 3000)
        except BadInput as error:
            errors.append(error)

    async with Archive(simulator.url, limits=Limits(max_connections=2)) as first:
        second = await Archive(share=first).__aenter__()
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(use, second)
                group.start_soon(read, first, 100)
                while simulator.count("file") < 10:  # noqa: ASYNC110 - happens in the simulator
                    await anyio.sleep(0.01)
                await second.aclose()

    assert len(errors) == 1
    assert simulator.count("file") < 1000


async def test_what_is_asked_after_the_end_of_the_other_is_refused(simulator: Simulator) -> None:
    """Every verb says so in words, also through an archive in between that was closed before."""
    uri = "mast:HST/product/a.fits"

    async def read(archive: Archive) -> None:
        async with archive.stream([uri]) as cutouts:
            async for _ in cutouts:
                pass

    first = Archive(simulator.url)
    async with first:
        middle = Archive(share=first)
        async with middle:
            last = Archive(share=middle)
            await last.__aenter__()
        assert await last.count("UVIS")
    try:
        for work in (last.count("UVIS"), last.query("UVIS"), last.fetch(uri), last.limit(1), read(last)):
            with pytest.raises(BadInput, match="the Archive that this one shares connections with was closed"):
                await work
        with pytest.raises(BadInput, match="was closed"):
            last.hold(1.0)
    finally:
        await last.aclose()


@pytest.mark.parametrize("given", ["url", "limits", "token", "client"])
async def test_what_the_other_decides_is_refused(simulator: Simulator, given: str) -> None:
    """Another address, client, token or other limits beside `share` are refused by name."""
    async with Archive(simulator.url, token="") as first:
        values = {
            "url": f"{simulator.url}/other",
            "limits": Limits(max_connections=3),
            "token": "t",
            "client": object(),
        }
        with pytest.raises(BadInput, match=f"^{given} cannot be given beside share="):
            Archive(share=first, **{given: values[given]})


def test_what_is_no_archive_of_the_same_kind_cannot_share() -> None:
    """One with await and one without cannot share, nor anything else."""
    with blocking.Archive("http://127.0.0.1:9") as other:
        for wrong in ("x", Archive, other):
            with pytest.raises(BadInput, match=r"share is .*: another psfharvest\.Archive is allowed"):
                Archive(share=wrong)  # type: ignore[arg-type]
    for wrong in ("x", Archive("http://127.0.0.1:9")):
        with pytest.raises(BadInput, match=r"share is .*: another psfharvest\.blocking\.Archive is allowed"):
            blocking.Archive(share=wrong)  # type: ignore[arg-type]


def test_a_slot_of_a_dead_process_is_known(tmp_path: Path) -> None:
    """Taking a slot returns whether its last holder died with it; removed files are locked anew."""
    code = (
        "import os, sys; from pathlib import Path; from psfharvest.filesystem import connection_slots as c\n"
        "slots = c.of_this_machine(Path(sys.argv[1])); slots.take(3); slots.give_back(2); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=PATIENCE_S)
    slots, other = (connection_slots.of_this_machine(tmp_path) for _ in range(2))

    assert slots.take(10) == (10, True)
    assert other.take(1) == (0, False)
    slots.give_back(4)
    assert other.take(10) == (4, False)
    other.set_short(is_short=True)
    assert slots.poll() == (1, True)
    assert other.poll() == (1, False)
    for path in tmp_path.iterdir():
        path.unlink()
    slots.poll()
    other.poll()
    assert (slots.held, other.held) == (0, 0)
