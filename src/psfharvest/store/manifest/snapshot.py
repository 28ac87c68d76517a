"""
Read a manifest that SQLite cannot open where it stands: read-only folders, file systems without locks, a busy file.

What was claimed last may stand in the journal beside the file, so the file is never read without it: where the
journal holds anything, a private copy of both is read. Only a file without a journal is read in place, for as long
as neither changes.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
import weakref
from pathlib import Path

from psfharvest.core.errors import ManifestError
from psfharvest.store.manifest.place import Place

JOURNALS = ("-wal", "-journal")
COPY_TRIES = 20
"""Copies of a manifest that is being written are taken until one is of a single moment."""
COPY_PAUSE_S = 0.1
SPARE_BYTES = 50 * 10**6
"""What a copy leaves free in the temporary folder."""
UNOPENED = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""SQLite's refusals to open a file that may be sound."""

Signature = tuple[tuple[int, int, int], ...]


class Copy:
    """A private copy of a manifest and its journal; it goes when nobody uses it."""

    def __init__(self, place: Place) -> None:
        home = tempfile.mkdtemp(prefix="psfharvest-manifest-")
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        self.path = Path(home, "manifest.sqlite")
        self.signature = _copied(place, self.path)

    @property
    def has_journal(self) -> bool:
        """Whether a journal that held anything was copied with it."""
        return _holds_journal(self.signature)


_copies: weakref.WeakValueDictionary[tuple[Path, Signature], Copy] = weakref.WeakValueDictionary()


def has_journal(place: Place) -> bool:
    """Return whether a journal beside the manifest holds anything."""
    return _holds_journal(signature(place))


def signature(place: Place) -> Signature:
    """
    Return what is different when a manifest has changed.

    Raises
    ------
    ManifestError
        When it cannot be looked at.
    """
    found = []
    for side in ("", *JOURNALS):
        try:
            stat = place.side(side).stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except FileNotFoundError:
            found.append((0, 0, 0))
        except OSError as error:
            raise ManifestError(f"{place.side(side)}: {error.strerror}") from error
    return tuple(found)


def copy_of(place: Place) -> Copy:
    """
    Return a private copy of a manifest with its journal, taken now or shared with another reader of this process.

    Raises
    ------
    ManifestError
        When it cannot be copied; the message says what to do.
    """
    known = _copies.get((place.path, signature(place)))
    if known is None:
        known = Copy(place)
        _copies[place.path, known.signature] = known
    return known


def _copied(place: Place, target: Path) -> Signature:
    for _ in range(COPY_TRIES):
        before = signature(place)
        _refuse_large(place, sum(size for _, _, size in before), target.parent)
        try:
            for side in ("", *JOURNALS):
                if place.side(side).exists():
                    shutil.copyfile(place.side(side), f"{target}{side}")
        except OSError as error:
            raise ManifestError(f"{error.filename}: {error.strerror}; {_remedy(place)}") from error
        if signature(place) == before:
            return before
        for side in JOURNALS:
            Path(f"{target}{side}").unlink(missing_ok=True)
        time.sleep(COPY_PAUSE_S)
    raise ManifestError(f"{place.path} is being written, and cannot be shared here; ask again when that has ended")


def _refuse_large(place: Place, size_bytes: int, home: Path) -> None:
    free_bytes = shutil.disk_usage(home).free
    if free_bytes < size_bytes + SPARE_BYTES:
        raise ManifestError(
            f"{place.path} can be read as a copy only, of {size_bytes / 1e6:,.0f} MB; {home.parent} has "
            f"{free_bytes / 1e6:,.0f} MB free: point TMPDIR to a larger folder, or {_remedy(place)}"
        )


def _holds_journal(found: Signature) -> bool:
    return any(size > 0 for _, _, size in found[1:])


def _remedy(place: Place) -> str:
    names = " and ".join(place.side(side).name for side in ("", *JOURNALS) if place.side(side).exists())
    return f"copy {names} together into a folder that you may write, and give that folder"
