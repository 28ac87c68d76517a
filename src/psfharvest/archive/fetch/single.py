"""One cutout a GET: the fetcher of single files."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.long_checks import LongChecks
from psfharvest.archive.fetch.verify import deliver_at_once, deliver_in_thread, failure_of, max_body_bytes
from psfharvest.archive.wires.base import Answer, Request, RequestQueue, Wire
from psfharvest.core.model import Delivery, Failure, Item, Limits
from psfharvest.core.ports import HostLimiter
from psfharvest.core.reasons import BROKEN_TRANSFER
from psfharvest.events.histogram import Histogram

FILE_TIMEOUT_S = 30.0
GOOD_MAX = 3
"""Cutouts remembered as good, for control requests: one of them may have gone since."""


class FileFetcher:
    """
    Fetches each item by a request of its own.

    Parameters
    ----------
    wire, limiter, endpoints, limits
        What moves the bytes, who may send, where to, and the caps.
    at_data_urls
        Whether cutouts are read at their dataURLs; that is another host than the token's.
    count
        Sends a small count: the control request while no cutout is known to be good.
    is_urgent
        Whether its requests go before those of others that wait in the wire.
    accepted
        Names of deviations that pass; it may grow meanwhile.
    """

    def __init__(
        self,
        wire: Wire,
        limiter: HostLimiter,
        endpoints: Endpoints,
        limits: Limits,
        *,
        at_data_urls: bool = False,
        is_urgent: bool = False,
        count: Callable[[], Awaitable[Failure | None]],
        accepted: Collection[str] = (),
    ) -> None:
        self._accepted = accepted
        self._wire = wire
        self._count = count
        self._good: deque[Item] = deque(maxlen=GOOD_MAX)
        self._limiter = limiter
        self._template = Request(
            "",
            headers=(("Accept", "*/*"),),
            credentials=() if at_data_urls else endpoints.credentials(),
            max_bytes=limits.max_body_bytes,
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or FILE_TIMEOUT_S,
            total_timeout_s=limits.total_timeout_s,
        )
        self._templates: dict[int | None, Request] = {}
        """By the side of the image asked for: there are few."""
        self._file_url = endpoints.quoted_data_url if at_data_urls else endpoints.file_url
        self._is_urgent = is_urgent
        self._queue: RequestQueue | None = None
        self._long_checks: LongChecks[Answer, Delivery]
        self._under_way = 0
        self.sent = 0
        """Requests so far."""
        self.durations = Histogram()
        """Histogram of the times of good answers so far."""
        self.last_taken = (0, 0.0)
        """How many good answers the last `take` gave, and their mean time in seconds."""

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Work within this context."""
        self._long_checks = LongChecks(self._checked)
        async with (
            self._wire.queue(wake, is_urgent=self._is_urgent) as queue,
            anyio.create_task_group() as group,
        ):
            self._queue = queue
            group.start_soon(self._long_checks.run, wake)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
                self._queue = None
                self._limiter.dropped(self._under_way)
                self._under_way = 0

    def room(self) -> int:
        """Return how many requests may start now."""
        depth = self._wire.depth
        if self._is_urgent:  # one to follow a connection: what waits in the wire no longer goes by its deadline
            depth = min(depth, self._limiter.connections)
        return self._limiter.allowance(depth)

    def is_busy(self) -> bool:
        """Return True while a request is under way."""
        return self._under_way > 0

    def exposed(self) -> int:
        """Return how many items were sent and not taken."""
        return self._under_way

    def held(self) -> int:
        """Return 0: what is submitted goes to the wire."""
        return 0

    def recall(self) -> None:
        """Take back what waits in the wire and was not sent."""
        if self._queue is not None:
            self._queue.withdraw()

    def submit(self, items: Sequence[Item]) -> None:
        """Send one request an item."""
        assert self._queue is not None  # noqa: S101 - open() stands around every use
        self._under_way += len(items)
        self.sent += len(items)
        self._limiter.started(len(items))
        self._queue.submit([self._request(item) for item in items])

    def know_good(self, items: Iterable[Item]) -> None:
        """Take items that are known to be good, for control requests."""
        self._good.extend(items)

    async def control(self) -> Failure | None:
        """
        Ask for a cutout that is known to be good, another one after a failure, or else for a small count.

        A broken transfer shows nothing, so it is asked for once more: what broke may be a kept connection alone.
        """
        failure = await self._control_once()
        if failure is None or failure.reason not in BROKEN_TRANSFER:
            return failure
        self._limiter.repeated(1)
        return await self._control_once()

    async def _control_once(self) -> Failure | None:
        if not self._good:
            return await self._count()
        item = self._good[-1]
        answer = await self._wire.exchange(self._request(item))
        self._limiter.repeated(answer.n_sent - 1)
        failure = failure_of(answer)
        if failure is None:
            failure = (await anyio.to_thread.run_sync(self._checked, answer)).failure
        if failure is not None:
            self._good.rotate()
        return failure

    def _request(self, item: Item) -> Request:
        template = self._templates.get(item.size_px)
        if template is None:
            template = self._template._replace(max_bytes=max_body_bytes(item, self._template.max_bytes))
            self._templates[item.size_px] = template
        return Request(self._file_url(item.uri), item, *template[2:])  # once a cutout: half of what _replace takes

    def take(self, *, is_behind: bool = False) -> list[Delivery]:
        """Return what has arrived, verified; it is bounded by what was sent, so nothing is held back."""
        del is_behind
        assert self._queue is not None  # noqa: S101 - as above
        self._wire.set_limit(self._limiter.connections)
        taken = [(answer, self._at_once(answer)) for answer in self._queue.take()]
        taken += self._long_checks.take()
        found = [(answer, delivery) for answer, delivery in taken if delivery is not None]
        self._under_way -= len(found)
        answers = [answer for answer, _ in found]
        deliveries = [self._accounted(answer, delivery) for answer, delivery in found]
        self._good.extend([d.item for d in deliveries if d.body is not None][-1:])
        good_s = [a.elapsed_s for a, d in zip(answers, deliveries, strict=True) if d.body is not None]
        n_unsent = sum(not answer.n_sent for answer in answers)
        n_repeated = sum(delivery.n_repeated for delivery in deliveries)
        self.sent += n_repeated - n_unsent
        if n_unsent or n_repeated:
            self._limiter.unsent(n_unsent)
            self._limiter.repeated(n_repeated)
        self.last_taken = (len(good_s), sum(good_s) / max(1, len(good_s)))
        self.durations.add(*good_s)
        if good_s:
            self._limiter.succeeded(*self.last_taken)
        if self._limiter.is_holding:
            self._queue.withdraw()
        else:
            self._queue.proceed()
        return deliveries

    def _at_once(self, answer: Answer) -> Delivery | None:
        """Return the delivery of an answer, or None when its check takes long: a thread makes it."""
        item: Item = answer.request.tag  # type: ignore[assignment]  # a tag comes back as it went
        if not answer.n_sent:
            return Delivery(item, None)
        failure = failure_of(answer)
        if failure is not None:
            return Delivery(item, None, failure=failure)
        delivery = deliver_at_once(item, answer.body, self._template.credentials, self._accepted)
        if delivery is None:
            self._long_checks.add(answer)
        return delivery

    def _checked(self, answer: Answer) -> Delivery:
        item: Item = answer.request.tag  # type: ignore[assignment]  # as above
        return deliver_in_thread(item, answer.body, self._template.credentials, self._accepted)

    def _accounted(self, answer: Answer, delivery: Delivery) -> Delivery:
        if answer.n_sent > 1:
            delivery = delivery._replace(n_repeated=answer.n_sent - 1)
        if delivery.failure is None:
            return delivery
        item = delivery.item
        is_lost = self._limiter.failed(delivery.failure, item.uri, answer.elapsed_s, is_repeat=item.attempts > 0)
        return delivery._replace(is_lost=is_lost)

    def next_change_s(self) -> float | None:
        """Return None: the rate limiter knows."""
        return None
