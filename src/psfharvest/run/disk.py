"""All that touches the disk runs in one worker thread at a time, and never in the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

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

        def translated() -> T:
            began_at = time.perf_counter()
            try:
                if self._guard is not None:
                    self._guard()
                with refused_as_sink_error():
                    return work(*args, **named)
            finally:
                self.busy_s += time.perf_counter() - began_at

        return await anyio.to_thread.run_sync(translated, limiter=self._one)
