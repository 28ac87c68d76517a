"""
Idle connections of libcurl's pool: which sockets they are, and how to close some of them at once.

libcurl has no call for that. A socket is shut down beneath it, and is found dead when libcurl checks it next. It
checks a connection again only when that has been idle for a second, and gives a transfer up after five dead
connections; until then transfers may have to open fresh ones.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Collection
from contextlib import suppress

UNCHECKED_S = 1.5
"""For how long libcurl may take a dead connection for a good one; it goes by whole seconds."""
N_DEAD_MAX = 4
"""How many dead connections one transfer tolerates."""


class IdleConnections:
    """The sockets that libcurl has lost interest in, the longest idle first."""

    def __init__(self) -> None:
        self._idle: dict[int, None] = {}
        self._inodes: dict[int, int] = {}
        self._shut_at: deque[float] = deque()

    def add(self, fd: int) -> None:
        """Add a socket that libcurl no longer watches."""
        if fd not in self._inodes:
            try:
                self._inodes[fd] = os.fstat(fd).st_ino
            except OSError:  # closed already
                return
        self._idle[fd] = None

    def discard(self, fd: int, *, is_same: bool) -> None:
        """Remove a socket that libcurl watches again; `is_same` where it is proven to be the one that was added."""
        self._idle.pop(fd, None)
        if not is_same:
            self._inodes.pop(fd, None)

    def shrink(self, connections: int, in_use: Collection[int], now: float) -> None:
        """Close the longest idle ones, until they and those in use are at most so many."""
        idle = [fd for fd in self._idle if fd not in in_use]
        for fd in idle[: max(0, len(in_use) + len(idle) - connections)]:
            del self._idle[fd]
            _shut_down(fd, self._inodes.pop(fd))
            self._shut_at.append(now)

    def has_many_dead(self, now: float) -> bool:
        """Return whether the pool may hold more dead connections than a transfer tolerates."""
        while self._shut_at and now - self._shut_at[0] > UNCHECKED_S:
            self._shut_at.popleft()
        return len(self._shut_at) > N_DEAD_MAX


def _shut_down(fd: int, inode: int) -> None:
    """
    End a connection, if the descriptor is still the same socket.

    Only libcurl's thread, which runs this, closes that socket; so an equal inode cannot change in between.
    """
    try:
        if os.fstat(fd).st_ino != inode:
            return
        found = socket.socket(fileno=os.dup(fd))
    except OSError:
        return
    with found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
