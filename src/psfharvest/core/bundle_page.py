"""
Read the page ``MANIFEST.HTML`` of a bundle: a table with a dataURI, its file, its access and its status a row.

Time and memory grow no faster than the page, whatever it holds: rows and cells are split, not matched by a pattern
that may go back.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

NAME = "MANIFEST.HTML"
MAX_ROW_CHARS = 8192
"""Of a longer row, the middle is dropped."""
_ROW = re.compile(r"<tr[^<>]*>", re.IGNORECASE)
_CELL = re.compile(r"<td[^<>]*>", re.IGNORECASE)
_CELL_END = re.compile(r"</td\s*>", re.IGNORECASE)
_STATUS = 3
"""The column of the status."""


class PageRow(NamedTuple):
    """What the page says of one dataURI."""

    uri: str
    """As it stands there, without HTML's escapes; not checked."""
    status: str
    """``OK``, ``REMOTE``, or what went wrong; empty where the row has no such cell."""

    @property
    def is_well(self) -> bool:
        """True unless the page says that the file did not come."""
        return self.status.upper() in ("", "OK", "REMOTE")


def rows(pieces: Iterable[str]) -> Iterator[PageRow]:
    """Yield the rows that begin with a dataURI, from the page's text in pieces of any size."""
    rest, is_row = "", False
    for piece in pieces:
        *complete, rest = _ROW.split(rest + piece)
        for text in complete:
            if is_row:
                yield from _row(text)
            is_row = True
        if len(rest) > MAX_ROW_CHARS:
            rest = rest[: MAX_ROW_CHARS // 2] + rest[-MAX_ROW_CHARS // 2 :]
    if is_row:
        yield from _row(rest)


def _row(text: str) -> Iterator[PageRow]:
    *cells, _ = _CELL_END.split(text, _STATUS + 1)
    plain = [html.unescape(_CELL.split(cell)[-1]).strip() for cell in cells]
    if plain and plain[0][:5].lower() == "mast:":
        # the archive escapes dataURIs twice
        yield PageRow(html.unescape(plain[0]), plain[_STATUS] if len(plain) > _STATUS else "")
