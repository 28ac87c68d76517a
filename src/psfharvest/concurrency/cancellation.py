"""Distinguish a cancellation of the running task from one that awaited code has raised itself."""

from __future__ import annotations

import math

import anyio


def is_error(error: BaseException) -> bool:
    """
    Return True for an `Exception`, and for a cancellation's error that no cancelled scope around the task explains.

    Under asyncio, a caller's code raises that error when it awaits a task or future of its own that was cancelled.
    A task group takes any such error for its own work: the task that met it would end without a word.
    """
    if isinstance(error, Exception):
        return True
    is_cancellation = isinstance(error, anyio.get_cancelled_exc_class())
    return is_cancellation and anyio.current_effective_deadline() != -math.inf
