"""A head's messages to the scheduler and to the board there: each has a deadline, and no answer is None."""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.archive.endpoints import Endpoints
from psfharvest.cluster.board import Board
from psfharvest.cluster.local import OWN
from psfharvest.cluster.order import Order
from psfharvest.cluster.worker import Task, run_task
from psfharvest.core.errors import BadInput

CALL_S = 5.0
"""Deadline of one message."""
GONE_S = 30.0
"""A scheduler that has not answered for so long is gone."""
AGAIN_S = 0.05


@dataclass(slots=True)
class SchedulerLink:
    """
    Sends a harvest's tasks to the cluster's scheduler, and its questions to the board.

    Attributes
    ----------
    client
        A `distributed.Client`.
    archive, order
        Of the harvest.
    answered_at
        When the board has answered last (`time.monotonic`).
    """

    client: Any
    archive: Endpoints
    order: Order
    answered_at: float = field(default_factory=time.monotonic)

    @property
    def ceiling(self) -> int:
        """Connections for all workers together."""
        return self.order.limits.connections(is_public=self.archive.is_public)

    async def open_board(self) -> None:
        """
        Register the board, unless the scheduler has it; a busy one imports its module for seconds.

        Raises
        ------
        BadInput
            When the scheduler cannot import it.
        """
        is_first = str(getattr(self.client.cluster, "name", "")).startswith(OWN)
        words = "it does not answer"
        until = time.monotonic() + GONE_S
        while await self._ask([]) is None:
            if time.monotonic() > until:
                raise BadInput(f"the cluster's scheduler has no psfharvest ({words}): install it where that runs")
            try:
                await self._call(self.client.register_plugin, Board(is_first=is_first))
            except Exception as error:  # noqa: BLE001 - whatever the scheduler says to it
                words = repr(error)
                await anyio.sleep(AGAIN_S)

    async def look(self, tasks: Sequence[str]) -> dict[str, Any] | None:
        """Return what the board knows of the harvest (`Board.handle`), given the names of its tasks in flight."""
        seen = await self._ask(tasks)
        if seen is None and getattr(self.client, "status", "") == "running":  # a new scheduler has no board yet
            with suppress(Exception):
                await self._call(self.client.register_plugin, Board())
        return seen

    async def stop(self) -> None:
        """End the holders of the harvest's parts, wherever they run."""
        await self._say("stop", folder=self.order.prefix)

    def submit(self, task: Task) -> Any:
        """Submit a task under a new key: the cluster does not run a key again that it has a result for."""
        key = f"psfharvest-{task.name.rpartition('#')[2]}-{uuid.uuid4().hex[:12]}"
        return self.client.submit(run_task, task, key=key, pure=False)

    async def outcome(self, future: Any) -> Any:
        """Return the result of a task that has ended, or the exception that has ended it."""
        try:
            return await self._call(future.result if future.status == "finished" else future.exception)
        except Exception as error:  # noqa: BLE001 - whatever the cluster says instead of a result
            return error

    async def cancel(self, future: Any) -> None:
        """Cancel a task, unless it runs already."""
        with suppress(Exception):  # the scheduler may be gone: then there is nothing to cancel
            await self._call(future.cancel)

    async def _ask(self, tasks: Sequence[str]) -> dict[str, Any] | None:
        limits = {"ceiling": self.ceiling, "per_second": self.order.limits.max_per_second}
        answer = await self._say("look", folder=self.order.prefix, parts=list(tasks), **limits)
        if answer is not None:
            self.answered_at = time.monotonic()
        return answer

    async def _say(self, word: str, **said: Any) -> dict[str, Any] | None:
        try:
            board = self.client.scheduler.psfharvest_board
            answer = await self._call(board, word=word, archive=self.archive.root, **said)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return None
        return answer if isinstance(answer, dict) else None

    async def _call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a function of the client in the client's loop, as it likes it, within a deadline."""

        async def in_its_loop() -> Any:
            result = call(*args, **named)
            return await result if inspect.isawaitable(result) else result

        coming = asyncio.run_coroutine_threadsafe(in_its_loop(), self.client.loop.asyncio_loop)
        try:
            return await anyio.to_thread.run_sync(coming.result, CALL_S, abandon_on_cancel=True)
        finally:
            coming.cancel()
