"""
Objects shared by an event loop, which submits requests, and the curl thread, which delivers answers.

A source belongs to one event loop. Only `_is_notified`, the deques and counters with one writer each are shared;
one wake-up of the loop delivers all that has become ready since the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pycurl

from psfharvest.archive.wires.base import REDIRECTS, Answer, BrokenStream, Request
from psfharvest.archive.wires.curl.transfer import STREAM_BUFFER_BYTES, Settings, Transfer
from psfharvest.archive.wires.redirects import Redirects
from psfharvest.core.model import Failure, Reason

if TYPE_CHECKING:
    from psfharvest.archive.wires.curl.worker import CurlThread

UNREAD_MAX = 2**20


def loop_caller() -> Callable[[Callable[[], object]], object]:
    """Return what runs a function soon in the running event loop, from any thread."""
    token: Any = anyio.lowlevel.current_token().native_token
    caller = getattr(token, "call_soon_threadsafe", None)  # an asyncio loop has it; else it is trio's token
    return caller if caller is not None else token.run_sync_soon  # type: ignore[no-any-return]


class Source:
    """
    One user of the wire.

    Parameters
    ----------
    thread
        Where the transfers are.
    wake
        Called on the loop's thread when there is something to look at.
    """

    is_urgent = False

    def __init__(self, thread: CurlThread, wake: Callable[[], None]) -> None:
        self.queue: deque[Request] = deque()
        """Not begun yet; the thread's own."""
        self.is_closed = False
        self.is_held = False
        """A bad answer has come: nothing of the queue is sent until its owner has seen it; the thread's own."""
        self._thread = thread
        self._wake = wake
        self._call_soon = loop_caller()
        self._is_notified = False

    def close(self) -> None:
        """End all that is under way; no answer comes any more. Does not wait."""
        if not self.is_closed:
            self.is_closed = True
            self._thread.drop(self)

    def transfer(self, spare: list[Transfer], settings: Settings) -> Transfer:
        """Return a transfer for the next request."""
        return spare.pop() if spare else Transfer(settings)

    def finished(self, answer: Answer) -> None:
        """Take the end of a request; in the thread."""
        raise NotImplementedError

    def flush(self) -> None:
        """Wake the loop, unless it is about to look anyway; in the thread."""
        if not self._is_notified and not self.is_closed:
            self._is_notified = True
            try:
                self._call_soon(self._woken)
            except (
                RuntimeError
            ):  # the loop is gone, and with it its waiting tasks (trio's error is a RuntimeError, too)
                self.is_closed = True

    def _woken(self) -> None:
        self._is_notified = False
        if not self.is_closed:
            self._wake()


class CurlQueue(Source):
    """Many requests under way, their answers taken in batches."""

    def __init__(self, thread: CurlThread, wake: Callable[[], None]) -> None:
        super().__init__(thread, wake)
        self._ready: list[Answer] = []
        self._batches: deque[list[Answer]] = deque()

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests."""
        self._thread.submit(self, requests)

    def take(self) -> list[Answer]:
        """Return the answers that are ready, each once; raise what ended the thread, if anything did."""
        self._thread.check()
        batches = self._batches
        answers: list[Answer] = []
        while batches:
            answers += batches.popleft()
        return answers

    def withdraw(self) -> None:
        """Take back what has not been sent; it comes out of `take` as such."""
        self._thread.withdraw(self)

    def proceed(self) -> None:
        """Go on sending after a bad answer."""
        if self.is_held:
            self._thread.proceed(self)

    def finished(self, answer: Answer) -> None:
        """Keep an answer until the batch is handed over."""
        self._ready.append(answer)

    def flush(self) -> None:
        """Hand over the batch."""
        if self._ready:
            self._batches.append(self._ready)
            self._ready = []
        super().flush()


class UrgentQueue(CurlQueue):
    """The queue of a single request: a query, which goes before cutouts."""

    is_urgent = True


class CurlStream(Source):
    """
    One request, its answer read as it comes.

    What waits to be read is bounded: past a mebibyte the transfer is paused.
    """

    is_urgent = True

    def __init__(self, thread: CurlThread) -> None:
        self.status = 0
        self.retry_after: str | None = None
        self.date: str | None = None
        self.is_tls = False
        self.n_sent = 1
        """A stream is a POST, for which libcurl takes a connection of its own."""
        self.headers: list[bytes] = []
        """The lines of the answer's header, the status line first."""
        self._event = anyio.Event()
        super().__init__(thread, self._notify)
        self._chunks: deque[bytes] = deque()
        self._n_in = self._n_out = 0  # one writer each: the thread, the loop
        self._is_paused = False
        self._has_head = False
        self._end: Answer | None = None

    def submit(self, request: Request) -> None:
        """Send the request."""
        self._thread.submit(self, (request,))

    async def head(self) -> None:
        """
        Wait for the answer's header.

        Raises
        ------
        BrokenStream
            When none comes.
        """
        while not self._has_head:
            self._thread.check()
            if self._end is not None:
                # an answer that is not one, such as 101: libcurl takes it for a success
                no_answer = Failure(Reason.PROTOCOL, f"HTTP {self._end.status} where an answer was due")
                raise BrokenStream(self._end.failure or no_answer)
            await self._event.wait()  # set on this loop's own thread: nothing is missed between look and wait

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in as large pieces as have come."""
        while True:
            event, end = self._event, self._end  # read in this order: nothing comes after the end
            chunk = self._take()
            if chunk:
                yield chunk
            elif end is None:
                self._thread.check()
                await event.wait()
            elif end.failure is not None:
                self._thread.check()
                raise BrokenStream(end.failure)
            else:
                return

    def _take(self) -> bytes:
        chunks = self._chunks
        parts = []
        while chunks:
            parts.append(chunks.popleft())
        chunk = parts[0] if len(parts) == 1 else b"".join(parts)
        self._n_out += len(chunk)
        if self._is_paused:
            self._is_paused = False
            self._thread.resume(self)
        return chunk

    def _notify(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    # From here on in the thread.

    def transfer(self, spare: list[Transfer], settings: Settings) -> Transfer:
        """Return a transfer that reports to this stream; never a spare one, whose callbacks are others."""
        return StreamTransfer(settings, self)

    def finished(self, answer: Answer) -> None:
        """Take the end of the request."""
        self._end = answer

    def begun(self, headers: list[bytes], status: int, *, is_tls: bool) -> None:
        """Take the answer's header."""
        self.headers, self.status, self.is_tls = headers, status, is_tls
        self.retry_after = _header(headers, b"retry-after")
        self.date = _header(headers, b"date")
        self._has_head = True
        self._thread.mark_ready(self)

    def received(self, data: bytes) -> int | None:
        """Take a piece of the body, or have the transfer paused when too much is unread."""
        self._thread.mark_ready(self)
        if self._n_in - self._n_out >= UNREAD_MAX:
            self._is_paused = True  # the reader checks this after reading, and is woken to do so
            return pycurl.WRITEFUNC_PAUSE  # type: ignore[no-any-return]
        self._chunks.append(data)
        self._n_in += len(data)
        return None


class StreamTransfer(Transfer):
    """A transfer that passes on what comes."""

    __slots__ = ("_is_head_done", "_status", "_stream")

    def __init__(self, settings: Settings, stream: CurlStream) -> None:
        super().__init__(settings)
        self._stream = stream
        self._reset()
        self.curl.setopt(pycurl.BUFFERSIZE, STREAM_BUFFER_BYTES)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._head)

    @property
    def is_redirect(self) -> bool:
        """True when the answer leads elsewhere, and is to be followed."""
        return self._status in REDIRECTS

    def load(self, source: Source, request: Request, hop: Request, redirects: Redirects | None, now: float) -> None:
        """Make ready for a request."""
        self._reset()
        # The reader may take its time: only a stall ends a stream.
        self._configure(hop._replace(total_timeout_s=None))
        self.curl.setopt(pycurl.URL, hop.url)
        self._begin(source, request, hop, redirects, now)

    def is_stalled(self, now: float) -> bool:
        """Return True when no byte has come for too long, unless it is we who do not read."""
        if self._stream._is_paused:
            self.seen_at = now
        return super().is_stalled(now)

    def _reset(self) -> None:
        self._status = 0
        self._is_head_done = False

    def _head(self, line: bytes) -> None:
        if self._is_head_done:
            return  # a trailer
        if line.startswith(b"HTTP/"):
            self.headers.clear()
            self._status = _status_of(line)
        if line.strip():
            self.headers.append(line)
        elif self._status >= 200:
            self._is_head_done = True
            self.head_seen = -1  # a byte came
            if not self.is_redirect:
                is_tls = self.hop.url[:6].lower() == "https:"
                self._stream.begun(list(self.headers), self._status, is_tls=is_tls)

    def _write(self, data: bytes) -> int | None:
        self.size += len(data)
        if self.is_redirect:
            return None if self.size < UNREAD_MAX else -1
        return self._stream.received(data)


def _status_of(line: bytes) -> int:
    words = line.split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _header(lines: list[bytes], name: bytes) -> str | None:
    found = next((line for line in lines if line[: len(name) + 1].lower() == name + b":"), None)
    return None if found is None else found[len(name) + 1 :].strip().decode("latin-1")
