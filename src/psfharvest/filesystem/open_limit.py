"""How many files this process may open: the limit, what is left of it, and what has to be left for the disk."""

from __future__ import annotations

import contextlib
import errno
import os

from psfharvest.core.errors import LocalError

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

RESERVE = 24
"""Files that a harvest has open beside its connections: sink, manifest and its journals, lists, the event loop."""
FILES_A_CONNECTION = 2
"""A connection's socket, and what looking up its host takes meanwhile."""
NEEDED = 12
"""Without so many, not even one connection and the manifest can be open at once."""
NEEDED_FOR_LOOP = 3
"""What an event loop has open in addition."""
_LIMIT_MAX = 65_536
"""More is of no use to us, and some systems refuse an infinite limit."""


def raise_limit() -> None:
    """Raise the soft limit to the hard one; for a program's own start, since a library's caller has set theirs."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LIMIT_MAX if hard == resource.RLIM_INFINITY else min(hard, _LIMIT_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_at_most(wanted: int) -> int:
    """Return how many of the wanted connections leave enough files for everything else; 1 at least."""
    if resource is None:
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - _n_open(soft) - RESERVE) // FILES_A_CONNECTION))


def require(n: int) -> None:
    """
    Make sure that so many more files may be opened.

    Raises
    ------
    LocalError
        When they may not.
    """
    if resource is None:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > 16 * n:
        return
    free = soft - _n_open(soft)
    if free < n:
        raise LocalError(
            f"this process may open {max(0, free)} more files, and needs {n}: raise the limit (ulimit -n 1024), "
            "then run the same again"
        )


def _n_open(limit: int) -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # noqa: PTH208 - not paths, but numbers
        except OSError as error:
            if error.errno == errno.EMFILE:
                return limit
    return sum(1 for number in range(min(limit, _LIMIT_MAX)) if _is_open(number))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
