"""
A FastAPI service that serves single cutouts: ``uvicorn psfharvest.examples.fastapi_service:app``.

One `Archive` lives as long as the service; all requests share its connections, its pauses and its counters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CollectorRegistry, make_asgi_app

from psfharvest import Archive, ArchiveDown, BadInput, CutoutFailed, CutoutMissing, Query
from psfharvest.metrics.prometheus import Metrics

DEADLINE_S = 20.0
metrics = Metrics()
registry = CollectorRegistry()
registry.register(metrics)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the archive open; without an address it is the public one, or what PSFHARVEST_ARCHIVE says."""
    async with Archive(events=metrics) as app.state.archive:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/metrics", make_asgi_app(registry))


@app.get("/count")
async def count(request: Request, filter: str) -> int:  # noqa: A002 - the name in the address
    """Return how many unsaturated stars of WFC3/UVIS there are in a filter."""
    try:
        n: int = await request.app.state.archive.count(Query("UVIS", filter=filter, n_sat_pixels=0))
    except BadInput as error:
        raise HTTPException(422, str(error)) from error
    except ArchiveDown as error:
        raise HTTPException(503, str(error), {"Retry-After": "60"}) from error
    return n


@app.get("/cutout")
async def cutout(request: Request, uri: str) -> Response:
    """Return one cutout as a FITS file; a client that leaves takes its request back."""
    try:
        found = await request.app.state.archive.fetch(uri, deadline_s=DEADLINE_S)
    except CutoutMissing as error:
        raise HTTPException(404, str(error)) from error
    except CutoutFailed as error:  # DeadlinePassed is one, too
        raise HTTPException(502, str(error)) from error
    except ArchiveDown as error:
        raise HTTPException(503, str(error), {"Retry-After": "60"}) from error
    except BadInput as error:
        raise HTTPException(422, str(error)) from error
    return Response(found.raw, media_type="application/fits")
