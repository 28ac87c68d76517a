"""The examples run as they stand: two services, a trio program and a plain script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from psfharvest import Query, blocking
from psfharvest.examples import starlette_service
from psfharvest.mast_api_psf import make_dataURIs
from psfharvest.simulator import Fault, Simulator


@pytest.fixture
def _default(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSFHARVEST_ARCHIVE", simulator.url)


def answers(app: Any, *paths: str, **params: Any) -> list[httpx.Response]:
    """Run a service for as long as some requests take."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service", follow_redirects=True) as client,
        ):
            return [await client.get(path, params=params) for path in paths]

    return anyio.run(ask)


@pytest.mark.usefixtures("_default")
def test_the_fastapi_service(simulator: Simulator) -> None:
    """It counts, gives a cutout's own bytes, answers each error by its status, and shows its metrics."""
    from psfharvest.examples import fastapi_service  # a second of imports, for this test alone

    with blocking.Archive(simulator.url) as archive:
        uri = make_dataURIs(archive.query(Query("UVIS", limit=1), progress=False), "UVIS", ["flt"])[0]
    app = fastapi_service.app
    n, cutout, metrics = answers(app, "/count", "/cutout", "/metrics", filter="F606W", uri=uri)
    (missing,) = answers(app, "/cutout", uri="mast:HST/product/nothing.fits")
    (bad,) = answers(app, "/cutout", uri="no dataURI")
    (none,) = answers(app, "/count", filter="F606X")
    simulator.faults = [Fault("status", code=500, service="file", match="fails")]
    (failed,) = answers(app, "/cutout", uri="mast:HST/product/fails.fits")

    assert n.json() > 0
    assert simulator.render(uri) == cutout.content
    assert 'psfharvest_delivered_total{by="fetch",state="done"} 1.0' in metrics.text
    assert (404, 422, 502) == (missing.status_code, bad.status_code, failed.status_code)
    assert (200, 0) == (none.status_code, none.json())


@pytest.mark.usefixtures("_default")
def test_the_starlette_service() -> None:
    """It streams a line a star, and refuses what is no query."""
    (found,) = answers(starlette_service.app, "/stars", filter="F606W", limit="20")
    (bad,) = answers(starlette_service.app, "/stars", limit="many")

    stars = [json.loads(line) for line in found.text.splitlines()]
    assert 20 == len({star["uri"] for star in stars})
    assert all(star["peak"] > 0 for star in stars)
    assert 422 == bad.status_code


def program(name: str, *words: str) -> str:
    line = [sys.executable, "-W", "error", "-m", f"psfharvest.examples.{name}", *words]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PSFHARVEST", "MAST"))}
    done = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.campaign
def test_the_trio_program(simulator: Simulator) -> None:
    """Both detectors give a peak."""
    lines = program("trio_program", simulator.url).splitlines()

    assert ["IR", "UVIS"] == [line.split(":")[0] for line in lines]
    assert all(float(line.split(":")[1]) > 0 for line in lines)


def test_the_script(simulator: Simulator, tmp_path: Path) -> None:
    """It harvests, and again it asks for nothing."""
    first = program("script", str(tmp_path / "stars"), simulator.url)
    simulator.forget()

    assert "100 of 100 stars; their mean peaks at x=25, y=25" in first
    assert first == program("script", str(tmp_path / "stars"), simulator.url)
    assert 0 == simulator.count("file") + simulator.count("bundle")
