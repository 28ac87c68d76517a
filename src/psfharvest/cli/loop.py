"""
Run asynchronous work from the command line, and end it on a signal.

The first SIGINT, SIGTERM or SIGHUP cancels the work, which keeps what is claimed; a second one ends the process
at once, which loses nothing that was claimed either. One that came while the loop was busy, so that the work was
over before the loop heard it, counts as well: more may follow after the loop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from psfharvest.cli import interrupts
from psfharvest.core.exit_status import BY_STOP, ExitStatus
from psfharvest.filesystem import open_limit

T = TypeVar("T")
ROUNDS_TO_HEAR = 5
"""Rounds of the event loop in which a signal that has come reaches the task that watches: it takes four."""
_WORDS = {status: word for word, status in BY_STOP.items()}


class Interrupted(SystemExit):
    """Raised when a signal ended the work; nothing need catch it, since it has the exit status."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.word = _WORDS[ExitStatus(128 + signum)]


def run(work: Callable[[], Awaitable[T]], *, is_final: bool = False) -> T:
    """
    Run `work` in an event loop of its own and return what it returns.

    Parameters
    ----------
    work
        What is to be done.
    is_final
        Whether all is done once the work is: a signal then cannot take its result back.

    Raises
    ------
    Interrupted
        When a signal ended it.
    LocalError
        When too few files may be opened.
    """
    open_limit.require(open_limit.NEEDED + open_limit.NEEDED_FOR_LOOP)
    try:
        with interrupts.handlers_kept(), interrupts.held_back() as let_through:
            return anyio.run(_supervise, work, is_final, let_through)
    except KeyboardInterrupt as error:
        raise Interrupted(interrupts.number(error)) from None


def _signals() -> list[signal.Signals]:
    """Return the signals that end the work; a hang-up that the caller has ignored (nohup) stays ignored."""
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    return ends


async def _supervise(work: Callable[[], Awaitable[T]], is_final: bool, let_through: Callable[[], None]) -> T:
    result: list[T] = []
    error: list[Exception] = []
    caught: list[int] = []
    async with anyio.create_task_group() as outer:
        with anyio.CancelScope() as scope:
            if os.name == "posix":
                await outer.start(_watch, scope, caught, let_through)
            try:
                result.append(await work())
            except Exception as raised:  # noqa: BLE001 - raised again below, without an exception group
                error.append(raised)
        for _ in range(ROUNDS_TO_HEAR):
            await anyio.lowlevel.checkpoint()
        outer.cancel_scope.cancel()
    if caught and not (result and is_final):
        raise Interrupted(caught[0])
    if error:
        raise error[0]
    return result[0]


async def _watch(
    scope: anyio.CancelScope, caught: list[int], let_through: Callable[[], None], *, task_status: TaskStatus[None]
) -> None:
    """Cancel the work on the first signal, and note it; end the process on the second."""
    with anyio.open_signal_receiver(*_signals()) as signals:
        let_through()
        task_status.started()
        async for signum in signals:
            if caught:
                os._exit(128 + signum)
            caught.append(signum)
            scope.cancel()
