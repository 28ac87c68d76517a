"""One answer of the archive, or why there is none, in a form that can be shown: without token, cookies or more."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from psfharvest.archive.endpoints import without, without_userinfo
from psfharvest.archive.wires.base import Request
from psfharvest.core.model import Failure

MAX_SHOWN_BYTES = 4096
MAX_HEADER_CHARACTERS = 2000
_SECRET_HEADERS = frozenset({"set-cookie", "cookie", "authorization", "proxy-authorization", "www-authenticate"})


class Reply(NamedTuple):
    """What came back for one request."""

    request: Request
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    http_version: str = ""
    n_redirects: int = 0
    first_byte_s: float = 0.0
    elapsed_s: float = 0.0
    failure: Failure | None = None

    @property
    def is_success(self) -> bool:
        """True for a whole answer with status 200 to 299."""
        return self.failure is None and 200 <= self.status < 300

    @property
    def asked(self) -> str:
        """The request in one text, without credentials."""
        body = self.request.body
        if body is None:
            return f"GET {self.request.url}"
        values = [value for _, value in parse_qsl(body.decode("latin-1"))]
        more = f" and {len(values) - 6} more" if len(values) > 6 else ""
        return f"POST {self.request.url} {' '.join(values[:6])}{more}"

    @property
    def trouble(self) -> str:
        """Why this is no success, in words."""
        if self.failure is not None:
            return self.shown(f"{self.failure.reason}: {self.failure.detail}")
        return f"status {self.status}"

    def header(self, name: str) -> str:
        """Return the first value of a header, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def shown(self, words: str) -> str:
        """Return words without what the request carried in confidence."""
        return without_userinfo(without(self.request.credentials, words))

    def to_dict(self) -> dict[str, Any]:
        """Return request and answer as plain values for JSON; of the body, its beginning."""
        headers: dict[str, str] = {}
        for key, value in self.headers:
            text = "..." if key.lower() in _SECRET_HEADERS else self._plain(value)[:MAX_HEADER_CHARACTERS]
            headers[self._plain(key)] = f"{headers[key]}, {text}" if key in headers else text
        return {
            "asked": self._plain(self.asked),
            "status": self.status or None,
            "headers": headers,
            "body": self._plain(self.body[:MAX_SHOWN_BYTES].decode("utf-8", "replace")),
            "elapsed_s": round(self.elapsed_s, 3),
        }

    def _plain(self, words: str) -> str:
        return without(self.request.credentials, words)
