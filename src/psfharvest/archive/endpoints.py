"""
Where the archive's paths are: on the public hosts, or all under one base URL.

The token stays with the archive's own host, and travels over TLS or loopback only.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from psfharvest.core.errors import BadInput
from psfharvest.core.fits import datauri
from psfharvest.core.model import PUBLIC_URL

_ESCAPES = tuple((character, quote(character, safe="")) for character in ":/?=[]&")
_IN_QUOTES = re.compile(r"""(['"])((?:[a-zA-Z][\w+.-]*:)?//)?[^'"]*@""")
_IN_WORDS = re.compile(r"(^|[\s(=])((?:[a-zA-Z][\w+.-]*:)?//)?[^\s'\"]*@")
_AT_THE_START = re.compile(r"^((?:[a-zA-Z][\w+.-]*:)?//)?.*@", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.~:/?=\[\]&-]*")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """
    The archive's addresses.

    Parameters
    ----------
    base
        One URL under which all paths are found; None for the public hosts.
    token
        Sent to the archive's host, or empty.

    Raises
    ------
    BadInput
        When the base is no http(s) URL, or would expose the token.
    """

    base: str | None = None
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.root)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            is_url = (
                is_url and self.root.isprintable()
            )  # urlsplit leaves out newlines, which a request may not hold
        except ValueError:
            is_url = False
        shown = _shown(self.base or "")
        if is_url and "@" in parts.netloc:
            raise BadInput(
                f"archive {shown!r}: its address holds a user name or a password, which is not allowed; "
                "give a token instead (token=, or --token on the command line)"
            )
        if not is_url or parts.query or parts.fragment:
            raise BadInput(f"archive {shown!r}: a base URL like http://127.0.0.1:8000 is allowed")
        if self.token and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise BadInput(f"archive {shown!r}: a token is only sent over https or to this machine itself")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise BadInput("the token holds characters that no token has")

    @property
    def root(self) -> str:
        """The base URL of queries and downloads, without a final slash."""
        return (PUBLIC_URL if self.base is None else self.base).rstrip("/")

    @property
    def is_public(self) -> bool:
        """True for the public archive, by whichever way it is named."""
        host = urlsplit(self.root).hostname or ""
        return host == "stsci.edu" or host.endswith(".stsci.edu")

    @property
    def invoke_url(self) -> str:
        """Where queries go."""
        return f"{self.root}/api/v0/invoke"

    @property
    def bundle_url(self) -> str:
        """Where many dataURIs go at once."""
        return f"{self.root}/api/v0.1/Download/bundle.tar.gz"

    @property
    def file_prefix(self) -> str:
        """What a quoted dataURI is appended to."""
        return f"{self.root}/api/v0.1/Download/file?uri="

    def file_url(self, uri: str) -> str:
        """Return where one dataURI is downloaded from; every reserved character is escaped."""
        return self.file_prefix + quoted(uri)

    def data_url(self, uri: str) -> str:
        """Return the dataURL of a cutout; see `psfharvest.core.fits.datauri.data_url`."""
        return datauri.data_url(uri, self.root if self.base else datauri.PUBLIC_DATA_URL)

    def quoted_data_url(self, uri: str) -> str:
        """Return the dataURL as it is sent: what a query may not hold as it is, is escaped."""
        return quote(self.data_url(uri), safe=":/?=&")

    def credentials(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that only the archive's own host may see."""
        return (("Authorization", _Secret(f"token {self.token}")),) if self.token else ()


def endpoints_for(url: str | None, token: str | None, client: Any = None, *, trust_env: bool = True) -> Endpoints:
    """
    Return the addresses that a caller means.

    Parameters
    ----------
    url
        A base URL; None for the client's own ``base_url``, else what ``PSFHARVEST_ARCHIVE`` says, else the
        public hosts.
    token
        A token; None for ``MAST_API_TOKEN``, the empty text for none.
    client
        The caller's own HTTP client, or None.
    trust_env
        Whether the environment's variables are looked at.

    Raises
    ------
    BadInput
        As `Endpoints` does.
    """
    env = os.environ if trust_env else {}
    if url is None:
        url = str(getattr(client, "base_url", None) or "") or env.get("PSFHARVEST_ARCHIVE") or None
    return Endpoints(url, env.get("MAST_API_TOKEN", "") if token is None else token)


def without_userinfo(words: str) -> str:
    """Return words with whatever stands before an @ in an address left out: it may be a password."""
    return _IN_WORDS.sub(r"\1\2", _IN_QUOTES.sub(r"\1\2", words))


def _shown(base: str) -> str:
    """Return a base URL as messages may show it: without user name, password, query and fragment."""
    return _AT_THE_START.sub(r"\1", base).partition("?")[0].partition("#")[0]


class _Secret(str):
    """A text that shows only its length where objects are printed: in logs, tracebacks and reprs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secret characters>"


def without(secrets: Sequence[tuple[str, str]], words: str) -> str:
    """Return the archive's words without what it was sent in confidence: error pages may repeat a request."""
    for _, value in secrets:
        secret = value.partition(" ")[2]
        words = words.replace(secret, "...")
        cut = next((n for n in range(len(secret) - 1, 3, -1) if words.endswith(secret[:n])), 0)
        words = f"{words[:-cut]}..." if cut else words  # where the words were cut short, within it
    return words


def quoted(uri: str) -> str:
    """Return ``quote(uri, safe="")``; at a fifth of its time for what a cutout's dataURI is made of."""
    if _PLAIN.fullmatch(uri) is None:
        return quote(uri, safe="")
    for character, escape in _ESCAPES:
        uri = uri.replace(character, escape)
    return uri


def is_loopback(host: str) -> bool:
    """Return True for this machine's own addresses."""
    if host == "localhost":  # names below it are asked of a name server by most systems
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
