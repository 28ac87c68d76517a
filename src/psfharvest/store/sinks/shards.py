"""
Plain tar shards: bytes first, then their claim; after a death a shard is cut back to its claimed end and goes on.

Each cutout is two members, WebDataset's way: ``<key>.fits``, byte for byte the archive's, and ``<key>.json``, its
dataURI and catalogue row. A batch is one write and one fdatasync. What the manifest knows is the shard's number and
the offset of the first byte, so that one cutout is read without scanning.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psfharvest.core.errors import SinkError, cannot_store
from psfharvest.core.model import Item, Outcome
from psfharvest.store.manifest.manifest import Stored

FOLDER = "shards"
SHARD_BYTES = 10**9
BLOCK = 512
END = bytes(2 * BLOCK)
"""Two empty blocks end a tar; they stand behind the claimed end and are written over when the shard goes on."""
IOV_MAX = 1024
_datasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has none
_CAN_LET_GO = hasattr(os, "posix_fadvise")
_FOLIO_MAX = 2**21
"""The system may hold so much of a file as one piece, which it lets go of as a whole or not at all."""
_NAME = re.compile(r"(\d{6,})\.tar")


class ShardSink:
    """
    Append cutouts to the folder's shards.

    Parameters
    ----------
    folder
        The harvest folder.
    shard, end
        Where the manifest's last claim ends: a shard's number and its length; what lies behind was never claimed.
    shard_bytes
        The size at which a shard is closed and the next begun.
    subfolder
        Where in the folder they stand.
    is_read_soon
        Whether the system should go on holding in memory what was written. Otherwise it is told to let go: a
        harvest of terabytes must not push everybody else's files out, and an append into pages that were just let
        go of takes the system less time, by a quarter.

    Raises
    ------
    SinkError
        When the folder cannot be written, or holds less than was claimed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard: int = 0,
        end: int = 0,
        shard_bytes: int = SHARD_BYTES,
        subfolder: str = FOLDER,
        is_read_soon: bool = False,
    ) -> None:
        self._folder = folder / subfolder
        self._lets_go = _CAN_LET_GO and not is_read_soon
        self._shard = shard
        self._end = end
        self._shard_bytes = shard_bytes
        try:
            self._folder.mkdir(exist_ok=True)
            self._drop_unclaimed()
            self._check_claim()
            self._handle = self._open(os.O_CREAT)
            os.ftruncate(self._handle, end)
        except OSError as error:
            raise cannot_store(error, str(self._folder)) from error

    @property
    def needs_sources(self) -> bool:
        """True: the catalogue row goes into the shard."""
        return True

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """
        Append the bodies; when this returns they are on the disk, also for a power loss.

        Raises
        ------
        SinkError
            When they could not be written; nothing of the batch may be claimed then.
        """
        stored: list[Stored] = []
        pieces: list[bytes] = []
        end = self._end
        try:
            for outcome in outcomes:
                if end >= self._shard_bytes:
                    self._append(pieces)
                    self._roll()
                    pieces, end = [], 0
                item, body = outcome.item, outcome.body or b""
                name, note = stem(item), _note(item)
                head, tail = header(name, len(body)), header(f"{name.rpartition('.')[0]}.json", len(note))
                stored.append(Stored(outcome, self._shard, end + len(head)))
                members = (head, body, END[: -len(body) % BLOCK], tail, note, END[: -len(note) % BLOCK])
                pieces += members
                end += sum(map(len, members))
            self._append(pieces)
        except OSError as error:
            raise cannot_store(error, str(self._path())) from error
        return stored

    def forget(self, items: Sequence[Item]) -> None:
        """Do nothing: bytes without a claim are dead, and stay."""

    def checkpoint(self) -> Mapping[str, int]:
        """Return what the manifest must record together with the claim of the last batch."""
        return {"shard": self._shard, "shard_end": self._end}

    def close(self) -> None:
        """End the open shard as a tar ends; it goes on from its claimed end another time."""
        try:
            os.pwrite(self._handle, END, self._end)
        except OSError:
            pass  # a full disk: the shard is readable without its end, too
        finally:
            os.close(self._handle)

    def _append(self, pieces: list[bytes]) -> None:
        begin = os.lseek(self._handle, self._end, os.SEEK_SET)
        for start in range(0, len(pieces), IOV_MAX):
            self._end += _write_all(self._handle, pieces[start : start + IOV_MAX])
        _datasync(self._handle)
        if self._lets_go:
            first = max(0, begin - _FOLIO_MAX)
            with contextlib.suppress(OSError):  # advice only: not every file system takes it
                os.posix_fadvise(self._handle, first, self._end - first, os.POSIX_FADV_DONTNEED)

    def _roll(self) -> None:
        os.pwrite(self._handle, END, self._end)
        _datasync(self._handle)
        os.close(self._handle)
        self._shard, self._end = self._shard + 1, 0
        self._handle = self._open(os.O_CREAT | os.O_TRUNC)

    def _open(self, flags: int) -> int:
        handle = os.open(self._path(), os.O_RDWR | flags, 0o666)
        sync(self._folder)
        sync(self._folder.parent)
        return handle

    def _path(self) -> Path:
        return self._folder / f"{self._shard:06d}.tar"

    def _check_claim(self) -> None:
        path = self._path()
        size = path.stat().st_size if path.exists() else 0
        if size < self._end:
            raise SinkError(
                f"{path} has {size} bytes, {self._end} were claimed: it was cut or removed; "
                "put it back, or run: psfharvest verify --repair"
            )

    def _drop_unclaimed(self) -> None:
        for path in self._folder.iterdir():
            found = _NAME.fullmatch(path.name)
            if found and int(found[1]) > self._shard:
                path.unlink()


def cuts(folder: Path, shard: int, end: int) -> bool:
    """Return whether a sink that opens there drops bytes: after a death, or with a mark that is wrong."""
    base = folder / FOLDER
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    numbers = [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
    if any(number > shard for number in numbers):
        return True
    return shard in numbers and (base / f"{shard:06d}.tar").stat().st_size > end + len(END)


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stem(item: Item) -> str:
    """Return a member's name: its only dot is before its ending, since WebDataset's key ends at the first."""
    folder, slash, name = item.key.rpartition("/")
    if name.endswith(".fits"):
        return f"{folder}{slash}{name[:-5].replace('.', '%2E')}.fits"
    return f"{folder}{slash}{name.replace('.', '%2E')}%00.bin"


def header(name: str, size: int) -> bytes:
    """Return the tar header of a regular file: one ustar block, or pax where the name is long."""
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


def _note(item: Item) -> bytes:
    uri = json.dumps(item.uri)
    return (f'{{"uri": {uri}, {item.source[1:]}' if len(item.source) > 2 else f'{{"uri": {uri}}}').encode()


def _write_all(handle: int, pieces: list[bytes]) -> int:
    total = sum(map(len, pieces))
    written = os.writev(handle, pieces)
    if written < total:
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[os.write(handle, rest) :]
    return total
