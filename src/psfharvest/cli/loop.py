"""
Run asynchronous work from the command line, and end it on a signal.

The first SIGINT, SIGTERM or SIGHUP cancels the work, which keeps what is claimed; a second one ends the process
at once, which loses nothing that was claimed either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from psfharvest.core.exit_status import BY_STOP, ExitStatus
from psfharvest.filesystem import open_limit

T = TypeVar("T")
_WORDS = {status: word for word, status in BY_STOP.items()}


class Interrupted(SystemExit):
    """Raised when a signal ended the work; nothing need catch it, since it has the exit status."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.word = _WORDS[ExitStatus(128 + signum)]


def run(work: Callable[[], Awaitable[T]]) -> T:
    """
    Run `work` in an event loop of its own and return what it returns.

    Raises
    ------
    Interrupted
        When a signal ended it.
    LocalError
        When too few files may be opened.
    """
    open_limit.require(open_limit.NEEDED + open_limit.NEEDED_FOR_LOOP)
    try:
        return anyio.run(_supervise, work)
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None


def _signals() -> list[signal.Signals]:
    """Return the signals that end the work; a hang-up that the caller has ignored (nohup) stays ignored."""
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    return ends


async def _supervise(work: Callable[[], Awaitable[T]]) -> T:
    result: list[T] = []
    error: list[Exception] = []
    caught: list[int] = []

    async def watch(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(*_signals()) as signals:
            async for signum in signals:
                if caught:
                    os._exit(128 + signum)
                caught.append(signum)
                scope.cancel()

    async with anyio.create_task_group() as outer:
        with anyio.CancelScope() as scope:
            if os.name == "posix":
                outer.start_soon(watch, scope)
            try:
                result.append(await work())
            except Exception as raised:  # noqa: BLE001 - raised again below, without an exception group
                error.append(raised)
        outer.cancel_scope.cancel()
    if result and not error:
        return result[0]
    if caught:
        raise Interrupted(caught[0])
    raise error[0]
