"""Damaged bundles, by property: nothing is ever kept without proof, and nothing that has it is lost."""

from __future__ import annotations

import gzip
import io
import math
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.bundle import OUTBOX_MAX, BundleFetcher
from psfharvest.archive.wires.base import Request
from psfharvest.core.fits import datauri, keys
from psfharvest.core.model import Delivery, Item, Limits, RetryPolicy
from psfharvest.core.policy.route import Route, Trial
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.staging import StagingFolder

N = 8


def cutout_uri(k: int) -> str:
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size=11&x=99.4127&y=100.2683"
        f"&format=fits/ibc302ioq_{8184981 + k}_F814W_flt_cutout.fits"
    )


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """Real cutouts, by dataURI, each with pixels of its own."""
    found = {}
    body = Simulator(Settings(sources=0)).render(cutout_uri(0))
    for k in range(N):
        found[cutout_uri(k)] = body[:-2000] + bytes([k]) * 4 + body[-1996:]
    return found


def bundle_of(bodies: dict[str, bytes], level: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for uri, body in bodies.items():
            info = tarfile.TarInfo(f"MAST_2026/WFC3PSF/{datauri.file_name(uri)}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return gzip.compress(out.getvalue(), level)


class Replay:
    """A wire that answers every bundle with the same bytes, in pieces."""

    depth = 0

    def __init__(self, data: bytes, step: int, *, is_tls: bool) -> None:
        self.status, self.retry_after, self.is_tls, self.n_sent = 200, None, is_tls, 1
        self._data, self._step = data, step

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Replay]:
        del request
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), self._step):
            yield self._data[start : start + self._step]


def received(
    data: bytes, step: int, uris: list[str], *, is_tls: bool = False, memory_bytes: int = 2**20
) -> list[Delivery]:
    """Send one bundle's bytes through the fetcher and return all that it delivers."""

    async def run(staging: StagingFolder) -> list[Delivery]:
        limits = Limits()
        limiter = ArchiveLimiter(limits, RetryPolicy(), is_public=False)
        fetcher = BundleFetcher(
            Replay(data, step, is_tls=is_tls),
            limiter,
            Endpoints("http://127.0.0.1:9"),
            limits,
            Route("bundle"),
            staging,
            memory_bytes=memory_bytes,
        )
        parts = [datauri.parse(uri) for uri in uris]
        items = [
            Item(n, u, keys.key_of(u, p), p.size_px, p.rootname)
            for n, (u, p) in enumerate(zip(uris, parts, strict=True))
        ]
        deliveries: list[Delivery] = []
        async with fetcher.open(lambda: None):
            fetcher.start(items)
            while fetcher.under_way:
                await anyio.lowlevel.checkpoint()
                deliveries += fetcher.take()
        assert 0 == limiter.in_flight
        return deliveries + fetcher.take()

    with TemporaryDirectory() as folder, closing(StagingFolder(Path(folder))) as staging:
        found = anyio.run(run, staging)
        assert [] == [path for path in Path(folder).rglob("*") if path.is_file()]
    return found


def kept(deliveries: list[Delivery]) -> dict[str, bytes]:
    """What may be claimed."""
    return {d.item.uri: d.body for d in deliveries if d.body is not None}


def check_account(deliveries: list[Delivery], bodies: dict[str, bytes]) -> None:
    """Every item ends once: kept, or with a reason."""
    failed = [d.item.uri for d in deliveries if d.failure is not None]

    assert sorted(bodies) == sorted([*kept(deliveries), *failed])


MEMORY = st.sampled_from([1, 9000, 2**20])
"""Of what has arrived, all goes to the disk, or some of it, or nothing."""


@given(step=st.integers(1, 40_000), level=st.sampled_from([0, 1, 9]), memory_bytes=MEMORY)
def test_a_whole_bundle_gives_everything(
    bodies: dict[str, bytes], step: int, level: int, memory_bytes: int
) -> None:
    """However the bytes come in pieces, every member arrives as it went in."""
    data = bundle_of(bodies, level)
    deliveries = received(data, max(step, 50), list(bodies), memory_bytes=memory_bytes)

    assert list(bodies.items()) == list(kept(deliveries).items())
    check_account(deliveries, bodies)


@given(cut=st.floats(0, 0.999), step=st.integers(500, 40_000), memory_bytes=MEMORY)
def test_a_cut_bundle_gives_what_tls_has_checked(
    bodies: dict[str, bytes], cut: float, step: int, memory_bytes: int
) -> None:
    """Over TLS all members before the cut are kept, and only the rest is asked for again."""
    data = bundle_of(bodies, 0)
    deliveries = received(data[: int(len(data) * cut)], step, list(bodies), is_tls=True, memory_bytes=memory_bytes)
    found = kept(deliveries)

    assert dict(list(bodies.items())[: len(found)]) == found
    assert len(found) >= int(N * cut) - 1
    check_account(deliveries, bodies)


@given(cut=st.integers(1, 10**6), step=st.integers(500, 40_000), level=st.sampled_from([0, 9]), memory_bytes=MEMORY)
def test_a_cut_bundle_gives_nothing_over_plain_http(
    bodies: dict[str, bytes], cut: int, step: int, level: int, memory_bytes: int
) -> None:
    """Without TLS and without the checksum at the end, nothing shows that what came is what was sent."""
    data = bundle_of(bodies, level)
    data = data[: -(1 + cut % len(data))]

    deliveries = received(data, step, list(bodies), memory_bytes=memory_bytes)

    assert {} == kept(deliveries)
    check_account(deliveries, bodies)


@given(n_members=st.integers(0, N), has_end=st.booleans(), step=st.integers(500, 40_000))
def test_a_tar_without_gzip_needs_its_end_mark(
    bodies: dict[str, bytes], n_members: int, has_end: bool, step: int
) -> None:
    """A plain tar that stops between two members is no whole one; with its end mark it is."""
    some = dict(list(bodies.items())[:n_members])
    size = sum(512 + len(body) + -len(body) % 512 for body in some.values())
    data = gzip.decompress(bundle_of(some, 0))[: size + (1024 if has_end else 0)]

    deliveries = received(data, step, list(bodies))

    assert (some if has_end else {}) == kept(deliveries)
    check_account(deliveries, bodies)


@given(data=st.data(), level=st.sampled_from([0, 1, 9]), step=st.integers(500, 40_000), memory_bytes=MEMORY)
def test_a_changed_byte_never_ends_in_a_wrong_cutout(
    bodies: dict[str, bytes], data: st.DataObject, level: int, step: int, memory_bytes: int
) -> None:
    """Whatever byte is changed, and wherever the stream is cut, nothing is kept that differs from the truth."""
    raw = bytearray(bundle_of(bodies, level))
    at = data.draw(st.integers(10, len(raw) - 1))  # behind gzip's own header, whose flags and time bind nobody
    raw[at] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.one_of(st.just(len(raw)), st.integers(at, len(raw))))
    deliveries = received(bytes(raw[:end]), step, list(bodies), memory_bytes=memory_bytes)

    assert all(bodies[uri] == body for uri, body in kept(deliveries).items())
    check_account(deliveries, bodies)


@given(junk=st.binary(max_size=4000), step=st.integers(100, 5000))
def test_junk_gives_nothing(bodies: dict[str, bytes], junk: bytes, step: int) -> None:
    """Bytes that are no bundle end every item with a reason."""
    deliveries = received(junk, step, list(bodies))

    assert {} == kept(deliveries)
    check_account(deliveries, bodies)


def test_the_body_is_what_was_asked(tmp_path: Path, bodies: dict[str, bytes]) -> None:
    """The bundle of these tests is one that tar itself reads."""
    path = tmp_path / "b.tar.gz"
    path.write_bytes(bundle_of(bodies, 6))
    with tarfile.open(path) as tar:
        assert N == len(tar.getnames())


class Silent(Replay):
    """A wire that begins to answer, and sends nothing more."""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""
        await anyio.sleep_forever()


async def test_an_abandoned_bundle_returns_its_connection_at_once(tmp_path: Path) -> None:
    """It is neither waited for nor counted any more, though its items are taken later: each once, uncharged."""
    limits = Limits()
    limiter = ArchiveLimiter(limits, RetryPolicy(), is_public=False)
    route = Route()
    route.single(50, 0.3)
    items = [Item(n, cutout_uri(n), f"key{n}", 11, "ibc302ioq") for n in range(2 * OUTBOX_MAX)]
    with closing(StagingFolder(tmp_path)) as staging:
        wire = Silent(b"", 1, is_tls=True)
        fetcher = BundleFetcher(wire, limiter, Endpoints("http://127.0.0.1:9"), limits, route, staging)
        async with fetcher.open(lambda: None):
            fetcher.start(items, Trial(len(items), len(items)))
            now = anyio.current_time()
            limit_s = fetcher.trial_left_s(now)
            assert 0 < limit_s <= 0.3 * len(items)
            fetcher.note_trials(now)
            assert fetcher.trial_left_s(now) == pytest.approx(limit_s)
            fetcher.note_trials(now + limit_s + 1)
            assert fetcher.trial_left_s(now) == math.inf
            with anyio.fail_after(60):
                while not fetcher.exposed():
                    await anyio.lowlevel.checkpoint()
                assert (0, 1, 0) == (limiter.in_flight, fetcher.under_way, fetcher.n_trials)
                deliveries = fetcher.take()
                while fetcher.under_way:
                    await anyio.lowlevel.checkpoint()
                    deliveries += fetcher.take()
    assert items == [delivery.item for delivery in deliveries]
    assert {(None, None)} == {(delivery.body, delivery.failure) for delivery in deliveries}
    assert 1 == limiter.requests
