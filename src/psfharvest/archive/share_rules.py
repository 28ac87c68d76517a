"""What may be shared between archives that are open at the same time, and where one that is open may be used."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeVar

import anyio.lowlevel

from psfharvest.archive.endpoints import Endpoints, endpoints_for
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Limits

Kind = TypeVar("Kind")


class Basis(NamedTuple):
    """What an archive is opened with."""

    endpoints: Endpoints
    limits: Limits
    client: Any
    """The caller's own HTTP client, or None."""


class Home:
    """The process and the event loop that an archive was opened in."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = _running_loop()

    def require(self) -> None:
        """
        Make sure that the call comes from there.

        Raises
        ------
        BadInput
            When it comes from another process (a forked child) or another event loop.
        """
        if self._process != os.getpid():
            raise BadInput("this Archive was opened in another process; open one of its own in this process")
        if self._loop is not _running_loop():
            raise BadInput(
                "this Archive was opened in another event loop; open one of its own in this event loop, or take "
                "psfharvest.blocking.Archive, which any thread may use"
            )


def chosen(
    theirs: Basis | None,
    url: str | None,
    limits: Limits | None,
    client: Any,
    token: str | None,
    *,
    trust_env: bool,
) -> Basis:
    """
    Return the addresses, limits and client of an archive.

    Parameters
    ----------
    theirs
        Those of the archive that it shares connections with, if it does.
    url, limits, client, token
        What is given for it; None where nothing is.
    trust_env
        As `endpoints_for` takes it.

    Raises
    ------
    BadInput
        When something is given that differs from the other archive's; the message names it.
    """
    if theirs is None:
        return Basis(endpoints_for(url, token, client, trust_env=trust_env), limits or Limits(), client)
    endpoints, their_limits, their_client = theirs
    is_same = {
        "url": url is None or Endpoints(url).root == endpoints.root,
        "limits": limits in (None, their_limits),
        "client": client is None or client is their_client,
        "token": token is None or token == endpoints.token,
    }
    if differing := " and ".join(name for name, is_so in is_same.items() if not is_so):
        raise BadInput(f"{differing} cannot be given beside share=, which decides that: leave {differing} away")
    return theirs


def of_kind(share: object, kind: type[Kind]) -> Kind:
    """Return what is given as ``share=``; raise `BadInput` where it is no archive of the same kind."""
    if isinstance(share, kind):
        return share
    name = f"{kind.__module__}.{kind.__qualname__}".replace(".client.", ".")
    raise BadInput(f"share is {share!r}: another {name} is allowed")


def _running_loop() -> object:
    try:
        return anyio.lowlevel.current_token().native_token
    except RuntimeError:  # called from no event loop
        return None
