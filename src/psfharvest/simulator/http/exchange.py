"""
One request and its answer on the wire, down to the transport below HTTP.

Rule: well-formed answers go through the server's HTTP layer; what no HTTP layer would send goes to the
transport.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import anyio

from psfharvest.simulator.http.record import Record

TRANSPORT: Final = "psfharvest.transport"
"""Key of a scope's extensions under which the connection's transport is found."""
CONNECTION: Final = "psfharvest.connection"
"""Key of the connection's number."""

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class GoneError(Exception):
    """Raised when the client has hung up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes | AsyncGenerator[bytes, None] = b""
    says_length: bool = True
    """Whether a body of bytes goes with its Content-Length, or chunked."""

    @classmethod
    def text(cls, text: str, status: int = 200) -> "Answer":
        """Make an answer of plain text."""
        return cls(status, [(b"content-type", b"text/plain; charset=utf-8")], text.encode())

    @classmethod
    def html(cls, title: str, text: str, status: int = 200) -> "Answer":
        """Make an answer that is an HTML page, of texts that are escaped already."""
        page = (
            f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n"
            f"<body><h1>{title}</h1><p>{text}</p></body></html>\n"
        )
        return cls(status, [(b"content-type", b"text/html; charset=utf-8")], page.encode())

    async def whole(self) -> bytes:
        """Give the body in one piece."""
        if isinstance(self.body, bytes):
            return self.body
        return b"".join([piece async for piece in self.body])


class Exchange:
    """A request being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, record: Record) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        self.query: bytes = scope["query_string"]
        self._receive = receive
        self._send = send
        self._record = record
        extensions = scope.get("extensions", {})
        self._transport: asyncio.Transport | None = extensions.get(TRANSPORT)
        """None where the application is called without a server of ours."""
        self.connection: int = extensions.get(CONNECTION, 0)

    @property
    def target(self) -> str:
        """Path and query string, as sent."""
        path: bytes = self.scope["raw_path"]
        return (path + (b"?" + self.query if self.query else b"")).decode("latin-1")

    def header(self, name: bytes) -> bytes:
        """
        Give a request header, or nothing.

        Parameters
        ----------
        name
            In lower case.
        """
        headers: Headers = self.scope["headers"]
        return next((value for key, value in headers if key == name), b"")

    async def body(self) -> bytes:
        """
        Read the request's body.

        Raises
        ------
        GoneError
            Where the client hung up before its end.
        """
        pieces = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            pieces.append(message["body"])
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def start(self, status: int, headers: Headers) -> None:
        """
        Send status line and headers.

        Parameters
        ----------
        status, headers
            Without a Content-Length the body will be chunked.
        """
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, piece: bytes, *, more: bool) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        self._record.sent(len(piece))

    async def reply(self, answer: Answer) -> None:
        """Send a whole answer."""
        body = answer.body
        if isinstance(body, bytes):
            headers = answer.headers
            if answer.says_length:
                headers = [*headers, (b"content-length", b"%d" % len(body))]
            await self.start(answer.status, headers)
            await self.send(body if self.method != "HEAD" else b"", more=False)
            return
        await self.start(answer.status, answer.headers)
        async with contextlib.aclosing(body) as pieces:
            if self.method != "HEAD":
                async for piece in pieces:
                    if self._transport is not None and self._transport.is_closing():
                        raise GoneError
                    await self.send(piece, more=True)
        await self.send(b"", more=False)

    def write(self, raw: bytes) -> None:
        """Put bytes on the connection, below HTTP."""
        self._wire().write(raw)
        self._record.sent(len(raw))

    def write_head(self, status: int, headers: Headers) -> None:
        """Put a status line and headers on the connection exactly as given."""
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        lines = [f"HTTP/1.1 {status} {phrase}".encode(), *(name + b": " + value for name, value in headers)]
        self._wire().write(b"\r\n".join(lines) + b"\r\n\r\n")

    async def hang_up(self) -> None:
        """Close the connection once all is sent, and wait until it is gone."""
        self._wire().close()
        await self.gone()

    async def reset(self) -> None:
        """Reset the connection: the peer sees RST, not an end."""
        sock = self._wire().get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._wire().abort()
        await self.gone()

    async def gone(self, timeout_s: float | None = None) -> bool:
        """
        Wait until the connection is lost, and tell whether it is.

        Parameters
        ----------
        timeout_s
            How long to wait; None is for ever.
        """
        with anyio.move_on_after(timeout_s):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            return True
        return False

    def _wire(self) -> asyncio.Transport:
        """Return the connection; without one, raise what its client's library would meet."""
        if self._transport is None:
            raise ConnectionResetError("the simulated archive has ended the connection")
        return self._transport
