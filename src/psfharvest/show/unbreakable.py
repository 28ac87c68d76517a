"""A text stream for messages to people: neither an error nor a wait of writing to it reaches the work."""

from __future__ import annotations

import io
import os
from typing import Any, TextIO

from psfharvest.filesystem.descriptor_writer import MessageWriter


class UnbreakableStream:
    """
    Standard error that cannot fail or block: full, closed, never read, or a terminal that has gone.

    The first error makes it drop what is written from then on; what its reader does not take in time is dropped.

    Parameters
    ----------
    stream
        Where messages go; None drops them all.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._writer = _writer_of(stream)

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its length either way."""
        if self._stream is not None:
            try:
                self._put(self._stream, text)
            except (OSError, ValueError):
                self._stream = None
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, or drop them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None and self._writer is None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None

    def isatty(self) -> bool:
        """Return True where it is a terminal that can be written to."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """
        Return the descriptor.

        Raises
        ------
        OSError
            When messages are dropped.
        """
        if self._stream is None:
            raise OSError("no stream")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """The encoding of texts."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        """How characters that cannot be encoded are written."""
        return getattr(self._stream, "errors", None) or "backslashreplace"

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _put(self, stream: TextIO, text: str) -> None:
        if self._writer is None:
            stream.write(text)
        elif self._writer.is_ready():
            stream.flush()  # what others wrote to it before
            self._writer.write(text.encode(self.encoding, self.errors))


def _writer_of(stream: TextIO | None) -> MessageWriter | None:
    """Return a writer to a stream's descriptor that does not block; None where there is no such thing."""
    if os.name == "nt" or not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        return MessageWriter(stream.fileno())
    except (OSError, ValueError):
        return None
