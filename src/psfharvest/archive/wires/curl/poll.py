"""Waiting for sockets, in libcurl's own flags: epoll where there is one, else whatever Python finds best."""

from __future__ import annotations

import select
import selectors
from collections.abc import Sequence
from typing import Any, Protocol

import pycurl

IN, OUT, ERR = pycurl.CSELECT_IN, pycurl.CSELECT_OUT, pycurl.CSELECT_ERR


class Poller(Protocol):
    """Waits for sockets; `what` is one of libcurl's ``POLL_*``."""

    def watch(self, fd: int, what: int) -> bool:
        """Watch a socket for something; return True where it is known to be the one last watched under `fd`."""
        ...

    def rest(self, fd: int) -> bool:
        """Stop watching a socket, which libcurl may close or use again; return whether it was watched."""
        ...

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the watched sockets that are ready, with libcurl's ``CSELECT_*`` flags."""
        ...

    def close(self) -> None:
        """Release the system's own resources."""
        ...


def make_poller() -> Poller:
    """Return the best there is."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()


class EpollPoller:
    """
    Linux's epoll; a socket at rest stays registered, which saves two system calls a request.

    libcurl closes idle sockets without a word, and their numbers are given to others. The kernel forgets a socket
    with its last descriptor, so `EPOLL_CTL_MOD` fails for a number that has a new owner: that is how one is told
    from the other. (libcurl would call back when it closes one, but pycurl cannot run that callback once the handle
    that opened the connection is off the multi handle, and then nobody closes it.)

    A socket that a forked process holds, too, is not forgotten when it is closed here, and can no longer be
    removed. When it is reported, all that is watched moves to another epoll.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # libcurl's POLL_IN, POLL_OUT and POLL_INOUT are 1, 2 and 3.
        self._masks = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
        self._flags = {mask: _flags(mask) for mask in range(32)}
        self._watched: dict[int, int] = {}

    def watch(self, fd: int, what: int) -> bool:
        """Watch a socket for something; return True where it is known to be the one last watched under `fd`."""
        self._watched[fd] = what
        try:
            self._epoll.modify(fd, self._masks[what])
        except FileNotFoundError:
            self._epoll.register(fd, self._masks[what])
            return False
        return True

    def rest(self, fd: int) -> bool:
        """Stop watching a socket; one that was watched for reading stays registered until it is readable."""
        what = self._watched.pop(fd, 0)
        if what and what != IN:
            self._unregister(fd)
        return what != 0

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the watched sockets that are ready."""
        flags, watched = self._flags, self._watched
        found = self._epoll.poll(timeout_s)
        ready = [(fd, flags[mask & 31]) for fd, mask in found if fd in watched]
        if len(ready) != len(found):
            self._silence([fd for fd, _ in found if fd not in watched])
        return ready

    def close(self) -> None:
        """Close it."""
        self._epoll.close()

    def _silence(self, fds: Sequence[int]) -> None:
        """Unregister sockets at rest: data or a hang-up that nobody reads would be reported without end."""
        if all(self._unregister(fd) for fd in fds):
            return
        self._epoll.close()
        self._epoll = select.epoll()
        for fd, what in self._watched.items():
            self._epoll.register(fd, self._masks[what])

    def _unregister(self, fd: int) -> bool:
        try:
            self._epoll.unregister(fd)
        except OSError:  # closed already
            return False
        return True


def _flags(mask: int) -> int:
    flags = 0
    if mask & (select.EPOLLIN | select.EPOLLHUP):
        flags |= IN
    if mask & select.EPOLLOUT:
        flags |= OUT
    if mask & (select.EPOLLERR | select.EPOLLHUP):
        flags |= ERR
    return flags


class SelectorPoller:
    """Any other system's."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._masks: tuple[Any, ...] = (
            0,
            selectors.EVENT_READ,
            selectors.EVENT_WRITE,
            selectors.EVENT_READ | selectors.EVENT_WRITE,
        )

    def watch(self, fd: int, what: int) -> bool:
        """Watch a socket for something; what was known under its number may be another."""
        try:
            self._selector.register(fd, self._masks[what])
        except KeyError:  # watched already, or closed meanwhile and its number given to another
            self._selector.modify(fd, self._masks[what])
        return False

    def rest(self, fd: int) -> bool:
        """Stop watching a socket; return whether it was watched."""
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError, OSError):
            return False
        return True

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready; the flags of both libraries are 1 for reading and 2 for writing."""
        return [(key.fd, events) for key, events in self._selector.select(timeout_s)]

    def close(self) -> None:
        """Close it."""
        self._selector.close()
