"""
libcurl's multi interface in a thread of its own: commands in, answers out, both in batches.

Every handle lives and dies in this thread. It sleeps in the kernel whenever there is nothing to do, and hands over
what has arrived when it would sleep next or when a batch is full, whichever is first.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import pycurl

from psfharvest.archive.wires.base import REDIRECTS, Answer, Request
from psfharvest.archive.wires.curl import errors
from psfharvest.archive.wires.curl.commands import CommandQueue
from psfharvest.archive.wires.curl.idle import IdleConnections
from psfharvest.archive.wires.curl.poll import make_poller
from psfharvest.archive.wires.curl.port import Source, StreamTransfer
from psfharvest.archive.wires.curl.request_queue import RequestQueue
from psfharvest.archive.wires.curl.transfer import Settings, Transfer
from psfharvest.archive.wires.redirects import Redirects, speaks_no_tls
from psfharvest.core.model import Evidence, Failure, Reason

BATCH_MAX = 64
"""Answers that are handed over at once at the latest."""
GATHER_S = 0.02
"""How long an answer may wait for company while requests wait here, so that no connection waits for the loop."""
URGENT_GATHER_S = 0.001
"""The same for an answer to an urgent request while more of those wait here: a few at a time, instead of one."""
WATCH_MIN_S = 0.05
TICK_S = 1.0
"""The longest sleep while a transfer is under way, so that a stop of the process shows as a jump of the clock."""
GAP_MIN_S = 1.0
SPARE_MAX = 512
_NO_INTEREST = (pycurl.POLL_REMOVE, pycurl.POLL_NONE)


class CurlThread:
    """
    The thread, and the way to it.

    Parameters
    ----------
    settings
        Options of every handle.
    limit
        How many transfers, and connections, there may be at once.
    """

    def __init__(self, settings: Settings, limit: int) -> None:
        self.error: BaseException | None = None
        """What ended the thread before its time; raised to every caller from then on."""
        self._settings = settings
        self._limit = limit
        self._commands = CommandQueue()
        self._requests = RequestQueue()
        self._at_end: deque[Callable[[], object]] = deque()
        self._settling: list[tuple[int, Callable[[], object]]] = []
        self._multi: Any = None
        self._poller = make_poller()
        self._idle = IdleConnections()
        self._active: dict[Any, Transfer] = {}
        self._spare: list[Transfer] = []
        self._decodes = True
        """Until a server names an encoding that libcurl does not know: other clients pass over such a name."""
        self._dirty: set[Source] = set()
        self._sources: weakref.WeakSet[Source] = weakref.WeakSet()
        self._n_unflushed = 0
        self._flush_at = math.inf
        self._timer_at = math.inf
        self._looked_at = monotonic()
        self._watch_at = math.inf
        self._watch_every = math.inf
        self._thread = threading.Thread(target=self._run, name="psfharvest-curl", daemon=True)
        self._thread.start()

    # From any thread.

    def submit(self, source: Source, requests: Sequence[Request]) -> None:
        """Send requests; their ends come to `source`."""
        self.check()
        try:
            self._commands.post(self._submit, source, requests)
        except RuntimeError:
            self.check()  # the thread may have ended between the two
            raise

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self.error is not None:
            raise self.error

    def drop(self, source: Source) -> None:
        """End whatever `source` has asked for."""
        if not self._commands.is_closing:
            self._commands.post(self._drop, source)

    def withdraw(self, source: Source) -> None:
        """Hand back what `source` has asked for and was not sent."""
        if not self._commands.is_closing:
            self._commands.post(self._withdraw, source)

    def proceed(self, source: Source) -> None:
        """Send on what `source` has queued: it has seen the bad answer."""
        if not self._commands.is_closing:
            self._commands.post(self._requests.release, source)

    def resume(self, source: Source) -> None:
        """Go on with a paused stream."""
        if not self._commands.is_closing:
            self._commands.post(self._resume, source)

    def set_limit(self, limit: int) -> None:
        """Hold at most so many transfers from now on."""
        self.check()
        self._commands.post(self._set_limit, limit)

    def make_room(self, limit: int, done: Callable[[], object]) -> None:
        """Hold at most so many connections from now on, close idle ones beyond them, and call `done`."""
        self.check()
        self._commands.post(self._make_room, limit, done)

    def settle(self, limit: int, done: Callable[[], object]) -> None:
        """Hold at most so many connections from now on, and call `done` once no more are open."""
        self.check()
        self._commands.post(self._settle, limit, done)

    def close(self, at_end: Callable[[], object] | None = None) -> None:
        """End the thread; `at_end` is its last call."""
        if at_end is not None:
            self._at_end.append(at_end)
        self._commands.is_closing = True
        self._commands.wake_up()
        if self._commands.is_over and at_end is not None:
            at_end()

    def join(self, timeout_s: float = 1.0) -> None:
        """Wait for the thread's end."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    # In the thread.

    def _run(self) -> None:
        failure = Failure(Reason.RESET, "the wire was closed")
        try:
            self._open()
            while not self._commands.is_closing:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - raised to those who use the thread
            self.error = error
            failure = Failure(Reason.PROTOCOL, f"the transfer thread failed: {error!r}")
        finally:
            self._commands.is_closing = True
            self._end(failure)

    def _open(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._set_limit(self._limit)
        self._poller.watch(self._commands.fileno(), pycurl.POLL_IN)

    def _turn(self) -> None:
        self._commands.run_all()
        self._fill()
        if self._settling:
            self._end_settling()
        now = self._now()
        if self._timer_at <= now:
            self._timer_at = math.inf
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._reap()
        if self._watch_at <= now:
            self._watch(now)
        if self._flush_at <= now or self._n_unflushed >= BATCH_MAX:
            self._flush()
        # What has come meanwhile is served before anybody is woken for what came before.
        events = self._poller.poll(0) if self._n_unflushed else ()
        if not events:
            if not self._requests:
                self._flush()
            events = self._sleep()
        if events:
            self._serve(events)

    def _now(self) -> float:
        """Read the clock; where it has jumped, this process was stopped, and deadlines start anew."""
        now = monotonic()
        gap_s, self._looked_at = now - self._looked_at - TICK_S, now
        if gap_s >= GAP_MIN_S and self._active:
            self._restart_deadlines(now, gap_s)
        return now

    def _sleep(self) -> Sequence[tuple[int, int]]:
        self._commands.begin_wait()
        due_at = min(self._timer_at, self._watch_at, self._flush_at)
        can_start = self._requests and len(self._active) < self._limit
        if self._commands or self._commands.is_closing or can_start:
            pause_s: float | None = 0.0
        else:
            pause_s = None if due_at == math.inf else max(0.0, due_at - monotonic())
        if self._active:
            pause_s = TICK_S if pause_s is None else min(pause_s, TICK_S)
        events = self._poller.poll(pause_s)
        self._commands.end_wait()
        self._now()
        return events

    def _serve(self, events: Sequence[tuple[int, int]]) -> None:
        act, wakeup_fd = self._multi.socket_action, self._commands.fileno()
        for fd, flags in events:
            if fd == wakeup_fd:
                self._commands.drain()
            else:
                act(fd, flags)
        self._reap()

    def _submit(self, source: Source, requests: Sequence[Request]) -> None:
        if not source.is_closed:
            self._sources.add(source)
            self._requests.add(source, requests)

    def _drop(self, source: Source) -> None:
        self._requests.take_back(source)
        for transfer in self._active_of(source):
            self._release(transfer)
        self._dirty.discard(source)

    def _withdraw(self, source: Source) -> None:
        self._flush_at = 0.0
        for request in self._requests.take_back(source):
            self._deliver(source, Answer(request, n_sent=0))

    def _resume(self, source: Source) -> None:
        for transfer in self._active_of(source):
            try:
                transfer.curl.pause(pycurl.PAUSE_CONT)
            except pycurl.error as error:
                self._finish(transfer, monotonic(), *error.args)

    def _set_limit(self, limit: int) -> None:
        self._limit = limit
        # Kept connections count: with both, an idle one is closed before a new one is opened beyond the limit.
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, max(1, limit))  # 0 would be no limit
        self._multi.setopt(pycurl.M_MAXCONNECTS, max(1, limit))

    def _make_room(self, limit: int, done: Callable[[], object]) -> None:
        self._set_limit(limit)
        in_use = [transfer.curl.getinfo(pycurl.ACTIVESOCKET) for transfer in self._active.values()]
        self._idle.shrink(limit, in_use, monotonic())
        done()

    def _settle(self, limit: int, done: Callable[[], object]) -> None:
        self._set_limit(limit)
        self._settling.append((limit, done))

    def _end_settling(self) -> None:
        for limit, done in [waiting for waiting in self._settling if len(self._active) <= waiting[0]]:
            self._settling.remove((limit, done))
            self._make_room(min(limit, self._limit), done)

    def _fill(self) -> None:
        while self._requests and len(self._active) < self._limit:
            source, request = self._requests.next()
            self._start(source, request, None, monotonic())

    def _start(self, source: Source, request: Request, redirects: Redirects | None, begun_at: float) -> None:
        transfer = source.transfer(self._spare, self._settings)
        hop = request if redirects is None else redirects.hop
        try:
            transfer.load(source, request, hop, redirects, begun_at)
            if not self._decodes:
                transfer.leave_encoded()
            # on a dead kept connection libcurl would repeat a POST by itself, up to five times and uncounted
            is_fresh = hop.body is not None or self._idle.has_many_dead(begun_at)
            transfer.curl.setopt(pycurl.FRESH_CONNECT, is_fresh)
            self._multi.add_handle(transfer.curl)
        except (pycurl.error, UnicodeError, ValueError, TypeError) as error:
            self._keep(transfer)
            failure = Failure(Reason.REDIRECT, f"cannot be sent: {error}", evidence=Evidence.ALIVE)
            self._deliver(source, Answer(request, failure=failure))
            return
        self._active[transfer.curl] = transfer
        every = max(WATCH_MIN_S, min(hop.timeout_s, hop.total_timeout_s or math.inf) / 4)
        if every < self._watch_every:
            self._watch_every = every
            self._watch_at = min(self._watch_at, begun_at + every)

    def _active_of(self, source: Source) -> list[Transfer]:
        return [transfer for transfer in self._active.values() if transfer.source is source]

    def _release(self, transfer: Transfer) -> None:
        del self._active[transfer.curl]
        self._multi.remove_handle(transfer.curl)
        if not self._active:
            self._watch_at = self._watch_every = math.inf
        self._keep(transfer)

    def _keep(self, transfer: Transfer) -> None:
        if isinstance(transfer, StreamTransfer) or len(self._spare) >= SPARE_MAX:
            transfer.curl.close()
        else:
            self._spare.append(transfer)

    def _reap(self) -> None:
        left = 1
        while left:
            left, good, bad = self._multi.info_read()
            if not good and not bad:
                return
            now = monotonic()
            for curl in good:
                self._finish(self._active[curl], now, 0, "")
            for curl, code, text in bad:
                self._finish(self._active[curl], now, code, text)

    def _finish(self, transfer: Transfer, now: float, code: int, text: str) -> None:
        source, request, curl = transfer.source, transfer.request, transfer.curl
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        elapsed_s = now - transfer.started
        n_sent = transfer.n_sent()
        if code == 0 and status == 200:
            answer = Answer(request, 200, b"".join(transfer.body), None, elapsed_s, n_sent=n_sent)
        elif status in REDIRECTS and self._is_followed(transfer, code):
            self._follow(transfer, status)
            return
        elif code == 0:
            body = b"".join(transfer.body)
            retry_after, date = transfer.header(b"retry-after"), transfer.header(b"date")
            answer = Answer(request, status, body, retry_after, elapsed_s, date=date, n_sent=n_sent)
        elif transfer.decodes and errors.is_unknown_encoding(code, text):
            self._decodes = False
            self._release(transfer)
            self._start(source, request, transfer.redirects, transfer.started)
            return
        else:
            failure = transfer.flaw or errors.failure(code, text, was_connected=transfer.is_connected())
            if (redirects := transfer.redirects) is not None:
                if speaks_no_tls(failure) and redirects.fall_back():
                    self._release(transfer)
                    self._start(source, request, redirects, transfer.started)
                    return
                failure = redirects.reason_for(failure)
            answer = Answer(request, elapsed_s=elapsed_s, failure=failure, n_sent=n_sent)
        self._release(transfer)
        self._deliver(source, answer)

    @staticmethod
    def _is_followed(transfer: Transfer, code: int) -> bool:
        return transfer.is_redirect if isinstance(transfer, StreamTransfer) else code == 0

    def _follow(self, transfer: Transfer, status: int) -> None:
        source, request = transfer.source, transfer.request
        redirects = transfer.redirects or Redirects(request)
        failure = redirects.follow(status, transfer.location(), transfer.header_values(b"set-cookie"))
        self._release(transfer)
        if failure is not None:
            self._deliver(source, Answer(request, failure=failure))
        else:
            self._start(source, request, redirects, transfer.started)

    def _watch(self, now: float) -> None:
        self._watch_at = now + self._watch_every
        for transfer in tuple(self._active.values()):
            if transfer.is_overdue(now):
                message = "the whole took too long"
            elif transfer.is_stalled(now):
                message = f"no byte for {transfer.hop.timeout_s:g} s"
            else:
                continue
            failure = Failure(Reason.TIMEOUT, message)
            answer = Answer(transfer.request, elapsed_s=now - transfer.started, failure=failure)
            source = transfer.source
            self._release(transfer)
            self._deliver(source, answer)

    def _restart_deadlines(self, now: float, gap_s: float) -> None:
        for transfer in self._active.values():
            transfer.restart_deadlines(now, gap_s)
        self._watch_at = now + self._watch_every  # first of all, what came meanwhile is served

    def mark_ready(self, source: Source) -> None:
        """Notify `source` when the batch is flushed; in the thread."""
        self._dirty.add(source)
        self._n_unflushed += 1
        if source.is_urgent and not self._requests.has_urgent:
            self._flush_at = 0.0
        elif self._flush_at > (due_at := monotonic() + (URGENT_GATHER_S if source.is_urgent else GATHER_S)):
            self._flush_at = due_at

    def _deliver(self, source: Source, answer: Answer) -> None:
        if answer.status != 200 and answer.n_sent:
            self._requests.hold(source)
            self._flush_at = 0.0
        source.finished(answer)
        self.mark_ready(source)

    def _flush(self) -> None:
        self._n_unflushed = 0
        self._flush_at = math.inf
        if self._dirty:
            sources, self._dirty = self._dirty, set()
            for source in sources:
                source.flush()
                if source.is_closed:
                    self._drop(source)

    def _end(self, failure: Failure) -> None:
        for transfer in tuple(self._active.values()):
            source, request = transfer.source, transfer.request
            self._release(transfer)
            self._deliver(source, Answer(request, failure=failure))
        self._commands.is_over = True  # from here on a command is refused
        self._commands.run_all()
        for source, request in self._requests.clear():
            self._deliver(source, Answer(request, failure=failure))
        if self.error is not None:
            self._dirty.update(self._sources)  # also those whose request was in hand when it happened
        self._flush()
        for transfer in self._spare:
            transfer.curl.close()
        if self._multi is not None:
            self._multi.close()
        self._poller.close()
        self._commands.close()
        while self._settling:
            self._settling.pop()[1]()
        while self._at_end:
            self._at_end.popleft()()

    def _on_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """Watch a socket as libcurl asks."""
        if what in _NO_INTEREST:
            if self._poller.rest(fd):
                self._idle.add(fd)
        else:
            self._idle.discard(fd, is_same=self._poller.watch(fd, what))

    def _on_timer(self, timeout_ms: int) -> None:
        self._timer_at = math.inf if timeout_ms < 0 else monotonic() + timeout_ms / 1000
