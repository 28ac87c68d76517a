"""One cutout a GET: the fetcher of single files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.verify import deliver, failure_of
from psfharvest.archive.wire import Lane, Request, Wire
from psfharvest.core.model import Delivery, Item, Limits
from psfharvest.core.ports import TrafficLight

FILE_TIMEOUT_S = 30.0


class FileFetcher:
    """
    Fetches each item by a request of its own.

    Parameters
    ----------
    wire, traffic, endpoints, limits
        What moves the bytes, who may send, where to, and the caps.
    """

    def __init__(self, wire: Wire, traffic: TrafficLight, endpoints: Endpoints, limits: Limits) -> None:
        self._wire = wire
        self._traffic = traffic
        self._prefix = endpoints.file_prefix
        self._template = Request(
            "",
            headers=(("Accept", "*/*"),),
            credentials=endpoints.credentials(),
            max_bytes=limits.max_body_bytes,
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or FILE_TIMEOUT_S,
            total_timeout_s=limits.total_timeout_s,
        )
        self._file_url = endpoints.file_url
        self._lane: Lane | None = None
        self._under_way = 0

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Work within this context."""
        async with self._wire.lane(wake) as lane:
            self._lane = lane
            try:
                yield
            finally:
                self._lane = None
                self._traffic.dropped(self._under_way)
                self._under_way = 0

    def room(self) -> int:
        """Return how many requests may start now."""
        return self._traffic.allowance(self._wire.depth)

    def submit(self, items: Sequence[Item]) -> None:
        """Send one request an item."""
        assert self._lane is not None  # noqa: S101 - open() stands around every use
        self._under_way += len(items)
        self._traffic.started(len(items))
        template = self._template
        self._lane.submit([template._replace(url=self._file_url(item.uri), tag=item) for item in items])

    def take(self) -> list[Delivery]:
        """Return what has arrived, verified."""
        assert self._lane is not None  # noqa: S101 - as above
        deliveries = []
        n_good, good_s = 0, 0.0
        for answer in self._lane.take():
            self._under_way -= 1
            item: Item = answer.request.tag  # type: ignore[assignment]  # a tag comes back as it went
            failure = failure_of(answer)
            delivery = deliver(item, answer.body) if failure is None else Delivery(item, None, failure=failure)
            if delivery.failure is None:
                n_good += 1
                good_s += answer.elapsed_s
            else:
                is_lost = self._traffic.failed(delivery.failure, item.uri, answer.elapsed_s)
                delivery = delivery._replace(is_lost=is_lost)
            deliveries.append(delivery)
        if n_good:
            self._traffic.succeeded(n_good, good_s / n_good)
        return deliveries

    def next_change_s(self) -> float | None:
        """Return None: the traffic light knows."""
        return None
