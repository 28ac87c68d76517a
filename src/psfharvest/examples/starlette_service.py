"""
A Starlette service that streams measurements as they come: ``uvicorn psfharvest.examples.starlette_service:app``.

``GET /stars?filter=F606W&limit=100`` gives a line of JSON a star; a reader who leaves ends the requests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from psfharvest import Archive, BadInput, Query

LIMIT_MAX = 1000


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold the archive open; without an address it is the public one, or what PSFHARVEST_ARCHIVE says."""
    async with Archive() as app.state.archive:
        yield


async def stars(request: Request) -> Response:
    """Stream dataURI, peak and sum of each star's cutout."""
    try:
        limit = min(int(request.query_params.get("limit", "100")), LIMIT_MAX)
        query = Query("UVIS", filter=request.query_params.get("filter", "F606W"), n_sat_pixels=0, limit=limit)
    except (BadInput, ValueError) as error:
        return PlainTextResponse(str(error), 422)
    return StreamingResponse(lines(request.app.state.archive, query), media_type="application/x-ndjson")


async def lines(archive: Archive, query: Query) -> AsyncIterator[str]:
    """Yield a line of JSON for each cutout."""
    async with archive.stream(query, suffixes=["flt"]) as cutouts:
        async for cutout in cutouts:
            pixels = cutout.data
            yield json.dumps({"uri": cutout.uri, "peak": float(pixels.max()), "sum": float(pixels.sum())}) + "\n"


app = Starlette(lifespan=lifespan, routes=[Route("/stars", stars)])
