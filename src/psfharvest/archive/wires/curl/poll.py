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

    def register(self, fd: int, what: int) -> None:
        """Watch a socket."""
        ...

    def modify(self, fd: int, what: int) -> None:
        """Watch it for something else."""
        ...

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""
        ...

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready, with libcurl's ``CSELECT_*`` flags."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def make_poller() -> Poller:
    """Return the best there is."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()


class EpollPoller:
    """Linux's own."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        # libcurl's POLL_IN, POLL_OUT and POLL_INOUT are 1, 2 and 3.
        self._masks = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
        self._flags = {mask: _flags(mask) for mask in range(32)}

    def register(self, fd: int, what: int) -> None:
        """Watch a socket."""
        try:
            self._epoll.register(fd, self._masks[what])
        except FileExistsError:
            self._epoll.modify(fd, self._masks[what])

    def modify(self, fd: int, what: int) -> None:
        """Watch it for something else."""
        try:
            self._epoll.modify(fd, self._masks[what])
        except FileNotFoundError:  # closed meanwhile, and its number given to another
            self._epoll.register(fd, self._masks[what])

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""
        try:
            self._epoll.unregister(fd)
        except OSError:  # closed already: the kernel has forgotten it
            return

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready."""
        flags = self._flags
        return [(fd, flags[mask & 31]) for fd, mask in self._poll(timeout_s)]

    def close(self) -> None:
        """Close it."""
        self._epoll.close()


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

    def register(self, fd: int, what: int) -> None:
        """Watch a socket."""
        try:
            self._selector.register(fd, self._masks[what])
        except KeyError:  # known under this number: the one before was closed
            self._selector.modify(fd, self._masks[what])

    def modify(self, fd: int, what: int) -> None:
        """Watch it for something else."""
        self._selector.modify(fd, self._masks[what])

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError, OSError):
            return

    def poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready; the flags of both libraries are 1 for reading and 2 for writing."""
        return [(key.fd, events) for key, events in self._selector.select(timeout_s)]

    def close(self) -> None:
        """Close it."""
        self._selector.close()
