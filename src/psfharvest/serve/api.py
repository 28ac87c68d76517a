"""The routes under ``/api``: each reads its parameters, asks one folder, and answers in JSON or bytes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from psfharvest.core.errors import BadInput, PsfharvestError
from psfharvest.core.fits import datauri
from psfharvest.core.fits import pixels as images
from psfharvest.serve import export, parameters, pixels, rows, selection
from psfharvest.serve.folder import Folder, Stored
from psfharvest.serve.guard import refused
from psfharvest.serve.parameters import NUMBER_MAX, Parameter

NO_STORE = {"cache-control": "no-store"}
EVENTS_EVERY_S = 1.0
CARD_CHARACTERS = 80
CARDS_MAX = 2000
COLUMNS_MAX = 60
ROWS_AT_ONCE = 50
"""Rows that are read before another question has its turn: in the order of a sort each is in a block of its own."""


class Api:
    """
    The routes over some folders.

    Parameters
    ----------
    folders
        The harvests that are served; the parameter ``harvest`` is a position in them.
    """

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._folders = folders
        self._harvest = {"harvest": Parameter(parameters.whole(0, len(folders) - 1), 0)}

    def routes(self) -> list[Route]:
        """Return all of them."""
        return [
            Route("/api/account", self._account),
            Route("/api/now", self._now),
            Route("/api/series", self._series),
            Route("/api/notes", self._notes),
            Route("/api/facets", self._facets),
            Route("/api/points", self._points),
            Route("/api/rows", self._rows),
            Route("/api/pixels", self._pixels),
            Route("/api/cutout/{n}", self._cutout),
            Route("/api/fits/{n}", self._fits),
            Route("/api/export", self._export),
            Route("/api/events", self._events),
        ]

    async def _account(self, request: Request) -> Response:
        folder, _ = self._read(request)
        now = await folder.quick.ask(folder.live.now)
        why = await folder.slow.ask_long(request, folder.stop, lambda manifest, _: folder.live.why(manifest))
        harvests = [{"harvest": i, "name": one.name} for i, one in enumerate(self._folders)]
        return answer({**now, "why": why, "name": folder.name, "folder": str(folder.path), "harvests": harvests})

    async def _now(self, request: Request) -> Response:
        folder, given = self._read(request, version=Parameter(parameters.text(64), ""))
        now = await folder.quick.ask(folder.live.now)
        version = version_of(now)
        if given["version"] == version:
            return Response(status_code=204, headers=NO_STORE)
        return answer({"version": version, **now})

    async def _series(self, request: Request) -> Response:
        folder, _ = self._read(request)
        return answer(await folder.quick.ask(folder.live.series))

    async def _notes(self, request: Request) -> Response:
        folder, _ = self._read(request)
        return answer({"notes": await folder.quick.ask(folder.live.notes)})

    async def _facets(self, request: Request) -> Response:
        column = {"column": Parameter(parameters.text(100), "")}
        folder, given = self._read(request, **selection.PARAMETERS, **column)
        if not given["column"]:
            return answer({"columns": await folder.quick.ask(rows.column_list)})
        asked = selection.of(given)
        found = await folder.slow.ask_long(
            request,
            folder.stop,
            lambda manifest, is_left: rows.facet(folder.orders, manifest, given["column"], asked, is_left),
        )
        return answer(found)

    async def _points(self, request: Request) -> Response:
        axes = {name: Parameter(parameters.text(100), "") for name in ("x", "y")}
        folder, given = self._read(request, **selection.PARAMETERS, **axes)
        if not given["x"] or not given["y"]:
            raise BadInput("x and y: name two columns of numbers")
        asked, names = selection.of(given), (given["x"], given["y"])
        found = await folder.slow.ask_long(
            request,
            folder.stop,
            lambda manifest, is_left: rows.points(folder.orders, manifest, names, asked, is_left),
        )
        return Response(found, headers=NO_STORE, media_type="application/octet-stream")

    async def _rows(self, request: Request) -> Response:
        folder, given = self._read(
            request,
            **selection.PARAMETERS,
            at=Parameter(parameters.whole(0, NUMBER_MAX), 0),
            count=Parameter(parameters.whole(1, rows.ROWS_MAX), 100),
            columns=Parameter(parameters.text(2000), ""),
        )
        started_at = time.monotonic()
        asked = selection.of(given)
        columns = given["columns"].split(",", COLUMNS_MAX) if given["columns"] else None
        if columns is not None and len(columns) > COLUMNS_MAX:
            raise BadInput(f"columns: {COLUMNS_MAX} at most")
        members = await folder.members(request, asked)
        wanted = rows.numbers_at(members, given["at"], given["count"])
        found: list[dict[str, Any]] = []
        for start in range(0, max(1, len(wanted)), ROWS_AT_ONCE):
            some = wanted[start : start + ROWS_AT_ONCE]
            found += await folder.quick.ask(partial(rows.rows, numbers=some, columns=columns))
        detectors = await folder.quick.ask(folder.detectors)
        return answer(
            {
                "total": len(members),
                "ms": round(1000 * (time.monotonic() - started_at), 1),
                "at": given["at"],
                "python": selection.as_python(str(folder.path), asked),
                "shell": selection.as_shell(str(folder.path), asked, detectors),
                "rows": found,
            }
        )

    async def _pixels(self, request: Request) -> Response:
        folder, given = self._read(request, n=Parameter(parameters.wholes(NUMBER_MAX, pixels.TILES_MAX), ()))
        numbers = [n for n in given["n"] if n < 2**32]
        stored = await folder.stored(numbers, at_most_bytes=pixels.BODY_BYTES_MAX)
        body = await anyio.to_thread.run_sync(pixels.packed, numbers, stored)
        return Response(body, headers=NO_STORE, media_type="application/octet-stream")

    async def _cutout(self, request: Request) -> Response:
        folder, _ = self._read(request)
        n = number_of(request)
        found = await folder.quick.ask(lambda manifest: rows.rows(manifest, rows.one(n)))
        if not found:
            return refused(404, f"there is no cutout {n} in {folder.name}")
        stored = await folder.stored([n])
        is_lost = not stored and found[0]["state"] == "done"
        words = "its file is not as recorded; run: psfharvest verify --repair" if is_lost else ""
        facts = await anyio.to_thread.run_sync(_image_facts, stored[0]) if stored else {}
        return answer({"n": n, "row": found[0], "trouble": words, **facts})

    async def _fits(self, request: Request) -> Response:
        folder, _ = self._read(request)
        n = number_of(request)
        stored = await folder.stored([n])
        if not stored:
            return refused(404, f"no file of cutout {n} is stored in {folder.name}")
        return fits_response(stored[0].raw, stored[0].file_name)

    async def _export(self, request: Request) -> Response:
        formats = parameters.word(*export.KINDS)
        folder, given = self._read(request, **selection.PARAMETERS, format=Parameter(formats, "csv"))
        members = await folder.members(request, selection.of(given))
        headers = {
            **NO_STORE,
            "content-disposition": attachment(f"{folder.name.replace('/', '-')}.{given['format']}"),
        }
        body = export.lines(folder, members, given["format"]) if request.method == "GET" else _nothing()
        return StreamingResponse(body, headers=headers, media_type=export.KINDS[given["format"]])

    async def _events(self, request: Request) -> Response:
        folder, _ = self._read(request)
        body = _events(folder) if request.method == "GET" else _nothing()
        return StreamingResponse(body, headers=NO_STORE, media_type="text/event-stream")

    def _read(self, request: Request, **declared: Parameter) -> tuple[Folder, Mapping[str, Any]]:
        given = parameters.read(request, {**self._harvest, **declared})
        return self._folders[given["harvest"]], given


def answer(plain: Any) -> Response:
    """Return plain values as JSON."""
    return JSONResponse(plain, headers=NO_STORE)


def version_of(now: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal states."""
    return hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()[:16]


def number_of(request: Request) -> int:
    """Return the cutout's number in the path."""
    number: int = parameters.whole(1, NUMBER_MAX)("number", request.path_params["n"])
    return number


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under this name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[-200:] or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name[-200:], safe='')}"


def fits_response(raw: bytes, name: str) -> Response:
    """Return a FITS file to save."""
    headers = {**NO_STORE, "content-disposition": attachment(name)}
    return Response(raw, headers=headers, media_type="application/fits")


def _image_facts(stored: Stored) -> dict[str, Any]:
    asked = datauri.parts_of(stored.uri)
    header, image = images.parts(stored.raw, asked)
    cards = [header[at : at + CARD_CHARACTERS].rstrip() for at in range(0, len(header), CARD_CHARACTERS)]
    shape = None if image is None else [int(side) for side in image.shape]
    center = None if asked is None or asked.center is None else list(asked.center)
    return {
        "file_name": stored.file_name,
        "size_bytes": len(stored.raw),
        "header": [card for card in cards if card][:CARDS_MAX],
        "shape": shape,
        "center": center,
    }


async def _events(folder: Folder) -> AsyncIterator[str]:
    before = ""
    while not folder.stop.is_set():
        try:
            now = await folder.quick.ask(folder.live.now)
        except PsfharvestError as error:  # the manifest is gone or damaged, and may come back
            event, said = "trouble", {"error": str(error)}
        else:
            event, said = "now", now
        version = version_of(said)
        if version != before:
            before = version
            yield f"event: {event}\nid: {version}\ndata: {json.dumps({'version': version, **said})}\n\n"
        else:
            yield ": nothing new\n\n"
        await folder.stop.pause(EVENTS_EVERY_S)


async def _nothing() -> AsyncIterator[str]:
    return
    yield ""
