"""OpenTelemetry's in-memory exporters hold what was done; where it is not used, nothing of it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from psfharvest.events.histogram import Histogram
from psfharvest.metrics.telemetry import BURST, PER_SECOND, Sampling, _values_s
from psfharvest.simulator import Fault, Simulator

PROGRAM = Path(__file__).parent / "otel_program.py"


def ran(simulator: Simulator, folder: Path, backend: str, whose: str) -> dict[str, Any]:
    line = [sys.executable, str(PROGRAM), simulator.url, str(folder), backend, whose]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.sample(1)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("whose", ["ours", "own"])
def test_metrics_and_spans(simulator: Simulator, tmp_path: Path, backend: str, whose: str) -> None:
    """Counts are the report's; spans have the caller's as parents; a caller's own client is not measured."""
    simulator.faults = [Fault("truncate", service="file", first=3)]
    found = ran(simulator, tmp_path, backend, whose)
    report, metrics, closed = found["report"], found["open"], found["closed"]

    def value(name: str, **labels: Any) -> Any:
        return sum(v for attributes, v in metrics[name] if labels.items() <= attributes.items())

    assert 60 == report["done"]
    assert 120 == value("psfharvest.cutouts", by="harvest", state="done")
    assert 60 == value("psfharvest.cutouts", by="stream", state="done")
    assert (1, 1) == tuple(value("psfharvest.cutouts", by="fetch", state=state) for state in ("done", "missing"))
    assert 2 * report["bytes"] == value("psfharvest.cutout.size", by="harvest")
    assert 3 == value("psfharvest.retries", reason="truncated")
    assert 0 == value("psfharvest.pending")
    assert 1 == value("psfharvest.archive.up")
    assert 0 < value("psfharvest.connections.limit")
    assert 2 <= metrics["psfharvest.store.batch.duration"][0][1]["count"]
    if whose == "ours":
        [[attributes, duration]] = metrics["http.client.request.duration"]
        n_bundles = sum(span["name"] == "psfharvest.bundle" for span in found["spans"])
        assert 60 + n_bundles + 60 + 1 == duration["count"]
        assert ("GET", "127.0.0.1", "http") == tuple(
            attributes[name] for name in ("http.request.method", "server.address", "url.scheme")
        )
        assert 0 == value("http.client.active_requests")
    else:
        assert "http.client.request.duration" not in metrics
        assert "http.client.active_requests" not in metrics
    assert "psfharvest.archive.up" not in closed

    spans = found["spans"]
    harvests = [span for span in spans if span["name"] == "psfharvest.harvest"]
    assert ["outer", "outer"] == [span["parent"] for span in harvests]
    assert [60, 60] == [span["attributes"]["psfharvest.done"] for span in harvests]
    fetches = [span for span in spans if span["name"] == "psfharvest.fetch"]
    assert [("outer fetch", "UNSET"), (None, "ERROR")] == [(s["parent"], s["status"]) for s in fetches]
    bundles = [span for span in spans if span["name"] == "psfharvest.bundle"]
    assert {"psfharvest.harvest"} == {span["parent"] for span in bundles}
    assert 60 == sum(span["attributes"]["psfharvest.n_whole"] for span in bundles)
    queries = [span for span in spans if span["name"] == "psfharvest.query"]
    assert {"rows", "count"} >= {span["attributes"]["psfharvest.question"] for span in queries}
    assert any(span["parent"] == "psfharvest.harvest" for span in queries)
    assert all(span["seconds"] >= 0 for span in spans)
    assert len(spans) < 30  # none a cutout


NOTHING = """
import sys, anyio
from psfharvest import Archive, Query
{before}
async def main():
    async with Archive({url!r}) as archive:
        await archive.harvest(Query("UVIS", limit=5), {folder!r}, suffixes=["flt"])
        uri = await anext(anyio.Path({folder!r}).rglob("*.fits"))
anyio.run(main)
print(sorted(n for n in sys.modules if n.startswith(("opentelemetry.sdk", "opentelemetry.metrics", "prometheus"))
             or n == "psfharvest.metrics.telemetry"))
"""


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("before", "loaded"),
    [("", []), ("import opentelemetry.trace", ["psfharvest.metrics.telemetry"])],
    ids=["nothing", "no provider"],
)
def test_nothing_is_imported_that_is_not_used(
    simulator: Simulator, tmp_path: Path, before: str, loaded: list[str]
) -> None:
    """Without OpenTelemetry in the process no module of it, and none of Prometheus', is loaded by a harvest."""
    code = NOTHING.format(url=simulator.url, folder=str(tmp_path / "d"), before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    assert 0 == done.returncode, done.stderr
    found = eval(done.stdout.splitlines()[-1])
    assert set(loaded) == {name for name in found if name.startswith("psfharvest")}
    if not before:
        assert [] == found


def test_many_durations_are_sampled() -> None:
    """A burst beyond what is recorded one by one costs no more than that, however many cutouts came."""
    times = Histogram()
    times.add(*[0.02, 0.3] * 50_000)
    sampling = Sampling()
    recorded = [value for at in (1.0, 1.1) for value in sampling.sample(at, times.counts, times.sum_s)]

    assert BURST * 0.9 < len(recorded) < BURST * 1.1
    assert pytest.approx(0.5, abs=0.02) == sum(value > 0.1 for value in recorded) / len(recorded)
    assert PER_SECOND == len(list(sampling.sample(2.1, times.counts, times.sum_s)))


def test_times_stand_for_their_bucket() -> None:
    """What is recorded of a bucket lies within it, and the sum is nearly kept."""
    times = Histogram()
    times.add(0.011, 0.012, 0.06, 0.09, 0.8)
    values = _values_s(times.counts, times.sum_s)
    again = Histogram()
    for value, n in zip(values, times.counts, strict=True):
        again.add(*[value] * n)

    assert times.counts == again.counts
    assert pytest.approx(times.sum_s, rel=0.2) == again.sum_s
