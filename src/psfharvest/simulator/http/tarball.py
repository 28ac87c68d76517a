"""
Tar headers and the gzip stream around them, made by hand, as fast as the bytes can be had.

Rule: a piece that is compressed once can be sent many times, for pieces begin and end on whole bytes.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
END: Final = b"\0" * (2 * BLOCK)
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
_STORED_MAX: Final = 65_535


def entry(name: str, size: int, mtime_s: int, *, kind: bytes = b"0", link: str = "") -> bytes:
    """
    Write the 512 bytes that head a member, preceded by a GNU long name where the name needs one.

    Parameters
    ----------
    name
        Path in the tar.
    size
        Declared size in bytes; from 8 GiB on in base 256.
    mtime_s
        Seconds since 1970.
    kind
        Type flag: ``0`` file, ``1`` hard link, ``2`` symbolic link, ``3`` character device, ``5`` directory,
        ``6`` fifo.
    link
        What a link points at.
    """
    raw = name.encode()
    if len(raw) > 100:
        long_name = entry("././@LongLink", len(raw) + 1, 0, kind=b"L") + padded(raw + b"\0")
        return long_name + entry(raw[:100].decode(errors="ignore"), size, mtime_s, kind=kind, link=link)
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    mode = b"0000755\0" if kind == b"5" else b"0000644\0"
    owner = b"0000000\0" * 2
    head = b"%s%s%s%s%011o\0" % (raw.ljust(100, b"\0"), mode, owner, octal, mtime_s)
    tail = b"%s%sustar\x0000%s" % (kind, link.encode().ljust(100, b"\0"), b"\0" * 247)
    checksum = sum(head) + sum(tail) + 8 * 32
    return b"%s%06o\0 %s" % (head, checksum, tail)


def padded(content: bytes) -> bytes:
    """Fill a member's content up to a whole block."""
    return content + b"\0" * (-len(content) % BLOCK)


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes with their deflated form, to be sent again and again."""

    plain: bytes
    deflated: bytes


def packed(plain: bytes, level: int) -> Packed:
    """Deflate bytes into a piece that may stand anywhere in a stream."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
    return Packed(plain, deflater.compress(plain) + deflater.flush(zlib.Z_FULL_FLUSH))


class PlainStream:
    """Passes bytes on as they are, where a gzip stream is usual."""

    head = b""

    def write(self, plain: bytes, *, counted: bytes | None = None) -> bytes:
        """
        Give the bytes.

        Parameters
        ----------
        plain
            The bytes.
        counted
            Without effect: there is no checksum.
        """
        del counted
        return plain

    def write_packed(self, stored: bytes, piece: Packed) -> bytes:
        """
        Give a few bytes and a piece.

        Parameters
        ----------
        stored, piece
            What stands in the tar.
        """
        return stored + piece.plain

    def finish(self) -> bytes:
        """Give nothing."""
        return b""


class GzipStream:
    """Turns bytes into a gzip stream, piece by piece."""

    def __init__(self, level: int) -> None:
        self._deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
        self._level = level
        self._crc = 0
        self._size = 0
        self._is_aligned = True
        self.head = _GZIP_HEAD

    def write(self, plain: bytes, *, counted: bytes | None = None) -> bytes:
        """
        Compress bytes.

        Parameters
        ----------
        plain
            The bytes.
        counted
            What the checksum at the end is made of in their place, as if they were changed on the way.
        """
        self._count(plain if counted is None else counted)
        self._is_aligned = False
        return self._deflater.compress(plain)

    def write_packed(self, stored: bytes, piece: Packed) -> bytes:
        """
        Add a few bytes as they are, then a piece that is compressed already.

        Parameters
        ----------
        stored
            At most 65,535 bytes.
        piece
            What follows them.
        """
        self._count(stored)
        self._count(piece.plain)
        aligned = b"" if self._is_aligned else self._deflater.flush(zlib.Z_FULL_FLUSH)
        self._is_aligned = True
        size = len(stored)
        return b"".join((aligned, struct.pack("<BHH", 0, size, _STORED_MAX ^ size), stored, piece.deflated))

    def finish(self) -> bytes:
        """Give the end of the stream."""
        return self._deflater.flush(zlib.Z_FINISH) + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)

    def _count(self, plain: bytes) -> None:
        self._crc = zlib.crc32(plain, self._crc)
        self._size += len(plain)
