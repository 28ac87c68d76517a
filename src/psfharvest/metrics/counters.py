"""
Sums of events: what a monitoring system asks for, without any library of one.

The numbers of the page's ``/metrics`` come from the account of a folder instead: `psfharvest.serve.metrics`.
"""

from __future__ import annotations

import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field, replace

from psfharvest.events import model
from psfharvest.events.histogram import Histogram
from psfharvest.events.model import Event

STATES = ("done", "missing", "failed")


@dataclass(slots=True)
class Sums:
    """What came to pass since the counters began; times are in seconds."""

    settled: Counter[str] = field(default_factory=Counter)
    """Cutouts of harvests, by state."""
    taken_back: Counter[str] = field(default_factory=Counter)
    """Cutouts of harvests that are pending again, by the state that they had."""
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    via: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Cutouts that were handed over in memory: by what, and their state."""
    bytes_delivered: Counter[str] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=Histogram)
    queries: Counter[str] = field(default_factory=Counter)
    queries_s: float = 0.0
    bundles: Counter[str] = field(default_factory=Counter)
    """By ``done`` and ``failed``."""
    bundles_s: float = 0.0
    started: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """Runs, by how they were stopped; nothing for those that were not."""
    pending: int = 0
    outages: int = 0
    outages_s: float = 0.0
    pauses: int = 0
    pauses_s: float = 0.0
    store_s: float = 0.0
    connections_limit: int | None = None
    is_up: bool = True
    in_flight: int = 0
    loop_lag_s: float = 0.0


class Counters:
    """
    Sums the events that it is called with; they may be read in another thread.

    One such object may listen to several archives, or to all harvests of one.
    """

    def __init__(self) -> None:
        self._sums = Sums()
        self._in_flight: dict[int, int] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        with self._lock:
            self._of_a_run(event) or self._of_cutouts(event) or self._of_answers(event) or self._of_the_archive(
                event
            )

    def read(self) -> Sums:
        """Return the sums as they are now."""
        with self._lock:
            return replace(deepcopy(self._sums), in_flight=sum(self._in_flight.values()))

    def _of_a_run(self, event: Event) -> bool:
        sums = self._sums
        match event:
            case model.Started(pending=pending, connections=connections):
                sums.started += 1
                sums.pending += pending
                sums.connections_limit = connections
            case model.Asked(n_new=n_new):
                sums.pending += n_new
            case model.Pulse(run=run, progress=progress, disk_s=disk_s, loop_lag_s=loop_lag_s):
                self._in_flight[run] = progress.in_flight
                sums.connections_limit = progress.connections
                sums.store_s += disk_s
                sums.loop_lag_s = loop_lag_s
            case model.Ended(run=run, report=report):
                self._in_flight.pop(run, None)
                sums.ended[report.stopped] += 1
                sums.pending -= report.pending
            case _:
                return False
        return True

    def _of_cutouts(self, event: Event) -> bool:
        sums = self._sums
        match event:
            case model.Settled():
                n_of = {state: getattr(event, state) for state in STATES}
                sums.settled.update(n_of)
                sums.bytes += event.bytes
                sums.reasons.update(event.reasons)
                sums.via.update(event.via)
                sums.pending -= sum(n_of.values())
                sums.durations.add_all(event.durations, event.durations_s)
            case model.TakenBack():
                sums.taken_back.update({state: getattr(event, state) for state in STATES})
                sums.pending += event.n
            case model.Delivered(by=by):
                sums.delivered.update({(by, state): getattr(event, state) for state in STATES})
                sums.bytes_delivered[by] += event.bytes
                sums.reasons.update(event.reasons)
                sums.durations.add_all(event.durations, event.durations_s)
            case _:
                return False
        return True

    def _of_answers(self, event: Event) -> bool:
        sums = self._sums
        match event:
            case model.Retried(n=n, reason=reason):
                sums.retried[reason] += n
            case model.Queried(question=question, elapsed_s=elapsed_s):
                sums.queries[question] += 1
                sums.queries_s += elapsed_s
            case model.Bundled(reason=reason, elapsed_s=elapsed_s):
                sums.bundles["failed" if reason else "done"] += 1
                sums.bundles_s += elapsed_s
            case _:
                return False
        return True

    def _of_the_archive(self, event: Event) -> bool:
        sums = self._sums
        match event:
            case model.Throttled(after=after):
                sums.connections_limit = after
            case model.Resumed(after_s=after_s):
                sums.pauses += 1
                sums.pauses_s += after_s
            case model.Down():
                sums.outages += 1
                sums.is_up = False
            case model.Up(after_s=after_s):
                sums.outages_s += after_s
                sums.is_up = True
            case _:
                return False
        return True
