"""
One file a cutout: written under a temporary name, then renamed, so that a final name never holds half a file.

Paths are ours (see `psfharvest.core.fits.keys`). They are put together as texts: once a cutout, `pathlib` would
take as long as a third of the writing itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from psfharvest.core.fits import keys
from psfharvest.core.model import Item, Outcome
from psfharvest.filesystem import portable
from psfharvest.filesystem.failures import cannot_store
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest.manifest import Stored

PARTIAL = ".partial"
"""Where files grow; emptied at every start, since nothing in it was ever claimed."""

BESIDE = ".psfharvest.partial"
"""Where a file grows whose folder is in another file system: one name, so that a death leaves one at most."""
NOT_LINKED = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What a system says where a file cannot have two names."""
MADE_MAX = 20_000
"""Folders remembered as made; exposures are far fewer than cutouts, but memory is to stay flat."""


class FileSink:
    """
    Store each cutout as a file of its own.

    Parameters
    ----------
    folder
        The harvest folder.
    layout
        ``tree``: ``WFC3PSF/ibc3/ibc302ioq/…``; ``flat``: ``WFC3PSF/…``.
    fsync
        Whether a claim survives power loss, too; by itself it survives the death of the process.
    """

    def __init__(self, folder: Path, *, layout: str = "tree", fsync: bool = False) -> None:
        self._folder = folder
        self._growing = f"{folder}/{PARTIAL}/{secrets.token_hex(4)}-"
        self._final = f"{folder}/"
        self._is_tree = layout == "tree"
        self._fsync = fsync
        self._made: set[str] = set()
        self._n = 0
        try:
            shutil.rmtree(folder / PARTIAL, ignore_errors=True)
            (folder / PARTIAL).mkdir(exist_ok=True)  # network file systems keep a removed file that is still open
        except OSError as error:
            raise cannot_store(error, str(folder)) from error

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """
        Store the bodies; when this returns, every one is in its place.

        Raises
        ------
        SinkError
            When one could not be stored; those before it may stand in their places, unclaimed.
        """
        stored, folders = [], set()
        for outcome in outcomes:
            location = self.location(outcome.item)
            try:
                location = self._put(location, outcome)
            except OSError as error:
                raise cannot_store(error, location) from error
            folders.add(location.rpartition("/")[0])
            stored.append(Stored(outcome, None, explicit_location(outcome.item, location, is_tree=self._is_tree)))
        if self._fsync:
            self._sync_folders(folders)
        return stored

    def link(self, item: Item, source: Path) -> str | None:
        """
        Give a file that exists a second name, that of an item; return its location, None where links cannot be.

        Raises
        ------
        SinkError
            When it cannot be stored.
        """
        for location in (self.location(item), fallback_location(item)):
            try:
                self._make_parent(location)
                self._link(source, self._final + location)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # one URI's path is a step of another's
            except OSError as error:
                if error.errno in NOT_LINKED:
                    return None
                raise cannot_store(error, location) from error
            return location
        return None

    @property
    def needs_sources(self) -> bool:
        """False: a file holds nothing of the catalogue."""
        return False

    def checkpoint(self) -> Mapping[str, int]:
        """Return nothing: a file under its final name is all there is."""
        return {}

    def close(self) -> None:
        """Take the temporary folder away."""
        shutil.rmtree(self._folder / PARTIAL, ignore_errors=True)

    def location(self, item: Item) -> str:
        """Return where an item's file belongs, relative to the folder."""
        return default_location(item, is_tree=self._is_tree)

    def _put(self, location: str, outcome: Outcome) -> str:
        """Store one body; folders that were removed meanwhile are made again, once."""
        try:
            return self._write(location, outcome)
        except FileNotFoundError:
            self._made.clear()
            (self._folder / PARTIAL).mkdir(exist_ok=True)
            return self._write(location, outcome)

    def _write(self, location: str, outcome: Outcome) -> str:
        partial = f"{self._growing}{self._n}"
        self._n += 1
        body = outcome.body or b""
        try:
            self._write_body(partial, body, os.O_EXCL)
            return self._move(partial, location, outcome.item, body)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)  # noqa: PTH108
            raise

    def _write_body(self, path: str, body: bytes, flag: int) -> None:
        with OpenFile(path, os.O_WRONLY | os.O_CREAT | flag) as file:
            file.write(body)
            if self._fsync:
                file.sync()

    def _move(self, partial: str, location: str, item: Item, body: bytes) -> str:
        try:
            self._rename(partial, location, body)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            # one URI's path is a step of another's: give this one a name that is nobody's path
            location = fallback_location(item)
            self._rename(partial, location, body)
        return location

    def _rename(self, partial: str, location: str, body: bytes) -> None:
        self._make_parent(location)
        final = self._final + location
        try:
            os.rename(partial, final)  # noqa: PTH104
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # a link or mount leads into another file system: written beside its target
            beside = f"{final.rpartition('/')[0]}/{BESIDE}"
            self._write_body(beside, body, os.O_TRUNC)
            os.rename(beside, final)  # noqa: PTH104
            os.unlink(partial)  # noqa: PTH108

    def _link(self, source: Path, final: str) -> None:
        try:
            os.link(source, final)
        except FileExistsError:
            partial = f"{self._growing}{self._n}"
            self._n += 1
            os.link(source, partial)
            try:
                os.rename(partial, final)  # noqa: PTH104
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(partial)  # noqa: PTH108 - two names of one file: then a rename does nothing

    def _make_parent(self, location: str) -> None:
        parent = location.rpartition("/")[0]
        if parent not in self._made:
            if len(self._made) > MADE_MAX:
                self._made.clear()
            (self._folder / parent).mkdir(parents=True, exist_ok=True)
            self._made.add(parent)

    def _sync_folders(self, folders: set[str]) -> None:
        every = {parent for f in folders for parent in (f, *_parents(f))}
        for name in every:
            try:
                portable.sync_folder(self._folder / name)
            except OSError as error:
                raise cannot_store(error, name) from error


def default_location(item: Item, *, is_tree: bool) -> str:
    """Return where an item's file belongs, relative to the folder."""
    if not (is_tree and item.rootname):
        return item.key
    top, _, name = item.key.partition("/")
    return f"{top}/{keys.safe(item.rootname[:4])}/{keys.safe(item.rootname)}/{name}"


def fallback_location(item: Item) -> str:
    """Return where an item's file stands when it cannot stand where it belongs."""
    return f"other/{hashlib.blake2b(item.uri.encode(), digest_size=12).hexdigest()}.fits"


def explicit_location(item: Item, location: str, *, is_tree: bool) -> str | None:
    """Return the location to store, or None where the ``cutout`` view derives it from the item."""
    is_plain = bool(item.rootname) and "%" not in item.key and "~" not in item.key
    is_plain = is_plain and all(keys.safe(n) == n for n in (item.rootname[:4], item.rootname))
    return None if is_plain and location == default_location(item, is_tree=is_tree) else location


def _parents(name: str) -> list[str]:
    steps = name.split("/")
    return ["/".join(steps[:n]) for n in range(len(steps))]
