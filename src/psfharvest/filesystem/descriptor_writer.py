"""Writing to a descriptor whose reader may have stopped reading: a message to people is dropped, a result waits."""

from __future__ import annotations

import io
import os
import select
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from psfharvest.filesystem.open_file import OpenFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WAIT_S = 0.2
"""How long a message waits for a reader that has just stopped; the next ones do not wait until it reads again."""
PIECE_BYTES = min(4096, getattr(select, "PIPE_BUF", 512))
"""So much fits without a wait into a pipe that is ready to be written to."""
NUMBERS = 1024
"""`select` takes no descriptor from this number on."""
LOOK_S = 0.5
"""Between two looks at a descriptor that is not ready."""


class MessageWriter:
    """
    Write messages to a descriptor, and drop those that nobody takes in time.

    A pipe that is full, or a terminal that was stopped (Ctrl-S) or whose connection hangs, would keep the writer
    waiting for ever.

    Parameters
    ----------
    number
        The descriptor; it is not closed. A terminal is opened once more, so that only this writer does not wait.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._is_stuck = False
        own = _own_terminal(number)
        if own is not None:
            self._number = own.number
            weakref.finalize(self, own.close)

    def is_ready(self) -> bool:
        """Return whether bytes would be taken now, after a short wait if they were until now."""
        _, ready, _ = select.select([], [self._number], [], 0 if self._is_stuck else WAIT_S)
        self._is_stuck = not ready
        return bool(ready)

    def write(self, message: bytes) -> None:
        """
        Write a message, or its beginning.

        Raises
        ------
        OSError
            When the descriptor is broken: then no message will ever get through.
        """
        left = memoryview(message)
        while left and self.is_ready():
            with suppress(BlockingIOError):  # it is shared with a process that was faster
                left = left[os.write(self._number, left[:PIECE_BYTES]) :]


class ResultFile(io.RawIOBase):
    """
    Write results to a descriptor, and wait for its reader also where the descriptor was set not to wait.

    That setting belongs to the terminal or pipe, not to this process: another one, such as ssh, may make it at any
    time.

    Parameters
    ----------
    number
        The descriptor; it is not closed.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the bytes, at least one, and return how many."""
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                select.select([], [self._number], [], LOOK_S)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._number)


def _own_terminal(number: int) -> OpenFile | None:
    """Return a terminal, opened so that nobody waits for it; None for all else."""
    try:
        own = OpenFile(os.ttyname(number), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # no terminal, or one that belongs to somebody else
        return None
    if own.number < NUMBERS:
        return own
    own.close()
    return None
