"""
The record: what the simulator was asked, kept for tests to count.

Rule: counters are exact; single requests are remembered up to a bound; everything may be read from any
thread.
"""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

Headers = tuple[tuple[str, str], ...]
_OVERHEAD: Final = 300
"""Bytes that an entry costs beside its text, about."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and how it was answered."""

    at_s: float
    """Monotonic seconds since the simulator started."""
    service: str
    method: str
    path: str
    """As sent, with the query string, percent-encoding untouched."""
    uris: tuple[str, ...]
    """The dataURIs asked for, unquoted; the order's text for ``fitscut``; the request's for a query."""
    status: int
    """What was answered; 0 where it was no HTTP answer."""
    fault: str
    """The kind of the fault that befell it, or the empty string."""
    headers: Headers
    """Names in lower case."""
    body: bytes
    """The request's body."""
    connection: int
    """Number of the connection that it came on."""

    def header(self, name: str) -> str | None:
        """
        Give a request header.

        Parameters
        ----------
        name
            In any case.
        """
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)


@dataclass(slots=True)
class PendingRecord:
    """A request in the making; kept as it came, and read only when asked for."""

    at_s: float
    service: str
    method: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int
    status: int = 0
    fault: str = ""

    @property
    def weight(self) -> int:
        """Bytes that it takes to remember, about."""
        return _OVERHEAD + len(self.query) + len(self.body) + sum(len(k) + len(v) for k, v in self.headers)

    def seen(self) -> Seen:
        """Give the finished entry for people to read."""
        path = self.raw_path + (b"?" + self.query if self.query else b"")
        return Seen(
            at_s=self.at_s,
            service=self.service,
            method=self.method,
            path=path.decode("latin-1"),
            uris=asked_uris(self.service, self.query, self.body),
            status=self.status,
            fault=self.fault,
            headers=tuple((key.decode("latin-1"), value.decode("latin-1")) for key, value in self.headers),
            body=self.body,
            connection=self.connection,
        )


def form_values(text: bytes, name: bytes) -> list[str]:
    """Give the values of one field of a form or query string, with ``+`` and ``%20`` alike."""
    start = name + b"="
    return [
        unquote_plus(part[len(start) :].decode("latin-1")) for part in text.split(b"&") if part.startswith(start)
    ]


def asked_uris(service: str, query: bytes, body: bytes) -> tuple[str, ...]:
    """Give what a request asks for."""
    if service in {"file", "bundle"}:
        return tuple(form_values(query, b"uri") + form_values(body, b"uri"))
    if service == "fitscut":
        return (unquote_plus(query.decode("latin-1")),)
    if service == "query":
        return tuple(form_values(query, b"request") + form_values(body, b"request"))
    return ()


class Record:
    """
    Remembers requests.

    Parameters
    ----------
    max_entries, max_bytes
        How much is remembered; older entries go first.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._start_s = time.monotonic()
        self._in_flight = 0
        self._connections = 0
        self._numbered = 0
        self._clear()

    def _clear(self) -> None:
        self._entries: deque[PendingRecord] = deque()
        self._weight = 0
        self._counts: Counter[str] = Counter()
        self.peak_in_flight = self._in_flight
        self.peak_connections = self._connections
        self.bytes_out = 0

    def forget(self) -> None:
        """Start anew; what is open now counts for the next peaks."""
        with self._lock:
            self._clear()

    def now_s(self) -> float:
        """Give the seconds since the record began."""
        return time.monotonic() - self._start_s

    def add(self, entry: PendingRecord) -> None:
        """Remember a request that has arrived whole."""
        weight = entry.weight
        with self._lock:
            self._counts[entry.service] += 1
            self._counts["any"] += 1
            self._entries.append(entry)
            self._weight += weight
            while len(self._entries) > self._max_entries or self._weight > self._max_bytes:
                self._weight -= self._entries.popleft().weight

    def count(self, service: str = "any") -> int:
        """
        Give the exact number of requests since the start or the last `forget`.

        Parameters
        ----------
        service
            ``file``, ``fitscut``, ``bundle``, ``query``, ``columns``, ``other`` or ``any``.
        """
        with self._lock:
            return self._counts[service]

    def entries(self) -> list[Seen]:
        """Give what is remembered, oldest first."""
        with self._lock:
            entries = list(self._entries)
        return [entry.seen() for entry in entries]

    def request_begins(self) -> None:
        """Count a request as in flight."""
        with self._lock:
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)

    def request_ends(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self._in_flight -= 1

    def connection_opens(self) -> int:
        """Count a connection, and give it a number."""
        with self._lock:
            self._connections += 1
            self._numbered += 1
            self.peak_connections = max(self.peak_connections, self._connections)
            return self._numbered

    def connection_closes(self) -> None:
        """Count a connection as gone."""
        with self._lock:
            self._connections -= 1

    def sent(self, n_bytes: int) -> None:
        """
        Count bytes of answers.

        Parameters
        ----------
        n_bytes
            Size of a body, or a part of one.
        """
        self.bytes_out += n_bytes  # written by the server's own thread only

    def open_now(self) -> dict[str, Any]:
        """Give how many connections and requests are open at this moment."""
        with self._lock:
            return {"connections": self._connections, "in_flight": self._in_flight}
