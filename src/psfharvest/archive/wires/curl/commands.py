"""
Thread-safe queue of commands for the curl thread, with a socket pair that wakes it up.

A wake-up costs a system call, so it is sent only while the thread waits in ``poll``.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any


class CommandQueue:
    """Commands that any thread may append and one thread runs."""

    def __init__(self) -> None:
        self.is_closing = False
        """No command is accepted any more, and the thread is to end."""
        self.is_over = False
        """The thread has run its last commands."""
        self._work: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._writer, self._reader = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)
        self._is_waiting = False

    # From any thread.

    def post(self, command: Callable[..., None], *args: Any) -> None:
        """
        Append a command.

        Raises
        ------
        RuntimeError
            When the thread has ended, or is about to.
        """
        if self.is_closing:
            raise RuntimeError("the wire is closed")
        self._work.append((command, args))
        if self._is_waiting:  # read after the append, and set by the thread before its last look at the queue
            self._is_waiting = False  # one wake-up is enough
            self.wake_up()
        if self.is_over:
            raise RuntimeError("the wire is closed")

    def wake_up(self) -> None:
        """Wake the thread up."""
        try:
            self._writer.send(b"\0")
        except OSError:  # full: it will wake up anyway; or closed
            return

    # In the thread.

    def __len__(self) -> int:
        return len(self._work)

    def fileno(self) -> int:
        """Return the descriptor that a wake-up makes readable."""
        return self._reader.fileno()

    def run_all(self) -> None:
        """Run all queued commands."""
        work = self._work
        while work:
            command, args = work.popleft()
            command(*args)

    def begin_wait(self) -> None:
        """Have each command send a wake-up; call it before the last look at the queue."""
        self._is_waiting = True

    def end_wait(self) -> None:
        """Have commands send no wake-up."""
        self._is_waiting = False

    def drain(self) -> None:
        """Read the wake-ups that have come."""
        self._reader.recv(4096)

    def close(self) -> None:
        """Close the socket pair."""
        self._reader.close()
        self._writer.close()
