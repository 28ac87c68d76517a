"""
Lists of dataURIs, read as they come: a file, a pipe, an iterable.

Blank lines and comments are passed over; a line that is no dataURI is kept as such, with its number, so that the
account is whole. A list never stands in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from psfharvest.core.aclosing import closing
from psfharvest.core.errors import BadInput, BadURI
from psfharvest.core.model import Asked, BadLine

LINES_AT_ONCE = 2000
MAX_LINE = 10_000
READ_AT_ONCE = 2**16


class Batch(NamedTuple):
    """Lines read, and how far the list has been read with them."""

    asked: list[Asked | BadLine]
    position: int
    lines: int


def read_line(text: str, number: int) -> Asked | BadLine | None:
    """Return what a line asks for: a dataURI, a bad line, or nothing (blank, comment)."""
    text = text.removeprefix("\ufeff").strip()
    if not text or text.startswith("#"):
        return None
    try:
        return Asked.reading(text)
    except BadURI as error:
        clean = text[:200].encode("utf-8", "replace").decode()
        return BadLine(clean, f"line {number}: {error.why}")


def require_some(path: Path) -> None:
    """
    Make sure that a file can be read and holds at least one dataURI.

    Raises
    ------
    BadInput
        When it does not.
    """
    try:
        with path.open("rb") as file:
            lines = enumerate(_lines(file), 1)
            if any(isinstance(read_line(_text(line), n), Asked) for n, (line, _) in lines):
                return
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; --uris takes a file of dataURIs, one a line, or -") from error
    raise BadInput(f"{path} holds no dataURI; give one a line, beginning with 'mast:'")


def identity(path: Path) -> str:
    """
    Return a text that is equal for files of equal content; the file is read once.

    Raises
    ------
    BadInput
        When the file cannot be read or holds no dataURI.
    """
    require_some(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return f"file {digest.hexdigest()}"


def from_file(path: Path, position: int, lines: int) -> Iterator[Batch]:
    """Yield the lines of a file from a checkpoint on."""
    with path.open("rb") as file:
        file.seek(position)
        yield from _batches(file, position, lines)


def _batches(file: BinaryIO, position: int, lines: int) -> Iterator[Batch]:
    every = _lines(file)
    while raw := list(islice(every, LINES_AT_ONCE)):
        found = [read_line(_text(line), n) for n, (line, _) in enumerate(raw, lines + 1)]
        position += sum(size for _, size in raw)
        lines += len(raw)
        yield Batch([line for line in found if line is not None], position, lines)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line, cut to a length that memory bears, and its whole size in bytes."""
    while line := file.readline(MAX_LINE):
        size = len(line)
        piece = line
        while piece and not piece.endswith(b"\n"):
            piece = file.readline(MAX_LINE)
            size += len(piece)
        yield line, size


async def lines_of(descriptor: int) -> AsyncGenerator[str, None]:
    """
    Yield the lines of a pipe, terminal or file as they come; waiting can be cancelled.

    Raises
    ------
    BadInput
        At the end, when the last line has no newline and is no dataURI: whoever wrote it was cut off.
    """
    mode = os.fstat(descriptor).st_mode
    can_wait = os.name != "nt" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor))
    rest = b""
    number = 1
    while True:
        if can_wait:
            await anyio.wait_readable(descriptor)
            raw = os.read(descriptor, READ_AT_ONCE)
        else:
            raw = await anyio.to_thread.run_sync(os.read, descriptor, READ_AT_ONCE, abandon_on_cancel=True)
        *whole, rest = (rest + raw).split(b"\n")
        for line in whole:
            yield _text(line[:MAX_LINE])
        number += len(whole)
        if not raw:
            last = read_line(_text(rest), number)
            if isinstance(last, BadLine):
                raise BadInput(
                    f"the list ends within line {number}, which has no newline ({last.text[:60]!r}): its writer "
                    "was cut off. What came before is kept; give the whole list again to go on"
                )
            yield _text(rest)
            return
        rest = rest[:MAX_LINE]


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


async def gather(receive: MemoryObjectReceiveStream[str]) -> AsyncGenerator[Batch, None]:
    """Yield what has come through a stream, as much at once as is there."""
    lines = 0
    async for first in receive:
        texts = [first]
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
            while len(texts) < LINES_AT_ONCE:
                texts.append(receive.receive_nowait())
        found = [read_line(text, n) for n, text in enumerate(texts, lines + 1)]
        lines += len(texts)
        yield Batch([line for line in found if line is not None], lines, lines)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
