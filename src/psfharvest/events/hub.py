"""
Delivery of events to listeners, in the event loop that they come from.

One hub belongs to an archive; a voice to a user of it: a run, or what belongs to none. What concerns the archive as
a whole (its outages, its ceiling) has no voice, and every run's listener gets it with the run's own number.
"""

from __future__ import annotations

import inspect
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import anyio

from psfharvest.core import ranges
from psfharvest.core.errors import BadInput
from psfharvest.events.model import Event

Listener = Callable[[Event], object]
STREAM_MAX = 10_000
"""Events that an event stream holds for its reader, by default."""

_log = logging.getLogger("psfharvest.archive")
logging.getLogger("psfharvest").addHandler(logging.NullHandler())


class EventStream:
    """
    Events as they come, for an ``async for`` loop; it ends when the archive is closed.

    A reader that is too slow loses the oldest events.

    Parameters
    ----------
    size
        Events that are held for the reader.
    require
        Called before each wait for an event; raises where the reader may not wait, as in another event loop.

    Attributes
    ----------
    dropped
        How many events the reader has lost.
    """

    def __init__(self, size: int = STREAM_MAX, require: Callable[[], None] = lambda: None) -> None:
        ranges.EVENTS.check("size", size)
        self._require = require
        self.dropped = 0
        self._events: deque[Event] = deque()
        self._size = size
        self._is_over = False
        self._news: anyio.Event | None = None
        """What its readers wait for, one or several tasks."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_over:
                raise StopAsyncIteration
            self._require()
            if self._news is None or self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        """End it; what was not read is still given."""
        self.end()

    def put(self, event: Event) -> None:
        """Take in one event."""
        if self._is_over:
            return
        if len(self._events) >= self._size:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._notify()

    def end(self) -> None:
        """Take in no more."""
        self._is_over = True
        self._notify()

    def _notify(self) -> None:
        if self._news is not None:
            self._news.set()


class Hub:
    """
    The listeners of one archive.

    Parameters
    ----------
    listeners
        Called with every event, in the event loop: they must not block.

    Raises
    ------
    BadInput
        When a listener cannot be called, or is a coroutine function.
    """

    def __init__(self, *listeners: Listener | None) -> None:
        self._listeners = [checked(listener) for listener in listeners if listener is not None]
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._runs: list[Voice] = []
        self._is_closed = False
        self.now = time.time

    def also(self, listener: Listener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def voice(self, run: int = 0, listener: Listener | None = None) -> Voice:
        """Return the voice of a user; to be closed by it when it has a run or a listener."""
        voice = Voice(self, run, listener)
        if run or listener is not None:
            self._runs.append(voice)
        return voice

    def join(self, voice: Voice) -> None:
        """Let a voice have the events that concern the whole archive."""
        if voice not in self._runs:
            self._runs.append(voice)

    def stream(self, size: int = STREAM_MAX, require: Callable[[], None] = lambda: None) -> EventStream:
        """Return all events from now on, as a stream; it is forgotten when its reader forgets it."""
        stream = EventStream(size, require)
        if self._is_closed:
            stream.end()
        else:
            self._streams.add(stream)
        return stream

    def emit(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event that concerns the archive as a whole."""
        at = self.now()
        for voice in tuple(self._runs):
            voice.tell_own(kind(at, voice.run, **fields))
        run = self._runs[0].run if len(self._runs) == 1 else 0
        self.publish(kind(at, run, **fields))

    def publish(self, event: Event) -> None:
        """Give an event to the listeners of the archive."""
        deliver_to(self._listeners, event)
        if self._streams:
            for stream in tuple(self._streams):
                stream.put(event)

    def leave(self, voice: Voice) -> None:
        """Forget a voice."""
        if voice in self._runs:
            self._runs.remove(voice)

    def open(self) -> None:
        """Let streams be made again after `close`."""
        self._is_closed = False

    def close(self) -> None:
        """End all streams, those that are made from now on included."""
        self._is_closed = True
        for stream in tuple(self._streams):
            stream.end()
        self._streams.clear()


class Voice:
    """
    One user's way to the listeners: the archive's, and its own.

    Parameters
    ----------
    hub
        The archive's.
    run
        Number of the run, or 0.
    listener
        Gets the events of this user, and those that concern the whole archive.
    """

    def __init__(self, hub: Hub, run: int = 0, listener: Listener | None = None) -> None:
        self._hub = hub
        self.run = run
        self._listeners = [] if listener is None else [checked(listener)]

    def also(self, listener: Listener) -> None:
        """Add a listener of this user's."""
        self._listeners.append(listener)

    def begin(self, run: int) -> None:
        """Take the number of a run that begins now."""
        self.run = run
        self._hub.join(self)

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._hub.now()

    def emit(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event of this user."""
        event = kind(self._hub.now(), self.run, **fields)
        self.tell_own(event)
        self._hub.publish(event)

    def tell_own(self, event: Event) -> None:
        """Give an event to this user's listeners only."""
        deliver_to(self._listeners, event)

    def close(self) -> None:
        """End it: nothing more comes."""
        self._hub.leave(self)


def checked(listener: Listener) -> Listener:
    """Return a listener that can be called where events come from, or raise `BadInput`."""
    call = listener if inspect.isroutine(listener) else getattr(listener, "__call__", None)  # noqa: B004
    if not callable(listener):
        raise BadInput(f"events={listener!r}: a function that takes one event is allowed")
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(call):
        raise BadInput(
            "events= takes a plain function, which is called in the event loop and must not wait; "
            "in async code, read 'async for event in archive.events()'"
        )
    return listener


def deliver_to(listeners: list[Listener], event: Event) -> None:
    """Give an event to listeners; one that fails leaves the list, if an event of its own call has not done so."""
    for listener in tuple(listeners):
        if not deliver(listener, event) and listener in listeners:
            listeners.remove(listener)


def deliver(listener: Listener, event: Event) -> bool:
    """Give an event to a listener; return False, and log why, when it failed, or gave what nobody awaits."""
    try:
        given = listener(event)
    except Exception:  # noqa: BLE001 - the caller's own code
        _log.exception("an event listener failed and gets no more events: %r", listener)
        return False
    if not inspect.iscoroutine(given):
        return True
    given.close()
    _log.error("an event listener gave a coroutine, which nobody awaits, and gets no more events: %r", listener)
    return False
