"""Runs that are stopped while bundles stream: nothing is claimed whose proof was still to come."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pyarrow.parquet as pq
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import rows_of, stored_bytes
from psfharvest import Archive, Limits, Query, RetryPolicy
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Progress
from psfharvest.show.progress import Reporter
from psfharvest.simulator import Fault, Settings, Simulator
from sampling import examples

N = 200
QUERY = Query("UVIS", limit=N)
SINKS = ("files", "shards", "parquet")
SLOW = Settings(sources=3000, bundle_latency_s_per_cutout=0.01)
CHANGED = [Fault("bundle_corrupt", form="pixel", rate=0.2)]
"""One cutout in five is changed in a way that only the checksum at the bundle's end shows."""
CHILD = """
import os, sys
from psfharvest import Archive, Limits, Query
from psfharvest.cli import loop

url, sink, signum, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sent = []

def watch(progress):
    if progress.arrived >= 20 and not sent:
        sent.append(signum)
        os.kill(os.getpid(), signum)

async def run():
    async with Archive(url, limits=Limits(max_connections=2)) as archive:
        query = Query("UVIS", limit=n)
        await archive.harvest(query, "home", suffixes=["flt"], sink=sink, via="bundle", progress=watch)

try:
    loop.run(run)
except loop.Interrupted as stop:
    sys.exit(stop.code)
"""


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is said who is trusted; the server's own certificate stands beside it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def http() -> Iterator[Simulator]:
    """A slow archive over plain HTTP."""
    with Simulator(SLOW) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def https(ca_file: Path) -> Iterator[Simulator]:
    """A slow archive over TLS."""
    server = str(ca_file.with_name("server.pem"))
    with Simulator(SLOW, tls=(server, server)) as simulator:
        yield simulator


def stop_in_a_bundle(simulator: Simulator, folder: Path, ca_file: Path, sink: str, signum: int) -> int:
    """Harvest in a process that gets a signal when twenty cutouts of unfinished bundles have arrived."""
    words = [sys.executable, "-c", CHILD, simulator.url, sink, str(int(signum)), str(N)]
    env = {"PYTHONPATH": ":".join(sys.path), "SSL_CERT_FILE": str(ca_file), "PATH": ""}
    return subprocess.run(words, cwd=folder, env=env, timeout=60, check=False).returncode


def check_claims(folder: Path, simulator: Simulator) -> int:
    """Hold all that is claimed against the truth, and return how much it is; all else must be pending."""
    rows = rows_of(folder)
    done = [row for row in rows if row["state"] == "done"]
    assert N == len(rows)
    assert N - len(done) == sum(row["state"] == "pending" for row in rows)
    for row in done:
        assert simulator.render(row["uri"]) == stored_bytes(folder, row), row["location"]
    return len(done)


def n_readable(folder: Path, sink: str) -> int:
    """Return how many cutouts the sinks' own readers find: those of files, tars and Parquet."""
    found = [path.name for path in folder.glob("WFC3PSF/**/*.fits")]
    for path in folder.glob("shards/*.tar"):
        if not path.stat().st_size:
            continue  # opened, and killed before the first batch
        with tarfile.open(path) as tar:
            found += [member.name for member in tar if member.name.endswith(".fits")]
    for path in folder.glob("parquet/[0-9]*/*.parquet"):
        found += pq.read_table(path, columns=["uri"])["uri"].to_pylist()
    assert len(set(found)) == len(found), f"a cutout twice in {sink}"
    return len(found)


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    ("scheme", "signum"), [("http", signal.SIGKILL), ("http", signal.SIGINT), ("https", signal.SIGKILL)]
)
def test_a_stop_before_the_checksum_claims_nothing(
    http: Simulator,
    https: Simulator,
    ca_file: Path,
    tmp_path: Path,
    psfharvest,
    sink: str,
    scheme: str,
    signum: int,
) -> None:
    """Stopped amid bundles that are damaged, a run has claimed nothing of them; the next one gets the truth."""
    simulator = https if scheme == "https" else http
    simulator.faults = CHANGED

    status = stop_in_a_bundle(simulator, tmp_path, ca_file, sink, signum)

    assert (-signal.SIGKILL if signum == signal.SIGKILL else 130) == status
    assert 0 == check_claims(tmp_path / "home", simulator)
    assert 0 == n_readable(tmp_path / "home", sink)

    words = ["resume", "home", "--archive", simulator.url, "--via", "file", "--json"]
    simulator.faults = []
    again = psfharvest(*words, env={"SSL_CERT_FILE": str(ca_file)})
    assert (0, N) == (again.status, again.account["done"]), again.err
    assert N == check_claims(tmp_path / "home", simulator) == n_readable(tmp_path / "home", sink)
    assert not [path.name for path in (tmp_path / "home").glob(".*") if path.is_dir() and any(path.iterdir())]


@pytest.mark.campaign
@pytest.mark.parametrize("sink", SINKS)
def test_an_interrupt_keeps_what_came_over_tls(
    https: Simulator, ca_file: Path, tmp_path: Path, psfharvest, sink: str
) -> None:
    """TLS has checked what arrived before the interrupt: it is claimed, and not asked for again."""
    https.faults = []

    assert 130 == stop_in_a_bundle(https, tmp_path, ca_file, sink, signal.SIGINT)

    n_kept = check_claims(tmp_path / "home", https)
    assert 20 <= n_kept < N
    https.forget()
    words = ["resume", "home", "--archive", https.url, "--via", "file", "--json"]
    again = psfharvest(*words, env={"SSL_CERT_FILE": str(ca_file)})
    assert (0, N) == (again.status, again.account["done"]), again.err
    assert N - n_kept == https.count("file")
    assert N == check_claims(tmp_path / "home", https)


async def stop_when(simulator: Simulator, folder: Path, sink: str, n_arrived: int, seen: list[Progress]) -> None:
    """Harvest until so many have arrived or are done, then cancel."""
    retry = RetryPolicy(first_delay_s=0.02, max_delay_s=0.05)
    async with Archive(simulator.url, limits=Limits(max_connections=3), retry=retry) as archive:
        with anyio.fail_after(60), anyio.CancelScope() as scope:

            def watch(progress: Progress) -> None:
                seen.append(progress)
                if progress.arrived + progress.tally.done >= n_arrived:
                    scope.cancel()

            await archive.harvest(QUERY, folder, suffixes=["flt"], sink=sink, via="bundle", progress=watch)


@pytest.mark.campaign
@given(
    sink=st.sampled_from(SINKS),
    n_arrived=st.integers(1, N),
    fault=st.sampled_from(
        [
            Fault("bundle_corrupt", form="pixel", every=2, rate=0.1),
            Fault("bundle_corrupt", form="pixel", rate=0.01),
            Fault("bundle_corrupt", form="stream", every=2),
            Fault("bundle_cut", at=0.7, every=2),
            Fault("reset", at=400_000, service="bundle", every=2),
        ]
    ),
)
@settings(max_examples=examples(25))
def test_after_any_stop_what_is_done_is_true(http: Simulator, sink: str, n_arrived: int, fault: Fault) -> None:
    """Cancelled at any number of arrivals, amid any damage, a run has claimed nothing but the truth."""
    http.faults = [fault]
    seen: list[Progress] = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "home"
        anyio.run(stop_when, http, folder, sink, n_arrived, seen)
        n_done = check_claims(folder, http)
        assert n_done == n_readable(folder, sink)
    assert all(p.arrived <= p.tally.pending for p in seen)


async def test_progress_shows_what_has_arrived(http: Simulator, tmp_path: Path) -> None:
    """While the only bundle streams nothing is done, and both the numbers and the words say what has come."""
    http.faults = []
    seen: list[Progress] = []
    async with Archive(http.url, limits=Limits(max_connections=1)) as archive:
        report = await archive.harvest(
            Query("UVIS", limit=80), tmp_path, suffixes=["flt"], via="bundle", progress=seen.append
        )

    assert 80 == report.done
    amid = [progress for progress in seen if progress.arrived]
    assert amid
    assert all(progress.tally.done == 0 for progress in amid)
    assert f"{amid[-1].arrived} arrived, not yet verified" in Reporter(is_quiet=True).line(amid[-1])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_streams_take_no_bundles() -> None:
    """A stream hands each cutout over as it comes, which no bundle allows: it is refused, and never chosen."""
    with Simulator(Settings(sources=3000, latency_s=0.06)) as simulator:
        async with Archive(simulator.url, limits=Limits(max_connections=16)) as archive:
            with pytest.raises(BadInput, match="a stream travels by file"):
                async with archive.stream(QUERY, suffixes=["flt"], via="bundle"):
                    raise AssertionError("it must be refused")
            async with archive.stream(Query("UVIS", limit=400), suffixes=["flt"]) as cutouts:
                n = len([cutout async for cutout in cutouts])

        assert (400, 0) == (n, simulator.count("bundle"))
