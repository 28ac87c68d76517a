"""Sends the requests of the checks: one a second by default, two connections, each with a deadline."""

from __future__ import annotations

import anyio

from psfharvest.archive.endpoints import Endpoints, quoted
from psfharvest.archive.wires.base import FORM, BrokenStream, Request, user_agent
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.aclosing import closing
from psfharvest.core.model import Evidence, Failure, Reason
from psfharvest.doctor.reply import Reply

CONNECTIONS = 2
PER_SECOND = 1.0
CONNECT_TIMEOUT_S = 4.0
"""An archive that is out of reach is reported within five seconds."""
TIMEOUT_S = 30.0
MAX_BODY_BYTES = 64 * 2**20


class Requester:
    """
    Sends requests to one archive.

    Parameters
    ----------
    endpoints
        Where the archive is.
    per_second
        How many requests are started per second.
    timeout_s
        Without a byte, and for a whole answer twice that.
    """

    def __init__(
        self, endpoints: Endpoints, *, per_second: float = PER_SECOND, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.endpoints = endpoints
        self.n_sent = 0
        self._interval_s = 1.0 / per_second
        self._timeout_s = timeout_s
        self._next_at = 0.0
        self._wire = HttpxWire(connections=CONNECTIONS, user_agent=user_agent(), is_private=bool(endpoints.token))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def get(self, url: str, *, is_for_archive: bool = True) -> Reply:
        """Send a GET; the token goes along to the archive's own host only."""
        credentials = self.endpoints.credentials() if is_for_archive else ()
        return await self._send(Request(url, headers=(("Accept", "*/*"),), credentials=credentials))

    async def post(self, url: str, form: list[tuple[str, str]]) -> Reply:
        """Send a form."""
        body = "&".join(f"{name}={quoted(value)}" for name, value in form).encode()
        headers = (FORM, ("Accept", "*/*"))
        return await self._send(Request(url, body=body, headers=headers, credentials=self.endpoints.credentials()))

    async def _send(self, request: Request) -> Reply:
        request = request._replace(
            connect_timeout_s=CONNECT_TIMEOUT_S, timeout_s=self._timeout_s, max_bytes=MAX_BODY_BYTES
        )
        await self._wait_for_turn()
        self.n_sent += 1
        began_at = anyio.current_time()
        reply = Reply(request)
        with anyio.move_on_after(2 * self._timeout_s) as scope:
            reply = await self._read(reply, began_at)
        if scope.cancelled_caught:
            words = f"no whole answer within {2 * self._timeout_s:g} s"
            reply = reply._replace(failure=Failure(Reason.TIMEOUT, words))
        return reply._replace(elapsed_s=anyio.current_time() - began_at)

    async def _read(self, reply: Reply, began_at: float) -> Reply:
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._wire.stream(reply.request) as stream:
                head = stream.head_fields
                reply = reply._replace(
                    status=head.status,
                    headers=head.headers,
                    http_version=head.http_version,
                    n_redirects=head.n_redirects,
                    first_byte_s=anyio.current_time() - began_at,
                )
                async with closing(stream.chunks()) as pieces:
                    async for chunk in pieces:
                        chunks.append(chunk)
                        size += len(chunk)
                        if size > MAX_BODY_BYTES:
                            words = f"more than {MAX_BODY_BYTES} bytes"
                            failure = Failure(Reason.TOO_LARGE, words, evidence=Evidence.ALIVE)
                            reply = reply._replace(failure=failure)
                            break
        except BrokenStream as broken:
            reply = reply._replace(failure=broken.failure)
        return reply._replace(body=b"".join(chunks))

    async def _wait_for_turn(self) -> None:
        now = anyio.current_time()
        turn_at = max(now, self._next_at)
        self._next_at = turn_at + self._interval_s
        await anyio.sleep(turn_at - now)
