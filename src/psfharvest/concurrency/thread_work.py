"""
Work in a worker thread that is not left before its end, however often the waiting task is cancelled.

anyio's shields hold back cancellations by its own scopes. Those of asyncio itself (`asyncio.wait_for`, a task's
``cancel``) pass through them, also while a thread is at work: it would go on alone, beside whatever closes the
files that it writes, and after the lock of the folder was released.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.to_thread

LOOK_S = 0.005
"""How often it is looked whether a thread has ended whose task was cancelled meanwhile."""

T = TypeVar("T")


async def to_its_end(work: Callable[[], T], limiter: anyio.CapacityLimiter | None = None) -> T:
    """
    Return what `work` returns in a worker thread; a cancellation is raised before it begins, or once it has ended.

    Parameters
    ----------
    work
        What to do.
    limiter
        Held until it has ended; None: anyio's own.
    """
    turn = threading.Lock()
    over = threading.Event()

    results: list[T] = []

    def begin() -> None:
        if turn.acquire(blocking=False):  # else its task was cancelled before
            try:
                results.append(work())
            finally:
                over.set()

    async with limiter or anyio.to_thread.current_default_thread_limiter():
        try:
            await anyio.to_thread.run_sync(begin, limiter=anyio.CapacityLimiter(1))
        except anyio.get_cancelled_exc_class():
            has_begun = not turn.acquire(blocking=False)
            while has_begun and not over.is_set():
                with suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
                    await anyio.sleep(LOOK_S)
            raise
    return results[0]


async def in_any_case(work: Callable[[], object]) -> None:
    """Do `work` in a worker thread, also for a task that is cancelled: that is raised once the work has ended."""
    has_begun = False

    def begin() -> None:
        nonlocal has_begun
        has_begun = True
        work()

    cancellation: BaseException | None = None
    while not has_begun:
        try:
            with anyio.CancelScope(shield=True):
                await to_its_end(begin)
        except anyio.get_cancelled_exc_class() as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
