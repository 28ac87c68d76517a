"""
Protocol of a transport (`Wire`): requests in, whole answers or streams out.

A wire knows HTTP and nothing of cutouts. Its errors are values (a `Failure` in the answer), never exceptions; only
cancellation passes.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from psfharvest.core.model import Failure
from psfharvest.version import __version__

REDIRECTS = frozenset({301, 302, 303, 307, 308})
FORM = ("Content-Type", "application/x-www-form-urlencoded")
"""Header of a request whose body is a form."""

Headers = tuple[tuple[str, str], ...]


def user_agent() -> str:
    """Return the name by which requests say what sends them."""
    return f"psfharvest/{__version__} (Python {platform.python_version()}; {platform.system()})"


class Request(NamedTuple):
    """One HTTP request and its deadlines."""

    url: str
    tag: object = None
    """Comes back with the answer."""
    body: bytes | None = None
    """A form to POST; None is a GET."""
    headers: Headers = ()
    credentials: Headers = ()
    """Headers for this host only: a redirect to another one drops them."""
    max_bytes: int = 64 * 2**20
    connect_timeout_s: float = 10.0
    timeout_s: float = 30.0
    """Without a byte."""
    total_timeout_s: float | None = 300.0


class Answer(NamedTuple):
    """What came back: a complete HTTP answer, or a failure to get one."""

    request: Request
    status: int = 0
    body: bytes = b""
    retry_after: str | None = None
    elapsed_s: float = 0.0
    failure: Failure | None = None
    date: str | None = None
    """The server's own time, where its answer says so."""
    n_sent: int = 1
    """0: it was withdrawn before it was sent. 2: a kept connection had died, and it was repeated on another."""


class Stream(Protocol):
    """An answer whose body is read as it comes."""

    status: int
    retry_after: str | None
    date: str | None
    """The server's own time, where its answer says so."""
    is_tls: bool
    """True when the answer came over TLS, after all redirects."""
    n_sent: int
    """How often the request went out until this answer began."""

    def chunks(self) -> AsyncIterator[bytes]:
        """
        Yield the body.

        Raises
        ------
        BrokenStream
            When it ends before its time.
        """
        ...


class BrokenStream(Exception):
    """
    Raised inside the archive package when a stream could not be had or broke off.

    Parameters
    ----------
    failure
        Why.
    n_sent
        How often the request went out without an answer's beginning.
    """

    def __init__(self, failure: Failure, n_sent: int = 1) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.n_sent = n_sent


class RequestQueue(Protocol):
    """One user's way through a wire: many requests under way, answers taken in batches."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests."""
        ...

    def take(self) -> list[Answer]:
        """Return the answers that are ready, each once."""
        ...

    def withdraw(self) -> None:
        """Take back what has not been sent; it comes out of `take` as such."""
        ...

    def proceed(self) -> None:
        """Go on sending: a queue holds what it has not sent from each bad answer to this word."""
        ...


class Wire(Protocol):
    """Moves requests and answers."""

    depth: int
    """Requests that it likes to hold beside those under way, so that no connection waits for the next."""

    def queue(
        self, wake: Callable[[], None], *, is_urgent: bool = False
    ) -> AbstractAsyncContextManager[RequestQueue]:
        """
        Open a queue; `wake` is called on the loop's thread when there is something to take.

        What waits in a wire of an urgent queue is sent before what waits of others.
        """
        ...

    async def exchange(self, request: Request) -> Answer:
        """Send one request and wait for its whole answer."""
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Send one request and read its answer as it comes; raises `BrokenStream`."""
        ...

    def set_limit(self, connections: int) -> None:
        """Use at most so many connections from now on."""
        ...

    async def settle(self, connections: int) -> None:
        """Use at most so many connections from now on; return once no more are open."""
        ...

    async def aclose(self) -> None:
        """End all connections that are ours."""
        ...
