"""What libcurl's error codes mean to us: one table, in the same words as every other wire."""

from __future__ import annotations

from psfharvest.archive.endpoints import without_userinfo
from psfharvest.core.model import Evidence, Failure, Reason

TIMED_OUT = 28
_BAD_ENCODING = 61
_RECV_ERROR = 56

_FAILURES: dict[int, tuple[Reason, Evidence]] = {
    1: (Reason.PROTOCOL, Evidence.NONE),  # no status line: what HTTP/0.9 would be
    3: (Reason.REDIRECT, Evidence.ALIVE),  # a malformed URL: ours are built from quoted parts
    5: (Reason.DNS, Evidence.UNREACHABLE),  # the proxy's name
    6: (Reason.DNS, Evidence.UNREACHABLE),
    7: (Reason.REFUSED, Evidence.UNREACHABLE),
    8: (Reason.PROTOCOL, Evidence.NONE),  # a weird reply
    16: (Reason.PROTOCOL, Evidence.NONE),  # HTTP/2 framing
    18: (Reason.TRUNCATED, Evidence.NONE),  # fewer bytes than announced, or no last chunk
    TIMED_OUT: (Reason.TIMEOUT, Evidence.NONE),
    35: (Reason.TLS, Evidence.UNREACHABLE),  # the handshake
    52: (Reason.RESET, Evidence.NONE),  # closed without an answer
    55: (Reason.RESET, Evidence.NONE),
    _RECV_ERROR: (Reason.RESET, Evidence.NONE),
    58: (Reason.TLS, Evidence.UNREACHABLE),
    59: (Reason.TLS, Evidence.UNREACHABLE),
    60: (Reason.TLS, Evidence.UNREACHABLE),  # a certificate that we do not trust
    _BAD_ENCODING: (Reason.PROTOCOL, Evidence.NONE),  # an unreadable Content-Encoding
    63: (Reason.TOO_LARGE, Evidence.ALIVE),
    77: (Reason.TLS, Evidence.UNREACHABLE),  # the CA file cannot be read
    83: (Reason.TLS, Evidence.UNREACHABLE),
    91: (Reason.TLS, Evidence.UNREACHABLE),
    92: (Reason.RESET, Evidence.NONE),  # an HTTP/2 stream
    97: (Reason.REFUSED, Evidence.UNREACHABLE),  # the proxy's handshake
}


def is_unknown_encoding(code: int, text: str) -> bool:
    """Return True when a body came under the name of an encoding that libcurl does not know, such as ``binary``."""
    return code == _BAD_ENCODING and "nrecognized" in text


def failure(code: int, text: str, *, was_connected: bool) -> Failure:
    """
    Return what one of libcurl's errors means.

    Parameters
    ----------
    code, text
        libcurl's own.
    was_connected
        Whether the connection, TLS included, had come about.
    """
    reason, evidence = _FAILURES.get(code, (Reason.PROTOCOL, Evidence.NONE))
    if not was_connected and evidence is Evidence.NONE:
        evidence = Evidence.UNREACHABLE
        if reason is Reason.RESET:
            reason = Reason.REFUSED  # such as a proxy that will not open a tunnel
    elif code == _RECV_ERROR and "chunk" in text:
        reason = Reason.PROTOCOL  # libcurl gives an unreadable chunk length the code of a lost connection
    return Failure(reason, without_userinfo(text) or f"libcurl error {code}", evidence=evidence)
