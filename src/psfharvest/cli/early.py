"""Say within two seconds that an archive does not answer, and why, while a command waits for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

from psfharvest.cli.output import say
from psfharvest.show.durations import time_of_day

if TYPE_CHECKING:
    from psfharvest.client import Archive

FIRST_S = 2.0
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
    began_s = time.time()
    until = time_of_day(began_s + patience_s, began_s)
    where = archive.endpoints.root
    await anyio.sleep(FIRST_S)
    said = ""
    while not is_heard():
        outage = archive.outage
        if outage and outage != said:
            say(f"cannot reach {where} ({outage}); trying until {until}")
            said = outage
        elif not outage and not said and not archive.has_answered:
            say(f"no answer from {where} yet; waiting until {until}")
            said = "no answer"
        await anyio.sleep(LOOK_S)
