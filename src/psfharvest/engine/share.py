"""One user's share of the limiter of a host: its part of the connections, and its own counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from psfharvest.core.errors import ArchiveDown
from psfharvest.core.model import Failure, Reason, RetryPolicy
from psfharvest.events.hub import Voice
from psfharvest.events.model import Event

if TYPE_CHECKING:
    from psfharvest.engine.archive_limiter import ArchiveLimiter

REFUSED_AGAIN_S = 0.05
"""How soon a user asks again whose turn it was not, though a request might have started."""
ANSWER_GAIN = 0.2
"""How much the last answers weigh in the time that an answer takes."""


class Share:
    """
    A user of a host's limiter: a harvest, a stream, the single requests, or a query.

    What is sent through a share counts for its host and for the share itself.

    Parameters
    ----------
    limiter
        The limiter of the host.
    is_urgent
        Whether it goes before the others: single requests do.
    voice
        Emits its events; None: they belong to no run.
    """

    def __init__(self, limiter: ArchiveLimiter, *, is_urgent: bool = False, voice: Voice | None = None) -> None:
        self.limiter = limiter
        self.voice = voice or limiter.hub.voice()
        self.patience_s = 0.0
        """How long it bears an outage, as far as it has said."""
        self.is_urgent = is_urgent
        self.requests = 0
        """Requests sent so far."""
        self.in_flight = 0
        """Requests handed over and not yet answered."""
        self.answer_s = 0.0
        """How long answers took lately, in the mean."""
        self.n_waiting = 0
        """Items that it would send if it could; kept by its pump."""
        self.n_kept = 0
        """Cutouts that were fetched and stored so far; kept by its pump."""
        self.served_at = 0
        """When it last sent something, as a number of the limiter's that only grows."""
        self.wake: Callable[[], None] | None = None
        """Called whenever the allowance may have grown without its own doing."""
        self.is_closed = False
        self._was_refused = False
        self._ended_by: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the limiter to the others."""
        self.is_closed = True
        self.limiter.leave(self)

    def end(self, error: Exception) -> None:
        """End this user's waiting: every later turn of its own raises the error."""
        self._ended_by = error
        self.limiter.announce()

    def emit(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event of this user."""
        self.voice.emit(kind, **fields)

    @property
    def need(self) -> int:
        """Connections that it could use."""
        return self.in_flight + self.n_waiting

    @property
    def connections(self) -> int:
        """Connections to the host that may be in use now."""
        return self.limiter.connections

    @property
    def failed_connections(self) -> int:
        """Requests that found no connection, before any ever did, by all users."""
        return self.limiter.health.failed_connections

    @property
    def is_holding(self) -> bool:
        """True while nothing of it that waits in a wire may be sent: a pause, an outage, or a query that waits."""
        return self.limiter.is_holding or self.limiter.is_wanted

    def allowance(self, ahead: int = 0) -> int:
        """Return how many requests it may hand over now; see `HostLimiter.allowance`."""
        n = self.limiter.allowance_of(self, ahead)
        self._was_refused = n == 0
        return n

    def next_change_s(self) -> float | None:
        """Return in how many seconds the allowance may grow by mere time, or None when time changes nothing."""
        pause_s = self.limiter.next_change_s()
        if self.n_waiting and self._was_refused and self.limiter.is_open:
            return REFUSED_AGAIN_S if pause_s is None else min(pause_s, REFUSED_AGAIN_S)
        return pause_s

    def begin_turn(self) -> float:
        """Read the clock for one turn of decisions; see `ArchiveLimiter.begin_turn`."""
        if self._ended_by is not None:
            raise self._ended_by
        return self.limiter.begin_turn()

    def explained(self, words: str, reason: Reason | None) -> str:
        """Return words about a failure, with advice where there is some; see `ArchiveLimiter.explained`."""
        return self.limiter.explained(words, reason)

    def unreached(self, policy: RetryPolicy, n_before: int) -> ArchiveDown | None:
        """Return the error of one who has used up the tries to connect, or None; see `ArchiveLimiter.unreached`."""
        return self.limiter.unreached(policy, n_before)

    def takes_control(self) -> bool:
        """Return True when this user must send the control request now, and give its answer to `controlled`."""
        if not self.limiter.takes_control():
            return False
        self.requests += 1
        self.in_flight += 1
        return True

    def controlled(self, failure: Failure | None) -> None:
        """Count the answer to the control request: a failure, or None when it was good."""
        self.in_flight -= 1
        self.limiter.controlled(failure)

    def control_dropped(self) -> None:
        """Count a control request that ended without an answer."""
        self.in_flight -= 1
        self.limiter.control_dropped()

    def started(self, n: int = 1) -> None:
        """Count requests handed over."""
        self.requests += n
        self.in_flight += n
        self.n_waiting = max(0, self.n_waiting - n)
        self.served_at = self.limiter.next_number()
        self.limiter.started(n, self)

    def succeeded(self, n: int, mean_s: float) -> None:
        """Count requests answered well."""
        self.in_flight -= n
        if n:
            self.answer_s += (ANSWER_GAIN if self.answer_s else 1.0) * (mean_s - self.answer_s)
        self.limiter.succeeded(n, mean_s, self)

    def failed(self, failure: Failure, subject: object, elapsed_s: float, *, is_repeat: bool = False) -> bool:
        """Count a failed request; True when it was lost to an outage."""
        self.in_flight -= 1
        return self.limiter.failed(failure, subject, elapsed_s, self, is_repeat=is_repeat)

    def dropped(self, n: int = 1) -> None:
        """Count requests that we ended ourselves."""
        self.in_flight -= n
        self.limiter.dropped(n, self)

    def repeated(self, n: int) -> None:
        """Count requests that the wire had to send once more."""
        self.requests += n
        self.limiter.repeated(n)

    def unsent(self, n: int) -> None:
        """Take back the count of requests that were not sent after all."""
        self.requests -= n
        self.in_flight -= n
        self.limiter.unsent(n, self)

    @asynccontextmanager
    async def turn(self, patience_s: float) -> AsyncIterator[None]:
        """Wait until one more request may be sent; see `ArchiveLimiter.turn`."""
        self.patience_s = max(self.patience_s, patience_s)
        async with self.limiter.turn(patience_s, self.begin_turn):
            self.requests += 1
            self.in_flight += 1
            yield
