"""
Lists of dataURIs, read as they come: a file, a pipe, an iterable.

Blank lines and comments are passed over; a line that is no dataURI is kept as such, with its number, so that the
account is whole. A list never stands in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from psfharvest.core.aclosing import closing
from psfharvest.core.errors import BadInput, BadURI
from psfharvest.core.model import BadLine, UriBatch, WantedURI
from psfharvest.run.lines import HEAD_BYTES, Line, LineSplitter, check_encoding

BATCH_LINES = 2000
READ_BYTES = 2**18


def read_line(text: str, number: int) -> WantedURI | BadLine | None:
    """Return what a line asks for: a dataURI, a bad line, or nothing (blank, comment)."""
    text = text.removeprefix("\ufeff").strip()
    if not text or text.startswith("#"):
        return None
    try:
        return WantedURI.reading(text)
    except BadURI as error:
        clean = text[:200].encode("utf-8", "replace").decode()
        return BadLine(clean, f"line {number}: {error.why}")


def identity(path: Path) -> str:
    """
    Return a text that is equal for files of equal content.

    Raises
    ------
    BadInput
        When the file cannot be read, is no text in UTF-8, or holds no dataURI.
    """
    try:
        with path.open("rb") as file:
            require_some(file, str(path))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a file of dataURIs, one a line, is read") from error
    return f"file {digest.hexdigest()}"


def require_some(file: BinaryIO, name: str) -> None:
    """
    Make sure that a list is text in UTF-8 and holds at least one dataURI.

    Raises
    ------
    BadInput
        When it does not.
    """
    check_encoding(file.read(HEAD_BYTES), name)
    file.seek(0)
    if not any(isinstance(read_line(line.text, n), WantedURI) for n, line in enumerate(lines_of(file), 1)):
        raise BadInput(f"{name} holds no dataURI; give one a line, beginning with 'mast:'")


def from_file(path: Path, position: int, lines: int, *, is_numbered: bool = False) -> Iterator[UriBatch]:
    """Yield the lines of a file from a checkpoint on; `is_numbered`: each begins with its number and a tab."""
    with path.open("rb") as file:
        file.seek(position)
        every = lines_of(file)
        while raw := list(islice(every, BATCH_LINES)):
            if is_numbered:
                found = [read_line(text, int(n)) for n, _, text in (line.text.partition("\t") for line in raw)]
            else:
                found = [read_line(line.text, n) for n, line in enumerate(raw, lines + 1)]
            position += sum(line.size_bytes for line in raw)
            lines += len(raw)
            yield UriBatch([line for line in found if line is not None], position, lines)


def lines_of(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of an open file."""
    splitter = LineSplitter()
    while data := file.read(READ_BYTES):
        yield from splitter.feed(data)
    last = splitter.end()
    if last is not None:
        yield last[0]


async def pour(uris: Iterable[str] | AsyncIterable[str], send: MemoryObjectSendStream[str]) -> None:
    """Send whatever a caller's iterable gives, as it comes, and close the stream."""
    async with send:
        if isinstance(uris, AsyncIterable):
            async with closing(uris):
                async for uri in uris:
                    await send.send(str(uri))
        else:
            for uri in uris:
                await send.send(str(uri))


async def gather(receive: MemoryObjectReceiveStream[str]) -> AsyncGenerator[UriBatch, None]:
    """Yield what has come through a stream, as much at once as is there."""
    lines = 0
    async for first in receive:
        texts = [first]
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
            while len(texts) < BATCH_LINES:
                texts.append(receive.receive_nowait())
        found = [read_line(text, n) for n, text in enumerate(texts, lines + 1)]
        lines += len(texts)
        yield UriBatch([line for line in found if line is not None], lines, lines)
