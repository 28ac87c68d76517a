"""Protocols between the packages: what fetches, what stores, and what says when a request may start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from psfharvest.core.errors import ArchiveDown
from psfharvest.core.model import Delivery, Failure, Item, Outcome, Reason, RetryPolicy


class Fetcher(Protocol):
    """
    Moves items to the archive and their answers back, many at a time in both directions.

    `submit` and `take` never wait; whatever is ready to be taken is announced by a call of the `wake` given
    to `open`, from the event loop's own thread.
    """

    def open(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Work within this context; leaving it ends every request under way."""
        ...

    def room(self) -> int:
        """Return how many more items it would take now."""
        ...

    def is_busy(self) -> bool:
        """Return True while a request is under way."""
        ...

    def exposed(self) -> int:
        """Return how many items may have been fetched and were not taken yet: what a kill would cost."""
        ...

    def held(self) -> int:
        """Return how many items it holds that wait to be sent."""
        ...

    def submit(self, items: Sequence[Item]) -> None:
        """Take charge of items."""
        ...

    def recall(self) -> None:
        """Take back what waits in the wire and was not sent; `take` gives it as items that were not asked for."""
        ...

    def take(self, *, is_behind: bool = False) -> list[Delivery]:
        """
        Return the answers that are ready, each once.

        Parameters
        ----------
        is_behind
            The keeper is behind: what can be held back at its source is to stay there.

        Raises
        ------
        LocalError
            When the fetcher's own temporary storage failed.
        """
        ...

    async def control(self) -> Failure | None:
        """
        Ask for something that the archive is known to have, or else for a small count.

        Returns
        -------
        Failure or None
            Why it did not come, or None: the archive lives.
        """
        ...

    def next_change_s(self) -> float | None:
        """Return in how many seconds `room` may grow by itself; None: only by a wake."""
        ...


class Keeper(Protocol):
    """
    Stores outcomes durably, then claims them; called with one batch at a time.

    It shields itself from cancellation where a batch must not be left half kept.
    """

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """
        Keep all of them.

        Raises
        ------
        LocalError
            When that cannot be done; nothing of the batch is claimed then.
        """
        ...


class Staged(Protocol):
    """A temporary file of bodies; its methods wait for the disk, and raise `LocalError` where that fails."""

    def append(self, bodies: Sequence[bytes]) -> None:
        """Write bodies behind those that are there."""
        ...

    def read(self, sizes_bytes: Sequence[int]) -> list[bytes]:
        """Return the next bodies, of the given sizes, in the order in which they were written."""
        ...

    def discard(self) -> None:
        """Remove the file."""
        ...


class Staging(Protocol):
    """Makes temporary files for what has arrived but may not be claimed yet."""

    def begin(self) -> Staged:
        """Return an empty temporary file."""
        ...


class HostLimiter(Protocol):
    """Rate limiter and circuit breaker of one archive, as senders of requests use it."""

    n_kept: int
    """Cutouts that this user has fetched and stored so far."""

    def emit(self, kind: Callable[..., Any], **fields: Any) -> None:
        """Emit an event of this user: its kind, and its fields but `at` and `run`."""
        ...

    @property
    def is_holding(self) -> bool:
        """True while nobody may send: a pause, or an outage."""
        ...

    def allowance(self, ahead: int = 0) -> int:
        """Return how many requests for cutouts may be handed over now, some of them ahead of their turn."""
        ...

    def started(self, n: int = 1) -> None:
        """Take note of requests sent."""
        ...

    def succeeded(self, n: int, mean_s: float) -> None:
        """Take note of requests answered well."""
        ...

    def failed(self, failure: Failure, subject: object, elapsed_s: float, *, is_repeat: bool = False) -> bool:
        """Take note of a failed request; True when it was lost to an outage."""
        ...

    def dropped(self, n: int = 1) -> None:
        """Take note of requests that we ended ourselves."""
        ...

    def repeated(self, n: int) -> None:
        """Take note of requests that the wire had to send once more."""
        ...

    def unsent(self, n: int) -> None:
        """Take note of requests that were taken back before they were sent."""
        ...

    @property
    def connections(self) -> int:
        """Connections that may be in use now."""
        ...

    @property
    def failed_connections(self) -> int:
        """Requests that found no connection, before any ever did."""
        ...

    def unreached(self, policy: RetryPolicy, n_before: int) -> ArchiveDown | None:
        """Return the error of one who has used up the tries to connect since there were `n_before`, or None."""
        ...

    def explained(self, words: str, reason: Reason | None) -> str:
        """Return words about a failure; with advice as long as no request was answered, where there is some."""
        ...

    def turn(self, patience_s: float) -> AbstractAsyncContextManager[None]:
        """Wait until one more request may be sent, and send it within; raises `ArchiveDown`."""
        ...
