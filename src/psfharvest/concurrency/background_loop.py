"""
An event loop in a thread of its own, and work in it that an interrupt can reach.

The calling thread waits in short timed waits, so that KeyboardInterrupt is delivered: an interrupt cancels the
work, gives it a moment to keep what it has, and is raised. No wait after an interrupt is longer than that moment,
however busy the loop is. The thread ends with its owner, or with the main thread, and delays neither.
"""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import anyio
import anyio.lowlevel
from anyio.from_thread import BlockingPortal

from psfharvest.concurrency.threaded_iterator import Carried
from psfharvest.core.errors import BadInput

GRACE_S = 0.25
"""What an interrupt waits for the work to end; with a notebook's traceback that makes less than half a second."""
LOOK_S = 0.2
"""How often a wait looks up: where locks are deaf to signals (Windows), and for the end of the main thread."""

T = TypeVar("T")
Work = Callable[[Callable[[Any], None]], Coroutine[Any, Any, T]]
"""What can be done in the background; it is given `Call.send`."""
END = object()
"""The last message of every piece of work."""


class _Ways(NamedTuple):
    """The ways into a loop from other threads."""

    portal: BlockingPortal
    call_soon: Callable[..., Any]
    """Never waits, however busy the loop is."""
    leave: Callable[[], None]
    """To be called in the loop: ends it."""


class Background:
    """
    An event loop in a daemon thread, within the context of one resource.

    Parameters
    ----------
    resource
        Entered in the loop before any work, left after all of it.

    Raises
    ------
    Exception
        Whatever entering the resource raises.
    """

    def __init__(self, resource: AbstractAsyncContextManager[Any]) -> None:
        self._stop = threading.Event()
        ready: Future[_Ways] = Future()
        self._thread = threading.Thread(
            # a context of its own: a loop that runs in the caller's thread must not be taken for this one's
            target=contextvars.Context().run,
            args=(_run, resource, self._stop, ready),
            name="psfharvest-blocking",
            daemon=True,
        )
        self._finalizer = weakref.finalize(self, _end, self._stop, ready)
        self._thread.start()
        try:
            while not ready.done():
                wait([ready], LOOK_S)
            self._ways = ready.result()
        except BaseException:
            self._stop.set()
            raise

    def begin(self, work: Work[T]) -> Call[T]:
        """Return a piece of work, not yet started; `Call.start` does that."""
        return Call(self._ways, work)

    def end(self) -> None:
        """End all work and the thread, and wait a moment for it; harmless when it has ended."""
        self._finalizer()
        if threading.current_thread() is not self._thread:
            self._thread.join(GRACE_S)


class Call(Generic[T]):
    """One piece of work in a `Background`."""

    def __init__(self, ways: _Ways, work: Work[T]) -> None:
        self._ways = ways
        self._work = work
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._ended = threading.Event()
        self._is_unwanted = False
        self._scope: anyio.CancelScope | None = None
        self._result: list[T] = []
        self._error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it goes on."""
        return self._ended.is_set()

    def start(self) -> None:
        """
        Start the work.

        Raises
        ------
        BadInput
            When the background has ended, as with the main thread.
        """
        try:
            self._ways.portal.start_task_soon(self._run)
        except RuntimeError as error:
            raise _over("this Archive is closed; open a new one") from error

    def send(self, message: Any) -> None:
        """Pass a message to the waiting thread; called in the loop."""
        self._inbox.put(message)

    def take(self) -> Any:
        """Return the next message of `send`, waiting for it; `END` after the last one."""
        while True:
            with suppress(Empty):
                return self._inbox.get(timeout=LOOK_S)

    def call_soon(self, do: Callable[..., Any], *args: Any) -> None:
        """Have something done in the loop; does not wait."""
        with suppress(RuntimeError):  # the loop is gone
            self._ways.call_soon(do, *args)

    def run(self, hear: Callable[[Any], None] | None = None) -> T:
        """
        Start the work, wait for its end, and return its result.

        Parameters
        ----------
        hear
            Called here, in the waiting thread, with the newest message of `send`.

        Raises
        ------
        BaseException
            What the work raised; or what interrupted the wait, after the work was cancelled.
        """
        with self.or_cancel():
            self.start()
            while (message := self._newest()) is not END:
                if hear is not None:
                    hear(message)
        return self.result()

    @contextmanager
    def or_cancel(self) -> Iterator[None]:
        """Cancel the work when the block does not end well, and give it a moment."""
        try:
            yield
        except BaseException:
            self.cancel()
            self._ended.wait(GRACE_S)
            raise

    def result(self) -> T:
        """
        Return the result of work that has ended.

        Raises
        ------
        BaseException
            What the work raised.
        BadInput
            When it was cancelled.
        """
        if isinstance(self._error, Carried):
            raise self._error.error
        if self._error is not None:
            raise self._error
        if not self._result:
            raise _over("this Archive was closed while it was at work")
        return self._result[0]

    def cancel(self) -> None:
        """Ask the work to end; does not wait."""
        self._is_unwanted = True
        self.call_soon(self._cancel_here)

    def wait(self, timeout_s: float) -> None:
        """Wait for the end, but not longer."""
        self._ended.wait(timeout_s)

    def _newest(self) -> Any:
        """Return the newest message; the last one before `END`, too, which comes with the next call."""
        message = self.take()
        while message is not END and not self._inbox.empty():
            following = self._inbox.get()
            if following is END:
                self._inbox.put(END)
                break
            message = following
        return message

    def _cancel_here(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if self._is_unwanted:
                    self._scope.cancel()
                self._result.append(await self._work(self.send))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            self._ended.set()
            self._inbox.put(END)


def _over(words: str) -> BadInput:
    """Return the error of work whose background has ended, by its owner or with the main thread."""
    if threading.main_thread().is_alive():
        return BadInput(words)
    return BadInput("the program's main thread has ended, and every Archive with it: join this thread in it")


def _run(resource: AbstractAsyncContextManager[Any], stop: threading.Event, ready: Future[_Ways]) -> None:
    try:
        anyio.run(_live, resource, stop, ready)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _live(resource: AbstractAsyncContextManager[Any], stop: threading.Event, ready: Future[_Ways]) -> None:
    over = anyio.Event()
    call_soon = anyio.lowlevel.current_token().native_token.call_soon_threadsafe  # type: ignore[attr-defined]
    async with resource, BlockingPortal() as portal:
        ready.set_result(_Ways(portal, call_soon, over.set))
        # idle worker threads would keep the interpreter from ending: the main thread's end is this one's, too
        while not (over.is_set() or stop.is_set()) and threading.main_thread().is_alive():
            with anyio.move_on_after(LOOK_S):
                await over.wait()
        await portal.stop(cancel_remaining=True)


def _end(stop: threading.Event, ready: Future[_Ways]) -> None:
    """Stop the loop; called where the last reference is dropped, so it does not wait."""
    stop.set()
    if ready.done() and not ready.exception():
        with suppress(RuntimeError):  # it has ended
            ready.result().call_soon(ready.result().leave)
