"""Events of cutouts that go to their readers in memory: single requests and streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.core.model import Outcome, State
from psfharvest.engine.share import Share
from psfharvest.events.histogram import Histogram
from psfharvest.events.model import Delivered


class Deliveries:
    """
    Emits `Delivered` for the outcomes of one user.

    Parameters
    ----------
    by
        ``fetch`` or ``stream``.
    share
        The user's.
    """

    def __init__(self, by: str, share: Share) -> None:
        self._by = by
        self._share = share
        self._durations = self._told = Histogram()

    def timing(self, fetcher: FileFetcher) -> FileFetcher:
        """Return a fetcher, whose times of answers go into the events from now on."""
        self._durations, self._told = fetcher.durations, fetcher.durations.copy()
        return fetcher

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Emit an event of a batch of outcomes."""
        n_of = Counter(outcome.state for outcome in outcomes)
        fresh, self._told = self._durations.since(self._told), self._durations.copy()
        self._share.emit(
            Delivered,
            by=self._by,
            done=n_of[State.DONE],
            missing=n_of[State.MISSING],
            failed=n_of[State.FAILED],
            bytes=sum(len(outcome.body or b"") for outcome in outcomes),
            reasons=dict(Counter(o.reason.value for o in outcomes if o.reason is not None)),
            durations=fresh.counts,
            durations_s=fresh.sum_s,
        )
