"""
Middleware of the service: read-only methods, allowed hosts and origins, a token, and security headers.

`Headers` is part of the application, wherever it is mounted. `Gate` is the server's own: it knows under which names
it is reached, and asks for a token where other machines can reach it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers as RequestHeaders
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FRAMES = "'self' http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview:"
"""Where a notebook may show the page in a frame."""


def policy(*, may_be_framed: bool) -> Mapping[str, str]:
    """Return the headers of every response."""
    directives = [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect")),
        "img-src 'self' data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        f"frame-ancestors {FRAMES if may_be_framed else chr(39) + 'none' + chr(39)}",
    ]
    headers = {
        "content-security-policy": "; ".join(directives),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
    return (
        headers
        if may_be_framed
        else {**headers, "x-frame-options": "DENY", "cross-origin-opener-policy": "same-origin"}
    )


class Headers:
    """
    Allows GET and HEAD only, refuses what other sites make a browser ask for, and adds the headers of `policy`.

    Parameters
    ----------
    app
        What stands behind.
    may_be_framed
        Whether a notebook shows the page in a frame.
    """

    def __init__(self, app: ASGIApp, *, may_be_framed: bool = False) -> None:
        self._app = app
        self._policy = policy(may_be_framed=may_be_framed)
        self._may_be_framed = may_be_framed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._policy)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return refused(405, "this service only reads: GET and HEAD are allowed", {"allow": "GET, HEAD"})
        headers = RequestHeaders(scope=scope)
        site, mode, dest = (headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode", "dest"))
        if site in ("", "none", "same-origin"):
            return None
        is_visit = mode == "navigate" and dest in (("document", "iframe") if self._may_be_framed else ("document",))
        if is_visit and not _within(scope).startswith(("/api/", "/cutout", "/metrics")):
            return None
        return refused(403, "another site's page asks for this; open the page itself")


@dataclass(frozen=True, slots=True)
class Names:
    """
    Under which names a server is reached; any other in a request comes from a page that means another server.

    Parameters
    ----------
    known
        Names and addresses, in lower case.
    any_address
        Whether every address in numbers is one, too: no page of another site can have it for its name.
    """

    known: frozenset[str]
    any_address: bool = False

    def have(self, name: str) -> bool:
        """Return whether `name` is one of them."""
        return name in self.known or (self.any_address and _is_address(name))

    def __str__(self) -> str:
        return ", ".join(sorted(self.known)) + (" or its address" if self.any_address else "")


class Gate:
    """
    Answers to its own names only, and where there is a token, to those who have it.

    A browser gives the token once, in the address; it is kept in a cookie that no script reads and no other site's
    page sends. Programs give it as ``Authorization: Bearer TOKEN``.

    Parameters
    ----------
    app
        What stands behind.
    names
        Under which the server is reached.
    token
        Asked for unless empty.
    cookie
        The cookie's name.
    """

    def __init__(self, app: ASGIApp, *, names: Names, token: str, cookie: str) -> None:
        self._app = app
        self._names = names
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        answer: ASGIApp = self._app
        if scope["type"] == "http":
            answer = self._answer(scope) or self._app
        await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        headers = RequestHeaders(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._names.have(host_name(hosts[0])):
            return refused(421, f"this server does not answer to this name; it is {self._names}")
        if not self._token or scope["path"] == "/healthz":
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given and scope["path"] == "/":
            return self._welcome(query) if self._is_token(given[0]) else _no_token()
        _, _, bearer = headers.get("authorization", "").partition("Bearer ")
        return None if self._is_token(bearer.strip()) or self._is_token(self._in_cookie(headers)) else _no_token()

    def _welcome(self, query: list[tuple[str, str]]) -> Response:
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        response = RedirectResponse(f"./{'?' + rest if rest else ''}", 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        response.headers["cache-control"] = "no-store"
        return response

    def _in_cookie(self, headers: RequestHeaders) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def host_name(host: str) -> str:
    """Return the name or address in a Host header, in lower case, without port and brackets; or nothing."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is none
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.netloc == host and parts.username is None else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def refused(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal in words."""
    return JSONResponse({"error": words}, status, {"cache-control": "no-store", **(headers or {})})


def _no_token() -> Response:
    words = "a token is needed: open the address that 'psfharvest serve' printed, or send it as a Bearer token"
    return refused(401, words, {"www-authenticate": "Bearer"})


def _within(scope: Scope) -> str:
    """Return the path below the prefix that the application is mounted under."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path
