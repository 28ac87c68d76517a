"""
An archive within a service: many single requests at once, how long the event loop is held up, what listeners cost.

Usage: ``python -m benchmarks.embedding [fetch] [leave] [deadline] [block] [listeners] [page] [asyncio|trio]``. The
simulator runs in a process of its own; ``curl --parallel`` shows what it can serve. Times by the wall clock are
those of this machine with whatever else it does (its load is printed); processor time of the event loop's thread is
that of this program alone. A full pass of Python's garbage collector goes over all that any module holds, however
little is new; it is printed by itself, and ``gc.freeze()`` after a service's start spares it.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from psfharvest import Archive, DeadlinePassed, Limits, Query, blocking
from psfharvest.events import Delivered, Settled
from psfharvest.mast_api_psf import make_dataURIs
from psfharvest.simulator import Settings, Simulator

N, LATENCY_S, CONNECTIONS = 1000, 0.05, 32
N_DEADLINE, DEADLINE_S = 400, 0.4
BEAT_S = 0.001
N_FULL = 3000
N_WATCHED = 30_000
"""Of each harvest that a page watches: the service's own start is a second's work beside it."""
ROUNDS = 5


@dataclass
class Beat:
    """The longest that the event loop did not come back to a task that waits a moment."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the loop's own thread, without the garbage collector's."""
    collector_s: float = 0.0
    """The garbage collector's longest time between two turns of that task, in any thread: it stops all of them."""
    _own_s: float = 0.0
    _all_s: float = 0.0
    _began_at: float = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        wall, cpu = time.perf_counter(), time.thread_time()
        gc.callbacks.append(self._collecting)
        try:
            while True:
                self._own_s = self._all_s = 0.0
                await anyio.sleep(BEAT_S)
                wall, wall_before = time.perf_counter(), wall
                cpu, cpu_before = time.thread_time(), cpu
                self.wall_s = max(self.wall_s, wall - wall_before - BEAT_S)
                self.cpu_s = max(self.cpu_s, cpu - cpu_before - self._own_s)
                self.collector_s = max(self.collector_s, self._all_s)
        finally:
            gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began_at = time.thread_time()
            return
        took_s = time.thread_time() - self._began_at
        self._all_s += took_s
        if threading.current_thread() is threading.main_thread():
            self._own_s += took_s

    def __str__(self) -> str:
        cpu_ms, collector_ms, wall_ms = 1e3 * self.cpu_s, 1e3 * self.collector_s, 1e3 * self.wall_s
        return (
            f"loop held up at most {cpu_ms:.0f} ms of its thread's work and {collector_ms:.0f} ms of the garbage "
            f"collector's, {wall_ms:.0f} ms by the clock"
        )


class Server:
    """A simulator in a process of its own, asked over its standard input."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self.ask("")

    def ask(self, word: str) -> str:
        """Return the answer to one word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if word:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def requests(self) -> int:
        """Return how many cutouts were asked for since the last call."""
        return int(self.ask("count"))


def serve(latency_s: float, n_sources: int) -> None:
    """Be the server."""
    with Simulator(Settings(sources=n_sources, static=True, latency_s=latency_s)) as simulator:
        print(simulator.url, flush=True)
        for _ in sys.stdin:
            print(simulator.count("file"), flush=True)
            simulator.forget()


@contextmanager
def served(latency_s: float, n_sources: int = 20_000) -> Iterator[Server]:
    """Run a simulator in another process."""
    line = [sys.executable, "-m", "benchmarks.embedding", "serve", str(latency_s), str(n_sources)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


async def uris_of(archive: Archive, n: int) -> list[str]:
    """Return dataURIs to ask for."""
    return make_dataURIs(await archive.query(Query("UVIS", limit=n)), "UVIS", ["flt"])


async def measured(url: str, n: int, work: Callable[[Archive, list[str]], Awaitable[str]]) -> str:
    """Return what `work` says, with the time that it took and how the loop was held up."""
    beat = Beat()
    async with Archive(url, limits=Limits(max_connections=CONNECTIONS)) as archive:
        uris = await uris_of(archive, n + CONNECTIONS)
        await fetch(archive, [uris.pop() for _ in range(CONNECTIONS)])
        async with anyio.create_task_group() as group:
            group.start_soon(beat.run)
            await anyio.sleep(0.05)
            began, cpu = time.perf_counter(), time.process_time()
            words = await work(archive, uris)
            wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
            group.cancel_scope.cancel()
    ideal_s = n * LATENCY_S / CONNECTIONS
    return f"{words}; {wall_s:.2f} s ({wall_s / ideal_s:.2f} of {ideal_s:.2f}), {cpu_s:.2f} s of processor; {beat}"


async def fetch(archive: Archive, uris: list[str]) -> str:
    """Ask for all at once."""
    done = 0

    async def one(uri: str) -> None:
        nonlocal done
        await archive.fetch(uri)
        done += 1

    async with anyio.create_task_group() as group:
        for uri in uris:
            group.start_soon(one, uri)
    return f"{done} of {len(uris)} came"


async def leave(archive: Archive, uris: list[str]) -> str:
    """Ask for all at once; every second caller leaves in the middle."""
    done = 0
    scopes: list[anyio.CancelScope] = []

    async def one(uri: str, *, leaves: bool) -> None:
        nonlocal done
        with anyio.CancelScope() as scope:
            if leaves:
                scopes.append(scope)
            await archive.fetch(uri)
            done += 1

    async with anyio.create_task_group() as group:
        for n, uri in enumerate(uris):
            group.start_soon(lambda uri=uri, n=n: one(uri, leaves=n % 2 == 1))
        await anyio.sleep(len(uris) * LATENCY_S / CONNECTIONS / 4)
        for scope in scopes:
            scope.cancel()
    return f"delivered {done}"


async def deadline(archive: Archive, uris: list[str]) -> str:
    """
    Ask for all at once, each with a deadline that only some can keep.

    Possible is what full rounds of the connections give, at the mean time of an answer.
    """
    done = 0
    events = archive.events()

    async def one(uri: str) -> None:
        nonlocal done
        with suppress(DeadlinePassed):
            await archive.fetch(uri, deadline_s=DEADLINE_S)
            done += 1

    async with anyio.create_task_group() as group:
        for uri in uris:
            group.start_soon(one, uri)
    await events.aclose()
    answers = [event async for event in events if isinstance(event, Delivered)]
    answer_s = sum(event.durations_s for event in answers) / max(1, sum(event.done for event in answers))
    possible = min(len(uris), int(DEADLINE_S / answer_s) * CONNECTIONS)
    return (
        f"{done} came of {possible} that are possible ({done / possible:.0%}) at {1e3 * answer_s:.0f} ms an answer"
    )


def curl(url: str) -> str:
    """Return how long ``curl --parallel`` takes for what `fetch` asks for."""

    async def urls() -> list[str]:
        async with Archive(url) as archive:
            return [archive.endpoints.file_url(uri) for uri in await uris_of(archive, N)]

    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        config.writelines(f'url = "{one}"\noutput = {os.devnull}\n' for one in anyio.run(urls))
        config.flush()
        line = [
            "curl",
            "-s",
            "--no-progress-meter",
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            str(CONNECTIONS),
            "-K",
        ]
        began = time.perf_counter()
        subprocess.run([*line, config.name], check=True)
        wall_s, ideal_s = time.perf_counter() - began, N * LATENCY_S / CONNECTIONS
    return f"{wall_s:.2f} s ({wall_s / ideal_s:.2f} of {ideal_s:.2f})"


async def block(url: str, sink: Any) -> str:
    """Harvest, or read a stream, at full speed."""
    beat = Beat()
    query = Query("UVIS", limit=N_FULL)
    with tempfile.TemporaryDirectory() as folder:
        async with Archive(url) as archive, anyio.create_task_group() as group:
            group.start_soon(beat.run)
            began = time.perf_counter()
            if sink == "stream":
                async with archive.stream(query, suffixes=["flt"]) as cutouts:
                    n = len([cutout.uri async for cutout in cutouts])
            else:
                n = (await archive.harvest(query, Path(folder, "d"), suffixes=["flt"], sink=sink, via="file")).done
            wall_s = time.perf_counter() - began
            group.cancel_scope.cancel()
    return f"{sink}: {n} in {wall_s:.1f} s ({n / wall_s:,.0f}/s); {beat}"


def harvest_cpu(url: str, *, is_listening: bool) -> tuple[float, float, int]:
    """Return processor and wall time of a harvest with no listeners of the caller's, or with all there are."""
    from prometheus_client import CollectorRegistry, generate_latest

    from psfharvest.events import plain
    from psfharvest.metrics.prometheus import Metrics

    metrics, seen = Metrics(), []
    registry = CollectorRegistry()
    registry.register(metrics)

    def listen(event: Any) -> None:
        metrics(event)
        seen.append(plain(event))
        if isinstance(event, Settled):
            generate_latest(registry)

    with tempfile.TemporaryDirectory() as folder, blocking.Archive(url) as archive:
        began, cpu = time.perf_counter(), time.process_time()
        options: dict[str, Any] = {"events": listen} if is_listening else {}
        report = archive.harvest(
            Query("UVIS", limit=N_FULL), Path(folder, "d"), suffixes=["flt"], sink="shards", via="file",
            progress=False, **options,
        )  # fmt: skip
        return time.process_time() - cpu, time.perf_counter() - began, report.done


def listeners(url: str) -> str:
    """Alternate harvests without and with listeners; compare their processor times."""
    times: dict[bool, list[tuple[float, float, int]]] = {False: [], True: []}
    harvest_cpu(url, is_listening=True)
    for _ in range(ROUNDS):
        for is_listening in (False, True):
            times[is_listening].append(harvest_cpu(url, is_listening=is_listening))
    return compared(times, N_FULL, "without listeners", "with all of them")


def page(url: str) -> str:
    """Alternate harvests that nobody watches with such that a page watches, which asks each second."""
    times: dict[bool, list[tuple[float, float, int]]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for is_watched in (False, True):
            times[is_watched].append(watched_cpu(url, is_watched=is_watched))
    return compared(times, N_WATCHED, "unwatched", "watched by a page")


def watched_cpu(url: str, *, is_watched: bool) -> tuple[float, float, int]:
    """Return processor and wall time of a harvest in a process of its own."""
    code = (
        "import sys, time, resource; from psfharvest import Query, blocking\n"
        "a = blocking.Archive(sys.argv[1]); t, c = time.perf_counter(), time.process_time()\n"
        f"r = a.harvest(Query('UVIS', limit={N_WATCHED}), sys.argv[2], suffixes=['flt'], sink='shards', via='file',"
        " progress=False)\n"
        "print(time.process_time() - c, time.perf_counter() - t, r.done)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder, "d")
        line = [sys.executable, "-c", code, url, str(at)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as busy:
            if is_watched:
                watch(at, busy)
            assert busy.stdout is not None
            cpu_s, wall_s, n = busy.stdout.read().split()
    return float(cpu_s), float(wall_s), int(n)


def watch(folder: Path, busy: subprocess.Popen[str]) -> None:
    """Ask as the page does while a harvest goes on."""
    import urllib.request

    while busy.poll() is None and not (folder / "manifest.sqlite").exists():
        time.sleep(0.05)
    line = [sys.executable, "-m", "psfharvest", "serve", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        base = service.stdout.readline().strip()
        while busy.poll() is None:
            for path in ("api/now", "api/series", "api/notes"):
                with suppress(OSError), urllib.request.urlopen(base + path, timeout=5) as answer:
                    answer.read()
            time.sleep(1.0)
        service.terminate()


def compared(times: dict[bool, list[tuple[float, float, int]]], n: int, plain: str, other: str) -> str:
    """Return both medians, and their ratios."""
    (cpu, wall), (cpu_of_other, wall_of_other) = (
        (sorted(t[0] for t in times[k])[ROUNDS // 2], sorted(t[1] for t in times[k])[ROUNDS // 2])
        for k in (False, True)
    )
    least = [min(t[0] for t in times[k]) for k in (False, True)]
    return (
        f"{ROUNDS} alternating harvests of {n}: {plain} {cpu:.2f} s of processor ({wall:.2f} s by the clock), "
        f"{other} {cpu_of_other:.2f} ({wall_of_other:.2f}); ratio of the medians {cpu / cpu_of_other:.3f} "
        f"({wall / wall_of_other:.3f}), of the least {least[0] / least[1]:.3f}"
    )


def say(words: str) -> None:
    """Print a line, with the machine's load."""
    print(f"{words} [load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores]", flush=True)


def main(words: list[str]) -> None:
    """Run what is asked for."""
    backends = [word for word in words if word in ("asyncio", "trio")] or ["asyncio", "trio"]
    wanted = [word for word in words if word not in backends] or [
        "fetch",
        "leave",
        "deadline",
        "block",
        "listeners",
        "page",
    ]
    singles = {"fetch": (fetch, N), "leave": (leave, N), "deadline": (deadline, N_DEADLINE)}
    with served(LATENCY_S) as server:
        if "fetch" in wanted and shutil.which("curl"):
            say(f"curl --parallel: {curl(server.url)}")
        for name in [word for word in wanted if word in singles]:
            work, n = singles[name]
            for backend in backends:
                server.requests()
                found = anyio.run(measured, server.url, n, work, backend=backend)
                say(f"{name}, {backend}: {found}; {server.requests() - CONNECTIONS} requests")
    with served(0.0) as server:
        for backend in backends if "block" in wanted else ():
            for sink in ("files", "shards", "parquet", "stream"):
                say(f"block, {backend}, {anyio.run(block, server.url, sink, backend=backend)}")
        if "listeners" in wanted:
            say(f"listeners: {listeners(server.url)}")
    if "page" in wanted:
        with served(0.0, 3 * N_WATCHED) as server:
            say(f"page: {page(server.url)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(float(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
