"""The ASGI application: the page, its API, metrics, and single cutouts through an archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from psfharvest.core.errors import (
    ArchiveDown,
    ArchiveError,
    BadInput,
    BadURI,
    CutoutMissing,
    FolderRefused,
    LocalError,
    PsfharvestError,
)  # fmt: skip
from psfharvest.serve import metrics, parameters
from psfharvest.serve.api import NO_STORE, Api, fits_response
from psfharvest.serve.folder import Folder, names_of
from psfharvest.serve.guard import Headers, refused
from psfharvest.serve.parameters import Parameter
from psfharvest.serve.static import StaticFile, static_files
from psfharvest.serve.stop import ClientLeft, Stop, while_waited_for

if TYPE_CHECKING:
    from psfharvest.client import Archive

RETRY_AFTER_S = 60
URI_CHARACTERS_MAX = 2000


def create_app(
    folder: str | Path | Sequence[str | Path],
    *,
    archive: Archive | None = None,
    stop: Stop | None = None,
    may_be_framed: bool = False,
) -> Starlette:
    """
    Return an ASGI application that shows harvest folders; it can be mounted under any prefix of another one.

    It reads only, and answers every request that reaches it: who may reach it is the surrounding application's
    matter.

    Parameters
    ----------
    folder
        A harvest folder, or several.
    archive
        An open `Archive`; then ``/cutout?uri=`` fetches single cutouts through it.
    stop
        Set it to end streams and long questions; without it, they end with their client.
    may_be_framed
        Whether a notebook shows the page in a frame.

    Raises
    ------
    FolderRefused
        When a folder holds no harvest.
    BadInput
        When no folder is given, or one twice.

    Examples
    --------
    >>> app = FastAPI()
    >>> app.mount("/stars", create_app("stars/"))
    """
    paths = [folder] if isinstance(folder, (str, Path)) else list(folder)
    if not paths:
        raise BadInput("no folder is given; give the folder of a harvest")
    ending = stop or Stop()
    places = [Path(path) for path in paths]
    folders = [Folder(path, ending, name) for path, name in zip(places, names_of(places), strict=True)]
    routes = [
        Route("/", _page),
        Route("/static/{name}", _static),
        *Api(folders).routes(),
        Route("/metrics", _metrics(folders)),
        Route("/healthz", _health),
    ]
    if archive is not None:
        routes.append(Route("/cutout", _cutout(archive, ending)))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Headers, may_be_framed=may_be_framed)],
        exception_handlers={
            HTTPException: _http_error,
            PsfharvestError: _our_error,
            ClientLeft: _client_left,
        },
    )
    app.state.folders = folders
    return app


async def _page(request: Request) -> Response:
    parameters.read(request, {})
    return _file(request, static_files()["index.html"])


async def _static(request: Request) -> Response:
    parameters.read(request, {})
    file = static_files().get(request.path_params["name"])
    return refused(404, "there is no such file") if file is None else _file(request, file)


def _file(request: Request, file: StaticFile) -> Response:
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers={**headers, "content-type": file.kind})


async def _health(request: Request) -> Response:
    parameters.read(request, {})
    return PlainTextResponse("ok\n", headers=NO_STORE)


def _metrics(folders: Sequence[Folder]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        parameters.read(request, {})
        found: list[tuple[str, dict[str, Any] | None]] = []
        for folder in folders:
            try:
                found.append((folder.name, await folder.quick.ask(folder.live.now)))
            except PsfharvestError:
                found.append((folder.name, None))
        return PlainTextResponse(metrics.exposition(found), headers={**NO_STORE, "content-type": metrics.KIND})

    return answer


def _cutout(archive: Archive, stop: Stop) -> Callable[[Request], Awaitable[Response]]:
    declared = {"uri": Parameter(parameters.text(URI_CHARACTERS_MAX), "")}

    async def answer(request: Request) -> Response:
        uri = parameters.read(request, declared)["uri"]
        if request.method == "HEAD":
            return Response(media_type="application/fits", headers=NO_STORE)
        try:
            cutout = await while_waited_for(request, stop, lambda: archive.fetch(uri))
        except (ArchiveError, BadURI) as error:
            return _archive_error(error)
        return fits_response(cutout.raw, cutout.file_name)

    return answer


def _archive_error(error: ArchiveError | BadURI) -> Response:
    if isinstance(error, BadURI):
        return refused(422, str(error))
    if isinstance(error, CutoutMissing):
        return refused(404, str(error))
    if isinstance(error, ArchiveDown):
        return refused(503, str(error), {"retry-after": str(RETRY_AFTER_S)})
    return refused(502, str(error))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    words = "there is nothing at this address; the page is at /" if error.status_code == 404 else str(error.detail)
    return refused(error.status_code, words, dict(error.headers or {}))


async def _our_error(_: Request, error: Exception) -> Response:
    if isinstance(error, BadInput) and not isinstance(error, FolderRefused):
        return refused(400, str(error))
    return refused(503 if isinstance(error, (LocalError, FolderRefused)) else 500, str(error))


async def _client_left(_: Request, error: Exception) -> Response:
    del error
    return refused(503, "the service is ending, or the question was given up")
