"""Bundles through the whole path: exact accounts, identical bytes, few requests; and damage of every kind."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from harness import check_every_file, command, rows_of, sampled, stored_bytes
from psfharvest import Archive, Limits, Query, RetryPolicy
from psfharvest.core.policy.route import AT_ONCE_S
from psfharvest.simulator import Fault, Settings, Simulator

QUICK = RetryPolicy(first_delay_s=0.05, max_delay_s=0.2)


def asked_counts(simulator: Simulator) -> Counter[str]:
    return Counter(uri for seen in simulator.requests if seen.service in ("file", "bundle") for uri in seen.uris)


async def test_everything_by_bundles(simulator: Simulator, tmp_path: Path) -> None:
    """Half a thousand cutouts come in few requests, byte for byte what single downloads give."""
    async with Archive(simulator.url, limits=Limits(max_connections=4)) as archive:
        report = await archive.harvest(Query("UVIS", limit=500), tmp_path, suffixes=["flt"], via="bundle")

    assert (500, 0) == (report.done, report.exit_status)
    assert report.requests < 500 / 25
    assert 0 == simulator.count("file")
    assert 500 == report.via["bundled_cutouts"]
    assert 500 == check_every_file(tmp_path, simulator)


FAULTS = {
    "members left out": [Fault("bundle_drop", rate=0.1)],
    "members corrupt": [Fault("bundle_corrupt", rate=0.05, form="cut")],
    "members html": [Fault("bundle_corrupt", rate=0.05, form="html")],
    "one stream in five cut": [Fault("bundle_cut", at=0.5, every=5)],
    "clean but short": [Fault("bundle_cut", at=0.5, every=3, framing="clean")],
    "stream damaged": [Fault("bundle_corrupt", form="stream", every=2)],
    "foreign members": [Fault("bundle_foreign")],
    "doubled members": [Fault("bundle_double", members=3)],
    "absolute": [Fault("bundle_evil", form="absolute")],
    "parent": [Fault("bundle_evil", form="parent")],
    "link": [Fault("bundle_evil", form="link")],
    "device": [Fault("bundle_evil", form="device")],
    "huge": [Fault("bundle_evil", form="huge", first=1)],
    "html with 200": [Fault("html", service="bundle", first=2)],
    "503": [Fault("status", code=503, service="bundle", first=2)],
    "no bundles here": [Fault("status", code=404, service="bundle")],
    "too large": [Fault("status", code=413, service="bundle", first=2)],
    "reset": [Fault("reset", at=30_000, service="bundle", every=2)],
    "bomb": [Fault("gzip_bomb", inflated_bytes=3e9, service="bundle", first=1)],
    "all together": [
        Fault("bundle_drop", rate=0.1),
        Fault("bundle_corrupt", rate=0.05, form="cut", seed=7),
        Fault("bundle_cut", at=0.5, every=5),
    ],
}


DEFAULT = ["stream damaged", "all together"]
"""The others are in the fault matrix of the default run, one cutout at a time."""


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", sampled(FAULTS, DEFAULT))
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_damage_ends_in_everything_done(simulator: Simulator, tmp_path: Path, name: str) -> None:
    """What a bundle lacks or spoils is asked for again, at most as often as attempts allow; nothing wrong stays."""
    simulator.faults = FAULTS[name]
    limits = Limits(max_connections=3, timeout_s=10)
    async with Archive(simulator.url, limits=limits, retry=QUICK) as archive:
        report = await archive.harvest(Query("UVIS", limit=400), tmp_path, suffixes=["flt"], via="bundle")
    simulator.faults = []

    assert (400, 0) == (report.done, report.exit_status), report
    assert 400 == check_every_file(tmp_path, simulator)
    assert max(asked_counts(simulator).values()) <= QUICK.attempts + (name in ("no bundles here", "too large"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_takes_files_where_they_are_fast(simulator: Simulator, tmp_path: Path) -> None:
    """On loopback a single is answered at once, and auto leaves it at that; but for a machine that is too busy."""
    async with Archive(simulator.url, limits=Limits(max_connections=4)) as archive:
        report = await archive.harvest(Query("IR", limit=500), tmp_path, suffixes=["flt"])

    is_at_once = report.elapsed_s * 4 / 500 < AT_ONCE_S
    assert 500 == report.done
    assert not simulator.count("bundle") or not is_at_once


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_takes_bundles_where_files_are_slow(tmp_path: Path) -> None:
    """Where each answer takes long, auto finds that bundles give more, and says so."""
    settings = Settings(sources=4000, latency_s=0.15, bundle_latency_s_per_cutout=0.001)
    with Simulator(settings) as simulator:
        async with Archive(simulator.url, limits=Limits(max_connections=4)) as archive:
            report = await archive.harvest(Query("UVIS", limit=1200), tmp_path, suffixes=["flt"])

        assert (1200, 0) == (report.done, report.exit_status)
        assert report.via["bundled_cutouts"] > 800, report.via
        assert "by bundles" in report.via["why"]
        assert 1200 == check_every_file(tmp_path, simulator)


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_abandons_bundles_that_take_longer_than_files(tmp_path: Path) -> None:
    """Where bundles are slow, those on trial are given up; their cutouts come singly, uncharged."""
    settings = Settings(sources=4000, latency_s=0.1, bundle_latency_s_per_cutout=30.0)
    with Simulator(settings) as simulator:
        async with Archive(simulator.url, limits=Limits(max_connections=6)) as archive:
            report = await archive.harvest(Query("UVIS", limit=400), tmp_path, suffixes=["flt"])

        assert (400, 0, {}) == (report.done, report.exit_status, dict(report.retried))
        assert (400, 0) == (report.via["files"], report.via["bundled_cutouts"])
        assert 1 <= simulator.count("bundle") <= 4
        assert "less by bundles" in report.via["why"]
        assert {1} == {row["attempts"] for row in rows_of(tmp_path)}


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_goes_back_to_files_when_bundles_fail(tmp_path: Path) -> None:
    """A host that offers no bundles is harvested by files, and every cutout is charged for files only."""
    with Simulator(Settings(sources=4000, latency_s=0.1)) as simulator:
        simulator.faults = [Fault("status", code=404, service="bundle")]
        async with Archive(simulator.url, limits=Limits(max_connections=16)) as archive:
            report = await archive.harvest(Query("UVIS", limit=500), tmp_path, suffixes=["flt"])

        assert (500, 0) == (report.done, report.exit_status)
        assert simulator.count("bundle") <= 16
        assert "offers no bundles" in report.via["why"]


@pytest.mark.campaign  # the default run has one in test_crash_campaign
def test_kills_in_the_middle_of_bundles(psfharvest, tmp_path: Path) -> None:
    """Killed while bundles stream, the account stays whole, and everything is done in the end."""
    with Simulator(Settings(sources=5000, bundle_latency_s_per_cutout=0.002)) as simulator:
        words = ["harvest", "d", "UVIS", "--limit", "1500", "--suffix", "flt", "--archive", simulator.url]
        words += ["--via", "bundle", "--sink", "shards", "--max-connections", "3", "--quiet", "--json"]
        for kill in range(5):
            with subprocess.Popen(command(*words), cwd=tmp_path, stderr=subprocess.DEVNULL) as busy:
                before = simulator.count("bundle")
                while simulator.count("bundle") < before + 2 and busy.poll() is None:
                    time.sleep(0.005)
                time.sleep(0.1 * kill)
                busy.kill()
            for row in rows_of(tmp_path / "d"):
                if row["state"] == "done":
                    assert simulator.render(row["uri"]) == stored_bytes(tmp_path / "d", row)
        run = psfharvest(*words)

        assert (0, 1500) == (run.status, run.account["done"])
        assert 1500 == check_every_file(tmp_path / "d", simulator)
