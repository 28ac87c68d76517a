"""
Metrics and spans for OpenTelemetry: counted from events, by batch; never anything once a cutout of a harvest.

The instruments are those of the process: all archives feed the same ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

from psfharvest.events import model
from psfharvest.events.model import DURATION_BOUNDS_S, Event
from psfharvest.metrics.counters import STATES
from psfharvest.metrics.limiter import Limiter
from psfharvest.version import __version__

NAME = "psfharvest"
BURST, PER_SECOND = 2000, 200
"""
Durations that are recorded at once and per second: the API takes them one by one, at 10 us each. Of more than that
a sample of the same proportions is recorded.
"""
_TO_NS = 1_000_000_000


class _Instruments:
    """The instruments of this process."""

    def __init__(self) -> None:
        meter = metrics.get_meter(NAME, __version__)
        self.limiters: weakref.WeakKeyDictionary[Limiter, dict[str, Any]] = weakref.WeakKeyDictionary()
        self.cutouts = meter.create_counter(
            "psfharvest.cutouts", "{cutout}", "Cutouts that got a final state, or were handed over in memory."
        )
        self.size = meter.create_counter("psfharvest.cutout.size", "By", "Size of the cutouts that came.")
        self.retries = meter.create_counter("psfharvest.retries", "{request}", "Requests that are sent again.")
        self.pending = meter.create_up_down_counter(
            "psfharvest.pending", "{cutout}", "Cutouts that runs under way have yet to fetch."
        )
        self.batch = meter.create_histogram(
            "psfharvest.store.batch.duration", "s", "Time to store and record a batch."
        )
        self.pauses = meter.create_histogram("psfharvest.pauses.duration", "s", "Pauses and outages that are over.")
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_S,
        )
        meter.create_observable_up_down_counter(
            "http.client.active_requests",
            [self._observer(lambda limiter: limiter.in_flight, only_own_wire=True)],
            "{request}",
            "Number of active HTTP requests.",
        )
        meter.create_observable_gauge(
            "psfharvest.connections.limit",
            [self._observer(lambda limiter: limiter.connections)],
            "{connection}",
            "Connections that may be in use.",
        )
        meter.create_observable_gauge(
            "psfharvest.archive.up",
            [self._observer(lambda limiter: int(not limiter.is_down))],
            "1",
            "Whether the archive is considered to be up.",
        )

    def _observer(
        self, look: Callable[[Limiter], int], *, only_own_wire: bool = False
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            sums: dict[tuple[tuple[str, Any], ...], int] = {}
            for limiter, host in list(self.limiters.items()):
                if not (limiter.is_closed or (only_own_wire and not host["is_own_wire"])):
                    key = tuple(host["attributes"].items())
                    sums[key] = sums.get(key, 0) + look(limiter)
            yield from (Observation(n, dict(key)) for key, n in sums.items())

        return observe


_instruments = cache(_Instruments)


class _Run(NamedTuple):
    """The span of a harvest under way, and what makes it the current one."""

    span: Span
    token: Token[Any]


_run: ContextVar[_Run | None] = ContextVar("psfharvest_run", default=None)


class Sampling:
    """Which durations are recorded: `BURST` of them at once, and `PER_SECOND` more as time passes."""

    def __init__(self) -> None:
        self._room = float(BURST)
        self._at = 0.0

    def sample(self, at: float, counts: Sequence[int], sum_s: float) -> Iterator[float]:
        """
        Yield durations in the proportions of a histogram: all of them, or as many as there is room for.

        Parameters
        ----------
        at
            Time of the event.
        counts, sum_s
            Of each of `DURATION_BOUNDS_S`, and of what is above the last; and the sum of all durations.
        """
        n = sum(counts)
        self._room = min(BURST, self._room + (at - self._at) * PER_SECOND) if self._at else self._room
        self._at = at
        share = min(1.0, self._room / n) if n else 0.0
        for value_s, n_of in zip(_values_s(counts, sum_s), counts, strict=True):
            for _ in range(round(n_of * share)):
                yield value_s
                self._room -= 1


class Telemetry:
    """
    A listener that gives what happens to OpenTelemetry.

    Parameters
    ----------
    limiter
        The archive's.
    url
        Its address.
    is_own_wire
        Whether requests are sent by this package, not by the caller's own client.
    """

    def __init__(self, limiter: Limiter, url: str, *, is_own_wire: bool) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._host: dict[str, AttributeValue] = {"server.address": parts.hostname or "", "server.port": port}
        self._request: dict[str, AttributeValue] = {
            **self._host,
            "http.request.method": "GET",
            "url.scheme": parts.scheme,
        }
        self._is_own_wire = is_own_wire
        self._tracer = trace.get_tracer(NAME, __version__)
        self._to = _instruments()
        self._to.limiters[limiter] = {"attributes": self._host, "is_own_wire": is_own_wire}
        self._sampling = Sampling()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case model.Started() | model.Ended() | model.Asked():
                self._of_a_run(event)
            case model.Settled() | model.Delivered() | model.TakenBack():
                self._of_cutouts(event)
            case model.Queried() | model.Bundled():
                self._of_answers(event)
            case model.Retried(n=n, reason=reason):
                self._to.retries.add(n, {"reason": reason})
            case model.Resumed(after_s=after_s):
                self._to.pauses.record(after_s, {"kind": "pause"})
            case model.Up(after_s=after_s):
                self._to.pauses.record(after_s, {"kind": "outage"})

    def _of_a_run(self, event: model.Started | model.Ended | model.Asked) -> None:
        match event:
            case model.Started():
                self._to.pending.add(event.pending)
                self._begin(event)
            case model.Asked(n_new=n_new):
                self._to.pending.add(n_new)
            case model.Ended(report=report):
                self._to.pending.add(-report.pending)
                self._end(event)

    def _of_cutouts(self, event: model.Settled | model.Delivered | model.TakenBack) -> None:
        if isinstance(event, model.TakenBack):
            self._to.pending.add(event.n)
            return
        by = event.by if isinstance(event, model.Delivered) else "harvest"
        for state in STATES:
            if n := getattr(event, state):
                self._to.cutouts.add(n, {"state": state, "by": by})
        self._to.size.add(event.bytes, {"by": by})
        if isinstance(event, model.Settled):
            self._to.pending.add(-event.done - event.missing - event.failed)
            self._to.batch.record(event.store_s)
        if self._is_own_wire:
            for value_s in self._sampling.sample(event.at, event.durations, event.durations_s):
                self._to.duration.record(value_s, self._request)

    def _of_answers(self, event: model.Queried | model.Bundled) -> None:
        name = "query" if isinstance(event, model.Queried) else "bundle"
        attributes = {key: value for key, value in event._asdict().items() if key not in ("at", "run", "elapsed_s")}
        span = self._tracer.start_span(
            f"psfharvest.{name}",
            kind=trace.SpanKind.CLIENT,
            attributes={**self._host, **_named(attributes)},
            start_time=_ns(event.at - event.elapsed_s),
        )
        if isinstance(event, model.Bundled) and event.reason:
            span.set_status(StatusCode.ERROR, event.reason)
        span.end(_ns(event.at))

    def _begin(self, event: model.Started) -> None:
        given = {key: value for key, value in event._asdict().items() if key != "at" and value is not None}
        span = self._tracer.start_span("psfharvest.harvest", attributes=_named(given), start_time=_ns(event.at))
        _run.set(_Run(span, context.attach(trace.set_span_in_context(span))))

    @staticmethod
    def _end(event: model.Ended) -> None:
        run, report = _run.get(), event.report
        if run is None:
            return
        _run.set(None)
        counts = ("total", "done", "missing", "failed", "pending", "bytes", "requests", "stopped")
        run.span.set_attributes(_named({name: getattr(report, name) for name in counts}))
        if report.stopped:
            run.span.set_status(StatusCode.ERROR, report.stopped)
        run.span.end(_ns(event.at))
        context.detach(run.token)


def has_provider() -> bool:
    """Return whether a provider of metrics or of traces is set."""
    is_traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return is_traced or "Proxy" not in type(metrics.get_meter_provider()).__name__


def fetch_span(uri: str) -> AbstractContextManager[object]:
    """Return the span of one single request; an error within it is recorded."""
    return trace.get_tracer(NAME, __version__).start_as_current_span(
        "psfharvest.fetch", attributes={"psfharvest.uri": uri}
    )


def _named(given: dict[str, Any]) -> dict[str, Any]:
    return {f"psfharvest.{name}": value for name, value in given.items()}


def _ns(at: float) -> int:
    return int(at * _TO_NS)


def _values_s(counts: Sequence[int], sum_s: float) -> list[float]:
    """Return a time for each bucket, within it, such that the sum is kept as far as that allows."""
    lows = (0.0, *DURATION_BOUNDS_S)
    highs = (*DURATION_BOUNDS_S, 2 * DURATION_BOUNDS_S[-1])
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    scale = sum_s / (sum(n * middle for n, middle in zip(counts, middles, strict=True)) or 1.0)
    return [
        min(max(middle * scale, low * 1.001), high) for low, middle, high in zip(lows, middles, highs, strict=True)
    ]
