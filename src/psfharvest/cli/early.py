"""Say within two seconds that an archive does not answer, and why, while a command waits for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

from psfharvest.cli.output import say
from psfharvest.show.durations import clock, time_of_day

if TYPE_CHECKING:
    from psfharvest.client import Archive

FIRST_S = 2.0
AGAIN_S = 1.5
"""A sentence that still holds is confirmed after that, at the next look: nothing is silent for more than 2 s."""
LOOK_S = 0.5
T = TypeVar("T")


async def speaking(
    archive: Archive,
    work: Callable[[], Awaitable[T]],
    patience_s: float,
    *,
    is_heard: Callable[[], bool] = lambda: False,
) -> T:
    """
    Return what `work` returns; until then, say on standard error when the archive does not answer.

    Parameters
    ----------
    archive
        Open, or opened by `work`.
    work
        What waits for the archive.
    patience_s
        How long it is waited for.
    is_heard
        Whether an outage is shown in another way by now, as by a harvest's progress.
    """
    result: list[T] = []
    error: list[Exception] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_speak, archive, patience_s, is_heard)
        try:
            result.append(await work())
        except Exception as raised:  # noqa: BLE001 - raised below, without an exception group
            error.append(raised)
        group.cancel_scope.cancel()
    if result:
        return result[0]
    raise error[0]


async def _speak(archive: Archive, patience_s: float, is_heard: Callable[[], bool]) -> None:
    now_s, began = time.time(), time.monotonic()
    until = time_of_day(now_s + patience_s, now_s)
    await anyio.sleep(FIRST_S)
    said, said_at = "", began
    while not is_heard():
        sentence = _sentence(archive, until)
        if sentence and (sentence != said or time.monotonic() - said_at >= AGAIN_S):
            say(f"still waiting, for {clock(time.monotonic() - began)} by now" if sentence == said else sentence)
            said, said_at = sentence, time.monotonic()
        await anyio.sleep(LOOK_S)


def _sentence(archive: Archive, until: str) -> str:
    """Return what is to be said of an archive now, or nothing."""
    where, outage = archive.endpoints.root, archive.outage
    if outage:
        return f"cannot reach {where} ({outage}); trying until {until}"
    return "" if archive.has_answered else f"no answer from {where} yet; waiting until {until}"
