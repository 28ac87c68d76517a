"""
The client behind the httpx wire: which library makes ours, what a caller's own can do, what its exceptions mean.

`httpx`, or `httpx2` where it is installed and httpx is not. A caller's client may be any with the same API, so its
exceptions are recognised by their classes' names.
"""

from __future__ import annotations

import inspect
import os
import socket
import ssl
from collections.abc import Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from psfharvest.archive.endpoints import without_userinfo
from psfharvest.archive.wires.trust import ssl_context
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Evidence, Failure, Reason

_FAILURES: dict[str, tuple[Reason, Evidence]] = {
    "ConnectTimeout": (Reason.TIMEOUT, Evidence.UNREACHABLE),
    "ConnectError": (Reason.REFUSED, Evidence.UNREACHABLE),
    "ProxyError": (Reason.REFUSED, Evidence.UNREACHABLE),
    "TimeoutException": (Reason.TIMEOUT, Evidence.NONE),
    "NetworkError": (Reason.RESET, Evidence.NONE),
    "RemoteProtocolError": (Reason.PROTOCOL, Evidence.NONE),
    "DecodingError": (Reason.PROTOCOL, Evidence.NONE),
    "UnsupportedProtocol": (Reason.REDIRECT, Evidence.ALIVE),
    "TransportError": (Reason.PROTOCOL, Evidence.NONE),
    "InvalidURL": (Reason.REDIRECT, Evidence.ALIVE),
    "SSLError": (Reason.TLS, Evidence.NONE),
    "ConnectionError": (Reason.RESET, Evidence.NONE),
}
_POOL_DEPTH = 4
"""How many transports around one another are looked into for a pool."""


def library_name() -> str | None:
    """Return the name of the installed library that makes our own clients, or None."""
    return next((name for name in ("httpx", "httpx2") if find_spec(name) is not None), None)


def make_client(
    connections: int,
    user_agent: str,
    *,
    is_private: bool = False,
    trust_env: bool = True,
    keeps_connections: bool = True,
) -> Any:
    """
    Return a client of our own.

    Parameters
    ----------
    connections
        The most that it opens, and keeps.
    user_agent
        Sent with every request.
    is_private
        Whether a token goes along: then this machine is asked directly, and no proxy sees it in plain text.
    trust_env
        Whether proxies and certificates are what the environment's variables say.
    keeps_connections
        Whether a connection is kept for the next request.

    Raises
    ------
    BadInput
        When the certificates or the proxy that the environment names cannot be used.
    """
    httpx = import_module(library_name() or "httpx")  # heavy: a command that sends nothing does not wait for it
    options = {
        "limits": httpx.Limits(
            max_connections=connections,
            max_keepalive_connections=connections if keeps_connections else 0,
            keepalive_expiry=60,
        ),
        "headers": {"User-Agent": user_agent},
        "trust_env": trust_env,
        "verify": ssl_context(trust_env=trust_env),
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a request keeps its own, and none is kept
        "mounts": dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")) if is_private else None,
    }
    try:
        return httpx.AsyncClient(**options)
    except Exception as error:  # noqa: BLE001 - what the environment's variables say cannot be used
        words = without_userinfo(str(error)) or type(error).__name__
    raise BadInput(f"the proxy that the environment names (http_proxy, https_proxy, all_proxy): {words}")


def check_client(client: Any) -> None:
    """
    Check that a caller's client can work.

    Raises
    ------
    BadInput
        When it is closed, or is no asynchronous client.
    """
    name = f"{type(client).__module__.partition('.')[0]}.{type(client).__name__}"
    is_async = inspect.iscoroutinefunction(getattr(client, "send", None))
    if not (is_async and callable(getattr(client, "build_request", None))):
        raise BadInput(f"client: {name} is no asynchronous client; give an httpx.AsyncClient")
    if getattr(client, "is_closed", False) is True:
        raise BadInput(f"client: this {name} is closed; give one that is open for as long as the Archive is")


def pool_size(client: Any) -> int | None:
    """Return how many connections a client's pools hold, the smallest counts; None where that cannot be read."""
    transports = [getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()]
    sizes = [size for transport in transports if (size := _pool_size(transport, _POOL_DEPTH)) is not None]
    return min(sizes, default=None)


def failure_of_error(error: BaseException) -> Failure:
    """Return what an exception of an httpx-like client means; what is none of its own is raised again."""
    for cls in type(error).__mro__:
        if cls.__name__ in _FAILURES:
            reason, evidence = _FAILURES[cls.__name__]
            break
    else:
        raise error
    text = without_userinfo(str(error)).removesuffix(".") or type(error).__name__
    if reason is Reason.REFUSED:
        reason = _connect_reason(error)
        text = _system_words(error) or text
    elif reason is Reason.PROTOCOL and ("incomplete" in text or "complete message body" in text):
        reason = Reason.TRUNCATED
    elif reason is Reason.PROTOCOL and ("disconnected" in text or "ConnectionClosed" in text):
        reason = Reason.RESET
    return Failure(reason, text, evidence=evidence)


def _pool_size(transport: Any, depth: int) -> int | None:
    inner = getattr(transport, "__dict__", {})
    size = inner.get("_max_connections")
    if isinstance(size, int) and size > 0:
        return size
    if not depth:
        return None
    parts = [v for v in inner.values() if hasattr(v, "handle_async_request")]
    sizes = [size for part in parts if (size := _pool_size(part, depth - 1)) is not None]
    return min(sizes, default=None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what is behind it, the members of groups included."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for member in cause.exceptions:
                yield from _causes(member)
        cause = cause.__cause__ or cause.__context__


def _connect_reason(error: BaseException) -> Reason:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return Reason.DNS
        if isinstance(cause, ssl.SSLError):
            return Reason.TLS
    return Reason.REFUSED


def _system_words(error: BaseException) -> str:
    """Return what the operating system says of a connection that did not come about, or nothing."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return str(cause.strerror)
        if isinstance(cause, ssl.SSLError):
            return ""
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno)  # the error's own words are its maker's
    return ""
