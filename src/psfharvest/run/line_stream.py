"""A list that can be read once: standard input, a pipe, a process substitution, a terminal."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import anyio.to_thread

from psfharvest.core.errors import BadInput
from psfharvest.core.model import BadLine
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.run.lines import HEAD_BYTES, LineSplitter, check_encoding
from psfharvest.run.uri_lists import read_line

READ_BYTES = 2**16
SIGNATURE_BYTES = 4
"""Enough of a stream to tell its encoding before anything else is done."""
_DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/([0-9]+))|/proc/self/fd/([0-9]+)")


def is_read_once(path: Path) -> bool:
    """Return True for what is there and is no regular file or folder: it is opened once."""
    if _DESCRIPTOR.fullmatch(str(path)):
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class LineStream:
    """
    The lines of a stream as they come.

    It is opened once; no wait for a writer or for bytes keeps the event loop or a thread from ending.

    Parameters
    ----------
    source
        A file descriptor, which is duplicated, or the path of a pipe.
    name
        What messages call it.
    """

    def __init__(self, source: int | Path, name: str = "") -> None:
        self._source = source
        self._name = name or str(source)
        self._file: OpenFile | None = None
        self._can_wait = False
        self._head = b""
        self._is_at_end = False

    async def open(self) -> None:
        """
        Open the stream and wait for its first bytes.

        Raises
        ------
        BadInput
            When it cannot be opened, or is no text in UTF-8.
        """
        try:
            file = self._file = self._opened()
            mode = os.fstat(file.number).st_mode
            is_pollable = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(file.number)
            self._can_wait = os.name != "nt" and is_pollable
            while len(self._head) < SIGNATURE_BYTES and not self._is_at_end:
                self._head += await self._read(file)
        except OSError as error:
            raise BadInput(f"--uris {self._name}: {error.strerror or error}") from error
        check_encoding(self._head[:HEAD_BYTES], self._name)

    def __aiter__(self) -> AsyncGenerator[str, None]:
        return self._lines()

    async def aclose(self) -> None:
        """Close the stream; it may be closed before it was opened."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> OpenFile:
        if isinstance(self._source, int):
            return OpenFile.duplicate(self._source, self._name)
        found = _DESCRIPTOR.fullmatch(str(self._source))
        if found is not None:
            return OpenFile.duplicate(int(found[1] or found[2] or 0), self._name)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        return OpenFile(self._source, flags)

    async def _read(self, file: OpenFile) -> bytes:
        """Return the next bytes; nothing at the end."""
        while True:
            try:
                if self._can_wait:
                    await anyio.wait_readable(file.number)
                    data = file.read_next(READ_BYTES)
                else:  # a file or a device answers at once, so that the thread is never left behind
                    data = await anyio.to_thread.run_sync(file.read_next, READ_BYTES)
            except BlockingIOError:
                continue
            self._is_at_end = not data
            return data

    async def _lines(self) -> AsyncGenerator[str, None]:
        if self._file is None:
            await self.open()
        assert self._file is not None  # noqa: S101 - open() sets it
        splitter = LineSplitter()
        number = 0
        data, self._head = self._head, b""
        while True:
            for line in splitter.feed(data):
                number += 1
                yield line.text
            if self._is_at_end:
                break
            data = await self._read(self._file)
        last = splitter.end()
        if last is None:
            return
        line, is_whole = last
        if not is_whole and isinstance(read_line(line.text, number + 1), BadLine):
            raise BadInput(
                f"{self._name} ends within line {number + 1}, which has no newline ({line.text[:60]!r}): its "
                "writer was cut off. What came before is kept; give the whole list again to go on"
            )
        yield line.text
