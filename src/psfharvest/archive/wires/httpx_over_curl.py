"""
libcurl behind httpx's own API: `httpx.AsyncClient(transport=CurlTransport())`.

Cookies, redirects, decoding and authentication stay httpx's; only the bytes travel another way. Failures are
httpx's exceptions. A request body is read whole before it is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from psfharvest.archive.wires.base import BrokenStream, Request
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.curl.port import CurlStream
from psfharvest.core.model import Evidence, Failure, Reason

NEVER_S = 10.0**6
_OURS_TO_SET = frozenset({"content-length", "transfer-encoding", "connection"})
_ERRORS: dict[Reason, type[httpx.TransportError]] = {
    Reason.TIMEOUT: httpx.ReadTimeout,
    Reason.REFUSED: httpx.ConnectError,
    Reason.DNS: httpx.ConnectError,
    Reason.TLS: httpx.ConnectError,
    Reason.RESET: httpx.ReadError,
    Reason.REDIRECT: httpx.LocalProtocolError,
}


class CurlTransport(httpx.AsyncBaseTransport):
    """
    An httpx transport over libcurl.

    Parameters
    ----------
    wire
        Shared with others, and then not closed here; None makes one of its own.
    connections, user_agent, ca_file
        For a wire of its own; see `psfharvest.archive.wires.curl.CurlWire`.
    """

    def __init__(
        self,
        wire: CurlWire | None = None,
        *,
        connections: int = 32,
        user_agent: str = "psfharvest",
        ca_file: str | None = None,
    ) -> None:
        self._is_ours = wire is None
        self._wire = wire or CurlWire(connections=connections, user_agent=user_agent, ca_file=ca_file)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send a request; the response's body is read as it comes.

        Raises
        ------
        httpx.TransportError
            When no answer came.
        """
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - as httpx's own transports do
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{request.url.scheme!r} is neither http nor https", request=request)
        body = b"".join([part async for part in request.stream])
        stream = self._wire.open_stream(_ask(request, body), request.method)
        try:
            await stream.head()
        except BrokenStream as broken:
            stream.close()
            raise _error(broken.failure, request) from broken
        except BaseException:
            stream.close()
            raise
        return httpx.Response(
            stream.status,
            headers=_headers(stream.headers[1:]),
            stream=_Body(stream, request),
            extensions={"http_version": stream.headers[0].split(None, 1)[0]},
        )

    async def aclose(self) -> None:
        """Close the wire when it is ours."""
        if self._is_ours:
            await self._wire.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: CurlStream, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream.chunks():
                yield chunk
        except BrokenStream as broken:
            raise _error(broken.failure, self._request) from broken

    async def aclose(self) -> None:
        self._stream.close()


def _ask(request: httpx.Request, body: bytes) -> Request:
    timeout: dict[str, Any] = request.extensions.get("timeout", {})
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower().decode("latin-1") not in _OURS_TO_SET
    )
    has_body = bool(body) or request.method in ("POST", "PUT", "PATCH")
    return Request(
        str(request.url),
        body=body if has_body else None,
        headers=headers,
        connect_timeout_s=_seconds(timeout.get("connect")),
        timeout_s=_seconds(timeout.get("read")),
    )


def _seconds(value: float | None) -> float:
    return NEVER_S if value is None else value


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in lines)
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _error(failure: Failure, request: httpx.Request) -> httpx.TransportError:
    if failure.reason is Reason.TIMEOUT and failure.evidence is Evidence.UNREACHABLE:
        return httpx.ConnectTimeout(failure.detail, request=request)
    detail = f"incomplete: {failure.detail}" if failure.reason is Reason.TRUNCATED else failure.detail
    return _ERRORS.get(failure.reason, httpx.RemoteProtocolError)(detail, request=request)
