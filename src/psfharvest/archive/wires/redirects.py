"""
Redirect handling for all wires: the next URL, its credentials, and cookies within one request.

At most five are followed. Another host is asked over https (or on loopback) only, and never sees the credentials. A
redirect from https to http is tried over https. A cookie that a redirect sets goes back to its host within the same
request, and is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from psfharvest.archive.endpoints import is_loopback
from psfharvest.archive.wires.base import Request
from psfharvest.core.model import Evidence, Failure, Reason
from psfharvest.core.reasons import NO_HTTP

MAX_REDIRECTS = 5
MAX_COOKIES = 50
MAX_COOKIE_CHARS = 4096


class _Cookie(NamedTuple):
    host: str
    path: str
    is_secure: bool
    name: str
    value: str

    def fits(self, url: SplitResult) -> bool:
        path = url.path or "/"
        is_below = path == self.path or path.startswith(self.path.rstrip("/") + "/")
        return url.hostname == self.host and is_below and (url.scheme == "https" or not self.is_secure)


def speaks_no_tls(failure: Failure) -> bool:
    """Return whether a failure may come of TLS to a port that has none: a server drops what it cannot read."""
    return failure.evidence is Evidence.UNREACHABLE or failure.reason in NO_HTTP | {Reason.TLS}


class Redirects:
    """
    One request's way through redirects.

    Attributes
    ----------
    hop
        What is to be sent now.
    """

    def __init__(self, request: Request) -> None:
        self.hop = request
        self._asked = _origin(urlsplit(request.url))
        self._n = 0
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}
        self._plain_url: str | None = None
        self._upgraded_from = ""

    def follow(self, status: int, location: str | None, set_cookies: Iterable[str] = ()) -> Failure | None:
        """
        Go on to where an answer leads.

        Parameters
        ----------
        status, location, set_cookies
            The answer's status, and its headers Location and Set-Cookie.

        Returns
        -------
        Failure or None
            Why the redirect is not followed; None when `hop` is the next request.
        """
        if self._n >= MAX_REDIRECTS:
            return _refusal(f"more than {MAX_REDIRECTS} redirects")
        if not location:
            return _refusal(f"HTTP {status} without a location")
        hop, here = self.hop, urlsplit(self.hop.url)
        try:
            there = urlsplit(urljoin(hop.url, location))
            flaw = _flaw(here, there)
        except ValueError:
            return _refusal(f"unreadable location {location[:100]!r}")
        if flaw:
            return _refusal(f"to {_shown(there)!r}: {flaw}")
        self._plain_url, self._upgraded_from = None, ""
        if _is_over_tls_first(here, there):
            self._plain_url = urlunsplit(there) if is_loopback(there.hostname or "") else None
            self._upgraded_from = _shown(there)
            there = there._replace(scheme="https", netloc=there.netloc.removesuffix(":80"))
        self._keep(here, set_cookies)
        if _origin(here) != _origin(there):
            hop = hop._replace(credentials=())
        if status == 303 or (status in (301, 302) and hop.body is not None):
            hop = hop._replace(body=None)
        self.hop = self._with_cookies(hop._replace(url=urlunsplit(there)), there)
        self._n += 1
        return None

    def fall_back(self) -> bool:
        """Go back to plain http on loopback when https did not connect there; False when there is no way back."""
        url, self._plain_url = self._plain_url, None
        if url is None:
            return False
        self._upgraded_from = ""
        self.hop = self._with_cookies(self.hop._replace(url=url, credentials=()), urlsplit(url))
        return True

    def reason_for(self, failure: Failure) -> Failure:
        """
        Return a failure of `hop`: the redirect's own, where it led to http and https does not connect.

        A host that was led to and cannot be reached is as a server error of the archive's, which has answered.
        """
        if failure.evidence is not Evidence.UNREACHABLE:
            return failure
        if self._upgraded_from:
            return _refusal(f"to {self._upgraded_from!r}, tried over https: {failure.detail}")
        there = urlsplit(self.hop.url)
        if _origin(there) == self._asked:
            return failure
        words = f"redirected to {there.hostname}: {failure.detail}"
        return failure._replace(detail=words, evidence=Evidence.ERRING)

    def _keep(self, url: SplitResult, set_cookies: Iterable[str]) -> None:
        for text in set_cookies:
            first, *rest = text.split(";")
            name, has_value, value = (part.strip() for part in first.partition("="))
            if not (has_value and name) or len(text) > MAX_COOKIE_CHARS or not text.isprintable():
                continue
            options = {k.strip().lower(): v.strip() for k, _, v in (part.partition("=") for part in rest)}
            path = options.get("path", "")
            if not path.startswith("/"):
                path = url.path.rpartition("/")[0] or "/"
            cookie = _Cookie(url.hostname or "", path, "secure" in options, name, value)
            key = (cookie.host, path, name)
            self._cookies.pop(key, None)
            is_deleted = options.get("max-age", "").lstrip("-").isdigit() and int(options["max-age"]) <= 0
            if not is_deleted and len(self._cookies) < MAX_COOKIES:
                self._cookies[key] = cookie

    def _with_cookies(self, hop: Request, url: SplitResult) -> Request:
        headers = tuple(header for header in hop.headers if header[0] != "Cookie")
        found = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies.values() if cookie.fits(url))
        return hop._replace(headers=(*headers, ("Cookie", found)) if found else headers)


def _flaw(here: SplitResult, there: SplitResult) -> str:
    """Return why a target is never asked, or nothing; raises ValueError for one that cannot be read."""
    if there.scheme not in ("http", "https") or not there.hostname:
        return "neither http nor https"
    if there.port == 0:
        return "a port of 0"
    if "@" in there.netloc and _origin(here) != _origin(there):
        return "it carries a user name"
    return ""


def _is_over_tls_first(here: SplitResult, there: SplitResult) -> bool:
    if there.scheme != "http" or _origin(here) == _origin(there):
        return False
    return here.scheme == "https" or not is_loopback(there.hostname or "")


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return (url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme))


def _shown(url: SplitResult) -> str:
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query=""))[:100]


def _refusal(words: str) -> Failure:
    return Failure(Reason.REDIRECT, words, evidence=Evidence.ALIVE)
