"""Executor of all work on the disk: one worker thread at a time, never the event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

import anyio

from psfharvest.concurrency.thread_work import in_any_case, to_its_end
from psfharvest.filesystem.failures import refused_as_sink_error

P = ParamSpec("P")
T = TypeVar("T")


class Disk:
    """
    The way to the disk: one piece of work after the other.

    Parameters
    ----------
    guard
        Called before each piece; an error that it raises is raised in its place.
    """

    def __init__(self, guard: Callable[[], None] | None = None) -> None:
        self._guard = guard
        self._one = anyio.CapacityLimiter(1)
        self.busy_s = 0.0
        """Seconds spent at work so far."""

    async def do(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """
        Return what `work` returns; a piece that was begun is ended, whatever happens.

        Raises
        ------
        SinkError
            In place of an error of the operating system that `work` raises.
        """

        def timed() -> T:
            began_at = time.perf_counter()
            try:
                if self._guard is not None:
                    self._guard()
                return _translated(work, *args, **named)
            finally:
                self.busy_s += time.perf_counter() - began_at

        return await to_its_end(timed, self._one)


@asynccontextmanager
async def in_threads(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context off the event loop: closing a folder may take the disk a while."""
    stack = ExitStack()
    try:
        yield await in_thread(stack.enter_context, context)
    except BaseException as error:  # also a cancellation while it was entered
        await in_any_case(partial(_translated, stack.__exit__, type(error), error, error.__traceback__))
        raise
    await in_any_case(partial(_translated, stack.close))


async def in_thread(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what `work` returns, off the event loop; raises as `Disk.do` does."""
    return await to_its_end(lambda: _translated(work, *args, **named))


def _translated(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    with refused_as_sink_error():
        return work(*args, **named)
