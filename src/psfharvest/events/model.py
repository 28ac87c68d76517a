"""The events of a run and of an archive: frozen values, each a batch by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from psfharvest.core.model import Progress, Report

DURATION_BOUNDS_S = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper ends of the histogram's buckets, in seconds; the last bucket, the 17th, has none."""
N_BUCKETS = len(DURATION_BOUNDS_S) + 1


class Started(NamedTuple):
    """A run over a folder has begun."""

    at: float
    """Seconds since 1970, as in every event."""
    run: int
    """Number of the run in its folder's manifest; 0 for what belongs to no run. As in every event."""
    folder: str
    archive: str
    sink: str
    via: str
    expected: int | None
    """Cutouts to come to in the end, where that is known."""
    pending: int
    """Cutouts that were pending before; those that get fresh attempts follow as `TakenBack`."""
    connections: int
    version: str


class Ended(NamedTuple):
    """A run has ended, however it did."""

    at: float
    run: int
    report: Report


class Asked(NamedTuple):
    """Part of a query, or a batch of a list, has entered the manifest."""

    at: float
    run: int
    n: int
    """Cutouts that it named."""
    n_new: int
    """Those of them that were not asked for before."""
    expected: int | None
    """Cutouts that the whole query or list comes to, where that is known."""
    is_complete: bool
    """True once all of the query or list has been asked for."""


class Settled(NamedTuple):
    """Cutouts got a final state, in one transaction of the manifest."""

    at: float
    run: int
    done: int
    missing: int
    failed: int
    bytes: int
    reasons: Mapping[str, int]
    """How many are missing or failed for which reason."""
    durations: tuple[int, ...]
    """Histogram of the times of the good answers since the last such event; see `DURATION_BOUNDS_S`."""
    durations_s: float
    """The sum of those times."""
    via: Mapping[str, int]
    """How many done ones came by ``file``, how many by ``bundle``."""
    examples: Mapping[str, str]
    """One dataURI for each reason."""
    store_s: float
    """Time spent in storing and recording since the last such event."""


class Retried(NamedTuple):
    """Requests failed and will be sent again."""

    at: float
    run: int
    n: int
    reason: str
    delay_s: float
    """The longest time until the next attempt; 0 where it may be sent at once."""
    example: str
    """One of the dataURIs."""


class TakenBack(NamedTuple):
    """Cutouts that had a final state are pending again."""

    at: float
    run: int
    n: int
    reason: str
    delay_s: float
    example: str
    done: int
    missing: int
    failed: int
    bytes: int


class Throttled(NamedTuple):
    """The number of connections that may be in use has changed."""

    at: float
    run: int
    before: int
    after: int
    why: str


class Paused(NamedTuple):
    """Nothing is sent to the archive until a time, since it said so."""

    at: float
    run: int
    until: float
    why: str


class Resumed(NamedTuple):
    """A pause is over."""

    at: float
    run: int
    after_s: float


class Down(NamedTuple):
    """The archive is considered down: one probe at a time is sent."""

    at: float
    run: int
    why: str
    since: float
    until: float
    """When the next probe is due."""
    gives_up_at: float
    """When the patience ends."""


class Up(NamedTuple):
    """The archive answers again."""

    at: float
    run: int
    after_s: float


class Switched(NamedTuple):
    """Cutouts travel in another way: by ``file``, or by ``bundle``."""

    at: float
    run: int
    before: str
    after: str
    why: str


class Queried(NamedTuple):
    """The archive's catalogue has answered a question."""

    at: float
    run: int
    question: str
    """``count`` or ``rows``."""
    detector: str
    n: int
    """The count, or the number of rows."""
    elapsed_s: float
    attempts: int


class Bundled(NamedTuple):
    """A bundle has ended, well or not."""

    at: float
    run: int
    n: int
    """Cutouts that it was to bring."""
    n_whole: int
    """Those of them that came whole."""
    elapsed_s: float
    reason: str
    """Why it failed, or nothing."""


class Delivered(NamedTuple):
    """Cutouts were handed to those who wait for them in memory; such ones are in no account."""

    at: float
    run: int
    by: str
    """``fetch`` or ``stream``."""
    done: int
    missing: int
    failed: int
    bytes: int
    reasons: Mapping[str, int]
    durations: tuple[int, ...]
    """Histogram of the times of the good answers since the last such event; see `DURATION_BOUNDS_S`."""
    durations_s: float
    """The sum of those times."""


class Pulse(NamedTuple):
    """How a run goes on, each second."""

    at: float
    run: int
    progress: Progress
    per_second: float
    """Cutouts a second over the last half minute."""
    left_s: float | None
    """Time left at that rate, where it is known."""
    bytes_per_s: float
    disk_s: float
    """Seconds spent in storing and recording since the last pulse."""
    loop_lag_s: float
    """How much too late the event loop came to this pulse."""


Event = (
    Started | Ended | Asked | Settled | Retried | TakenBack | Throttled | Paused | Resumed | Down | Up | Switched
    | Queried | Bundled | Delivered | Pulse
)  # fmt: skip
