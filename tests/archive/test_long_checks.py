"""Checks in a worker thread: each body comes back once, whatever the order of adding and taking."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from psfharvest.archive.fetch.long_checks import BATCH_MAX, LongChecks

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("pause_s", [0.0, 0.0005, 0.003])
async def test_each_body_is_checked_once(pause_s: float) -> None:
    """Results are taken while others are being made: none is lost, none comes twice, all come from the thread."""
    loop_thread = threading.get_ident()

    def check(body: int) -> int:
        time.sleep(0.001)
        assert threading.get_ident() != loop_thread
        return -body

    def wake() -> None:
        woken[0].set()

    checks: LongChecks[int, int] = LongChecks(check)
    woken = [anyio.Event()]
    taken: list[tuple[int, int]] = []
    n = 5 * BATCH_MAX + 1
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(checks.run, wake)
            for body in range(n):
                checks.add(body)
                await anyio.sleep(pause_s)
                taken += checks.take()
            while len(taken) < n:
                await woken[0].wait()
                woken[0] = anyio.Event()
                taken += checks.take()
            group.cancel_scope.cancel()

    assert [(body, -body) for body in range(n)] == taken
    assert [] == checks.take()


async def test_what_a_check_raises_comes_from_take() -> None:
    """An error of ours reaches who takes the results, as it is, and not as an exception group."""

    def check(body: int) -> float:
        return 1 / body

    checks: LongChecks[int, float] = LongChecks(check)
    woken = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(checks.run, woken.set)
            checks.add(0)
            await woken.wait()
            group.cancel_scope.cancel()

    with pytest.raises(ZeroDivisionError):
        checks.take()
