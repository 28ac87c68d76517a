"""Choice between singles and bundles in virtual time, through the pump: how much of the better way it reaches."""

from __future__ import annotations

import tarfile
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest
from anyio.abc import TaskGroup
from trio.testing import MockClock

from fakes import FakeKeeper, source
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.auto import RoutedFetcher
from psfharvest.archive.fetch.bundle import BundleFetcher
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.archive.wires.base import Answer, Request
from psfharvest.core.fits import datauri
from psfharvest.core.model import Item, Limits, RetryPolicy
from psfharvest.core.policy.route import Route
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.pump import Pump
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.staging import StagingFolder

CONNECTIONS = 6


@pytest.fixture(params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Virtual time is trio's; both loops choose for real in tests/whole."""
    return (request.param, {"clock": MockClock(autojump_threshold=0)})


def cutout_uri(k: int) -> str:
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size=11&x=99.4127&y=100.2683"
        f"&format=fits/ibc302ioq_{8184981 + k}_F814W_flt_cutout.fits"
    )


@pytest.fixture(scope="module")
def body() -> bytes:
    """One real cutout, which stands for all."""
    return Simulator(Settings(sources=0)).render(cutout_uri(0))


@dataclass(frozen=True)
class Times:
    """How long an archive takes, in seconds."""

    single_s: float
    first_s: float
    """Before a bundle's first byte."""
    member_s: float
    is_packed: bool = False
    """Whether a bundle is packed as a whole before its first byte."""

    def singly_s(self, n: int) -> float:
        return ceil(n / CONNECTIONS) * self.single_s


class TimedWire:
    """A wire to an archive that answers after set times, over so many connections."""

    def __init__(self, times: Times, body: bytes, depth: int, connections: int = CONNECTIONS) -> None:
        self.times, self.body, self.depth, self.connections = times, body, depth, connections
        self.n_bundles = self.n_busy = self.peak = 0
        self._turns: deque[anyio.Event] = deque()

    def set_limit(self, connections: int) -> None:
        assert connections == self.connections

    @asynccontextmanager
    async def queue(self, wake: Callable[[], None], *, is_urgent: bool = False) -> AsyncIterator[TimedQueue]:
        assert not is_urgent
        async with anyio.create_task_group() as group:
            yield TimedQueue(self, wake, group)
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[TimedBundle]:
        if self.has_room():
            self.connect()
        else:
            turn = anyio.Event()
            self._turns.append(turn)
            await turn.wait()
        self.n_bundles += 1
        try:
            yield TimedBundle(self, request)
        finally:
            self.disconnect()

    def has_room(self) -> bool:
        return self.n_busy < self.connections and not self._turns

    def connect(self) -> None:
        self.n_busy += 1
        self.peak = max(self.peak, self.n_busy)

    def disconnect(self) -> None:
        if self._turns:
            self._turns.popleft().set()  # which takes its place
        else:
            self.n_busy -= 1


class TimedBundle:
    """An answer that holds what was asked for."""

    status, retry_after, date, is_tls, n_sent = 200, None, None, False, 1

    def __init__(self, wire: TimedWire, request: Request) -> None:
        self._wire = wire
        form = (request.body or b"").decode()
        self._names = [datauri.file_name(unquote(pair.partition("=")[2])) for pair in form.split("&")]

    async def chunks(self) -> AsyncIterator[bytes]:
        times, body = self._wire.times, self._wire.body
        await anyio.sleep(times.first_s + times.member_s * len(self._names) * times.is_packed)
        stream = zlib.compressobj(0, wbits=31)
        for name in self._names:
            await anyio.sleep(times.member_s * (not times.is_packed))
            head = tarfile.TarInfo(f"MAST_2026/WFC3PSF/{name}")
            head.size = len(body)
            yield stream.compress(head.tobuf() + body + bytes(-len(body) % 512))
        yield stream.compress(bytes(1024)) + stream.flush()


class TimedQueue:
    """Singles, in the order in which they were handed over."""

    def __init__(self, wire: TimedWire, wake: Callable[[], None], group: TaskGroup) -> None:
        self._wire, self._wake, self._group = wire, wake, group
        self._waiting: deque[Request] = deque()
        self._n_sent = 0
        self._answers: list[Answer] = []

    def submit(self, requests: Sequence[Request]) -> None:
        self._waiting.extend(requests)
        self.proceed()

    def take(self) -> list[Answer]:
        self.proceed()
        answers, self._answers = self._answers, []
        return answers

    def withdraw(self) -> None:
        self._answers += [Answer(request, n_sent=0) for request in self._waiting]
        self._waiting.clear()
        self._wake()

    def proceed(self) -> None:
        while self._waiting and self._wire.has_room():
            self._wire.connect()
            self._group.start_soon(self._answer, self._waiting.popleft())

    async def _answer(self, request: Request) -> None:
        self._n_sent += 1
        elapsed_s = self._wire.times.single_s + 1e-4 * (self._n_sent % 7)  # answers come one after the other
        await anyio.sleep(elapsed_s)
        self._answers.append(Answer(request, 200, self._wire.body, elapsed_s=elapsed_s))
        self._wire.disconnect()
        self.proceed()
        self._wake()


async def harvest(via: str, n: int, wire: TimedWire, folder: Path) -> float:
    """Fetch `n` cutouts, each once; return how long it took."""
    limits, policy = Limits(max_connections=wire.connections), RetryPolicy()
    limiter = ArchiveLimiter(limits, policy, is_public=False, is_queued=wire.depth > 0)
    endpoints, keeper, route = Endpoints("http://127.0.0.1:9"), FakeKeeper(), Route(via)
    wanted = [Item(k, cutout_uri(k), f"key{k}", 11, "ibc302ioq") for k in range(n)]

    async def count() -> None:
        raise AssertionError("nothing fails here, so that no control request is needed")

    with closing(StagingFolder(folder)) as staging, limiter.share() as share:
        files = FileFetcher(wire, share, endpoints, limits, count=count)
        # all in memory: threads would not be noticed by virtual time
        bundles = BundleFetcher(wire, share, endpoints, limits, route, staging, memory_bytes=2**40)
        fetcher = RoutedFetcher(files, bundles, share, route, lambda: n - len(keeper.kept))
        began = anyio.current_time()
        await Pump(fetcher, keeper, share, policy).run(source(wanted, 512))
    assert wanted == sorted((outcome.item for outcome in keeper.kept), key=lambda item: item.number)
    assert wire.peak <= wire.connections
    return anyio.current_time() - began


@pytest.mark.sample(4)
@pytest.mark.parametrize("depth", [0, 128])
@pytest.mark.parametrize(
    ("times", "n", "part"),
    [
        (Times(0.3, 0.3, 0.03), 1000, 0.9),  # beside it, a harvest counts and lists for a second or two
        pytest.param(Times(0.3, 0.3, 0.03), 3000, 0.95, marks=pytest.mark.campaign),
        (Times(0.3, 2.0, 0.03, is_packed=True), 3000, 0.95),
        (Times(0.1, 0.1, 0.05), 1000, 0.95),
        (Times(0.08, 0.08, 0.02), 2000, 0.9),  # answered before any trial, with the wire full of singles
        (Times(0.01, 0.01, 0.03), 1000, 0.95),
        pytest.param(Times(0.01, 5.0, 0.03, is_packed=True), 3000, 0.95, marks=pytest.mark.campaign),
        (Times(0.1, 0.1, 0.5), 1000, 0.95),
        pytest.param(Times(0.1, 0.1, 0.5, is_packed=True), 3000, 0.95, marks=pytest.mark.campaign),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
async def test_auto_is_nearly_as_fast_as_the_better_way(
    times: Times, n: int, part: float, depth: int, body: bytes, tmp_path: Path
) -> None:
    """Whatever an archive's times are, what it costs to find the better way is a small part of it."""
    better_s = times.singly_s(n)
    if times.member_s < times.single_s:
        better_s = min(better_s, await harvest("bundle", n, TimedWire(times, body, depth), tmp_path))

    assert better_s / await harvest("auto", n, TimedWire(times, body, depth), tmp_path) >= part


@pytest.mark.sample(1)
@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("depth", [0, 128])
async def test_few_connections_are_enough_for_a_trial(
    depth: int, connections: int, body: bytes, tmp_path: Path
) -> None:
    """As the public archive begins: bundles, which are four times as fast here, are found beside the singles."""
    times = Times(0.08, 0.08, 0.02)

    better_s = await harvest("bundle", 1000, TimedWire(times, body, depth, connections), tmp_path)
    assert better_s / await harvest("auto", 1000, TimedWire(times, body, depth, connections), tmp_path) >= 0.9


@pytest.mark.sample(1)
@pytest.mark.parametrize("depth", [0, 128])
async def test_a_fast_archive_is_asked_for_no_bundle(depth: int, body: bytes, tmp_path: Path) -> None:
    """Where singles are answered at once, nothing is asked for twice."""
    wire = TimedWire(Times(0.02, 0.02, 0.001), body, depth)

    await harvest("auto", 1000, wire, tmp_path)
    assert not wire.n_bundles


@pytest.mark.sample(1)
@pytest.mark.parametrize("n", [600, 1000, 2500])
async def test_bundles_end_together(n: int, body: bytes, tmp_path: Path) -> None:
    """No connection is idle while another one still has a large bundle to bring."""
    times = Times(0.3, 0.3, 0.03)
    wire = TimedWire(times, body, 0)

    elapsed_s = await harvest("bundle", n, wire, tmp_path)
    n_rounds = ceil(wire.n_bundles / CONNECTIONS)
    assert elapsed_s <= n * times.member_s / CONNECTIONS + (n_rounds + 1) * times.first_s
