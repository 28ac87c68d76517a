"""
The way into the wire's thread: what others want done, left where the thread finds it, with a bell that wakes it.

A ring costs a system call, so it is rung only for a thread that sleeps.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any


class Inbox:
    """Work for a thread, from any other."""

    def __init__(self) -> None:
        self.is_closing = False
        """Nothing more is taken in, and the thread is to end."""
        self.is_over = False
        """The thread has looked for the last time."""
        self._work: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._is_asleep = False

    # From any thread.

    def post(self, what: Callable[..., None], *args: Any) -> None:
        """
        Have something done.

        Raises
        ------
        RuntimeError
            When the thread has ended, or is about to.
        """
        if self.is_closing:
            raise RuntimeError("the wire is closed")
        self._work.append((what, args))
        if self._is_asleep:  # looked at after the append, and set by the thread before its last look here
            self._is_asleep = False  # one ring is enough
            self.ring()
        if self.is_over:
            raise RuntimeError("the wire is closed")

    def ring(self) -> None:
        """Wake the thread."""
        try:
            self._bell.send(b"\0")
        except OSError:  # full: it will wake anyway; or closed
            return

    # In the thread.

    def __len__(self) -> int:
        return len(self._work)

    def fileno(self) -> int:
        """Return what becomes readable when the bell is rung."""
        return self._ear.fileno()

    def obey(self) -> None:
        """Do all that is wanted."""
        work = self._work
        while work:
            what, args = work.popleft()
            what(*args)

    def fall_asleep(self) -> None:
        """From here on a post rings; to be called before the last look at what is here."""
        self._is_asleep = True

    def wake(self) -> None:
        """From here on a post does not ring."""
        self._is_asleep = False

    def hear(self) -> None:
        """Take note of the bell."""
        self._ear.recv(4096)

    def close(self) -> None:
        """Let go of the bell."""
        self._ear.close()
        self._bell.close()
