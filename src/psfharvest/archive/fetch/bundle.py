"""
Many cutouts a request: bundles are inflated, walked and checked while they stream.

What counts is what arrived: the request's list is held against the members received, by file name. A member
that a bundle left out, or spoiled, is asked for again, after two bundles singly. The bundle's own manifest page
is evidence for people, never proof, and no name of the archive's is ever used as a path.
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel

try:
    from isal import isal_zlib as zlib  # a third faster on what bundles hold
except ImportError:
    import zlib  # type: ignore[no-redef]

from psfharvest.archive.endpoints import Endpoints, quoted, without
from psfharvest.archive.fetch.verify import deliver, max_body_bytes
from psfharvest.archive.wires.base import BrokenStream, Request, Stream, Wire
from psfharvest.core.fits import datauri, fitscheck
from psfharvest.core.model import Delivery, Evidence, Failure, Item, Limits, Reason
from psfharvest.core.policy.retry import classify_status
from psfharvest.core.policy.route import MIN_SIZE, Route
from psfharvest.core.ports import TrafficLight
from psfharvest.core.tar import Member, TarDamaged, TarWalk

BUNDLE_TIMEOUT_S = 60.0
INFLATE_AT_ONCE = 256 * 1024
"""Inflated bytes handled in one go: a gzip that expands without end is bounded by this."""
OUTBOX_MAX = 128
"""Members received and not yet taken; beyond that a stream waits."""
MAX_PAGE_BYTES = 2**20
MAX_STREAM_FACTOR = 2
"""A bundle may hold this many times what its cutouts can come to, at most."""
GZIP_MEMBER_BYTES = 2**16
"""What a further gzip member counts for, though it be empty."""
NO_BUNDLES = frozenset({400, 401, 403, 404, 405, 406, 410, 411, 415, 501})
"""The archive will not make bundles: singles tell what it says of each cutout."""
TOO_LARGE = frozenset({413, 414})
_DAMAGE: tuple[type[Exception], ...] = (TarDamaged, zlib.error)  # type: ignore[assignment]  # isal types it as a value


@dataclass(slots=True)
class _Bundle:
    """One request under way: what it asked for, by file name, and what is still to come."""

    items: list[Item]
    absent: dict[str, Item]
    started_at: float
    given: list[Item] = field(default_factory=list)
    """Items whose bodies were handed over: taken back when the bundle proves to be damaged."""
    is_damaged: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    page: bytes = b""
    """The archive's own manifest page, read only where something is absent."""
    subject: object = field(default_factory=object)
    """What it is to the judgement whether the archive is down: one thing, however many cutouts it holds."""


class BundleFetcher:
    """
    Fetches items many at a time.

    Parameters
    ----------
    wire, traffic, endpoints, limits
        What moves the bytes, who may send, where to, and the caps.
    route
        Takes account of what bundles give, and says how large they should be.
    """

    def __init__(
        self, wire: Wire, traffic: TrafficLight, endpoints: Endpoints, limits: Limits, route: Route
    ) -> None:
        self._wire = wire
        self._traffic = traffic
        self._route = route
        self._max_body_bytes = limits.max_body_bytes
        self._total_timeout_s = limits.total_timeout_s
        self._template = Request(
            endpoints.bundle_url,
            headers=(("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "*/*")),
            credentials=endpoints.credentials(),
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or BUNDLE_TIMEOUT_S,
            total_timeout_s=None,
        )
        self._outbox: deque[Delivery] = deque()
        self._taken = anyio.Event()
        self.under_way = 0
        """Bundles being streamed now."""
        self.bundles = 0
        self.cutouts = 0
        """Bundles begun, and whole cutouts received through them."""

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Work within this context."""
        async with anyio.create_task_group() as self._group:
            self._wake = wake
            try:
                yield
            finally:
                self._group.cancel_scope.cancel()

    def exposed(self) -> int:
        """Return how many items were received and not yet taken."""
        return len(self._outbox)

    def start(self, items: Sequence[Item]) -> None:
        """Ask for items, no two of which have one file name, in one bundle."""
        if not items:
            return
        self._traffic.started()
        self.under_way += 1
        self.bundles += 1
        self._group.start_soon(self._run, list(items))

    def take(self) -> list[Delivery]:
        """Return what has arrived, verified."""
        taken, self._outbox = list(self._outbox), deque()
        whoever_waits, self._taken = self._taken, anyio.Event()
        whoever_waits.set()
        return taken

    async def _run(self, items: list[Item]) -> None:
        bundle = _Bundle(items, {datauri.file_name(i.uri): i for i in items}, anyio.current_time())
        is_told = False
        try:
            failure = await self._stream(bundle)
            elapsed_s = anyio.current_time() - bundle.started_at
            is_told = True
            self._settle(bundle, failure, elapsed_s)
        finally:
            if not is_told:
                self._traffic.dropped()
            self.under_way -= 1
        self._wake()

    async def _stream(self, bundle: _Bundle) -> Failure | None:
        body = "&".join(f"uri={quoted(item.uri)}" for item in bundle.items).encode()
        # a bundle has as long as its cutouts would have singly: one that only trickles must end, too
        with anyio.move_on_after(self._total_timeout_s * len(bundle.items)):
            try:
                async with self._wire.stream(self._template._replace(body=body)) as stream:
                    if stream.status != 200:
                        return await self._refusal(stream, len(bundle.items))
                    return await self._walk(stream, bundle)
            except BrokenStream as broken:
                return broken.failure
        return Failure(Reason.TIMEOUT, "the whole took too long")

    async def _refusal(self, stream: Stream, n_asked: int) -> Failure:
        page = b""
        async for chunk in stream.chunks():
            page += chunk
            if len(page) > MAX_PAGE_BYTES:
                break
        if stream.status in NO_BUNDLES:
            self._route.is_offered = False
        elif stream.status in TOO_LARGE:
            self._route.too_large()
            if n_asked <= MIN_SIZE:  # smaller ones are not made: it would be refused again and again
                self._route.is_offered = False
        words = without(self._template.credentials, fitscheck.error_text(page))
        return classify_status(stream.status, stream.retry_after, words, datetime.now(UTC))

    async def _walk(self, stream: Stream, bundle: _Bundle) -> Failure | None:
        caps = [max_body_bytes(item, self._max_body_bytes) for item in bundle.items]
        walk = TarWalk(max(caps), lambda name: _base(name) in bundle.absent or _is_page(name))
        inflate = _Inflate(MAX_STREAM_FACTOR * (sum(caps) + MAX_PAGE_BYTES), lambda: walk.is_ended)
        try:
            async for chunk in stream.chunks():
                await self._feed(chunk, inflate, walk, bundle)
                if inflate.n_behind > MAX_PAGE_BYTES:
                    break  # all is there; what goes on and on behind it is nobody's
        except _DAMAGE as error:
            bundle.is_damaged = True
            return Failure(Reason.TRUNCATED, f"the bundle is damaged: {error}", evidence=Evidence.ALIVE)
        if not walk.is_between_members or not inflate.is_whole:
            return Failure(Reason.TRUNCATED, "the bundle ended early")
        return None

    async def _feed(self, chunk: bytes, inflate: _Inflate, walk: TarWalk, bundle: _Bundle) -> None:
        for piece in inflate.pieces(chunk):
            for member in walk.feed(piece):
                self._receive(member, bundle)
            if len(self._outbox) >= OUTBOX_MAX:
                await self._wait_for_room()
            await anyio.lowlevel.checkpoint()  # a chunk may inflate to a thousand times its size
        if self._outbox:
            self._wake()

    def _receive(self, member: Member, bundle: _Bundle) -> None:
        name = _base(member.name)
        if _is_page(member.name) and not member.problem:
            bundle.page = member.body
            return
        item = bundle.absent.get(name)
        if item is None:
            return
        if member.problem:
            bundle.notes[item.uri] = f"refused member: {member.problem}"
            return
        del bundle.absent[name]
        delivery = deliver(item, member.body, self._template.credentials)
        if delivery.failure is None:
            bundle.given.append(item)
        self._outbox.append(delivery)

    async def _wait_for_room(self) -> None:
        while len(self._outbox) >= OUTBOX_MAX:
            taken = self._taken
            self._wake()
            await taken.wait()

    def _settle(self, bundle: _Bundle, failure: Failure | None, elapsed_s: float) -> None:
        if bundle.is_damaged:
            self._take_back(bundle, failure)
        n_whole = len(bundle.given)
        self.cutouts += n_whole
        is_lost = False
        if failure is None or n_whole:
            self._traffic.succeeded(1, elapsed_s / len(bundle.items))
        else:
            is_lost = self._traffic.failed(failure, bundle.subject, elapsed_s)
        is_declined = failure is not None and _is_declined(failure)
        if not is_declined and not is_lost:
            self._route.bundle(n_whole, elapsed_s)
        if bundle.absent:
            secrets = self._template.credentials
            said = {uri: without(secrets, words) for uri, words in _statuses(bundle.page).items()}
            bundle.notes = said | bundle.notes
        for item in bundle.absent.values():
            if is_declined:
                self._outbox.append(Delivery(item, None))
            else:
                why = failure or Failure(
                    Reason.NOT_IN_BUNDLE, bundle.notes.get(item.uri, ""), evidence=Evidence.ALIVE
                )
                why = why._replace(retry_after_s=None) if n_whole else why
                self._outbox.append(Delivery(item, None, failure=why, is_lost=is_lost))

    def _take_back(self, bundle: _Bundle, failure: Failure | None) -> None:
        """
        Take back what a damaged bundle gave.

        Where a gzip stream was changed shows only later, by a code or a header that cannot be, or by the checksum
        at its very end; a cutout in between may have changed pixels and look whole.
        """
        why = failure or Failure(Reason.TRUNCATED, "the bundle is damaged", evidence=Evidence.ALIVE)
        self._outbox.extend(Delivery(item, None, failure=why, is_revoked=True) for item in bundle.given)
        bundle.given.clear()


class _Inflate:
    """Inflate a gzip stream (or pass a plain tar through) in pieces of bounded size, until the tar is over."""

    def __init__(self, max_bytes: int, is_over: Callable[[], bool]) -> None:
        self.n_behind = 0
        """Bytes that came behind the end."""
        self._inflater: Any = None
        self._is_plain = False
        self._left = max_bytes
        self._is_over = is_over

    @property
    def is_whole(self) -> bool:
        """True where the stream may end."""
        return self._is_plain or self._inflater is None or self._inflater.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk inflates to."""
        if self._is_over() and self.is_whole:
            self.n_behind += len(chunk)
            return
        if self._inflater is None and not self._is_plain:
            self._is_plain = not chunk.startswith(b"\x1f")
            self._inflater = None if self._is_plain else zlib.decompressobj(wbits=31)
        if self._inflater is None:
            yield from self._counted(chunk)
            return
        while chunk:
            if self._inflater.eof:
                if self._is_over() or not chunk.startswith(b"\x1f\x8b"):
                    self.n_behind += len(chunk)
                    return
                self._inflater = zlib.decompressobj(wbits=31)
                self._left -= GZIP_MEMBER_BYTES
            yield from self._counted(self._inflater.decompress(chunk, INFLATE_AT_ONCE))
            chunk = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def _counted(self, piece: bytes) -> Iterator[bytes]:
        self._left -= len(piece)
        if self._left < 0:
            raise TarDamaged("it expands past all that was asked for")
        yield piece


def _is_declined(failure: Failure) -> bool:
    """Return True where the archive would not make a bundle at all: that says nothing of the cutouts."""
    return failure.detail.startswith(tuple(f"HTTP {status}" for status in NO_BUNDLES | TOO_LARGE))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _is_page(name: str) -> bool:
    return name.count("/") == 1 and _base(name).upper() == "MANIFEST.HTML"


def _statuses(page: bytes) -> dict[str, str]:
    """Return what a manifest page says of each dataURI, where that is not well."""
    found = {}
    for row in page[:MAX_PAGE_BYTES].split(b"<tr>")[1:]:  # no pattern: a page may be made to be slow to match
        cells = [cell.rpartition(b"<td>")[2] for cell in row.split(b"</td>", 4)]
        if len(cells) < 5:
            continue
        uri, status = cells[0], cells[3]
        words = html.unescape(status.decode("utf-8", "replace")).strip()
        if words.upper() not in ("OK", "REMOTE"):
            text = html.unescape(html.unescape(uri.decode("utf-8", "replace"))).strip()
            found[text] = f"the bundle's manifest says {words[:100]!r}"
    return found
