"""
The dataURIs of a bundle's ``MANIFEST.HTML`` as the list that `adopt` goes by.

The status in the page is not used: the stored file shows what became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from psfharvest.core import bundle_page
from psfharvest.core.errors import BadURI, SinkError
from psfharvest.core.model import BadLine, UriBatch, WantedURI

BATCH_SIZE = 512
READ_AT_ONCE = 2**16


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


def read(path: Path, position: int, lines: int) -> Iterator[UriBatch]:
    """Yield a page's dataURIs but for the first `lines`, some hundred at once; what is none is passed over."""
    del position
    every = islice(_uris(path), lines, None)
    while asked := list(islice(every, BATCH_SIZE)):
        lines += len(asked)
        yield UriBatch(asked, 0, lines)


def _uris(path: Path) -> Iterator[WantedURI | BadLine]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for row in bundle_page.rows(iter(lambda: file.read(READ_AT_ONCE), "")):
            try:
                yield WantedURI.reading(row.uri)
            except BadURI:
                continue
