"""
A harvest folder as the service reads it: two connections to its manifest, its stored bytes, and what is cached.

Short questions (the account, a page of rows) have a connection of their own, so that they never wait for a long one
(a filter or a sort over all rows). Nothing here writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread
import numpy as np
from starlette.requests import Request

from psfharvest.core.errors import BadInput, LocalError
from psfharvest.core.fits import datauri
from psfharvest.serve.live import Live
from psfharvest.serve.orders import AnyNumbers, Orders, Selection
from psfharvest.serve.stop import Stop, while_waited_for
from psfharvest.store.manifest import place
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import found_cutouts, known_columns, search
from psfharvest.store.read.intervals import IntervalSet
from psfharvest.store.readers.reader import Reader

T = TypeVar("T")
BODY_BYTES_MAX = 256 * 2**20
"""Larger files are not read into memory."""


class Connection:
    """A manifest that is open to read, for one question at a time; opened anew when the file was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = anyio.Lock()
        self._opened: tuple[int, Manifest] | None = None

    async def ask(self, work: Callable[[Manifest], T]) -> T:
        """Return what `work` returns, in a thread."""
        async with self._lock:
            return await anyio.to_thread.run_sync(lambda: work(self._manifest()))

    async def ask_long(self, request: Request, stop: Stop, work: Callable[[Manifest, Callable[[], bool]], T]) -> T:
        """
        Return what `work` returns, in a thread; it is interrupted when the client leaves.

        Raises
        ------
        ClientLeft
            When the client left, or the service is ending.
        """
        is_left = threading.Event()
        is_running = False

        async def question() -> T:
            nonlocal is_running
            async with self._lock:
                is_running = True
                try:
                    return await anyio.to_thread.run_sync(lambda: work(self._manifest(), is_left.is_set))
                finally:
                    is_running = False

        def interrupt() -> None:
            is_left.set()
            if is_running and self._opened is not None:
                self._opened[1].interrupt()

        return await while_waited_for(request, stop, question, interrupt)

    def close(self) -> None:
        """Close the manifest; it is opened again when it is needed."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()

    def _manifest(self) -> Manifest:
        at = place.existing(self._folder)
        inode = at.path.stat().st_ino
        if self._opened is None or self._opened[0] != inode:
            self.close()
            self._opened = (inode, Manifest.read(self._folder))
        return self._opened[1]


class Stored(NamedTuple):
    """The bytes of a stored cutout."""

    number: int
    uri: str
    raw: bytes

    @property
    def file_name(self) -> str:
        """The archive's name for it."""
        return datauri.file_name(self.uri)


class Folder:
    """
    One harvest folder.

    Raises
    ------
    FolderRefused
        When it holds no harvest.
    """

    def __init__(self, path: Path, stop: Stop, name: str) -> None:
        place.existing(path)
        self.path = path
        self.stop = stop
        self.name = name
        self.quick = Connection(path)
        self.slow = Connection(path)
        self.orders = Orders()
        self.live = Live()
        self._files = anyio.Lock()

    async def members(self, request: Request, selection: Selection) -> AnyNumbers | IntervalSet:
        """
        Return the numbers of the selected cutouts in their order.

        Raises
        ------
        BadQuery
            When a column is not there, or cannot be sorted by.
        ClientLeft
            When nobody waits for it any more.
        """
        if not selection.criteria and not selection.sort:
            return await self.quick.ask(_everything)
        return await self.slow.ask_long(
            request, self.stop, lambda manifest, is_left: self.orders.members(manifest, selection, is_left)
        )

    @staticmethod
    def detectors(manifest: Manifest) -> list[str]:
        """Return the detectors whose catalogue rows the folder holds."""
        return sorted({detector for detector, _ in known_columns.layouts(manifest).values()})

    async def stored(self, numbers: Sequence[int], *, at_most_bytes: int = BODY_BYTES_MAX) -> list[Stored]:
        """Return the bytes of those of the numbered cutouts that are stored, no larger, and readable."""
        wanted = np.array(sorted(set(numbers)), np.int64)
        found = await self.quick.ask(lambda manifest: found_cutouts.places(manifest, wanted))
        async with self._files:
            return await anyio.to_thread.run_sync(lambda: self._read(found, at_most_bytes))

    def close(self) -> None:
        """Let go of all files."""
        self.quick.close()
        self.slow.close()

    def _read(self, found: Sequence[tuple[int, str, str, int]], at_most_bytes: int) -> list[Stored]:
        bodies = []
        with Reader(self.path) as reader:
            for number, uri, location, size_bytes in found:
                try:
                    if size_bytes <= at_most_bytes:
                        bodies.append(Stored(number, uri, read_within(reader, location, size_bytes)))
                except (LocalError, OSError):  # not where the manifest says: `verify` is for that
                    continue
        return bodies


def _everything(manifest: Manifest) -> IntervalSet:
    manifest.refresh()
    return search.numbers(manifest)


def read_within(reader: Reader, location: str, size_bytes: int) -> bytes:
    """
    Return the bytes at a location, which must be one within the folder, and whole.

    Raises
    ------
    LocalError
        When it is none, or the file has been cut.
    OSError
        When it cannot be read.
    """
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
        raise LocalError(f"{location!r} is no place within a harvest folder")
    raw = reader.read(location, size_bytes)
    if len(raw) != size_bytes:
        raise LocalError(f"{location}: {len(raw)} of {size_bytes} bytes; run: psfharvest verify --repair")
    return raw


def names_of(paths: Sequence[Path]) -> list[str]:
    """
    Return a name for each folder: the end of its path, as long as it takes to tell it from the others.

    Raises
    ------
    BadInput
        When a folder is given twice.
    """
    real = [path.resolve() for path in paths]
    for path, resolved in zip(paths, real, strict=True):
        if real.count(resolved) > 1:
            raise BadInput(f"{path} is given twice; give each folder once")
    whole = [path.absolute().parts for path in paths]
    return [_name(parts, [other for other in whole if other != parts]) for parts in whole]


def _name(parts: Sequence[str], others: Sequence[Sequence[str]]) -> str:
    lengths = range(1, len(parts))
    alone = (n for n in lengths if all(other[-n:] != parts[-n:] for other in others))
    return "/".join(parts[-next(alone, len(parts)) :]).replace("//", "/")
