"""
Walk a tar as its bytes arrive: members that are wanted come out whole, everything else is passed over.

Nothing is trusted: a header's checksum must be right, sizes are capped, and only regular members with plain
relative names are ever given out. Memory holds one member at most. The format is that of POSIX.1-2001 (ustar
and pax) with GNU's long names; the walk is by hand because it runs once per cutout of a bundle.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two empty blocks end a tar."""
MAX_EXTRA_BYTES = 2**20
"""The longest pax or long-name record that is read."""
_EMPTY = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7")
_EXTRA = (b"x", b"L")


class TarDamaged(ValueError):
    """Raised where the bytes cannot be a tar's; what came out before was whole."""


class Member(NamedTuple):
    """A member that was given out, or refused with `problem`."""

    name: str
    body: bytes
    problem: str = ""


class TarWalk:
    """
    The walk.

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
        size, kind = _check(head), head[156:157]
        padded = (size + BLOCK - 1) // BLOCK * BLOCK
        if kind in _EXTRA and size <= MAX_EXTRA_BYTES:
            self._kind, self._need, self._size = kind, padded, size
            return None
        name, self._long_name = self._long_name or _name(head), ""
        has_data = kind not in (b"1", b"2", b"3", b"4", b"5", b"6")
        if kind not in _REGULAR:
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
            self._long_name = _pax_path(body) or self._long_name
        else:
            yield Member(self._name, body)


def _check(head: bytes) -> int:
    """Return a header's size, its checksum being right."""
    try:
        claimed = _octal(head[148:156])
        size = _octal(head[124:136]) if head[124] < 0x80 else int.from_bytes(head[125:136], "big")
    except ValueError:
        raise TarDamaged("a header that is no tar's") from None
    if sum(head) - sum(head[148:156]) + 8 * ord(" ") != claimed:
        raise TarDamaged("a header with a wrong checksum")
    return size


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ") or b"0"
    if not digits.isdigit():  # `int` would take a sign, too, and a negative size
        raise ValueError
    return int(digits, 8)


def _name(head: bytes) -> str:
    name = head[:100].partition(b"\0")[0]
    prefix = head[345:500].partition(b"\0")[0] if head[257:262] == b"ustar" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")


def _problem(name: str) -> str:
    if name.startswith(("/", "\\")) or ":" in name.partition("/")[0]:
        return "an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "a path that leads out"
    return ""


def _pax_path(body: bytes) -> str:
    for line in body.split(b"\n"):
        _, _, record = line.partition(b" ")
        key, _, value = record.partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
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
