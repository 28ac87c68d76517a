"""
One-shot wake-ups of single tasks, and the clock of the running event loop, without a look-up at each call.

`anyio.Event` and `anyio.current_time` find out at every call which library runs the loop. A thousand calls that
begin at once all take their first step in one turn of the loop, so there that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import anyio
import anyio.lowlevel


class Waiter(Protocol):
    """What one task awaits until another sets its result; an `asyncio.Future` is one."""

    def __await__(self) -> Generator[Any, Any, object]:
        """Wait for the result."""
        ...

    def done(self) -> bool:
        """Return True once it is set, or its task was cancelled."""
        ...

    def set_result(self, result: None, /) -> None:
        """Wake the task up; only while it is not done."""
        ...


class _EventWaiter:
    """The same for event loops that have no futures."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def __await__(self) -> Generator[Any, Any, object]:
        return self._event.wait().__await__()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _: None, /) -> None:
        self._event.set()


def waiter_maker() -> Callable[[], Waiter]:
    """Return what makes waiters for tasks of the running event loop."""
    maker: Callable[[], Waiter] = getattr(_native_loop(), "create_future", _EventWaiter)
    return maker


def loop_clock() -> Callable[[], float]:
    """Return the clock of the running event loop: what `anyio.current_time` would call."""
    clock: Callable[[], float] = getattr(_native_loop(), "time", anyio.current_time)
    return clock


def _native_loop() -> object:
    """Return asyncio's loop, or trio's token, which has none of a loop's methods."""
    return anyio.lowlevel.current_token().native_token
