"""
Bytes over an httpx client, ours or the caller's: the only module that says httpx.

Never more requests than connections, so that nothing queues inside httpx's pool, whose work grows with the square
of the queue; deadlines by httpx's own time-outs. The caller's client is used as it is and never closed; it may be
any with the same API (httpx2, another transport), so its exceptions are told apart by their classes' names.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
from anyio.abc import ObjectReceiveStream, TaskGroup

from psfharvest.archive.wires.base import REDIRECTS, Answer, BrokenStream, Request, next_hop
from psfharvest.core.model import Evidence, Failure, Reason

_FAILURES: dict[str, tuple[Reason, Evidence]] = {
    "ConnectTimeout": (Reason.TIMEOUT, Evidence.UNREACHABLE),
    "ConnectError": (Reason.REFUSED, Evidence.UNREACHABLE),
    "ProxyError": (Reason.REFUSED, Evidence.UNREACHABLE),
    "TimeoutException": (Reason.TIMEOUT, Evidence.NONE),
    "NetworkError": (Reason.RESET, Evidence.NONE),
    "RemoteProtocolError": (Reason.PROTOCOL, Evidence.NONE),
    "DecodingError": (Reason.PROTOCOL, Evidence.NONE),
    "UnsupportedProtocol": (Reason.REDIRECT, Evidence.ALIVE),
    "TransportError": (Reason.PROTOCOL, Evidence.NONE),
    "InvalidURL": (Reason.REDIRECT, Evidence.ALIVE),
    "SSLError": (Reason.TLS, Evidence.NONE),
    "OSError": (Reason.RESET, Evidence.NONE),
}
_SECRETS = ("authorization", "cookie", "proxy-authorization")


class HttpxWire:
    """
    A wire over an httpx client.

    Parameters
    ----------
    client
        The caller's own; None makes one of ours, which `aclose` closes.
    connections
        The ceiling for a client of ours.
    user_agent
        Sent with every request of a client of ours.
    is_private
        Whether a token goes along: then this machine is asked directly, and no proxy sees it in plain text.
    """

    depth = 0

    def __init__(
        self,
        client: Any = None,
        *,
        connections: int = 32,
        user_agent: str = "psfharvest",
        is_private: bool = False,
    ) -> None:
        self._is_ours = client is None
        self._client = _own_client(connections, user_agent, is_private) if client is None else client

    @asynccontextmanager
    async def lane(self, wake: Callable[[], None]) -> AsyncIterator[_HttpxLane]:
        """Open a lane; leaving it ends the requests under way."""
        async with anyio.create_task_group() as group, _HttpxLane(self, wake, group) as lane:
            try:
                yield lane
            finally:
                group.cancel_scope.cancel()

    async def exchange(self, request: Request) -> Answer:
        """Send one request and wait for its whole answer."""
        start = anyio.current_time()
        answer = Answer(request, failure=Failure(Reason.TIMEOUT, "the whole took too long"))
        deadline = float("inf") if request.total_timeout_s is None else request.total_timeout_s
        with anyio.move_on_after(deadline):
            try:
                async with self.stream(request) as stream:
                    body = await _read(stream, request.max_bytes)
                    answer = Answer(request, stream.status, body, stream.retry_after)
            except BrokenStream as broken:
                answer = Answer(request, failure=broken.failure)
        return answer._replace(elapsed_s=anyio.current_time() - start)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[_HttpxStream]:
        """Send one request, follow what redirects may be followed, and hand over the last answer."""
        hop, n_hops = request, 0
        while True:
            response = await self._send(hop, is_first_host=_host(hop.url) == _host(request.url))
            try:
                if response.status_code not in REDIRECTS:
                    yield _HttpxStream(response)
                    return
                further = next_hop(hop, response.status_code, response.headers.get("location"), n_hops)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            if isinstance(further, Failure):
                raise BrokenStream(further)
            hop, n_hops = further, n_hops + 1

    def set_limit(self, connections: int) -> None:
        """Do nothing: no request is submitted that has no connection."""

    async def aclose(self) -> None:
        """Close the client when it is ours."""
        if self._is_ours:
            await self._client.aclose()

    async def _send(self, hop: Request, *, is_first_host: bool) -> Any:
        headers = {"Accept-Encoding": "identity", **dict(hop.headers), **dict(hop.credentials)}
        try:
            request = self._client.build_request(
                "GET" if hop.body is None else "POST",
                hop.url,
                content=hop.body,
                headers=headers,
                timeout=_timeout(hop),
            )
            if is_first_host:
                return await self._client.send(request, stream=True, follow_redirects=False)
            for name in _SECRETS:  # the caller's own client may hold some for the first host
                request.headers.pop(name, None)
            return await self._client.send(request, stream=True, follow_redirects=False, auth=None)
        except Exception as error:
            raise BrokenStream(_failure(error)) from error


class _HttpxLane:
    """A growing set of workers, one a connection in use."""

    def __init__(self, wire: HttpxWire, wake: Callable[[], None], group: TaskGroup) -> None:
        self._wire = wire
        self._wake = wake
        self._group = group
        self._answers: list[Answer] = []
        self._under_way = 0
        self._workers = 0
        self._send, self._receive = anyio.create_memory_object_stream[Request](float("inf"))

    def submit(self, requests: Sequence[Request]) -> None:
        """Hand each request to a worker, and hire as many as are lacking."""
        for request in requests:
            self._send.send_nowait(request)
        self._under_way += len(requests)
        while self._workers < self._under_way:
            self._workers += 1
            self._group.start_soon(self._work, self._receive.clone())

    def take(self) -> list[Answer]:
        """Return the answers that are ready."""
        answers, self._answers = self._answers, []
        return answers

    def withdraw(self) -> None:
        """Do nothing: whatever is submitted is sent at once."""

    def proceed(self) -> None:
        """Do nothing: there is nothing that was not sent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._send.close()
        self._receive.close()

    async def _work(self, requests: ObjectReceiveStream[Request]) -> None:
        async with requests:
            async for request in requests:
                answer = await self._wire.exchange(request)
                self._answers.append(answer)
                self._under_way -= 1
                self._wake()


class _HttpxStream:
    def __init__(self, response: Any) -> None:
        self.status: int = response.status_code
        self.retry_after: str | None = response.headers.get("retry-after")
        self.is_tls: bool = response.url.scheme == "https"
        self._response = response

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            raise BrokenStream(_failure(error)) from error


async def _read(stream: _HttpxStream, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async with aclosing(stream.chunks()) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                failure = Failure(Reason.TOO_LARGE, f"more than {max_bytes} bytes", evidence=Evidence.ALIVE)
                raise BrokenStream(failure)
            parts.append(chunk)
    return b"".join(parts)


def _own_client(connections: int, user_agent: str, is_private: bool) -> Any:
    import httpx  # noqa: PLC0415 - heavy: a command that sends nothing should not wait for it

    return httpx.AsyncClient(
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60
        ),
        headers={"User-Agent": user_agent},
        # not by a proxy: it would see in plain text the token that is meant for this machine only
        mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")) if is_private else None,
    )


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port)


def _timeout(hop: Request) -> tuple[float, float, float, None]:
    return (hop.connect_timeout_s, hop.timeout_s, hop.timeout_s, None)


def _failure(error: BaseException) -> Failure:
    """Return what an exception of an httpx-like client means; what is none of its own is raised again."""
    for cls in type(error).__mro__:
        if cls.__name__ in _FAILURES:
            reason, evidence = _FAILURES[cls.__name__]
            break
    else:
        raise error
    text = str(error) or type(error).__name__
    if reason is Reason.REFUSED:
        reason = _connect_reason(error)
    elif reason is Reason.PROTOCOL and ("incomplete" in text or "complete message body" in text):
        reason = Reason.TRUNCATED
    elif reason is Reason.PROTOCOL and ("disconnected" in text or "ConnectionClosed" in text):
        reason = Reason.RESET
    return Failure(reason, text, evidence=evidence)


def _connect_reason(error: BaseException) -> Reason:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return Reason.DNS
        if isinstance(cause, ssl.SSLError):
            return Reason.TLS
        cause = cause.__cause__ or cause.__context__
    return Reason.REFUSED
