"""
Bundles, many cutouts a request: inflated and checked while they stream, handed on once their end is verified.

What counts is what arrived: the request's list is held against the members received, by file name. A member
that a bundle left out, or spoiled, is asked for again, after two bundles singly. The bundle's own manifest page
is evidence for people, never proof, and no name of the archive's is ever used as a path.

Where a gzip stream was changed on its way shows only at its checksum, behind the last member; a cutout before it
may have changed pixels and look whole. So nothing of a bundle is delivered before its end: bodies wait in
`Arrivals`. A bundle that ends early (a cut connection, an interrupted run) gives what has arrived if it came over
TLS, which has checked every byte as it does for a single file; over plain HTTP it gives nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from psfharvest.archive.endpoints import Endpoints, quoted, without
from psfharvest.archive.fetch.arrivals import Arrivals
from psfharvest.archive.fetch.inflate import DAMAGE, Inflate
from psfharvest.archive.fetch.pending_bundle import MAX_PAGE_BYTES, PendingBundle, base, is_page
from psfharvest.archive.fetch.verify import deliver_at_once, deliver_in_thread, max_body_bytes
from psfharvest.archive.wires.base import FORM, BrokenStream, Request, Stream, Wire
from psfharvest.concurrency.cancellation import is_error
from psfharvest.core.aclosing import closing
from psfharvest.core.fits import datauri, fitscheck
from psfharvest.core.model import Delivery, Evidence, Failure, Item, Limits, Reason
from psfharvest.core.policy.retry import answered_at, classify_status
from psfharvest.core.policy.route import MIN_SIZE, Route, Trial
from psfharvest.core.ports import HostLimiter, Staging
from psfharvest.core.tar import Member, TarWalk
from psfharvest.events.histogram import Histogram
from psfharvest.events.model import Bundled

BUNDLE_TIMEOUT_S = 60.0
OUTBOX_MAX = 128
"""Proven cutouts handed on and not yet taken; the rest of their bundle waits on the disk."""
DISK_THREADS = 2
MEMORY_BYTES = 2**20
"""Bodies of one bundle held in memory while its end is to come; more of them go to the disk."""
MAX_STREAM_FACTOR = 2
"""A bundle may hold this many times what its cutouts can come to, at most."""
NO_BUNDLES = frozenset({400, 401, 403, 404, 405, 406, 410, 411, 415, 501})
"""The archive will not make bundles: singles tell what it says of each cutout."""
TOO_LARGE = frozenset({413, 414})
T = TypeVar("T")


class BundleFetcher:
    """
    Fetches items many at a time.

    Parameters
    ----------
    wire, limiter, endpoints, limits
        What moves the bytes, who may send, where to, and the caps.
    route
        Takes account of what bundles give, and says how large they should be.
    staging
        Takes what has arrived of bundles whose ends are still to come.
    memory_bytes
        How much of that, a bundle, is held in memory.
    accepted
        Names of deviations that pass; it may grow meanwhile.
    """

    def __init__(
        self,
        wire: Wire,
        limiter: HostLimiter,
        endpoints: Endpoints,
        limits: Limits,
        route: Route,
        staging: Staging,
        *,
        memory_bytes: int = MEMORY_BYTES,
        accepted: Collection[str] = (),
    ) -> None:
        self._accepted = accepted
        self._wire = wire
        self._staging = staging
        self._memory_bytes = memory_bytes
        self._limiter = limiter
        self._route = route
        self._max_body_bytes = limits.max_body_bytes
        self._total_timeout_s = limits.total_timeout_s
        self._template = Request(
            endpoints.bundle_url,
            headers=(FORM, ("Accept", "*/*")),
            credentials=endpoints.credentials(),
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or BUNDLE_TIMEOUT_S,
            total_timeout_s=None,
        )
        self._under_way: list[PendingBundle] = []
        self._trials: list[PendingBundle] = []
        self._outbox: deque[Delivery] = deque()
        self._taken = anyio.Event()
        self._error: BaseException | None = None
        self.bundles = 0
        self.cutouts = 0
        """Bundles begun, and whole cutouts handed on from them."""
        self.durations = Histogram()
        """Histogram of the times of good bundles so far."""

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Work within this context."""
        self._disk = anyio.CapacityLimiter(DISK_THREADS)
        async with anyio.create_task_group() as self._group:
            self._wake = wake
            try:
                yield
            finally:
                self._group.cancel_scope.cancel()

    @property
    def under_way(self) -> int:
        """Bundles of which something is still to come or to be handed on."""
        return len(self._under_way)

    @property
    def n_arrived(self) -> int:
        """Whole cutouts that have arrived and were not handed on yet: most of them wait for their bundle's end."""
        return sum(bundle.arrived.n_whole for bundle in self._under_way)

    def exposed(self) -> int:
        """Return how many items were handed on and not yet taken."""
        return len(self._outbox)

    @property
    def n_trials(self) -> int:
        """Bundles on trial that are still to come."""
        return len(self._trials)

    def trial_left_s(self, now: float) -> float:
        """Return in how many seconds the next bundle on trial is to be abandoned; infinity without one."""
        return min((self._trial_ends_at(b) - now for b in self._trials if not b.scope.cancel_called), default=inf)

    def note_trials(self, now: float) -> None:
        """
        Take account of what bundles on trial have brought so far.

        Those that have taken too long are abandoned: their items are asked for again, uncharged.
        """
        for bundle in self._trials:
            self._route.progressed(bundle.arrived.n_whole, now - bundle.started_at)
        for bundle in self._trials:
            if now >= self._trial_ends_at(bundle):
                bundle.scope.cancel()

    def outstanding(self, now: float) -> list[float]:
        """Return how many cutouts are still to come by each bundle under way, as far as can be known."""
        pace = self._route.bundled_per_s  # an archive that packs before it sends shows nothing until then
        return [
            max(0.0, min(len(bundle.absent), len(bundle.items) - pace * (now - bundle.started_at)))
            for bundle in self._under_way
            if not bundle.is_ended
        ]

    @property
    def n_under_way(self) -> int:
        """Cutouts that were asked for in bundles and have not been handed on."""
        return sum(len(bundle.absent) + len(bundle.arrived) for bundle in self._under_way) + len(self._outbox)

    def start(self, items: Sequence[Item], trial: Trial | None = None) -> None:
        """Ask for items, no two of which have one file name, in one bundle."""
        if not items:
            return
        self._limiter.started()
        self.bundles += 1
        arrived = Arrivals(self._staging.begin(), self._memory_bytes)
        by_name = {datauri.file_name(item.uri): item for item in items}
        bundle = PendingBundle(list(items), by_name, arrived, anyio.current_time(), trial)
        self._under_way.append(bundle)
        if trial is not None:
            self._trials.append(bundle)
        self._group.start_soon(self._run, bundle)

    def take(self) -> list[Delivery]:
        """
        Return what was handed on.

        Raises
        ------
        LocalError
            When what arrives cannot be stored until its bundle's end.
        Exception
            Such as a hook of the caller's client raised.
        """
        if self._error is not None:
            raise self._error
        taken, self._outbox = list(self._outbox), deque()
        waiting, self._taken = self._taken, anyio.Event()
        waiting.set()
        return taken

    def leftovers(self) -> Iterator[list[Delivery]]:
        """
        Yield what had arrived whole when the work was ended, in batches; call it off the event loop.

        It is what was proven and not yet taken, and of bundles that were cut short what came over TLS.

        Raises
        ------
        LocalError
            When a body cannot be read back.
        """
        rest, self._outbox = [delivery for delivery in self._outbox if delivery.body is not None], deque()
        if rest:
            yield rest
        for bundle in self._under_way:
            while (bundle.is_proven or bundle.is_tls) and bundle.arrived.n_whole:
                batch = [delivery for delivery in bundle.arrived.take(OUTBOX_MAX) if delivery.body is not None]
                self.cutouts += len(batch)
                yield batch

    async def _run(self, bundle: PendingBundle) -> None:
        is_reported = False
        try:
            failure: Failure | None = None
            with bundle.scope:
                failure = await self._stream(bundle)
            bundle.is_ended = True
            if bundle.trial is not None:
                self._trials.remove(bundle)
            is_reported = True
            if bundle.scope.cancelled_caught:
                self._limiter.dropped()
                self._route.abandoned()
                bundle.give_back()
            else:
                self._settle(bundle, failure, anyio.current_time() - bundle.started_at)
            await self._hand_on(bundle)
            self._under_way.remove(bundle)
        except BaseException as error:
            if not is_error(error):
                raise
            self._error = self._error or error  # raised by take(), without an exception group
        finally:
            if not is_reported:
                self._limiter.dropped()
        self._wake()

    async def _stream(self, bundle: PendingBundle) -> Failure | None:
        body = "&".join(f"uri={quoted(item.uri)}" for item in bundle.items).encode()
        # a bundle has as long as its cutouts would have singly: one that only trickles must end, too
        with anyio.move_on_after(self._total_timeout_s * len(bundle.items)):
            try:
                async with self._wire.stream(self._template._replace(body=body)) as stream:
                    self._limiter.repeated(stream.n_sent - 1)
                    if stream.status != 200:
                        return await self._refusal(stream, len(bundle.items))
                    bundle.is_tls = stream.is_tls
                    return await self._walk(stream, bundle)
            except BrokenStream as broken:
                self._limiter.repeated(broken.n_sent - 1)
                return None if bundle.is_proven else broken.failure
        return Failure(Reason.TIMEOUT, "the whole took too long")

    async def _refusal(self, stream: Stream, n_asked: int) -> Failure:
        page = b""
        async with closing(stream.chunks()) as chunks:
            async for chunk in chunks:
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
        return classify_status(
            stream.status, stream.retry_after, words, answered_at(stream.date, datetime.now(UTC))
        )

    async def _walk(self, stream: Stream, bundle: PendingBundle) -> Failure | None:
        caps = [max_body_bytes(item, self._max_body_bytes) for item in bundle.items]
        walk = TarWalk(max(caps), bundle.wants)
        inflate = Inflate(MAX_STREAM_FACTOR * (sum(caps) + MAX_PAGE_BYTES), lambda: walk.is_ended)
        try:
            async with closing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    await self._feed(chunk, inflate, walk, bundle)
                    bundle.is_proven = walk.is_ended and inflate.is_checked
                    if inflate.n_behind > MAX_PAGE_BYTES:
                        break  # the tar is complete: what follows without end is not part of it
        except DAMAGE as error:
            why = Failure(Reason.TRUNCATED, f"the bundle is damaged: {error}", evidence=Evidence.ALIVE)
            bundle.revoke(why)
            return why
        if not walk.is_between_members or not inflate.is_whole:
            return Failure(Reason.TRUNCATED, "the bundle ended early")
        # a tar that lacks its end mark is no proof that nothing was lost; a right checksum behind it is
        bundle.is_proven = walk.is_ended or inflate.is_checked
        if not bundle.is_proven and len(bundle.arrived):
            return Failure(Reason.TRUNCATED, "the bundle ended without its end mark")
        return None

    async def _feed(self, chunk: bytes, inflate: Inflate, walk: TarWalk, bundle: PendingBundle) -> None:
        for piece in inflate.pieces(chunk):
            for member in walk.feed(piece):
                await self._receive(member, bundle)
            if bundle.trial is not None:
                self._wake()  # its pace may decide
            if bundle.arrived.is_full:
                await anyio.to_thread.run_sync(bundle.arrived.spill, limiter=self._disk)
            else:
                await anyio.lowlevel.checkpoint()  # a chunk may inflate to a thousand times its size

    async def _receive(self, member: Member, bundle: PendingBundle) -> None:
        name = base(member.name)
        if is_page(member.name) and not member.problem:
            bundle.page = member.body
            return
        item = bundle.absent.get(name)
        if item is None:
            return
        if member.problem:
            bundle.notes[item.uri] = f"refused member: {member.problem}"
            return
        of_body = (item, member.body, self._template.credentials, self._accepted)
        delivery = deliver_at_once(*of_body)
        if delivery is None:
            delivery = await anyio.to_thread.run_sync(deliver_in_thread, *of_body)
        del bundle.absent[name]
        if delivery.failure is not None:
            # what a bundle holds in its place is no answer for this cutout, which two of them would make final
            delivery = delivery._replace(failure=delivery.failure._replace(fingerprint=b"", is_text=False))
        bundle.arrived.add(delivery)

    async def _hand_on(self, bundle: PendingBundle) -> None:
        """Hand on what has arrived, as fast as it is taken."""
        while len(bundle.arrived):
            while len(self._outbox) >= OUTBOX_MAX:
                taken = self._taken
                self._wake()
                await taken.wait()
            # no checkpoint between taking and handing on: a cancellation loses nothing
            batch = await self._off_loop(bundle, lambda: bundle.arrived.take(OUTBOX_MAX))
            self._outbox.extend(batch)
            self.cutouts += sum(delivery.body is not None for delivery in batch)
            self._wake()
        await self._off_loop(bundle, bundle.arrived.discard)

    async def _off_loop(self, bundle: PendingBundle, work: Callable[[], T]) -> T:
        """Return what `work` returns; where it touches the disk, it does so in a thread."""
        if not bundle.arrived.is_spilled:
            return work()
        return await anyio.to_thread.run_sync(work, limiter=self._disk)

    def _settle(self, bundle: PendingBundle, failure: Failure | None, elapsed_s: float) -> None:
        """Take account of a bundle's end, and decide what becomes of the items that it asked for."""
        is_lost = False
        is_declined = failure is not None and failure.status in NO_BUNDLES | TOO_LARGE
        if failure is None or bundle.arrived.n_whole:
            self.durations.add(elapsed_s)
            self._limiter.succeeded(1, elapsed_s / len(bundle.items))
        else:
            is_lost = self._limiter.failed(failure, bundle.subject, elapsed_s)
        if failure is not None and bundle.arrived.n_whole:
            failure = failure._replace(retry_after_s=None)
            bundle.is_proven = bundle.is_tls
            if not bundle.is_proven:
                bundle.revoke(failure)
        n_whole = bundle.arrived.n_whole
        self._limiter.emit(
            Bundled,
            n=len(bundle.items),
            n_whole=n_whole,
            elapsed_s=elapsed_s,
            reason="" if failure is None else failure.reason.value,
        )
        if not is_declined and not is_lost:
            self._route.bundle(n_whole, elapsed_s)
        bundle.end(failure, self._template.credentials, is_declined=is_declined, is_lost=is_lost)

    def _trial_ends_at(self, bundle: PendingBundle) -> float:
        return inf if bundle.trial is None else bundle.started_at + self._route.trial_limit_s(bundle.trial)
