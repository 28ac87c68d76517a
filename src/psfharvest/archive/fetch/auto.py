"""Fetcher that sends items singly or in bundles, as the route decides (``--via``), under one connection limit."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from math import inf
from typing import Any

import anyio

from psfharvest.archive.fetch.bundle import BundleFetcher
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.core.fits import datauri
from psfharvest.core.model import Delivery, Failure, Item
from psfharvest.core.policy.route import FIRST_ANSWER_S, MIN_SIZE, TRIAL_MIN_SIZE, Route, Trial
from psfharvest.core.policy.work_per_connection import even_share
from psfharvest.core.ports import HostLimiter
from psfharvest.events.histogram import Histogram
from psfharvest.events.model import Switched

BUNDLES_AT_MOST = 2
"""Bundles that are tried for one item before it is requested by itself."""
GATHER_S = 0.25
"""How long a bundle that is not full waits for more."""
RETRY_SHARE = 4
"""Items that were missing from a bundle go into one of a fourth of its size."""


class RoutedFetcher:
    """
    Fetches items by files and bundles.

    Parameters
    ----------
    files, bundles
        The two ways.
    limiter, route
        Who may send, and the choice.
    n_waiting
        Says how many cutouts are waiting in all, as far as is known.
    """

    def __init__(
        self,
        files: FileFetcher,
        bundles: BundleFetcher,
        limiter: HostLimiter,
        route: Route,
        n_waiting: Callable[[], int],
    ) -> None:
        self._files = files
        self._bundles = bundles
        self._limiter = limiter
        self._route = route
        self._n_waiting = n_waiting
        self._singles: deque[Item] = deque()
        self._first: deque[Item] = deque()
        self._again: deque[Item] = deque()
        self._gathering_since = 0.0
        self._n_taken = 0
        """Whole cutouts that were taken so far."""
        self._first_sent_at: float | None = None
        """When the first single was sent."""
        self._way = ""

    @asynccontextmanager
    async def open(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Work within this context."""
        async with self._files.open(wake), self._bundles.open(wake):
            yield

    def account(self) -> dict[str, Any]:
        """Return what travelled how, and why."""
        return {
            "via": self._route.via,
            "files": self._files.sent,
            "bundles": self._bundles.bundles,
            "bundled_cutouts": self._bundles.cutouts,
            "why": self._route.why(),
        }

    def durations(self) -> Histogram:
        """Return the histogram of the times of good answers so far: of single files, and of bundles."""
        both = self._files.durations.copy()
        both.add_all(self._bundles.durations.counts, self._bundles.durations.sum_s)
        return both

    def is_busy(self) -> bool:
        """Return True while a request is under way."""
        return self._files.is_busy() or self._bundles.under_way > 0

    def exposed(self) -> int:
        """Return how many items may have been fetched and were not taken."""
        return self._files.exposed() + self._bundles.exposed()

    def arrived(self) -> int:
        """Return how many cutouts have arrived in bundles and were not handed on yet."""
        return self._bundles.n_arrived

    def leftovers(self) -> Iterator[list[Delivery]]:
        """Yield what had arrived when the work was ended; see `BundleFetcher.leftovers`."""
        return self._bundles.leftovers()

    def held(self) -> int:
        """Return how many items it holds that wait to be sent."""
        return len(self._singles) + len(self._first) + len(self._again)

    def recall(self) -> None:
        """Take back what waits in the wire and was not sent."""
        self._files.recall()

    def room(self) -> int:
        """Return how many more items it would take now."""
        held = self.held()
        if not self._wants_bundles():
            return max(0, self._files_room() + sum(trial.n for trial in self._trials_due()) - held)
        wanted = self._size() * max(1, self._limiter.allowance())
        return max(0, wanted - held)

    def submit(self, items: Sequence[Item]) -> None:
        """Take charge of items."""
        if not self._wants_bundles():
            self._singles.extend(items)
        else:
            if not self._first:
                self._gathering_since = anyio.current_time()
            for item in items:
                queue = self._first if not item.attempts else self._again
                (queue if item.attempts < BUNDLES_AT_MOST else self._singles).append(item)
        self._launch()

    def take(self, *, is_behind: bool = False) -> list[Delivery]:
        """Return what has arrived, verified; what can be sent meanwhile is sent."""
        deliveries = self._files.take()
        self._route.single(*self._files.last_taken)
        if any(delivery.failure is not None for delivery in deliveries):
            self._route.answered()
        if not is_behind:
            bundled = self._bundles.take()
            self._files.know_good([d.item for d in bundled if d.body is not None][-1:])
            deliveries += bundled
        self._n_taken += sum(delivery.body is not None for delivery in deliveries)
        if not is_behind:
            self._launch()
        return deliveries

    async def control(self) -> Failure | None:
        """Send the control request, by file."""
        return await self._files.control()

    def know_good(self, items: Iterable[Item]) -> None:
        """Take items that are known to be good, for control requests."""
        self._files.know_good(items)

    def next_change_s(self) -> float | None:
        """Return when a bundle that is not full stops waiting for more, or one on trial has taken too long."""
        now = anyio.current_time()
        left_s = self._bundles.trial_left_s(now)
        if self._first_sent_at is not None and self._route.is_measuring(self._n_left()):
            answer_due_at = self._first_sent_at + FIRST_ANSWER_S
            left_s = min(left_s, answer_due_at - now if answer_due_at > now else inf)
        if (self._first or self._again) and self._limiter.allowance():
            left_s = min(left_s, self._gathering_since + GATHER_S - now)
        return None if left_s == inf else max(0.0, left_s)

    def _n_left(self) -> int:
        """Return how many cutouts wait that no request is under way for, as far as is known."""
        n_unkept = self._n_taken - self._limiter.n_kept
        return max(0, self._n_waiting() - self._files.exposed() - self._bundles.n_under_way - n_unkept)

    def _size(self) -> int:
        """Return what the next bundle should hold: near the end less, so that all connections end together."""
        outstanding = self._bundles.outstanding(anyio.current_time())
        share = even_share(self._n_left(), outstanding, self._limiter.connections)
        return min(self._route.size, max(TRIAL_MIN_SIZE, share))

    def _wants_bundles(self) -> bool:
        return self._route.wants_bundles(self._n_left() if self._route.via == "auto" else 1)

    def _trials_due(self) -> list[Trial]:
        """Return which bundles should go on trial now, beside those that are."""
        trials = self._route.trials(self._n_left())[: max(1, self._limiter.connections // 2)]
        return trials[self._bundles.n_trials :]

    def _files_room(self) -> int:
        """Return how many singles may start now: bundles on trial, or yet to be tried, need connections, too."""
        room = self._files.room()
        n_trials = self._bundles.n_trials + self._n_ready_trials()
        if self._route.is_measuring(self._n_left()):
            n_trials = max(n_trials, self._limiter.connections // 2)
        if not n_trials:
            return room
        return max(0, min(room, self._limiter.connections - n_trials - self._files.exposed()))

    def _n_ready_trials(self) -> int:
        """Return how many due trials have their cutouts here; a wire full of singles leaves them no room."""
        due = self._trials_due()
        n_fresh = sum(not item.attempts for item in self._singles) if due else 0
        return sum(total <= n_fresh for total in accumulate(trial.n for trial in due))

    def _launch_trials(self) -> None:
        due = self._trials_due()
        if due:
            again = [item for item in self._singles if item.attempts]
            fresh = deque(item for item in self._singles if not item.attempts)
            for trial in due:
                if len(fresh) < trial.n or not self._limiter.allowance():
                    break
                again_by_name: deque[Item] = deque()
                self._bundles.start(_distinct(fresh, trial.n, again_by_name), trial)
                again += again_by_name
            self._singles = deque([*again, *fresh])

    def _launch(self) -> None:
        """Send what may be sent now: trials before singles, which would leave them no connection, then bundles."""
        now = anyio.current_time()
        self._note_first_wait(now)
        self._bundles.note_trials(now)
        if not self._wants_bundles():
            self._singles.extendleft(reversed([*self._again, *self._first]))
            self._again.clear()
            self._first.clear()
            self._launch_trials()
        self._note_switch()
        self._launch_singles()
        self._launch_bundles(now)

    def _note_first_wait(self, now: float) -> None:
        """Tell the route for how long the first single has been waited for."""
        if self._first_sent_at is None:
            return
        waited_s = now - self._first_sent_at
        if now >= self._first_sent_at + FIRST_ANSWER_S:  # so `next_change_s` reckons; the difference may be less
            waited_s = max(waited_s, FIRST_ANSWER_S)
        self._route.waited(waited_s)

    def _launch_bundles(self, now: float) -> None:
        """Send bundles that are full; and what there is, where nothing follows or it has waited long enough."""
        is_due = now >= self._gathering_since + GATHER_S or self.held() >= self._n_left()
        while self._again and self._limiter.allowance() and (is_due or len(self._again) >= MIN_SIZE):
            size = max(MIN_SIZE, self._route.size // RETRY_SHARE)
            self._bundles.start(_distinct(self._again, size, self._singles))
        while self._first and self._limiter.allowance() and (is_due or len(self._first) >= self._size()):
            self._bundles.start(_distinct(self._first, self._size(), self._singles))
            self._gathering_since = now
            is_due = self.held() >= self._n_left()

    def _note_switch(self) -> None:
        """Emit an event, and recall what waits in the wire, when the choice has changed."""
        before, self._way = self._way, "bundle" if self._wants_bundles() else "file"
        if before and before != self._way:
            self._files.recall()
            self._limiter.emit(Switched, before=before, after=self._way, why=self._route.why())

    def _launch_singles(self) -> None:
        n = min(len(self._singles), self._files_room())
        if n:
            if self._first_sent_at is None:
                self._first_sent_at = anyio.current_time()
            self._files.submit([self._singles.popleft() for _ in range(n)])


def _distinct(queue: deque[Item], n: int, singles: deque[Item]) -> list[Item]:
    """Take up to `n` items of different file names; one that shares its name goes singly."""
    chosen: dict[str, Item] = {}
    while queue and len(chosen) < n:
        item = queue.popleft()
        name = datauri.file_name(item.uri)
        if name in chosen or "?" in name or not name:
            singles.append(item)
        else:
            chosen[name] = item
    return list(chosen.values())
