"""
MANIFEST.HTML: what the archive tells, in a bundle, of each dataURI that the bundle was asked for.

The first cell of a row is the dataURI, escaped (twice, in a recorded page). What became of it is not believed: the
stored file says that itself.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from psfharvest.core.errors import BadURI, SinkError
from psfharvest.core.model import Asked, BadLine

AT_ONCE = 512
READ_AT_ONCE = 2**16
_ROW = re.compile(r"<tr[^<>]*>\s*<td[^<>]*>\s*(mast:[^<>]*?)\s*</td>", re.IGNORECASE)
_KEPT = 8192
"""A row's beginning is shorter than this, so that none is cut by reading in pieces."""


class Page(NamedTuple):
    """Some of a page's dataURIs, and how many have been read with them; a page has no position."""

    asked: list[Asked | BadLine]
    position: int
    lines: int


def identity(path: Path) -> str:
    """
    Return a text that is equal for pages of equal content.

    Raises
    ------
    SinkError
        When the page cannot be read.
    """
    try:
        with path.open("rb") as file:
            return f"page {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise SinkError(f"cannot read {path}: {error.strerror}") from error


def read(path: Path, position: int, lines: int) -> Iterator[Page]:
    """Yield a page's dataURIs but for the first `lines`, some hundred at once; what is none is passed over."""
    del position
    every = islice(_uris(path), lines, None)
    while asked := list(islice(every, AT_ONCE)):
        lines += len(asked)
        yield Page(asked, 0, lines)


def _uris(path: Path) -> Iterator[Asked | BadLine]:
    rest = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        while piece := file.read(READ_AT_ONCE):
            rest += piece
            end = 0
            for found in _ROW.finditer(rest):
                end = found.end()
                asked = _asked(found[1])
                if asked is not None:
                    yield asked
            rest = rest[max(end, len(rest) - _KEPT) :]


def _asked(text: str) -> Asked | None:
    plain = html.unescape(text)
    try:
        return Asked.reading(plain)
    except BadURI:
        return None
