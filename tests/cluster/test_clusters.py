"""Real clusters of processes on this machine: the server counts."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from parts_made import QUERY as PLANNED
from parts_made import make_parts, states_of
from stage import Head, Processes, pids_at_work

from psfharvest import Archive, BadInput, Limits, Query, events
from psfharvest.cluster.local import RESTART_S
from psfharvest.simulator import Fault, Simulator
from psfharvest.store import parts
from psfharvest.store.manifest.place import is_in_parts
from psfharvest.store.recover.verification import verify

QUERY = Query("UVIS", limit=240)
CEILING = 6
# sockets that Dask's own processes leave to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """Return two workers of one thread each, and a client."""
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({"distributed.deploy.lost-worker-timeout": RESTART_S})
    with (
        LocalCluster(
            name="psfharvest-tests",
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
        ) as processes,
        Client(processes) as client,
    ):
        yield client


def harvest(url: str, folder: Path, client, what=QUERY, **more):
    async def work():
        async with Archive(url, limits=Limits(max_connections=CEILING)) as archive:
            return await archive.harvest(what, folder, cluster=client, part_rows=80, via="file", **more)

    return anyio.run(work)


@pytest.mark.campaign
@pytest.mark.quiet
def test_a_cluster_harvests_what_one_process_does(simulator: Simulator, tmp_path: Path, cluster) -> None:
    """States and bytes are those of a local run, within one ceiling, also where cutouts fail; then it is whole."""
    simulator.faults = [
        Fault("status", code=404, service="file", rate=0.04),
        Fault("truncate", service="file", rate=0.1, times=1),
    ]
    seen: list[events.Event] = []
    report = harvest(simulator.url, tmp_path / "stars", cluster, suffixes=["flc"], events=seen.append)
    settled = [event for event in seen if isinstance(event, events.Settled)]
    assert (report.done, report.missing, report.failed) == tuple(
        sum(getattr(event, name) for event in settled) for name in ("done", "missing", "failed")
    )
    assert (events.Started, events.Ended) == (type(seen[0]), type(seen[-1]))
    assert (240, 0, True) == (report.total, report.pending, report.is_fully_asked)
    assert simulator.peak_connections <= CEILING
    assert (report.done, 0, 0) == (
        verify(tmp_path / "stars").checked, verify(tmp_path / "stars").broken, verify(tmp_path / "stars").strays,
    )  # fmt: skip
    assert not (tmp_path / "stars/parts").exists()

    simulator.faults = []
    simulator.forget()
    again = harvest(simulator.url, tmp_path / "stars", cluster, suffixes=["flc"])
    assert (240, report.missing) == (again.total, again.missing)
    assert simulator.count("file") == report.failed


@pytest.mark.campaign
@pytest.mark.quiet
def test_a_list_is_harvested_in_parts(simulator: Simulator, tmp_path: Path, cluster) -> None:
    """Doubles, equal file names and bad lines are what they are in one folder."""
    folder = tmp_path / "stars"
    harvest(simulator.url, tmp_path / "first", cluster, Query("IR", limit=150), suffixes=["flt"])
    uris = list(states_of(tmp_path / "first"))
    lines = [*uris, "# comment", "no dataURI", *uris[:20], *(uri.replace("size=51", "size=21") for uri in uris[:9])]
    listed = tmp_path / "uris.txt"
    listed.write_text("\n".join(lines))

    report = harvest(simulator.url, folder, cluster, listed)

    async def local():
        async with Archive(simulator.url) as archive:
            simulator.forget()
            again = await archive.harvest(listed, folder, retry_states=())
            assert (0, report.total) == (again.requests, again.total)
            return await archive.harvest(listed, tmp_path / "local")

    assert anyio.run(local).total == report.total
    assert states_of(tmp_path / "local") == states_of(folder)
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        details = [detail for (detail,) in db.execute("SELECT detail FROM cutout WHERE reason = 'bad_uri'")]
    db.close()
    assert [True] == [detail.startswith("line 152:") for detail in details]


@pytest.mark.campaign
@pytest.mark.quiet
def test_workers_that_are_killed_lose_nothing(simulator: Simulator, tmp_path: Path, cluster) -> None:
    """Each kill costs its connections and 512 cutouts at most; the ceiling holds throughout."""
    folder = tmp_path / "stars"
    n_killed = 0

    def kill() -> None:
        nonlocal n_killed
        deadline = time.monotonic() + 60
        while n_killed < 2 and time.monotonic() < deadline:
            if simulator.count("file") > 40 * (n_killed + 1):
                pids = sorted(pids_at_work(cluster.cluster))
                with suppress(ProcessLookupError, IndexError):
                    os.kill(pids[-1], signal.SIGKILL)
                    n_killed += 1
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    report = harvest(simulator.url, folder, cluster, suffixes=["flc"])
    killer.join()

    assert (0, 240) == (report.exit_status, report.done)
    assert 240 == len(states_of(folder))
    assert simulator.peak_connections <= CEILING
    assert simulator.count("file") <= 240 + n_killed * (CEILING + 512)
    assert 0 == verify(folder).broken


def test_what_does_not_go_with_a_cluster_is_refused(simulator: Simulator, tmp_path: Path, cluster) -> None:
    """Before anything is made."""
    for more in (
        {"sink": "files"}, {"extend": True}, {"max_bytes": 10**9}, {"manifest": tmp_path / "m"}, {"layout": "tree"},
        {"sink": "parquet", "shard_bytes": 10**8},
    ):  # fmt: skip
        with pytest.raises(BadInput):
            harvest(simulator.url, tmp_path / "stars", cluster, suffixes=["flc"], **more)
    with pytest.raises(BadInput, match="write the list to a file"):
        harvest(simulator.url, tmp_path / "stars", cluster, ["mast:a/b"])
    with pytest.raises(BadInput, match="not UTF-8"):
        harvest(simulator.url, tmp_path / "\udcff", cluster, suffixes=["flc"])
    with pytest.raises(BadInput, match="Invalid column name"):
        harvest(simulator.url, tmp_path / "stars", cluster, Query("UVIS", columns=["zzz"]), suffixes=["flc"])
    assert not (tmp_path / "stars").exists()

    make_parts(simulator.url, tmp_path / "parts", sink="parquet", n_harvested=0)
    with pytest.raises(BadInput, match="sink 'parquet'"):
        harvest(simulator.url, tmp_path / "parts", cluster, PLANNED, suffixes=["flc"], sink="shards")
    with pytest.raises(BadInput, match="another harvest"):
        harvest(simulator.url, tmp_path / "parts", cluster, suffixes=["flc"])


def test_the_command_refuses_what_cannot_be(psfharvest, simulator: Simulator) -> None:
    """With exit status 2, in the words of the command line."""
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    words = ("harvest", "stars", "UVIS", "--suffix", "flc", "--limit", "5")
    assert "--sink shards" in psfharvest(*words, "--workers", "2", "--sink", "files", env=env).err
    assert "either" in psfharvest(*words, "--workers", "2", "--dask", "tcp://x:1", env=env).err
    refused = psfharvest("harvest", "stars", "--uris", "-", "--dask", "tcp://x:1", env=env)
    assert (2, True) == (refused.status, "file" in refused.err)

    never_asked = {"PSFHARVEST_ARCHIVE": "http://127.0.0.1:1"}
    for more in (("--extend",), ("--max-bytes", "1G"), ("--manifest", "m.sqlite")):
        refused = psfharvest(*words, "--workers", "2", *more, env=never_asked)
        assert (2, True, 1) == (refused.status, "--workers" in refused.err, refused.err.count("\n")), more
    for address, allowed in (("local:0", "local:4"), ("local:x", "local:4"), ("no.json", "no such file")):
        refused = psfharvest(*words, "--dask", address, env=never_asked)
        assert (2, True) == (refused.status, allowed in refused.err), address


def test_the_command_counts_every_request_and_waits_for_the_cluster(psfharvest, simulator: Simulator) -> None:
    """While that starts, no archive is said to be silent; the folder's account has the counts of the plan, too."""
    simulator.forget()
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    run = psfharvest(
        "harvest", "stars", "UVIS", "--suffix", "flc", "--limit", "5", "--workers", "1", "--json", env=env
    )
    assert (0, True, False) == (run.status, "starting 1 worker process" in run.err, "no answer" in run.err)
    asked = simulator.count("any")
    assert asked > simulator.count("file") + 1
    status = psfharvest("status", "stars", "--json")
    assert (5, asked, asked) == (status.account["total"], status.account["requests"], run.account["requests"])


@pytest.mark.campaign
def test_an_outage_that_workers_meet_is_told(psfharvest, simulator: Simulator) -> None:
    """Also while the plan is made, of which there is no progress else."""
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    simulator.faults = [Fault("outage", seconds=8)]
    run = psfharvest("harvest", "stars", "UVIS", "--suffix", "flc", "--limit", "5", "--workers", "1", env=env)
    assert (0, True) == (run.status, "archive down since" in run.err), run.err


@pytest.mark.campaign
def test_a_cluster_without_workers_is_told_and_waited_for(simulator: Simulator, tmp_path: Path) -> None:
    """It goes on once a batch system has started one."""
    processes = Processes(tmp_path, 0)
    head = Head(tmp_path / "stars", str(processes.file), simulator.url, 20, CEILING, 60)
    try:
        assert head.process.stderr is not None
        assert "the cluster has no workers" in head.process.stderr.readline()
        processes.workers.append(processes.add_worker(tmp_path))
        status, said, _ = head.end(120)
    finally:
        head.kill()
        processes.kill()
    assert (0, 20) == (status, said["done"])


@pytest.mark.campaign
@pytest.mark.quiet
def test_a_terminated_harvest_gives_the_sum_of_its_parts(simulator: Simulator, tmp_path: Path) -> None:
    """As ``status`` does, after workers of its own that are busy; the same command continues."""
    folder = tmp_path / "stars"
    simulator.faults = [Fault("slow", bytes_per_s=40_000, service="file")]
    head = Head(folder, "local:2", simulator.url, 240, CEILING, 60)
    try:
        deadline = time.monotonic() + 60
        while not (is_in_parts(folder) and parts.summed(folder).done) and time.monotonic() < deadline:
            time.sleep(0.1)
        head.process.send_signal(signal.SIGTERM)
        status, said, _ = head.end(60)
    finally:
        head.kill()
    stored = parts.summed(folder)
    assert (143, "terminated", False) == (status, said["stopped"], said["is_fully_asked"])
    assert 0 < said["done"] <= stored.done <= stored.total
    simulator.faults = []

    head = Head(folder, "local:2", simulator.url, 240, CEILING, 60)
    try:
        status, said, _ = head.end(100)
    finally:
        head.kill()
    assert (0, 240) == (status, said["done"])
    assert 0 == verify(folder).broken
