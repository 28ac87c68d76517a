"""
One request over an httpx client, in a task of the wire's own.

The task that waits for it may be cancelled at any time and leaves at once. The request itself is ended only where
httpx's pool bears it: while it waits for one of the wire's slots, or once it has a connection. One that is still
connecting goes on in the background until it is connected, and ends then; see `psfharvest.concurrency.loop_task`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import anyio

from psfharvest.archive.wires.base import REDIRECTS, BrokenStream, Request
from psfharvest.archive.wires.httpx_client import failure_of_error
from psfharvest.archive.wires.httpx_receivers import Head, Receiver
from psfharvest.archive.wires.redirects import Redirects, speaks_no_tls
from psfharvest.concurrency.loop_task import start_in_loop
from psfharvest.core.model import Evidence, Failure, Reason
from psfharvest.core.reasons import NO_HTTP

LEFTOVERS_MAX = 64
"""Pieces of an unwanted body that are discarded before its iterator is left as it is."""
DEAD_S = 5.0
"""How soon a request fails, at the latest, on a kept connection that the server has closed."""
_SECRETS = ("authorization", "cookie", "proxy-authorization")


class Call:
    """
    A request under way.

    Parameters
    ----------
    client
        The httpx client.
    slots
        Held while the request has, or is about to have, a connection.
    request
        What to ask for.
    receiver
        Where the body goes.
    at_end
        Called once, in the request's task, when nothing of it goes on.
    is_pooled
        Whether the client's transport is httpcore's pool, which reports when a connection has come about.
    stopped_s
        Returns for how long this process did not run since a time of the event loop.
    """

    def __init__(
        self,
        client: Any,
        slots: AbstractAsyncContextManager[Any],
        request: Request,
        receiver: Receiver,
        at_end: Callable[[Call], None],
        *,
        is_pooled: bool,
        stopped_s: Callable[[float], float],
    ) -> None:
        self.request = request
        self.n_sent = 0
        """How often the request went out."""
        self.elapsed_s = 0.0
        self.failure: Failure | None = None
        """Why no whole answer came."""
        self.error: BaseException | None = None
        """An exception that is no failure of the archive's, such as one of a hook of the caller's."""
        self._client = client
        self._slots = slots
        self._receiver = receiver
        self._at_end = at_end
        self._is_pooled = is_pooled
        self._stopped_s = stopped_s
        self._scope = anyio.CancelScope()
        self._is_left = False
        self._is_late = False
        self._can_end = True
        self._is_kept = False
        self._peer = ""
        """Which host the last connection was made to: a proxy, where it is not the request's."""
        self._sent_at = 0.0
        self._ends_at = math.inf

    def start(self) -> None:
        """Start the request's task."""
        start_in_loop(self._run, "psfharvest-request")

    def leave(self) -> None:
        """End the request as soon as the client bears it; does not wait."""
        self._is_left = True
        if self._can_end:
            self._scope.cancel()
        else:
            self._ends_at = min(self._ends_at, anyio.current_time() + self.request.connect_timeout_s)

    def end(self) -> None:
        """End the request whatever it is doing: the client goes, too."""
        self._is_left = True
        self._scope.cancel()

    def watch(self, now: float, gap_s: float) -> None:
        """
        End the request when the whole has taken too long, and the client bears it.

        Parameters
        ----------
        now
            The event loop's time.
        gap_s
            For how long this process did not run just now; the deadline is put off by as much.
        """
        self._ends_at += gap_s
        if now >= self._ends_at and (self._can_end or not self._is_pooled):
            self._is_late = True
            self._scope.cancel()

    async def _run(self) -> None:
        began_at = anyio.current_time()
        try:
            with self._scope:
                async with self._slots:
                    began_at = anyio.current_time()
                    if self.request.total_timeout_s is not None:
                        self._ends_at = began_at + self.request.total_timeout_s
                    await self._send_until_judged()
            if self._scope.cancelled_caught:
                words = "the whole took too long" if self._is_late else "the wire was closed"
                self.failure = Failure(Reason.TIMEOUT if self._is_late else Reason.RESET, words)
        except BrokenStream as broken:
            self.failure = broken.failure
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self.error = error
        except anyio.get_cancelled_exc_class() as error:  # not by the scope: a hook's own
            self.error = error
            raise
        finally:
            self.elapsed_s = anyio.current_time() - began_at
            self._at_end(self)

    async def _send_until_judged(self) -> None:
        """
        Send the request; once more when its deadline passed while this process was stopped.

        A stop shorter than half of the deadline does not explain the silence of the rest.
        """
        least_s = min(self.request.connect_timeout_s, self.request.timeout_s) / 2
        while True:
            self.n_sent += 1
            sent_at = anyio.current_time()
            try:
                return await self._follow()
            except BrokenStream as broken:
                is_late = broken.failure.reason is Reason.TIMEOUT
                if not (is_late and self._stopped_s(sent_at) >= least_s and self._receiver.restart()):
                    raise

    async def _follow(self) -> None:
        redirects = Redirects(self.request)
        n_redirects = 0
        while True:
            try:
                response = await self._send(redirects.hop)
            except BrokenStream as broken:
                if self._may_repeat(broken.failure):
                    self.n_sent += 1
                    continue
                if speaks_no_tls(broken.failure) and redirects.fall_back():
                    continue
                raise BrokenStream(redirects.reason_for(broken.failure)) from broken
            try:
                if response.status_code not in REDIRECTS:
                    self._receiver.begun(_head(response, n_redirects)._replace(n_sent=self.n_sent))
                    await self._read(response)
                    return
                headers = response.headers
                location, cookies = headers.get("location"), headers.get_list("set-cookie")
                failure = redirects.follow(response.status_code, location, cookies)
                n_redirects += 1
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            if failure is not None:
                raise BrokenStream(failure)

    def _may_repeat(self, failure: Failure) -> bool:
        """
        Return True when nothing but a kept connection failed: the same request goes out on another.

        That ends, at the latest, with a connection that is made for it. A dead one shows it at once; what was
        worked on for longer is asked for again later, after a delay.
        """
        is_dead = self._is_kept and failure.reason in NO_HTTP
        return is_dead and not self._is_left and anyio.current_time() - self._sent_at < DEAD_S

    async def _send(self, hop: Request) -> Any:
        await anyio.lowlevel.checkpoint()  # the last place to leave before it connects
        self._connecting()
        self._is_kept, self._sent_at = self._is_pooled, anyio.current_time()
        headers = {"Accept-Encoding": "identity", **dict(hop.headers), **dict(hop.credentials)}
        options: dict[str, Any] = {}
        try:
            request = self._client.build_request(
                "GET" if hop.body is None else "POST",
                hop.url,
                content=hop.body,
                headers=headers,
                timeout=(hop.connect_timeout_s, hop.timeout_s, hop.timeout_s, None),
            )
            if self._is_pooled:
                request.extensions = {**request.extensions, "trace": self._trace}
            if _host(hop.url) != _host(self.request.url):
                for name in _SECRETS:  # the caller's own client may hold some for the first host
                    request.headers.pop(name, None)
                options = {"auth": None}
                request.headers.update({name: value for name, value in hop.headers if name == "Cookie"})
            response = await self._client.send(request, stream=True, follow_redirects=False, **options)
        except Exception as error:
            raise BrokenStream(self._named(failure_of_error(error), hop)) from error
        self._connected()
        return response

    def _named(self, failure: Failure, hop: Request) -> Failure:
        """Return a failure with the proxy in its words, where that is what could not be reached."""
        is_ours = self._peer in ("", _peer_of(hop.url)) or not hop.url.isascii()
        if is_ours or failure.evidence is not Evidence.UNREACHABLE:
            return failure
        return failure._replace(detail=f"{failure.detail}, at the proxy {self._peer}")

    async def _read(self, response: Any) -> None:
        # The iterators of httpx and httpcore are nested: left in the middle they are leaked (trio warns). So they
        # are ended from within, by a cancellation at their own next wait.
        n_left = LEFTOVERS_MAX
        with anyio.CancelScope() as reading:
            try:
                async for chunk in response.aiter_bytes():
                    if not reading.cancel_called and await self._receiver.received(chunk):
                        continue
                    reading.cancel()
                    n_left -= 1
                    if not n_left:
                        break
            except Exception as error:
                raise BrokenStream(failure_of_error(error)) from error

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            if getattr(info.get("request"), "method", b"") != b"CONNECT":  # a tunnel's is not yet ours
                self._connected()
        elif event.endswith(("connect_tcp.started", "connect_unix_socket.started")):
            self._is_kept = False
            self._peer = f"{info['host']}:{info['port']}" if "host" in info else ""
            self._connecting()
        elif event.endswith("response_closed.started"):
            self._connecting()

    def _connecting(self) -> None:
        self._can_end = False

    def _connected(self) -> None:
        self._can_end = True
        if self._is_left:
            self._scope.cancel()


def _peer_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _head(response: Any, n_redirects: int) -> Head:
    headers = response.headers
    return Head(
        response.status_code,
        headers.get("retry-after"),
        headers.get("date"),
        is_tls=response.url.scheme == "https",
        headers=tuple(headers.multi_items()),
        http_version=response.http_version,
        n_redirects=n_redirects,
    )


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port)
