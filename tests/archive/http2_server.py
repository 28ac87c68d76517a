"""A minimal HTTP/2 server over TLS: it answers every request with one body, and can speak while nobody asks."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STATUS_200 = b"\x88"
"""Field 8 of HPACK's static table."""


class Http2Server:
    """
    Serve on loopback; use it as a context manager.

    Parameters
    ----------
    body
        What every request is answered with; at most 16,384 bytes, what one frame holds.
    tls
        A context for a server on this machine.
    """

    def __init__(self, body: bytes, tls: ssl.SSLContext) -> None:
        self.accepted = self.n_requests = self.n_pongs = 0
        self._body = body
        self._tls = tls
        self._tls.set_alpn_protocols(["h2"])
        self._connections: list[ssl.SSLSocket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Http2Server:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/cutout"
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def speak(self) -> None:
        """Send a PING on every connection, unasked."""
        with self._lock:
            for connection in self._connections:
                connection.sendall(_frame(PING, 0, 0, bytes(8)))

    def _run(self, what, *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._run(self._serve, raw)

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw, self._tls.wrap_socket(raw, server_side=True) as connection:
            reader = connection.makefile("rb")
            assert reader.read(len(PREFACE)) == PREFACE
            self._send(connection, _frame(SETTINGS, 0, 0))
            self._connections.append(connection)
            while head := reader.read(9):
                payload = reader.read(int.from_bytes(head[:3]))
                self._answer(connection, head[3], head[4], int.from_bytes(head[5:]), payload)

    def _answer(self, connection: ssl.SSLSocket, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._send(connection, _frame(SETTINGS, ACK, 0))
        elif kind == PING and flags & ACK:
            self.n_pongs += 1
        elif kind == HEADERS:
            self.n_requests += 1
            head = _frame(HEADERS, END_HEADERS, stream, STATUS_200)
            self._send(connection, head + _frame(DATA, END_STREAM, stream, self._body))

    def _send(self, connection: ssl.SSLSocket, data: bytes) -> None:
        with self._lock:
            connection.sendall(data)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload
