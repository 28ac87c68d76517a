"""
The server below the application: listening sockets, connections, and the transport under each.

Rule: importing this module imports uvicorn; nothing else here does.
"""

import asyncio
import contextlib
import email.utils
import ssl
import time
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from psfharvest.simulator.http.app import Archive
from psfharvest.simulator.http.exchange import CONNECTION, TRANSPORT, Receive, Scope, Send
from psfharvest.simulator.http.record import Record

_BACKLOG: Final = 4_096
_PARTING_S: Final = 0.5


class _Connection(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the application its transport and the record its life."""

    def __init__(self, config: uvicorn.Config, state: ServerState, record: Record) -> None:
        super().__init__(config, state, {})
        self._record = record
        self._extensions: dict[str, Any] = {}
        self._is_counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions = {TRANSPORT: transport, CONNECTION: self._record.connection_opens()}
        self._is_counted = True

    def eof_received(self) -> None:
        super().eof_received()
        self._ends()  # a client that opens another one now has no more than before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ends()

    def _ends(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._record.connection_closes()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions


class _Served:
    """The application under a server, which cancels a request only when nobody waits for its answer."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._archive(scope, receive, send)


class Listener:
    """
    Accepts connections for an application, and can stop doing so.

    Parameters
    ----------
    archive
        The application.
    record
        Counts connections.
    host, port
        Where to listen; port 0 takes a free one, which is then kept.
    tls
        Certificate and key file, or None for plain HTTP.
    keep_alive_s
        Idle seconds after which a connection is closed.
    """

    def __init__(
        self,
        archive: Archive,
        record: Record,
        *,
        host: str,
        port: int,
        tls: tuple[str, str] | None,
        keep_alive_s: int,
    ) -> None:
        self.port = port
        self._host = host
        self._record = record
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None
        self._context = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._config = uvicorn.Config(
            _Served(archive),
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=keep_alive_s,
        )
        self._config.load()

    async def open(self) -> None:
        """Listen; does nothing where it listens already."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._config, self._state, self._record),
            self._host,
            self.port,
            ssl=self._context,
            backlog=_BACKLOG,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        if self._clock is None:
            self._clock = asyncio.create_task(self._keep_date())

    async def refuse(self) -> None:
        """Close the listening socket and abort all connections: new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Refuse, and end all requests that are still being answered."""
        await self.refuse()
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PARTING_S)

    async def _keep_date(self) -> None:
        while True:
            date = email.utils.formatdate(time.time(), usegmt=True).encode()
            self._state.default_headers[:] = [(b"server", b"psfharvest-simulator"), (b"date", date)]
            await asyncio.sleep(1)
