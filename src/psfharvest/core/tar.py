"""
Read and write tar archives: header blocks, pax records, and a streaming reader of members.

The format is that of POSIX.1-2001 (ustar and pax) with GNU's long names. The reader trusts nothing: a header's
checksum must be right, sizes are capped, and only regular members with plain relative names are given out; memory
holds one member at most. It is not `tarfile` because it runs once per cutout of a bundle, on bytes as they arrive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
MAGIC = b"ustar"
MAGIC_AT = 257
REGULAR = (b"0", b"\0")
"""Kinds of a regular file that are written today; the streaming reader takes contiguous files (``b"7"``), too."""
END = bytes(2 * BLOCK)
"""Two empty blocks end a tar."""
MAX_EXTRA_BYTES = 2**20
"""The longest pax or long-name record that is read."""
_EMPTY = bytes(BLOCK)
_EXTRA = (b"x", b"L")


class Header(NamedTuple):
    """What one header block says; its checksum was right."""

    size: int
    """Bytes of the member that follows, without padding."""
    kind: bytes
    """One byte: ``0`` or NUL for a regular file, ``x`` for pax records, ``L`` for a GNU long name."""
    name: bytes

    @property
    def padded_size(self) -> int:
        """Bytes until the next header."""
        return self.size + -self.size % BLOCK


def parse_header(block: bytes) -> Header | None:
    """Return what a header block says, or None where it is no header or damaged."""
    if len(block) != BLOCK:
        return None
    try:
        claimed = _octal(block[148:156])
        size = _octal(block[124:136]) if block[124] < 0x80 else int.from_bytes(block[125:136], "big")
    except ValueError:
        return None
    if sum(block) - sum(block[148:156]) + 8 * ord(" ") != claimed:
        return None
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC else b""
    return Header(size, block[156:157], prefix + b"/" + name if prefix else name)


def pax_path(records: bytes) -> bytes:
    """Return the member's path that pax records hold; empty where they hold none or are damaged."""
    path, at = b"", 0
    while at < len(records):
        digits, blank, _ = records[at : at + 20].partition(b" ")
        end = at + int(digits) if blank and digits.isdigit() else len(records) + 1
        record = records[at + len(digits) + 1 : end]
        if end > len(records) or not record.endswith(b"\n"):
            return b""
        key, _, value = record[:-1].partition(b"=")
        path, at = value if key == b"path" else path, end
    return path


class TarDamaged(ValueError):
    """Raised where the bytes cannot be a tar's; what came out before was whole."""


class Member(NamedTuple):
    """A member that was given out, or refused with `problem`."""

    name: str
    body: bytes
    problem: str = ""


class TarWalk:
    """
    Streaming reader of a tar: takes bytes as they arrive, gives wanted members whole and skips the rest.

    Parameters
    ----------
    max_bytes
        The largest member that is read; a larger one is refused and passed over.
    is_wanted
        Asked with a member's name; what it refuses is passed over in silence.
    """

    def __init__(self, max_bytes: int, is_wanted: Callable[[str], bool]) -> None:
        self._max_bytes = max_bytes
        self._is_wanted = is_wanted
        self._buffer = bytearray()
        self._skip = 0
        self._name = ""
        self._kind = b""
        self._need = 0
        self._long_name = ""
        self.is_ended = False
        """True once the end mark was seen: what follows it is ignored."""

    @property
    def is_between_members(self) -> bool:
        """True where a tar may end."""
        return self.is_ended or not (self._buffer or self._skip or self._kind)

    def feed(self, data: bytes) -> Iterator[Member]:
        """
        Take the next bytes and yield the members that they complete.

        Raises
        ------
        TarDamaged
            When they cannot be a tar's.
        """
        self._buffer += data
        while not self.is_ended and self._pass_over():
            if self._kind:
                if len(self._buffer) < self._need:
                    return
                yield from self._finish()
            elif len(self._buffer) < BLOCK:
                return
            else:
                head = bytes(self._buffer[:BLOCK])
                del self._buffer[:BLOCK]
                refused = self._begin(head)
                if refused is not None:
                    yield refused
        if self.is_ended:
            self._buffer.clear()

    def _pass_over(self) -> bool:
        n = min(self._skip, len(self._buffer))
        if n:
            del self._buffer[:n]
            self._skip -= n
        return not self._skip

    def _begin(self, head: bytes) -> Member | None:
        if head == _EMPTY:
            self.is_ended = True
            return None
        found = parse_header(head)
        if found is None:
            raise TarDamaged("a header that is no tar's, or whose checksum is wrong")
        size, kind, padded = found.size, found.kind, found.padded_size
        if kind in _EXTRA and size <= MAX_EXTRA_BYTES:
            self._kind, self._need, self._size = kind, padded, size
            return None
        name, self._long_name = self._long_name or found.name.decode("utf-8", "replace"), ""
        has_data = kind not in (b"1", b"2", b"3", b"4", b"5", b"6")
        if kind not in (*REGULAR, b"7"):
            self._skip = padded if has_data else 0
            return None if kind in (b"5", b"g", *_EXTRA) else Member(name, b"", f"no regular file ({kind!r})")
        problem = _problem(name) or ("" if size <= self._max_bytes else f"{size} bytes are too many")
        if problem or not self._is_wanted(name):
            self._skip = padded
            return Member(name, b"", problem) if problem else None
        self._name, self._kind, self._need, self._size = name, b"0", padded, size
        if not padded:
            self._kind = b""
            return Member(name, b"")
        return None

    def _finish(self) -> Iterator[Member]:
        with memoryview(self._buffer) as view:
            body = bytes(view[: self._size])
        del self._buffer[: self._need]
        kind, self._kind = self._kind, b""
        if kind == b"L":
            self._long_name = body.rstrip(b"\0").decode("utf-8", "replace")
        elif kind == b"x":
            self._long_name = pax_path(body).decode("utf-8", "replace") or self._long_name
        else:
            yield Member(self._name, body)


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ") or b"0"
    if not digits.isdigit():  # `int` would take a sign, too, and a negative size
        raise ValueError
    return int(digits, 8)


def _problem(name: str) -> str:
    if name.startswith(("/", "\\")) or ":" in name.partition("/")[0]:
        return "an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "a path that leads out"
    return ""


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file: one ustar block, or pax where the name is long."""
    raw = name.encode()
    if len(raw) > 100:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        return info.tobuf(tarfile.PAX_FORMAT)
    digits = b"%011o" % size
    total = _TEMPLATE_SUM + sum(raw) + sum(digits)
    return raw + _ZEROS[len(raw) : 100] + _BEFORE_SIZE + digits + _BEFORE_SUM + b"%06o\0 " % total + _BEHIND_SUM


_ZEROS = bytes(100)
_BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2
_BEFORE_SUM = b"\0" + b"00000000000\0"
_BEHIND_SUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155) + bytes(12)
_TEMPLATE_SUM = sum(_BEFORE_SIZE) + sum(_BEFORE_SUM) + 8 * ord(" ") + sum(_BEHIND_SUM)
