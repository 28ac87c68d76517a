"""Keeps the connections of one archive within the slots that all processes of a user share."""

from __future__ import annotations

import logging
from typing import Protocol

import anyio

from psfharvest.engine.archive_limiter import ArchiveLimiter

TICK_S = 0.25
"""How often it is looked whether somebody else lacks a connection."""
AGAIN_S = 0.05
"""How soon slots that others hold are tried again."""
KEEP_S = 2.0
"""For how long an unused connection is kept: the next request may need it."""
CLOSING_S = 0.1
"""For how long a connection that was closed here still counts: a busy server notices its end a moment later."""
BETWEEN_S = 0.4
"""Time between two closings while others are in use: after many at once libcurl opens fresh ones all the time."""
ORPHANED_S = 1.0
"""For how long the archive may still be at work for a process that died."""
SAY_S = 2.0
"""After so long without a single slot it is said that others have them all."""

_LOGGER = logging.getLogger("psfharvest.archive")


class Slots(Protocol):
    """The slots, as one user sees them."""

    @property
    def n(self) -> int:
        """How many there are."""
        ...

    @property
    def held(self) -> int:
        """How many of them this user has."""
        ...

    @property
    def note(self) -> str:
        """What is to be said of how they are counted."""
        ...

    def take(self, n: int) -> tuple[int, bool]:
        """Hold up to `n` more; return how many more are held, and whether one was left by a process that died."""
        ...

    def give_back(self, n: int) -> None:
        """Release `n` of those held."""
        ...

    def poll(self) -> tuple[int, bool]:
        """Return how many other users there are, and whether one has less than its fair part."""
        ...

    def set_short(self, *, is_short: bool) -> None:
        """Tell the others whether less than the fair part is held."""
        ...

    def leave(self) -> None:
        """Release everything."""
        ...


class Connections(Protocol):
    """What opens connections, within a limit."""

    def set_limit(self, connections: int) -> None:
        """Use at most so many from now on."""
        ...

    async def settle(self, connections: int) -> None:
        """Use at most so many from now on; return once no more are open."""
        ...


class SlotKeeper:
    """
    Takes a slot before a connection may be opened, and releases it after one was closed.

    It holds as many as are needed; while another user has less than its fair part, no more than its own fair part.

    Parameters
    ----------
    slots
        The slots.
    limiter
        States how many are needed, and receives how many there are.
    wire
        Opens the connections.
    """

    def __init__(self, slots: Slots, limiter: ArchiveLimiter, wire: Connections) -> None:
        self._slots = slots
        self._limiter = limiter
        self._wire = wire
        self._asked = anyio.Event()
        self._ended = anyio.Event()
        self._is_closed = False
        self._is_trying = False
        self._enough_since: float | None = None
        self._none_since: float | None = None
        limiter.ask = self._request_adjustment
        limiter.set_slots(0)
        wire.set_limit(0)
        if slots.note:
            _LOGGER.warning("%s", slots.note)

    async def run(self) -> None:
        """Keep slots until `aclose`."""
        try:
            while not self._is_closed:
                self._asked = anyio.Event()
                pause_s = await self._adjust()
                self._is_trying = pause_s == AGAIN_S
                with anyio.move_on_after(pause_s):
                    await self._asked.wait()
        except Exception as error:  # noqa: BLE001 - raised to all who wait for a connection
            self._limiter.close(error)
        finally:
            self._ended.set()

    async def aclose(self) -> None:
        """Release all slots; no connection may be open any more."""
        self._is_closed = True
        self._asked.set()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        self._slots.leave()

    def _request_adjustment(self) -> None:
        """Look again: somebody waits for a connection. While slots are tried for, the next try comes by itself."""
        if not self._is_trying:
            self._asked.set()

    async def _adjust(self) -> float | None:
        """Take or release slots, and return in how many seconds to look again; None: when somebody asks."""
        slots, now = self._slots, anyio.current_time()
        wanted = self._kept(self._limiter.connections_wanted, now)
        if not wanted and not slots.held:
            slots.leave()
            self._note_lack(now, is_lacking=False)
            return None
        n_others, is_one_short = slots.poll()
        fair = max(1, slots.n // (n_others + 1))
        target = min(wanted, fair) if is_one_short else wanted
        if slots.held > target:
            await self._release_one(CLOSING_S if not wanted else BETWEEN_S)
        elif slots.held < target:
            await self._grow(target)
        self._apply()
        slots.set_short(is_short=slots.held < min(wanted, fair))
        self._note_lack(now, is_lacking=not slots.held)
        if slots.held == target:
            return TICK_S
        return AGAIN_S if slots.held < target else 0.0

    def _kept(self, wanted: int, now: float) -> int:
        """Return how many to hold: what is needed, and for a while what was; never more than allowed."""
        if wanted >= min(self._slots.held, self._limiter.ceiling):
            self._enough_since = None
            return wanted
        if self._enough_since is None:
            self._enough_since = now
        return min(self._slots.held, self._limiter.ceiling) if now - self._enough_since < KEEP_S else wanted

    async def _grow(self, target: int) -> None:
        _, is_orphaned = self._slots.take(target - self._slots.held)
        if is_orphaned:
            await anyio.sleep(ORPHANED_S)

    async def _release_one(self, pause_s: float) -> None:
        """Release a slot once its connection is closed."""
        n = self._slots.held - 1
        self._limiter.set_slots(n)
        await self._wire.settle(n)
        await anyio.sleep(pause_s)
        self._slots.give_back(1)

    def _apply(self) -> None:
        self._wire.set_limit(min(self._slots.held, self._limiter.ceiling))
        self._limiter.set_slots(self._slots.held)

    def _note_lack(self, now: float, *, is_lacking: bool) -> None:
        if not is_lacking:
            self._none_since, self._limiter.lack = None, ""
        elif self._none_since is None:
            self._none_since = now
        elif now - self._none_since > SAY_S and not self._limiter.lack:
            words = f"other programs of yours use all {self._slots.n} connections to the archive; waiting for one"
            self._limiter.lack = words
            _LOGGER.warning("%s", words)
