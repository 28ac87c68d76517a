"""
Work that goes on beside a caller's code, in a task of the event loop's.

A task group around a caller's code holds a cancel scope open in the caller's task. Where that code is a generator
that is left in the middle, another task closes it: asyncio then cancelled the caller's own task, and anyio raised
that a scope is left in a task that did not enter it. What the caller raises came out in an exception group, where
it is no `Exception`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Self

import anyio

from psfharvest.concurrency.loop_task import start_in_loop


class Companion:
    """
    Works for as long as a context is entered; any task of the same event loop may leave it.

    Parameters
    ----------
    works
        What to do, at the same time; each must raise nothing but cancellation.
    name
        For debuggers.
    """

    def __init__(self, *works: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._works = works
        self._name = name
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    async def __aenter__(self) -> Self:
        start_in_loop(self._run, self._name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._scope.cancel()
        cancellation: BaseException | None = None
        while not self._ended.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await self._ended.wait()
            except anyio.get_cancelled_exc_class() as error:  # asyncio's own passes through shields
                cancellation = error
        if cancellation is not None:
            raise cancellation

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for work in self._works:
                        group.start_soon(work)
        finally:
            self._ended.set()
