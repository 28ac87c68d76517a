"""The archive as an ASGI application, without a socket: for a client's own transport, or mounted in a service."""

from collections.abc import Sequence
from typing import Final

from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.catalog.mashup import Mashup
from psfharvest.simulator.faults.faultbook import FaultBook
from psfharvest.simulator.faults.faults import Fault
from psfharvest.simulator.http.app import Archive
from psfharvest.simulator.http.exchange import Receive, Scope, Send
from psfharvest.simulator.http.inspection import Inspectable
from psfharvest.simulator.http.record import Record
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.fitscut import Fitscut

_BELOW_HTTP: Final = frozenset(
    {"wrong_length", "slow_head", "endless_head", "garbage", "endless", "gzip_bomb", "hang_up"}
)
"""Faults that need a connection: their answers are no HTTP, or have no end, which only a socket holds back."""


class AsgiArchive(Inspectable):
    """
    The simulated archive, to be called.

    Parameters
    ----------
    settings
        Its size and manners.
    faults
        What goes wrong. A connection that breaks is a ``ConnectionResetError`` of the call.

    Raises
    ------
    ValueError
        For a fault or oddity that needs a connection; `Simulator` has one.
    """

    def __init__(self, settings: Settings | None = None, faults: Sequence[Fault] = ()) -> None:
        self.settings = settings or Settings()
        """What the archive is like."""
        if "http_1_0" in self.settings.oddities:
            raise ValueError("the oddity http_1_0 needs a connection; use Simulator, which has one")
        self.catalogue = Catalogue(self.settings)
        """The three databases."""
        self._record = Record(self.settings.record_size, self.settings.record_bytes)
        self._fitscut = Fitscut(self.catalogue, self.settings)
        self._app = Archive(self.settings, self._fitscut, Mashup(self.catalogue, self.settings), self._record)
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            scope.setdefault("raw_path", scope["path"].encode())
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    @property
    def record(self) -> Record:
        """The record of requests."""
        return self._record

    @property
    def _cutouts(self) -> Fitscut:
        return self._fitscut

    @property
    def faults(self) -> Sequence[Fault]:
        """What goes wrong; setting it starts the numbering of requests anew."""
        return self._app.book.faults

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if fault.kind in _BELOW_HTTP or (fault.kind == "truncate" and fault.framing == "close"):
                raise ValueError(f"the fault {fault.kind} needs a connection; use Simulator, which has one")
        self._app.book = FaultBook(faults)


def asgi(settings: Settings | None = None, faults: Sequence[Fault] = ()) -> AsgiArchive:
    """
    Return the archive as an ASGI application.

    >>> app = asgi()
    >>> client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://archive")
    >>> async with Archive(client=client) as archive: ...
    """
    return AsgiArchive(settings, faults)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
