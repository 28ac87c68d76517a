"""What a `Call` over httpx hands its answer to: a whole body, or a stream, read no faster than it is used."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio

from psfharvest.archive.wires.base import Answer, BrokenStream
from psfharvest.core.model import Evidence, Failure, Reason

if TYPE_CHECKING:
    from psfharvest.archive.wires.httpx_call import Call

UNREAD_MAX = 2**20
"""Bytes of a stream that wait for its reader; beyond that nothing is fetched."""


class Head(NamedTuple):
    """What counts of an answer's head."""

    status: int
    retry_after: str | None
    date: str | None
    is_tls: bool
    headers: tuple[tuple[str, str], ...] = ()
    """All header fields, in their order."""
    http_version: str = ""
    n_redirects: int = 0
    """How many redirects led to it."""
    n_sent: int = 1
    """How often the request went out until it came."""


class Receiver(Protocol):
    """Takes an answer's body as it comes; in the request's task."""

    def begun(self, head: Head) -> None:
        """Take the answer's head."""
        ...

    async def received(self, chunk: bytes) -> bool:
        """Take a piece of the body; False when no more is wanted."""
        ...

    def restart(self) -> bool:
        """Make ready for the same answer once more; False where that is too late."""
        ...


class WholeBody:
    """Keeps a body of at most so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.head = Head(0, None, None, is_tls=False)
        self.failure: Failure | None = None
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def begun(self, head: Head) -> None:
        """Take the answer's head."""
        self.head = head

    async def received(self, chunk: bytes) -> bool:
        """Keep a piece of the body, unless it grows too large."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            self.failure = Failure(Reason.TOO_LARGE, f"more than {self._max_bytes} bytes", evidence=Evidence.ALIVE)
            return False
        self._parts.append(chunk)
        return True

    def restart(self) -> bool:
        """Forget what came."""
        self._parts.clear()
        self._size = 0
        return True

    def answer(self, call: Call) -> Answer:
        """
        Return the answer of a call that has ended.

        Raises
        ------
        Exception
            Such as a hook of the caller's client raised.
        """
        if call.error is not None:
            raise call.error
        failure = self.failure or call.failure
        if failure is not None:
            return Answer(call.request, failure=failure, elapsed_s=call.elapsed_s, n_sent=call.n_sent)
        head = self.head
        return Answer(
            call.request,
            head.status,
            b"".join(self._parts),
            head.retry_after,
            call.elapsed_s,
            date=head.date,
            n_sent=call.n_sent,
        )


class HttpxStream:
    """An answer whose body is read as it comes; what waits to be read is bounded."""

    def __init__(self) -> None:
        self.status = 0
        self.retry_after: str | None = None
        self.date: str | None = None
        self.is_tls = False
        self.n_sent = 1
        """How often the request had gone out before its head came."""
        self.head_fields = Head(0, None, None, is_tls=False)
        """All of the answer's head."""
        self._chunks: list[bytes] = []
        self._unread = 0
        self._has_head = False
        self._is_left = False
        self._ended: Call | None = None
        self._changed = anyio.Event()

    def begun(self, head: Head) -> None:
        """Take the answer's head."""
        self.head_fields = head
        self.status, self.retry_after, self.date, self.is_tls = head[:4]
        self.n_sent = head.n_sent
        self._has_head = True
        self._announce()

    async def received(self, chunk: bytes) -> bool:
        """Take a piece of the body, and wait while too much is unread."""
        self._chunks.append(chunk)
        self._unread += len(chunk)
        self._announce()
        while self._unread >= UNREAD_MAX and not self._is_left:
            with anyio.CancelScope(shield=True):  # `leave` ends this wait, and then the body from within
                await self._changed.wait()
        return not self._is_left

    def restart(self) -> bool:
        """Return True while nothing has come."""
        return not self._has_head

    def ended(self, call: Call) -> None:
        """Take the end of the call."""
        self._ended = call
        self._announce()

    def leave(self) -> None:
        """Read no more."""
        self._is_left = True
        self._announce()

    async def head(self) -> None:
        """
        Wait for the answer's head.

        Raises
        ------
        BrokenStream
            When none comes.
        """
        while not self._has_head:
            if self._ended is not None:
                self._raise(self._ended, self._ended.n_sent)
                raise BrokenStream(Failure(Reason.RESET, "the wire was closed"), self._ended.n_sent)
            await self._changed.wait()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in as large pieces as have come."""
        while True:
            changed, ended = self._changed, self._ended
            if self._chunks:
                chunks, self._chunks, self._unread = self._chunks, [], 0
                self._announce()
                yield chunks[0] if len(chunks) == 1 else b"".join(chunks)
            elif ended is None:
                await changed.wait()
            else:
                self._raise(ended)
                return

    def _announce(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @staticmethod
    def _raise(call: Call, n_sent: int = 1) -> None:
        if call.error is not None:
            raise call.error
        if call.failure is not None:
            raise BrokenStream(call.failure, n_sent)
