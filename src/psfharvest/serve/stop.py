"""End of long waits and long work: when the client leaves, or the service ends."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from starlette.requests import Request

T = TypeVar("T")
LOOK_EVERY_S = 0.05


class ClientLeft(Exception):
    """Raised when nobody waits for an answer any more."""


class Stop:
    """Says that the service is ending; set once, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End all that waits or works for long."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the service is ending."""
        return self._event.is_set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the service ends."""
        ends_at_s = anyio.current_time() + seconds
        while not self.is_set() and anyio.current_time() < ends_at_s:  # noqa: ASYNC110 - set from any thread
            await anyio.sleep(LOOK_EVERY_S)


async def while_waited_for(
    request: Request,
    stop: Stop,
    work: Callable[[], Awaitable[T]],
    interrupt: Callable[[], None] = lambda: None,
) -> T:
    """
    Return what `work` returns; cancel it when the client leaves or the service ends.

    Parameters
    ----------
    request
        Whose client waits.
    stop
        Set when the service ends.
    work
        What takes long.
    interrupt
        Called repeatedly from then on until `work` has ended: what runs in a thread hears no cancellation.

    Raises
    ------
    ClientLeft
        When nobody waits any more.
    """
    task = _Task(work)
    async with anyio.create_task_group() as group:
        group.start_soon(task.run, group.cancel_scope)
        group.start_soon(_cancel_when_left, request, stop, task, group.cancel_scope, interrupt)
    if task.error is not None and not task.is_left:
        raise task.error
    if not task.result:
        raise ClientLeft
    return task.result[0]


class _Task(Generic[T]):
    """Work whose error is kept, without an exception group around it."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self.result: list[T] = []
        self.error: Exception | None = None
        self.is_over = False
        self.is_left = False

    async def run(self, scope: anyio.CancelScope) -> None:
        try:
            self.result.append(await self._work())
        except Exception as raised:  # noqa: BLE001 - raised by who waits for it
            self.error = raised
        finally:
            self.is_over = True
        scope.cancel()


async def _cancel_when_left(
    request: Request, stop: Stop, task: _Task[Any], scope: anyio.CancelScope, interrupt: Callable[[], None]
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_disconnected, request, group.cancel_scope)
        while not stop.is_set():
            await stop.pause(60.0)
        group.cancel_scope.cancel()
    task.is_left = True
    scope.cancel()
    with anyio.CancelScope(shield=True):
        while not task.is_over:
            interrupt()  # not once: it may have come between two statements
            await anyio.sleep(LOOK_EVERY_S)


async def _disconnected(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
