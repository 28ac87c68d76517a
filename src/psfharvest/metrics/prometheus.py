"""
The counters as a collector of ``prometheus_client`` (extra ``metrics``).

>>> metrics = Metrics()
>>> prometheus_client.REGISTRY.register(metrics)
>>> async with Archive(events=metrics) as archive: ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from psfharvest.events.model import DURATION_BOUNDS_S
from psfharvest.metrics.counters import STATES, Counters, Sums

_PREFIX = "psfharvest_"
_Values = Iterable[tuple[tuple[str, ...], float]]
"""The labels' values, and the metric's."""


class Metrics(Counters, Collector):
    """
    A listener for ``Archive(events=...)`` or ``harvest(events=...)``, and a collector for a registry.

    In a service, register it, and mount ``prometheus_client.make_asgi_app()``.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        sums = self.read()
        yield from _counters(sums)
        yield from _gauges(sums)
        yield _durations(sums)


def _counters(sums: Sums) -> Iterator[Metric]:
    settled = [((state,), sums.settled[state]) for state in STATES]
    yield _counter("cutouts", "Cutouts of harvests that got a final state.", settled, "state")
    taken_back = [((state,), sums.taken_back[state]) for state in STATES]
    yield _counter(
        "cutouts_taken_back", "Cutouts that had a final state and are pending again.", taken_back, "state"
    )
    yield _counter("stored_bytes", "Size of the cutouts that harvests stored.", _one(sums.bytes))
    yield _counter("via", "Cutouts stored, by the way that they came.", _by_one(sums.via), "via")
    yield _counter("unavailable", "Cutouts that are missing or failed.", _by_one(sums.reasons), "reason")
    yield _counter("retries", "Requests that failed and are sent again.", _by_one(sums.retried), "reason")
    yield _counter("delivered", "Cutouts handed over in memory.", sums.delivered.items(), "by", "state")
    yield _counter("delivered_bytes", "Size of those cutouts.", _by_one(sums.bytes_delivered), "by")
    yield _counter("queries", "Answers of the catalogue.", _by_one(sums.queries), "question")
    yield _counter("query_seconds", "Time that these took.", _one(sums.queries_s))
    yield _counter("bundles", "Bundles that ended.", _by_one(sums.bundles), "state")
    yield _counter("bundle_seconds", "Time that these took.", _one(sums.bundles_s))
    yield _counter("runs_started", "Runs over a folder that began.", _one(sums.started))
    yield _counter("runs_ended", "Runs that ended, and what stopped them.", _by_one(sums.ended), "stopped")
    yield _counter("outages", "Times that the archive was considered down.", _one(sums.outages))
    yield _counter("outage_seconds", "Duration of the outages that are over.", _one(sums.outages_s))
    yield _counter("pauses", "Pauses that are over.", _one(sums.pauses))
    yield _counter("pause_seconds", "Their duration.", _one(sums.pauses_s))
    yield _counter("store_seconds", "Time spent in storing and recording.", _one(sums.store_s))


def _gauges(sums: Sums) -> Iterator[Metric]:
    yield _gauge("pending", "Cutouts that runs under way have yet to fetch.", sums.pending)
    yield _gauge("requests_in_flight", "Requests of harvests under way.", sums.in_flight)
    yield _gauge("archive_up", "Whether the archive is considered to be up.", int(sums.is_up))
    yield _gauge("loop_lag_seconds", "How much too late the event loop came to its last pulse.", sums.loop_lag_s)
    if sums.connections_limit is not None:
        yield _gauge("connections_limit", "Connections that may be in use.", sums.connections_limit)


def _durations(sums: Sums) -> Metric:
    ends = [*map(str, DURATION_BOUNDS_S), "+Inf"]
    counts = sums.durations.counts
    buckets = [(end, float(sum(counts[: n + 1]))) for n, end in enumerate(ends)]
    return HistogramMetricFamily(
        f"{_PREFIX}request_duration_seconds",
        "Times of the archive's good answers: files and bundles.",
        buckets=buckets,
        sum_value=sums.durations.sum_s,
    )


def _one(value: float) -> _Values:
    return [((), value)]


def _by_one(counts: Mapping[str, int]) -> _Values:
    return [((name,), n) for name, n in counts.items()]


def _counter(name: str, words: str, values: _Values, *labels: str) -> CounterMetricFamily:
    family = CounterMetricFamily(_PREFIX + name, words, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, words, value=value)
