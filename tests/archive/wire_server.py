"""A raw-socket HTTP server: every byte, pause and reset is data, and what it was asked is recorded."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

RESET = "reset"
CLOSE = "close"


class Forever(NamedTuple):
    """Send this until the other side has enough."""

    data: bytes


class Pause(NamedTuple):
    """Wait, or until the other side has gone."""

    seconds: float


Step = bytes | Forever | Pause | str
Steps = tuple[Step, ...]


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def reply(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer with its length."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n" + body


def chunked(*parts: bytes, is_whole: bool = True) -> bytes:
    """An answer in chunks, with or without its last."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + (b"0\r\n\r\n" if is_whole else b"")


class _Gone(Exception):
    pass


@dataclass
class WireServer:
    """
    Serve scripts on loopback; use it as a context manager.

    Parameters
    ----------
    script
        Path (without its query) to steps.
    tls
        Speak TLS.
    """

    script: dict[str, Steps] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    open: int = 0
    peak: int = 0
    accepted: int = 0
    sent: int = 0

    def __enter__(self) -> WireServer:
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def _run(self, what: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(connection)
                self.open += 1
                self.accepted += 1
                self.peak = max(self.peak, sum(map(_is_open, self._sockets)))
            self._run(self._serve, connection)

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._sockets.add(connection)
                connection.do_handshake()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as reader:
                while seen := _read(reader):
                    with self._lock:
                        self.seen.append(seen)
                    for step in self.script.get(seen.target.partition("?")[0], (reply(b"", "404 Not Found"),)):
                        self._do(connection, step)
        except (OSError, _Gone, ValueError):
            pass
        finally:
            with self._lock:
                self.open -= 1
                self._sockets -= {raw, connection}
            connection.close()
            raw.close()

    def _do(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            self._send(connection, step)
        elif isinstance(step, Forever):
            while not self._is_over.is_set():
                self._send(connection, step.data)
        elif isinstance(step, Pause):
            if select.select([connection], [], [], step.seconds)[0]:
                raise _Gone
        elif step == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Gone
        else:
            with contextlib.suppress(OSError):
                if isinstance(connection, ssl.SSLSocket):
                    connection.settimeout(0.2)
                    connection.unwrap()  # says that this is the end, without which the end is taken for a break
                connection.shutdown(socket.SHUT_RDWR)
            raise _Gone

    def _send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        with self._lock:
            self.sent += len(data)


def _is_open(connection: socket.socket) -> bool:
    """Tell whether the other side has neither closed nor left: its thread here may learn of that much later."""
    if connection.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return not poller.poll(0)


def _read(reader) -> Seen | None:
    line = reader.readline().decode("latin-1")
    if not line:
        return None
    if not line[0].isalpha():
        raise ValueError("no request: TLS, say, whose random bytes may look like lines")
    method, target, _ = line.split(" ", 2)
    headers = {}
    while (text := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", 0)))
    return Seen(method, target, headers, body)
