"""Errors for work that waited for an archive and gives up: why, and what can be done."""

from __future__ import annotations

from psfharvest.core.errors import ArchiveDown
from psfharvest.core.model import Reason
from psfharvest.core.reasons import NO_HTTP

_REASON = "archive_down"


def with_hint(words: str, reason: Reason | None, where: str) -> str:
    """Return words about an archive that has never answered, with advice where plain HTTP may have met TLS."""
    if reason not in NO_HTTP or not where.startswith("http://"):
        return words
    return f"{words}; if it speaks HTTPS, write https://{where.removeprefix('http://')}"


def banned(words: str) -> ArchiveDown:
    """Return the error for an archive that forbids everything."""
    return ArchiveDown(
        f"the archive refuses every request ({words}): stop, and ask its help desk "
        "(archive@stsci.edu) before you run again later",
        reason=Reason.FORBIDDEN,
    )


def out_of_reach(words: str, patience_s: float) -> ArchiveDown:
    """Return the error for an outage that outlasted the patience."""
    return ArchiveDown(
        f"the archive has been out of reach for {patience_s:g} s ({words}); run again later", reason=_REASON
    )


def unreached(where: str, words: str, n_tries: int) -> ArchiveDown:
    """Return the error for an archive at `where` to which no connection ever came about."""
    return ArchiveDown(
        f"cannot reach {where} ({words}), {n_tries} times in a row; check address and network, "
        "or wait for it with Archive(retry=RetryPolicy(patience_s=…))",
        reason=_REASON,
    )
