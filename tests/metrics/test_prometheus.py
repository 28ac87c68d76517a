"""The metrics for Prometheus say what the events say, in a form that its own parser reads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest, make_asgi_app
from prometheus_client.parser import text_string_to_metric_families

from harness import command
from psfharvest import Archive, Query, RetryPolicy, events
from psfharvest.events.histogram import Histogram
from psfharvest.events.model import DURATION_BOUNDS_S, N_BUCKETS
from psfharvest.metrics.prometheus import Metrics
from psfharvest.simulator import Fault, Simulator

pytestmark = pytest.mark.anyio
QUERY = Query("UVIS", filter="F606W", limit=60)
QUICK = RetryPolicy(attempts=2, first_delay_s=0.01, max_delay_s=0.05, patience_s=20.0)
Samples = dict[tuple[str, tuple[str, ...]], float]


def read(text: str) -> Samples:
    """What Prometheus' parser finds: name and values of the labels, and the value."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def exposed(metrics: Metrics) -> Samples:
    registry = CollectorRegistry()
    registry.register(metrics)
    return read(generate_latest(registry).decode())


async def test_a_harvest_with_faults_is_counted(simulator: Simulator, tmp_path: Path) -> None:
    """States, reasons, bytes, retries, requests and queries are the report's; nothing is left pending."""
    simulator.faults = [
        Fault("status", code=404, service="file", every=7),
        Fault("truncate", service="file", every=5),
    ]
    metrics = Metrics()
    async with Archive(simulator.url, retry=QUICK, events=metrics) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], via="file")

    found = exposed(metrics)
    assert report.missing
    assert report.retried
    for state in ("done", "missing", "failed"):
        assert getattr(report, state) == found["psfharvest_cutouts_total", (state,)]
    assert report.bytes == found["psfharvest_stored_bytes_total", ()]
    assert report.done == found["psfharvest_via_total", ("file",)]
    named = {key[1][0]: n for key, n in found.items() if key[0] == "psfharvest_unavailable_total"}
    assert report.reasons == named
    retried = {key[1][0]: n for key, n in found.items() if key[0] == "psfharvest_retries_total"}
    assert report.retried == retried
    assert report.done == found["psfharvest_request_duration_seconds_count", ()]
    assert report.done == found["psfharvest_request_duration_seconds_bucket", ("+Inf",)]
    assert 0 < found["psfharvest_request_duration_seconds_sum", ()]
    assert 1 <= found["psfharvest_queries_total", ("rows",)]
    assert (1, 1) == (found["psfharvest_runs_started_total", ()], found["psfharvest_runs_ended_total", ("",)])
    assert 0 == found["psfharvest_pending", ()] == found["psfharvest_requests_in_flight", ()]
    assert 1 == found["psfharvest_archive_up", ()]


async def test_two_harvests_at_once_and_a_second_run_add_up(simulator: Simulator, tmp_path: Path) -> None:
    """Runs of two folders have the same number; failed ones that get fresh attempts are pending once."""
    metrics = Metrics()
    listed = ["mast:HST/product/nothing.fits"]
    simulator.faults = [Fault("status", code=500, service="file", match="nothing")]
    async with Archive(simulator.url, retry=QUICK, events=metrics) as archive:
        async with anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(lambda name=name: archive.harvest(QUERY, tmp_path / name, suffixes=["flt"]))
        await archive.harvest(listed, tmp_path / "c")
        before = exposed(metrics)
        simulator.faults = []
        again = await archive.harvest(listed, tmp_path / "c")

    found = exposed(metrics)
    assert 120 == before["psfharvest_cutouts_total", ("done",)] == found["psfharvest_cutouts_total", ("done",)]
    assert (1, 1) == (before["psfharvest_cutouts_total", ("failed",)], again.missing)
    assert 1 == found["psfharvest_cutouts_taken_back_total", ("failed",)]
    assert 0 == before["psfharvest_pending", ()] == found["psfharvest_pending", ()]
    assert 4 == found["psfharvest_runs_ended_total", ("",)]


async def test_single_requests_and_streams_are_counted(simulator: Simulator) -> None:
    """Each with its states, bytes and times; they are no cutouts of harvests."""
    metrics = Metrics()
    async with Archive(simulator.url, retry=QUICK, events=metrics) as archive:
        uris: list[str] = []
        size = 0
        async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
            async for cutout in cutouts:
                uris.append(cutout.uri)
                size += len(cutout.raw)
        async with anyio.create_task_group() as group:
            for uri in uris[:5]:
                group.start_soon(archive.fetch, uri)

    found = exposed(metrics)
    assert (60, 5) == tuple(found["psfharvest_delivered_total", (by, "done")] for by in ("stream", "fetch"))
    assert size == found["psfharvest_delivered_bytes_total", ("stream",)]
    assert 65 == found["psfharvest_request_duration_seconds_count", ()]
    assert 0 == found["psfharvest_cutouts_total", ("done",)]


async def test_bundles_are_counted(simulator: Simulator, tmp_path: Path) -> None:
    """Each bundle is one, with what came of it."""
    seen: list[events.Event] = []
    metrics = Metrics()
    async with Archive(simulator.url, events=metrics) as archive:
        report = await archive.harvest(QUERY, tmp_path / "d", suffixes=["flt"], via="bundle", events=seen.append)

    bundles = [event for event in seen if isinstance(event, events.Bundled)]
    assert 60 == report.done == sum(event.n_whole for event in bundles)
    assert len(bundles) == exposed(metrics)["psfharvest_bundles_total", ("done",)]


async def test_an_outage_is_seen(simulator: Simulator, tmp_path: Path) -> None:
    """The archive is not up; the run that gave up is counted by what stopped it."""
    simulator.faults = [Fault("status", code=503)]
    metrics = Metrics()
    async with Archive(
        simulator.url, retry=RetryPolicy(first_delay_s=0.01, patience_s=0.3), events=metrics
    ) as archive:
        uris = [f"mast:HST/product/{n}.fits" for n in range(30)]
        report = await archive.harvest(uris, tmp_path / "d")

    found = exposed(metrics)
    assert "archive_down" == report.stopped
    assert (0, 1) == (found["psfharvest_archive_up", ()], found["psfharvest_outages_total", ()])
    assert 1 == found["psfharvest_runs_ended_total", ("archive_down",)]
    assert 0 == found["psfharvest_pending", ()]


async def test_it_can_be_mounted_in_a_service(simulator: Simulator) -> None:
    """An ASGI application of prometheus_client's gives the metrics, on both event loops."""
    metrics = Metrics()
    registry = CollectorRegistry()
    registry.register(metrics)
    async with Archive(simulator.url, events=metrics) as archive:
        await archive.count(QUERY)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await make_asgi_app(registry)(scope, receive, send)

    assert 1 == read(sent[-1]["body"].decode())["psfharvest_queries_total", ("count",)]


@given(
    st.lists(
        st.lists(
            st.one_of(st.sampled_from(DURATION_BOUNDS_S), st.floats(0, 100, allow_subnormal=False)), max_size=6
        )
    )
)
def test_buckets_are_cumulative_and_complete(batches: list[list[float]]) -> None:
    """Whatever the times: each bucket holds all that took no longer, the last one everything."""
    whole, metrics, told = Histogram(), Metrics(), Histogram()
    for times in batches:
        whole.add(*times)
        fresh, told = whole.since(told), whole.copy()
        metrics(
            events.Settled(
                0.0, 1, len(times), 0, 0, 0, {}, fresh.counts, fresh.sum_s, {"file": len(times)}, {}, 0.0
            )
        )  # fmt: skip
    found = exposed(metrics)
    every = [time for times in batches for time in times]
    name = "psfharvest_request_duration_seconds"
    for bound in DURATION_BOUNDS_S:
        assert sum(time <= bound for time in every) == found[f"{name}_bucket", (str(float(bound)),)]
    assert len(every) == found[f"{name}_count", ()] == found[f"{name}_bucket", ("+Inf",)]
    assert pytest.approx(sum(every)) == found[f"{name}_sum", ()]
    assert N_BUCKETS == len(whole.counts)


def url_of(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http"))


def test_the_port_is_served_while_a_harvest_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    """--metrics-port 0 says where; what is read there grows to the account; it ends with the command."""
    words = ["harvest", "d", "UVIS", "--limit", "200", "--suffix", "flt", "--metrics-port", "0"]
    words += ["--archive", simulator.url, "--max-per-second", "100", "--via", "file"]
    seen: list[Samples] = []
    with subprocess.Popen(command(*words), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(url_of(line) for line in process.stderr if "metrics:" in line)
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        while process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    seen.append(read(answer.read().decode()))
            except OSError:
                break
            time.sleep(0.1)
        reader.join()
        assert 0 == process.wait(timeout=60)

    done = [samples.get(("psfharvest_cutouts_total", ("done",)), 0.0) for samples in seen]  # none before it begins
    assert done == sorted(done)
    assert any(0 < n <= 200 for n in done)


@pytest.mark.parametrize("verb", ["harvest", "resume"])
def test_a_port_in_use_is_bad_input(psfharvest, simulator: Simulator, tmp_path: Path, verb: str) -> None:
    """Status 2, with the port and what to do; nothing was made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["UVIS", "--limit", "5", "--suffix", "flt"] if verb == "harvest" else []
        run = psfharvest(verb, "d", *words, "--archive", simulator.url, "--metrics-port", str(port))

    assert 2 == run.status
    assert str(port) in run.err
    assert "choose another port" in run.err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "word", ["x", "-1", "70000", ":80", "", "host:", "9" * 5000], ids=lambda word: f"{word[:8]} of {len(word)}"
)
def test_what_is_no_port_is_bad_input(psfharvest, simulator: Simulator, tmp_path: Path, word: str) -> None:
    """Status 2, with what is allowed."""
    run = psfharvest("resume", "d", "--archive", simulator.url, "--metrics-port", word)

    assert 2 == run.status
    assert "65535 is allowed" in run.err


HIDDEN = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"prometheus_client", "opentelemetry"}:
            raise ModuleNotFoundError(name)
import importlib.util
true_find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "prometheus_client" else true_find(name, *a)
sys.meta_path.insert(0, Absent())
from psfharvest.__main__ import main
main()
"""


@pytest.mark.campaign
def test_without_the_extra_it_says_how_to_install_it(simulator: Simulator, tmp_path: Path) -> None:
    """Status 2, with a command to run; without the option, the harvest goes on as ever."""
    words = ["harvest", "d", "UVIS", "--limit", "3", "--suffix", "flt", "--archive", simulator.url]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PSFHARVEST")}

    def run(*more: str) -> Any:
        line = [sys.executable, "-c", HIDDEN, *words, *more]
        return subprocess.run(
            line, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100, check=False
        )

    refused = run("--metrics-port", "0")
    assert 2 == refused.returncode
    assert "prometheus_client" in refused.stderr
    assert "install" in refused.stderr
    assert not (tmp_path / "d").exists()
    assert 0 == run().returncode
