"""
One libcurl handle and the request on it; what is set is set once and kept while the next request looks the same.

Verification is always on, redirects are never libcurl's to follow, and only http and https are spoken.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pycurl

from psfharvest.archive.wires.base import Request
from psfharvest.archive.wires.redirects import Redirects
from psfharvest.archive.wires.trust import authorities
from psfharvest.core.model import Evidence, Failure, Reason

if TYPE_CHECKING:
    from psfharvest.archive.wires.curl.port import Source

BUFFER_BYTES = 64 * 1024
STREAM_BUFFER_BYTES = 256 * 1024
_OWN_BYTES = 75
"""What libcurl itself writes into a request, about: method, version, User-Agent, Accept-Encoding."""
_ASCII = "".join(map(chr, range(128)))
_QUICK_EXIT = 322
_SUPPRESS_CONNECT_HEADERS = 265

Settings = tuple[tuple[int, Any], ...]


class Transfer:
    """A reusable handle, and the request that is on it now."""

    __slots__ = (
        "body",
        "cap",
        "curl",
        "decodes",
        "flaw",
        "head_seen",
        "headers",
        "hop",
        "overhead",
        "redirects",
        "request",
        "seen",
        "seen_at",
        "shape",
        "size",
        "source",
        "started",
    )

    def __init__(self, settings: Settings) -> None:
        self.curl = pycurl.Curl()
        self.shape: tuple[Any, ...] | None = None
        self.body: list[bytes] = []
        self.size = 0
        self.cap = 0
        self.overhead = 0
        self.flaw: Failure | None = None
        self.decodes = True
        """Whether libcurl undoes a Content-Encoding."""
        self.source: Source
        self.request: Request
        self.hop: Request
        self.redirects: Redirects | None = None
        """Where redirects have led so far; None before the first one."""
        self.headers: list[bytes] = []
        """The lines of the answer's header, of all answers that came for this hop."""
        self.started = self.seen_at = 0.0
        self.seen = self.head_seen = 0
        for option, value in settings:
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._write)
        self.curl.setopt(pycurl.HEADERFUNCTION, self.headers.append)

    def load(self, source: Source, request: Request, hop: Request, redirects: Redirects | None, now: float) -> None:
        """
        Make ready for a request.

        Raises
        ------
        pycurl.error, UnicodeError
            When its URL or headers cannot be sent.
        """
        shape = hop[2:]
        if self.shape != shape:
            self.shape = None
            self._configure(hop)
            self.cap = hop.max_bytes
            self.shape = shape
        self.curl.setopt(pycurl.URL, hop.url)
        self._begin(source, request, hop, redirects, now)

    def leave_encoded(self) -> None:
        """Take bodies as they come from now on, under whatever name."""
        self.curl.setopt(pycurl.HTTP_CONTENT_DECODING, 0)
        self.decodes = False

    def n_sent(self) -> int:
        """
        Return how often the request went out.

        libcurl repeats it by itself, on another connection, when a kept one turns out to be dead; the bytes sent in
        all, compared with those of one request, show it. A POST is never repeated: its connection is a fresh one.
        """
        if self.hop.body is not None:
            return 1
        sent: int = self.curl.getinfo(pycurl.REQUEST_SIZE)
        # a tunnel through a proxy is asked for, too: that is less than half a request more, and no repeat
        return max(1, int(sent / (self.overhead + len(self.hop.url)) + 0.3))

    def is_connected(self) -> bool:
        """Return True once the connection has come about, TLS included."""
        return bool(self.curl.getinfo(pycurl.PRETRANSFER_TIME))

    def is_overdue(self, now: float) -> bool:
        """
        Return True when the whole has taken longer than the request allows.

        libcurl's own deadline is not used: it is looked at before what lies in the socket, and goes on while the
        process is stopped.
        """
        total_s = self.hop.total_timeout_s
        return total_s is not None and now - self.started >= total_s

    def restart_deadlines(self, now: float, gap_s: float) -> None:
        """Leave a time in which this process did not run out of account."""
        self.started += gap_s
        self.seen_at = now
        if not self.is_connected():
            self.shape = None  # the next request sets it back
            self.curl.setopt(
                pycurl.CONNECTTIMEOUT_MS, _milliseconds(now - self.started + gap_s + self.hop.connect_timeout_s)
            )

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header of the last answer."""
        return next(iter(self.header_values(name)), None)

    def location(self) -> str | None:
        """Return where the last answer leads, its bytes beyond ASCII quoted."""
        location = self.header(b"location")
        return None if location is None else quote(location, safe=_ASCII, encoding="latin-1")

    def header_values(self, name: bytes) -> list[str]:
        """Return all values of a header of the last answer; `name` in lower case."""
        n = len(name) + 1
        lines = self.headers[_last_head(self.headers) :]
        return [line[n:].strip().decode("latin-1") for line in lines if line[:n].lower() == name + b":"]

    def is_stalled(self, now: float) -> bool:
        """Return True when no byte has come for as long as the request allows."""
        if self.size != self.seen:
            self.seen, self.seen_at = self.size, now
            return False
        if now - self.seen_at < self.hop.timeout_s:
            return False
        head = self.curl.getinfo(pycurl.HEADER_SIZE)
        if head != self.head_seen:
            self.head_seen, self.seen_at = head, now
            return False
        # While it connects, the deadline for connecting is the one that counts.
        connected_s: float = self.curl.getinfo(pycurl.PRETRANSFER_TIME)
        return connected_s > 0 and now - self.started - connected_s >= self.hop.timeout_s

    def _begin(
        self, source: Source, request: Request, hop: Request, redirects: Redirects | None, now: float
    ) -> None:
        self.source, self.request, self.hop, self.redirects = source, request, hop, redirects
        self.headers.clear()
        self.started = self.seen_at = now
        self.size = self.seen = self.head_seen = 0
        if self.body:
            self.body = []
        self.flaw = None

    def _write(self, data: bytes) -> int | None:
        self.size += len(data)
        if self.size > self.cap:
            self.flaw = Failure(Reason.TOO_LARGE, f"more than {self.cap} bytes", evidence=Evidence.ALIVE)
            return -1
        self.body.append(data)
        return None

    def _configure(self, hop: Request) -> None:
        curl = self.curl
        curl.setopt(pycurl.FORBID_REUSE, hop.body is not None)  # closed at once, it makes room at the server
        if hop.body is None:
            curl.setopt(pycurl.HTTPGET, 1)
        else:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(hop.body))
            curl.setopt(pycurl.COPYPOSTFIELDS, hop.body)
        lines = _header_lines(hop)
        curl.setopt(pycurl.HTTPHEADER, lines)
        self.overhead = _OWN_BYTES + sum(map(len, lines))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(hop.connect_timeout_s))


def common_settings(user_agent: str, *, is_private: bool = False, trust_env: bool = True) -> Settings:
    """
    Return the options of every handle.

    Parameters
    ----------
    user_agent
        Sent with every request.
    is_private
        Whether proxies are kept from what is meant for this machine.
    trust_env
        Whether proxies and certificates are what the environment's variables say.
    """
    own: Settings = ()
    if not trust_env:
        own = ((pycurl.PROXY, ""), (pycurl.NOPROXY, "*"))
    elif is_private:
        own = ((pycurl.NOPROXY, _without_proxy()),)
    return (
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
        (pycurl.HTTP09_ALLOWED, 0),
        (pycurl.TCP_NODELAY, 1),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.BUFFERSIZE, BUFFER_BYTES),
        (pycurl.USERAGENT, user_agent),
        *own,
        # asks for the plain bytes, and undoes what a server does all the same
        (pycurl.ACCEPT_ENCODING, "identity"),
        (_QUICK_EXIT, 1),  # ending a transfer must not wait for its name to be resolved
        (_SUPPRESS_CONNECT_HEADERS, 1),
        *_trust(trust_env=trust_env),
    )


def _without_proxy() -> str:
    """
    Return what is reached without a proxy: this machine's own addresses, and what the user says.

    A proxy would see in plain text what is meant for this machine only, a token among it.
    """
    said = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return said if said.strip() == "*" else ",".join(filter(None, ("localhost,127.0.0.0/8,::1", said)))


def _trust(*, trust_env: bool) -> Settings:
    file, folder = authorities(trust_env=trust_env)
    if file is not None:
        return ((pycurl.CAINFO, file),)
    if folder is not None:
        return ((pycurl.CAPATH, folder),)
    is_native = sys.platform in ("win32", "darwin") and hasattr(pycurl, "SSLOPT_NATIVE_CA")
    return ((pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA),) if is_native else ()


def _last_head(lines: list[bytes]) -> int:
    return next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith(b"HTTP/")), 0)


def _milliseconds(seconds: float) -> int:
    return max(1, min(2**31 - 1, round(seconds * 1000)))


def _header_lines(hop: Request) -> list[str]:
    headers = (*hop.headers, *hop.credentials)
    if any(c in "\r\n\0" for name, value in headers for c in name + value):
        raise ValueError("a header with a line break")
    given = {name.lower() for name, _ in headers}
    # "name;" sends an empty value and "name:" nothing at all: libcurl adds these two on its own otherwise.
    lines = [f"{name}:" for name in ("expect", "content-type") if name not in given]
    return lines + [f"{name}: {value}" if value else f"{name};" for name, value in headers]
