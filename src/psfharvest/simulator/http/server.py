"""
The simulator as a thing to start and stop: from a test, in a thread of its own, or from the command line.

Rules: ready when entered; stopped within a second at exit, whatever clients do; all that tests read is
safe to read from their thread.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.catalog.mashup import Mashup
from psfharvest.simulator.faults.faultbook import FaultBook
from psfharvest.simulator.faults.faults import Fault
from psfharvest.simulator.http.app import QUERIES_AT_ONCE, Archive
from psfharvest.simulator.http.inspection import Inspectable
from psfharvest.simulator.http.record import Record
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.fitscut import Fitscut

if TYPE_CHECKING:
    from psfharvest.simulator.http.wire import Listener

_PATIENCE_S: Final = 30.0


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - optional, and only a server needs it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Assembly:
    """All parts of one simulator, put together."""

    def __init__(
        self,
        settings: Settings,
        faults: Sequence[Fault],
        host: str,
        port: int,
        tls: tuple[str, str] | None,
    ) -> None:
        self.settings = settings
        self.host = host
        self.port = port
        self.tls = tls
        self.catalogue = Catalogue(settings)
        self.fitscut = Fitscut(self.catalogue, settings)
        self.record = Record(settings.record_size, settings.record_bytes)
        self._pool = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="simulated-mashup")
        mashup = Mashup(self.catalogue, settings)
        self.archive = Archive(settings, self.fitscut, mashup, self.record, self._aside)
        self.archive.book = FaultBook(faults)
        self.listener: Listener | None = None

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        scheme = "https" if self.tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    def prepare(self) -> "Listener":
        """Do what may block (imports, certificates), before there is a loop to be blocked."""
        from psfharvest.simulator.http.wire import Listener  # noqa: PLC0415 - uvicorn is imported when a server starts

        self.listener = Listener(
            self.archive,
            self.record,
            host=self.host,
            port=self.port,
            tls=self.tls,
            keep_alive_s=self.settings.keep_alive_s,
        )
        return self.listener

    async def run(self, listener: "Listener", is_ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set."""
        try:
            await listener.open()
            self.port = listener.port
            is_ready()
            await stop.wait()
        finally:
            await listener.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _aside(self, work: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class Simulator(Inspectable):
    """
    The archive on loopback, for the time of a ``with`` block.

    Parameters
    ----------
    settings
        Its size and manners.
    faults
        What goes wrong; the first that chooses a request befalls it.
    host, port
        Where it listens; port 0 takes a free one.
    tls
        Certificate and key file (PEM), for https.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        faults: Sequence[Fault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[str, str] | None = None,
    ) -> None:
        self._parts = _Assembly(settings or Settings(), faults, host, port, tls)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="psfharvest-simulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(_PATIENCE_S):
            raise RuntimeError("the simulator did not start")
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        try:
            listener = self._parts.prepare()
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self._main(listener))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that entered
            self._error = error
        finally:
            self._ready.set()

    async def _main(self, listener: "Listener") -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._parts.run(listener, self._ready.set, self._stop)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the simulator is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return self._parts.url

    @property
    def settings(self) -> Settings:
        """What the archive is like."""
        return self._parts.settings

    @property
    def catalogue(self) -> Catalogue:
        """The three databases."""
        return self._parts.catalogue

    @property
    def record(self) -> Record:
        """The record itself, with its counters of bytes."""
        return self._parts.record

    @property
    def peak_connections(self) -> int:
        """Most connections that were open at once."""
        return self._parts.record.peak_connections

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong; setting it starts the numbering of requests anew."""
        return self._parts.archive.book.faults

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        self._parts.archive.book = FaultBook(faults)

    def refuse(self) -> None:
        """Close the listening socket and abort all connections; new ones are refused."""
        listener = self._parts.listener
        if listener is not None:
            self._call(listener.refuse())

    def accept(self) -> None:
        """Listen again, on the same port."""
        listener = self._parts.listener
        if listener is not None:
            self._call(listener.open())

    @property
    def _cutouts(self) -> Fitscut:
        return self._parts.fitscut


def serve(
    settings: Settings,
    faults: Sequence[Fault] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    announce: Callable[[str], None] = print,
) -> None:
    """
    Serve in this thread until SIGINT or SIGTERM.

    Parameters
    ----------
    settings
        Size and manners of the archive.
    faults
        What goes wrong.
    host, port
        Where to listen; port 0 takes a free one.
    announce
        Called with the base URL once the archive listens.
    """
    parts = _Assembly(settings, faults, host, port, None)
    listener = parts.prepare()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop.set)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        await parts.run(listener, lambda: announce(parts.url), stop)

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main())
