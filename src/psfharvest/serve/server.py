"""
The service as a program: listens, says where, and ends within a second of a signal, whatever its clients do.

On a loopback address anybody on this machine may read; on any other a token is needed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from psfharvest.core.errors import BadInput, LocalError
from psfharvest.serve.app import create_app
from psfharvest.serve.export import Unfinished
from psfharvest.serve.guard import Gate, Headers, Names
from psfharvest.serve.stop import Stop

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TOKEN_CHARACTERS = 8
GRACE_S = 0.4
"""How long answers under way may take when the service ends."""
KEEP_ALIVE_S = 30
CONNECTIONS_MAX = 200
BACKLOG = 128
_log = logging.getLogger("psfharvest")


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where to listen, and who may read.

    Parameters
    ----------
    host, port
        The address; port 0 takes a free one.
    token
        Asked for; None is none on loopback, and one of chance elsewhere.
    names
        More names under which the server is reached, such as a proxy's.

    Raises
    ------
    BadInput
        When the token is too short.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < TOKEN_CHARACTERS or not self.token.isprintable()):
            raise BadInput(f"the token has fewer than {TOKEN_CHARACTERS} characters, or unprintable ones")

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def chosen_token(self) -> str:
        """Return the token that is asked for, or nothing."""
        return self.token if self.token is not None else "" if self.is_loopback else secrets.token_urlsafe(24)

    def known_names(self) -> Names:
        """Return the names under which the server answers."""
        given = {name.lower() for name in (self.host, *self.names)}
        if self.is_loopback:
            return Names(LOOPBACK | given)
        here = {socket.gethostname().lower(), socket.getfqdn().lower()}
        return Names(LOOPBACK | given | here, any_address=True)

    def shown_host(self) -> str:
        """Return the host for an address that people open."""
        if self.host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
            return f"[{self.host}]" if ":" in self.host else self.host
        try:
            socket.getaddrinfo(socket.gethostname(), None)
        except OSError:
            return "127.0.0.1"
        return socket.gethostname()


class Server(uvicorn.Server):
    """A server whose signals are its owner's matter."""

    def __init__(self, config: uvicorn.Config, is_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._is_ready = is_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._is_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Service:
    """
    The page over some folders, at an address.

    Parameters
    ----------
    folders
        The harvests.
    address
        Where to listen.
    may_be_framed
        Whether a notebook shows the page in a frame.

    Raises
    ------
    FolderRefused
        When a folder holds no harvest.
    LocalError
        When it cannot listen there.
    """

    def __init__(self, folders: Sequence[str | Path], address: Address, *, may_be_framed: bool = False) -> None:
        self._stop = Stop()
        app = create_app([Path(folder) for folder in folders], stop=self._stop, may_be_framed=may_be_framed)
        self._folders = app.state.folders
        self._address = address
        self._token = address.chosen_token()
        self._socket = _listening(address)
        self.port = int(self._socket.getsockname()[1])
        gate = Gate(_quietly(app), names=address.known_names(), token=self._token, cookie=f"psfharvest_{self.port}")
        self._config = uvicorn.Config(
            Headers(gate, may_be_framed=may_be_framed),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=64 * 1024,
            limit_concurrency=CONNECTIONS_MAX,
        )

    @property
    def url(self) -> str:
        """The address to open, with the token if there is one."""
        token = f"?token={quote(self._token, safe='')}" if self._token else ""
        return f"http://{self._address.shown_host()}:{self.port}/{token}"

    def end(self) -> None:
        """End the service; from any thread."""
        self._stop.set()

    async def serve(self, is_ready: Callable[[], None]) -> None:
        """Serve until `end` is called."""
        server = Server(self._config, is_ready)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._end_server, server)
                await server.serve([self._socket])
                group.cancel_scope.cancel()
        finally:
            self._socket.close()
            for folder in self._folders:
                folder.close()

    async def serve_until_signal(self, is_ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._hear_signals)
            await self.serve(is_ready)
            group.cancel_scope.cancel()

    async def _hear_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.end()

    async def _end_server(self, server: Server) -> None:
        while not self._stop.is_set():
            await self._stop.pause(60.0)
        server.should_exit = True
        await anyio.sleep(GRACE_S)
        server.force_exit = True


def run(service: Service, is_ready: Callable[[], None]) -> None:
    """Serve in this thread until a signal."""
    anyio.run(service.serve_until_signal, is_ready)


def _quietly(app: ASGIApp) -> ASGIApp:
    """Return the application with a line in the log, not a traceback, where an answer breaks off."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Unfinished as error:
            _log.warning("%s breaks off: %s", scope["path"], error)

    return answer


def _listening(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        is_both = family == socket.AF_INET6 and place[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(place[:2], family=family, backlog=BACKLOG, dualstack_ipv6=is_both)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise LocalError(
            f"cannot listen on {address.host}:{address.port}: {words}; choose another --host or --port"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit it: asyncio sets none
    return listening
