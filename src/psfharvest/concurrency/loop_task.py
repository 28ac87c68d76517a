"""
Tasks that belong to the event loop, not to the task that starts them.

A request that is connecting must not be cancelled: httpx's pool keeps the slot of such a request for ever (httpcore
issue 1093). A task group would pass its caller's cancellation on; these tasks are ended by their owner only.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

import anyio
import anyio.lowlevel

_RUNNING: set[Any] = set()
"""asyncio holds its tasks weakly."""


def start_in_loop(run: Callable[[], Coroutine[Any, Any, None]], name: str, context: Context | None = None) -> None:
    """
    Start a task in the running event loop; neither it nor the caller raises in the other.

    Parameters
    ----------
    run
        Must catch its own exceptions, and be ended by its owner.
    name
        For debuggers.
    context
        Its context variables; None: a copy of the caller's.
    """
    token: Any = anyio.lowlevel.current_token().native_token
    if hasattr(token, "create_task"):  # an asyncio loop; else it is trio's token
        _start_in_asyncio(token, run, name, context or copy_context())
    else:
        import trio  # noqa: PLC0415 - running already

        trio.lowlevel.spawn_system_task(run, name=name, context=context or copy_context())


def call_later(seconds: float, do: Callable[[], object], name: str) -> None:
    """Call a function after some time, unless the loop ends before; under asyncio no task stays behind for that."""
    token: Any = anyio.lowlevel.current_token().native_token
    if hasattr(token, "call_later"):
        token.call_later(seconds, do)
        return

    async def wait() -> None:
        await anyio.sleep(seconds)
        do()

    start_in_loop(wait, name)


async def finish_in_loop(run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """
    Run in a task of the loop's own, and wait for its end, however often the waiting task is cancelled.

    asyncio's own cancellations pass through anyio's shields: what is being closed would be left half open. Such a
    cancellation is raised here, but afterwards; so is what `run` raises.
    """
    ended = anyio.Event()
    raised: list[BaseException] = []

    async def guarded() -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - raised below
            raised.append(error)
        finally:
            ended.set()

    start_in_loop(guarded, name)
    while not ended.is_set():
        try:
            with anyio.CancelScope(shield=True):
                await ended.wait()
        except anyio.get_cancelled_exc_class() as cancellation:
            raised.append(cancellation)
    if raised:
        raise raised[-1]


def _start_in_asyncio(loop: Any, run: Callable[[], Coroutine[Any, Any, None]], name: str, context: Context) -> None:
    """
    Start a task that runs also where it is cancelled before its first line.

    `asyncio.run` cancels all tasks at its end: one that has not begun ends without a word, and its owner, who waits
    for its end, would wait for ever.
    """
    has_begun = False

    async def begin() -> None:
        nonlocal has_begun
        has_begun = True
        await run()

    def end(task: Any) -> None:
        _RUNNING.discard(task)
        if not has_begun and not loop.is_closed():
            _start_in_asyncio(loop, run, name, context)

    task = loop.create_task(begin(), name=name, context=context)
    _RUNNING.add(task)
    task.add_done_callback(end)
