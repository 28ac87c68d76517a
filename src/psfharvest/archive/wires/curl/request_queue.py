"""
Requests that wait for a connection: urgent ones first, then the sources in turn, one request each.

A source that a bad answer came to is held: nothing of it is sent until its owner has seen the answer, so that an
outage costs what was under way and no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from psfharvest.archive.wires.base import Request
from psfharvest.archive.wires.curl.port import Source


class RequestQueue:
    """The sources that have requests waiting; used in the curl thread only."""

    def __init__(self) -> None:
        self._urgent: deque[Source] = deque()
        self._ordinary: deque[Source] = deque()
        self._held: set[Source] = set()

    def __bool__(self) -> bool:
        return bool(self._urgent or self._ordinary)

    @property
    def has_urgent(self) -> bool:
        """Whether urgent requests wait."""
        return bool(self._urgent)

    def add(self, source: Source, requests: Sequence[Request]) -> None:
        """Append requests to their source."""
        if not source.queue and requests and not source.is_held:
            self._queue_of(source).append(source)
        source.queue.extend(requests)

    def next(self) -> tuple[Source, Request]:
        """Take the next request and its source; there must be one."""
        queue = self._urgent or self._ordinary
        source = queue[0]
        request = source.queue.popleft()
        if not source.queue:
            queue.popleft()
        elif len(queue) > 1:
            queue.rotate(-1)
        return source, request

    def hold(self, source: Source) -> None:
        """Send nothing of a source until `release`."""
        if source.queue and not source.is_held:
            self._queue_of(source).remove(source)
        source.is_held = True
        self._held.add(source)

    def release(self, source: Source) -> None:
        """Let a source that was held go on."""
        if source.is_held and source.queue:
            self._queue_of(source).append(source)
        source.is_held = False
        self._held.discard(source)

    def take_back(self, source: Source) -> list[Request]:
        """Return the requests of a source that were not sent; the source is not held any more."""
        self.hold(source)
        requests = list(source.queue)
        source.queue.clear()
        self.release(source)
        return requests

    def clear(self) -> Iterator[tuple[Source, Request]]:
        """Yield all waiting requests and forget them."""
        for source in {*self._urgent, *self._ordinary, *self._held}:
            while source.queue:
                yield source, source.queue.popleft()
        self._urgent.clear()
        self._ordinary.clear()

    def _queue_of(self, source: Source) -> deque[Source]:
        return self._urgent if source.is_urgent else self._ordinary
