"""Slots that several programs share, in virtual time: never more connections than slots, and each its part."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from trio.testing import MockClock

from psfharvest.core.model import Limits, RetryPolicy
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.slot_keeper import SlotKeeper
from psfharvest.filesystem.connection_slots import ConnectionSlots, MemoryLocks

N_SLOTS = 4


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time, which is trio's."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class SlowWire:
    """Opens the connections that it may at once, and takes half a second to close one."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.n_open = 0
        self._changed = changed

    def set_limit(self, connections: int) -> None:
        self.n_open = max(self.n_open, connections)
        self._changed()

    async def settle(self, connections: int) -> None:
        await anyio.sleep(0.5)
        self.n_open = min(self.n_open, connections)
        self._changed()


async def test_a_slot_is_given_to_another_once_its_connection_is_closed() -> None:
    """One alone has all; a second gets its part as fast as the first closes, and all when the first has ended."""
    n_open: list[int] = []
    wires: list[SlowWire] = []

    def changed() -> None:
        n_open.append(sum(wire.n_open for wire in wires))

    locks, policy = MemoryLocks(), RetryPolicy()
    wires += [SlowWire(changed), SlowWire(changed)]
    limiters = [ArchiveLimiter(Limits(max_connections=N_SLOTS), policy, is_public=False) for _ in wires]
    keepers = [
        SlotKeeper(ConnectionSlots(locks, N_SLOTS, clock=anyio.current_time), limiter, wire)
        for limiter, wire in zip(limiters, wires, strict=True)
    ]
    first, second = (limiter.share() for limiter in limiters)
    async with anyio.create_task_group() as group:
        for keeper in keepers:
            group.start_soon(keeper.run)
        first.n_waiting = N_SLOTS
        assert not first.allowance()  # which asks for slots
        await anyio.sleep(5)
        assert [N_SLOTS, 0] == [wire.n_open for wire in wires]
        second.n_waiting = N_SLOTS
        assert not second.allowance()
        await anyio.sleep(10)
        assert [N_SLOTS / 2] * 2 == [wire.n_open for wire in wires]
        first.n_waiting = 0
        await anyio.sleep(10)
        assert [0, N_SLOTS] == [wire.n_open for wire in wires]
        for keeper in keepers:
            await keeper.aclose()
    assert max(n_open) == N_SLOTS
