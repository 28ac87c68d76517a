"""A program that uses OpenTelemetry, run by a test: prints what its in-memory exporters hold, as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import anyio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import psfharvest
from psfharvest import Archive, Query, RetryPolicy

QUERY = Query("UVIS", filter="F606W", limit=60)
QUICK = RetryPolicy(attempts=2, first_delay_s=0.01, max_delay_s=0.05, patience_s=20.0)


def counted(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Each metric: attributes and value of its points."""
    found: dict[str, list[Any]] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "psfharvest"
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None)
                    value = value if value is not None else {"count": point.count, "sum": point.sum}
                    found.setdefault(metric.name, []).append([dict(point.attributes), value])
    return found


async def work(url: str, folder: Path, own_client: bool) -> dict[str, Any]:
    import httpx

    client = httpx.AsyncClient() if own_client else None
    tracer = trace.get_tracer("caller")
    async with Archive(url, retry=QUICK, client=client) as archive:
        with tracer.start_as_current_span("outer"):
            report = await archive.harvest(QUERY, folder / "d", suffixes=["flt"], via="file")
            await archive.harvest(QUERY, folder / "b", suffixes=["flt"], via="bundle")
        async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
            uris = [cutout.uri async for cutout in cutouts]
        with tracer.start_as_current_span("outer fetch"):
            await archive.fetch(uris[0])
        with contextlib.suppress(psfharvest.CutoutMissing):
            await archive.fetch("mast:HST/product/nothing.fits")
        open_now = counted(READER)
    if client is not None:
        await client.aclose()
    return {"report": report.to_dict(), "open": open_now, "closed": counted(READER)}


READER = InMemoryMetricReader()
SPANS = InMemorySpanExporter()
if __name__ == "__main__":
    assert not any(name.startswith("psfharvest.metrics.tele") for name in sys.modules)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([READER]))
    url, folder, backend, whose = sys.argv[1:]
    found = anyio.run(work, url, Path(folder), whose == "own", backend=backend)
    names = {span.context.span_id: span.name for span in SPANS.get_finished_spans()}
    found["spans"] = [
        {
            "name": span.name,
            "parent": names.get(span.parent.span_id) if span.parent else None,
            "attributes": dict(span.attributes or {}),
            "status": span.status.status_code.name,
            "seconds": ((span.end_time or 0) - (span.start_time or 0)) / 1e9,
        }
        for span in SPANS.get_finished_spans()
    ]
    sys.stdout.write(json.dumps(found))
