"""Checks of bodies that take too long for the event loop: one worker thread makes them, some at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

BATCH_MAX = 8
"""Checks in one go of the thread: a cancellation waits for the one that is being made."""

Body = TypeVar("Body")
Checked = TypeVar("Checked")


class LongChecks(Generic[Body, Checked]):
    """
    A queue of checks for a worker thread, and of their results.

    Parameters
    ----------
    check
        The check; it is called in the thread.
    """

    def __init__(self, check: Callable[[Body], Checked]) -> None:
        self._check = check
        self._waiting: deque[Body] = deque()
        self._checked: list[tuple[Body, Checked]] = []
        self._added = anyio.Event()
        self._error: Exception | None = None

    def add(self, body: Body) -> None:
        """Have a body checked; called within the event loop, as all else is."""
        self._waiting.append(body)
        self._added.set()

    def take(self) -> list[tuple[Body, Checked]]:
        """Return what has been checked since the last call; raise what a check has raised."""
        if self._error is not None:
            raise self._error
        taken, self._checked = self._checked, []
        return taken

    async def run(self, wake: Callable[[], None]) -> None:
        """Check what is added until cancelled, and call `wake` when there is something to take."""
        thread = anyio.CapacityLimiter(1)
        while True:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
                try:
                    checked = await anyio.to_thread.run_sync(self._check_all, batch, limiter=thread)
                except Exception as error:  # noqa: BLE001 - raised by `take`, without an exception group
                    self._error = error
                    wake()
                    return
                self._checked.extend(checked)  # meanwhile `take` may have put another list there
                wake()
            self._added = anyio.Event()
            await self._added.wait()

    def _check_all(self, batch: list[Body]) -> list[tuple[Body, Checked]]:
        checked = []
        for body in batch:
            anyio.from_thread.check_cancelled()
            checked.append((body, self._check(body)))
        return checked
