"""
Counters of what happens, for monitoring: fed by events, read by Prometheus or OpenTelemetry.

`psfharvest.metrics.prometheus.Metrics` is a listener for ``Archive(events=...)`` and a collector for a registry of
``prometheus_client``. `psfharvest.metrics.telemetry` gives metrics and spans to OpenTelemetry by itself, where the
process uses it.
"""
