"""Bytes to lines of text: universal newlines, lines of bounded length, and encodings that are not ours refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from psfharvest.core.errors import BadInput

MAX_LINE_BYTES = 10_000
STANDARD_INPUT = "standard input"
"""What messages call a pipe that has no name."""
HEAD_BYTES = 4096
"""How much of a list is looked at to tell its encoding."""

_SIGNATURES = (
    (b"\x1f\x8b", "gzip", "gunzip -c {name} | psfharvest … --uris -"),
    (b"BZh", "bzip2", "bunzip2 -c {name} | psfharvest … --uris -"),
    (b"\xfd7zXZ\0", "xz", "xz -dc {name} | psfharvest … --uris -"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc {name} | psfharvest … --uris -"),
    (b"PK\x03\x04", "ZIP", "unzip -p {name} | psfharvest … --uris -"),
    (b"\xff\xfe\0\0", "UTF-32", ""),
    (b"\0\0\xfe\xff", "UTF-32", ""),
    (b"\xff\xfe", "UTF-16", ""),
    (b"\xfe\xff", "UTF-16", ""),
)


class Line(NamedTuple):
    """One line without its newline, and what it took of the input, newline included."""

    text: str
    size_bytes: int


class LineSplitter:
    r"""
    Cuts bytes into lines at ``\n``, ``\r\n`` or ``\r``; of a longer line the first 10,000 bytes are kept.

    A ``\r`` at the end of a piece waits for the next one, which may begin with its ``\n``.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._n_dropped = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Take the next bytes and yield the lines that they end."""
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = b""
        if lines and not lines[-1].endswith(b"\n"):
            self._rest = lines.pop()
        for line in lines:
            yield self._line(line)
        if len(self._rest) > MAX_LINE_BYTES:
            kept = self._rest[:MAX_LINE_BYTES] + (b"\r" if self._rest.endswith(b"\r") else b"")
            self._n_dropped += len(self._rest) - len(kept)
            self._rest = kept

    def end(self) -> tuple[Line, bool] | None:
        """Return the last line and whether its newline is there, or None where nothing is left."""
        if not self._rest:
            return None
        is_whole = self._rest.endswith(b"\r")
        return self._line(self._rest), is_whole

    def _line(self, raw: bytes) -> Line:
        size = len(raw) + self._n_dropped
        self._n_dropped = 0
        return Line(raw.rstrip(b"\r\n")[:MAX_LINE_BYTES].decode("utf-8", "replace"), size)


def check_encoding(head: bytes, name: str) -> None:
    """
    Make sure that a list which begins with `head` is text in UTF-8 or ASCII.

    Raises
    ------
    BadInput
        When it is not; the message names the encoding and the way out.
    """
    for signature, encoding, remedy in _SIGNATURES:
        if head.startswith(signature):
            file = "FILE" if name == STANDARD_INPUT else name
            way = remedy.format(name=file) or f"write it anew in UTF-8: iconv -f {encoding} -t UTF-8 {file}"
            raise BadInput(f"{name} is {encoding}, not a text in UTF-8; {way}")
    if b"\0" in head:
        is_utf16 = head.count(b"\0") * 3 > len(head)
        kind = "UTF-16 without its mark" if is_utf16 else "a binary file"
        raise BadInput(f"{name} seems to be {kind}, not a text in UTF-8; give dataURIs, one a line, in UTF-8")
