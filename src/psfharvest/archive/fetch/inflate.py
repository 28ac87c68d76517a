"""Inflating a bundle's stream in pieces of bounded size, until its tar is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

try:
    from isal import isal_zlib as zlib  # a third faster on what bundles hold
except ImportError:
    import zlib  # type: ignore[no-redef]

from psfharvest.core.tar import TarDamaged

INFLATE_AT_ONCE = 256 * 1024
"""Inflated bytes handled in one go: a gzip that expands without end is bounded by this."""
GZIP_MEMBER_BYTES = 2**16
"""What a further gzip member counts for, though it be empty."""
DAMAGE: tuple[type[Exception], ...] = (TarDamaged, zlib.error)  # type: ignore[assignment]  # isal types it as a value
"""What a damaged bundle raises."""


class Inflate:
    """Inflate a gzip stream (or pass a plain tar through) in pieces of bounded size, until the tar is over."""

    def __init__(self, max_bytes: int, is_over: Callable[[], bool]) -> None:
        self.n_behind = 0
        """Bytes that came behind the end."""
        self._inflater: Any = None
        self._is_plain = False
        self._left = max_bytes
        self._is_over = is_over

    @property
    def is_whole(self) -> bool:
        """True where the stream may end."""
        return self._is_plain or self._inflater is None or self._inflater.eof

    @property
    def is_checked(self) -> bool:
        """True where a gzip stream has ended, and its checksum was right."""
        return self._inflater is not None and self._inflater.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk inflates to."""
        if self._is_over() and self.is_whole:
            self.n_behind += len(chunk)
            return
        if self._inflater is None and not self._is_plain:
            self._is_plain = not chunk.startswith(b"\x1f")
            self._inflater = None if self._is_plain else zlib.decompressobj(wbits=31)
        if self._inflater is None:
            yield from self._counted(chunk)
            return
        while chunk:
            if self._inflater.eof:
                if self._is_over() or not chunk.startswith(b"\x1f\x8b"):
                    self.n_behind += len(chunk)
                    return
                self._inflater = zlib.decompressobj(wbits=31)
                self._left -= GZIP_MEMBER_BYTES
            yield from self._counted(self._inflater.decompress(chunk, INFLATE_AT_ONCE))
            chunk = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def _counted(self, piece: bytes) -> Iterator[bytes]:
        self._left -= len(piece)
        if self._left < 0:
            raise TarDamaged("it expands past all that was asked for")
        yield piece
