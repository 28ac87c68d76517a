"""The manifest's file: made whole or not at all, written by one, read by any, refused when it is not ours."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from psfharvest.core.errors import ManifestError
from psfharvest.filesystem.failures import cannot_store, lacks_inodes
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest import holders, migrate, place, settings, snapshot, sources
from psfharvest.store.manifest.connection import ONE_WAIT_S, PatientConnection, immediate, is_lock
from psfharvest.store.manifest.place import Place

UNFINISHED = ".growing"
WAL_PAGES = 4000
"""The WAL is checkpointed at so many pages, 16 MB."""
WAL_BYTES_MAX = 32 * 2**20
"""Above it the WAL is checkpointed and truncated, since a long read transaction has kept it from being reused."""
READER_LOCK_WAIT_S = 2.0
"""How long a reader waits for a lock before it reads a copy."""
_EXCLUSIVE = "PRAGMA locking_mode = EXCLUSIVE"
_NO_WAL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL)
_NOT_MADE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL)
"""What SQLite says where it cannot make a file."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTSUP}


class Opened(NamedTuple):
    """
    An open manifest.

    Parameters
    ----------
    db
        The connection.
    note
        What the user should know of how it is opened, or nothing.
    signature
        Of a file that is read in place without locks: when it differs, the manifest must be opened again.
    copy
        The private copy that is read, held for its life.
    """

    db: PatientConnection
    note: str = ""
    signature: snapshot.Signature | None = None
    copy: snapshot.Copy | None = None
    is_unshared: bool = False
    """Whether it is kept without shared memory; see `UNSHARED`."""
    doubt: str = ""
    """Why the account may be an old one, or nothing; see `WRITER`."""


UNSHARED = "unshared"
"""
The setting of a manifest whose writer keeps the journal's index in its own memory (``locking_mode = EXCLUSIVE``).

That is a part's on a cluster, where the folder may be on a network file system: no ``-shm`` file is ever mapped. At
rest it has no journal; while it is written, readers take a copy.
"""

WRITER = "writer"
"""
The setting that stands in the file itself, beside its journal, from a writer's first change until it closes.

Where it is left over and there is no journal, that was lost: a killed run's folder was copied without it, say.
"""


def create(at: Place, meta: Mapping[str, str | int]) -> None:
    """
    Make a new manifest in an existing folder.

    Raises
    ------
    ManifestError
        When it cannot be written; then there is none.
    """
    partial = at.side(UNFINISHED) if at.id else at.folder / ".manifest.growing"
    try:
        partial.unlink(missing_ok=True)
        OpenFile(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY).close()  # SQLite would take no heed of the umask
    except OSError as error:
        raise ManifestError(str(cannot_store(error, partial))) from error
    # nobody else knows the file: it needs no lock, which the file system may not have
    connection = _connect(partial, "rw", vfs=_without_locks())
    with translated(at), contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode = MEMORY")
        with immediate(connection):
            migrate.create(connection)
            settings.put(connection, **meta)
    try:
        partial.replace(at.path)
    except OSError as error:
        raise ManifestError(str(cannot_store(error, at.path))) from error


def to_write(at: Place, *, durable: bool) -> Opened:
    """
    Return a connection that may write; `durable` commits survive power loss, too.

    Raises
    ------
    ManifestError
        When it is damaged, foreign, newer, of a version that was never published, or locked for long.
    """
    with translated(at):
        is_unshared = _is_unshared(at)
        had_journal = snapshot.has_journal(at)  # without WAL, opening removes it
        first = _EXCLUSIVE if is_unshared else ""
        try:
            # where the file system has no locks, SQLite calls that locked: then there is nothing to wait for
            lock_wait_s = None if _can_lock(at) else 0.0
            db = _opened(at, "rw", _set_wal, first=first, lock_wait_s=lock_wait_s)
            opened = Opened(db, is_unshared=is_unshared)
        except sqlite3.OperationalError as error:
            missing = _missing_feature(at, error)
            if not missing:
                raise
            opened = Opened(_opened_alone(at), _alone_note(at, missing))
        try:
            if not had_journal:
                opened = opened._replace(doubt=_doubt(at, opened))
            opened.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            migrate.migrate(opened.db)
        except BaseException:
            opened.db.close()
            raise
        return opened


def to_read(at: Place) -> Opened:
    """
    Return a connection that only reads, also while another process writes, also on a read-only medium.

    Raises
    ------
    ManifestError
        When it is damaged, foreign, newer, of a version that was never published, or cannot be read as it is now.
    """
    with translated(at):
        if _is_unshared(at) and _has_wal(at):
            opened = _read_copy(at)
        else:
            try:
                opened = Opened(_opened(at, "ro", migrate.stand_in, lock_wait_s=READER_LOCK_WAIT_S))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in snapshot.UNOPENED:
                    raise
                opened = _read_apart(at, error)
        opened.db.execute("PRAGMA query_only = 1")
        return opened._replace(doubt=_doubt(at, opened))


def mark_writer(opened: Opened) -> None:
    """Note in the file itself that a writer has it open, before its first change; see `WRITER`."""
    if not opened.note:
        settings.put(opened.db, **{WRITER: 1})
        opened.db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def close_writer(opened: Opened) -> None:
    """Checkpoint the WAL and empty it, so that the file alone holds everything, and close it."""
    db = opened.db
    with contextlib.suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the WAL is written from its start then, also on a full disk
        settings.drop(db, WRITER)
    with contextlib.suppress(sqlite3.Error):
        if opened.note or opened.is_unshared:
            db.execute("PRAGMA journal_mode = DELETE")
        else:
            truncate_wal(opened, patience_s=0.1 if db.is_stopping else 1.0)
    with contextlib.suppress(sqlite3.Error):
        db.close()


def truncate_wal(opened: Opened, *, patience_s: float) -> bool:
    """
    Checkpoint the WAL and truncate it to nothing; return False when another connection's read prevents that.

    The mark of `mark_writer` is removed before, since beside an empty WAL it means a lost one: set it again.
    """
    db = opened.db
    settings.drop(db, WRITER)
    db.execute(f"PRAGMA busy_timeout = {round(1000 * patience_s)}")
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        db.execute(f"PRAGMA busy_timeout = {round(1000 * ONE_WAIT_S)}")


@contextmanager
def translated(at: Place) -> Iterator[None]:
    """Raise what the database refuses as a `ManifestError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_lock(error):
            who = holders.describe(at.side(side) for side in place.SIDES)
            words = f"{at.path} is locked by {who or 'another program'}; end that, then run the same again"
            raise ManifestError(words) from error
        if str(error).startswith(("no such table", "no such column")):
            raise damaged(at, str(error)) from error
        if isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError)):
            raise ManifestError(f"{at.path}: {_described(at, error)}, then run the same again") from error
        raise damaged(at, str(error)) from error


def damaged(at: Place, words: str) -> ManifestError:
    """Return the error of a manifest that holds what it cannot hold."""
    remedy = f"move it away, and 'psfharvest adopt {at.folder}' makes it anew from what is stored"
    return ManifestError(f"{at.path} is damaged ({words}); {remedy}")


def refuse_removed(at: Place) -> None:
    """Raise `ManifestError` where the path of an open manifest is gone: what is claimed would go with it."""
    try:
        at.path.lstat()
    except FileNotFoundError:
        remedy = f"put it back, or make it anew from what is stored: psfharvest adopt {at.folder}"
        raise ManifestError(f"{at.path} was moved or removed while it was written; {remedy}") from None
    except OSError:
        return  # a file system that does not answer now; the next commit asks again


@contextmanager
def rows_translated(at: Place) -> Iterator[None]:
    """Raise a `ManifestError` for a catalogue row that is damaged."""
    try:
        yield
    except sources.UNREADABLE as error:
        raise damaged(at, f"a catalogue row cannot be read: {error}") from error


def _described(at: Place, error: sqlite3.DatabaseError) -> str:
    """Return what SQLite refused and what to do about it."""
    may_lack_inodes = getattr(error, "sqlite_errorcode", 0) & 0xFF in (*_NO_WAL, *_NOT_MADE)
    if may_lack_inodes and lacks_inodes(at.path):
        return f"{error}: bytes are free on its file system, but no inodes, and its journal takes one; remove files"
    return f"{error}; mend that"


def _doubt(at: Place, opened: Opened) -> str:
    """Return why the account may be an old one, or nothing."""
    # the journal after the mark, and both twice: between two looks a writer may begin, end, or empty its journal
    for _ in range(2):
        if settings.get(opened.db, WRITER) is None:
            return ""
        if snapshot.has_journal(at) if opened.copy is None else opened.copy.has_journal:
            return ""
    return (
        f"{at.path} lacks its journal, {at.side('-wal').name}: a run was killed, or was under way when the folder "
        "was copied, and the account may be an old one; put the journal beside it, or go on: what is not known to "
        "be stored is asked for again"
    )


def _set_wal(db: PatientConnection) -> None:
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        error = sqlite3.OperationalError(f"journal_mode is {mode}")
        error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
        raise error
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    db.execute("BEGIN IMMEDIATE")  # shared memory and locks are needed from here on
    db.execute("COMMIT")


def _opened_alone(at: Place) -> PatientConnection:
    """Return a writing connection that shares the file with nobody; the folder's lock is held."""

    def alone(db: PatientConnection) -> None:
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")

    vfs = "" if _can_lock(at) else _without_locks()
    return _opened(at, "rw", alone, vfs=vfs, first=_EXCLUSIVE)


def _alone_note(at: Place, missing: str) -> str:
    return (
        f"the file system of {at.path.parent} lacks {missing}: the manifest is kept without a shared journal, and "
        "'status' reads a copy while a harvest runs; manifest=… keeps a new harvest's manifest on a local disk"
    )


def _read_apart(at: Place, error: sqlite3.OperationalError) -> Opened:
    """Read a file that SQLite did not open: in place where nothing can be missed by that, or else a copy."""
    cannot_write_there = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    if cannot_write_there and not snapshot.has_journal(at):
        seen = snapshot.signature(at)
        _refuse_unreadable(at)
        return Opened(_opened(at, "ro&immutable=1", migrate.stand_in), signature=seen)
    return _read_copy(at)


def _read_copy(at: Place) -> Opened:
    copy = snapshot.copy_of(at)
    own = at._replace(path=copy.path)  # nobody else knows it: no locks are needed, which may be missing there, too
    vfs = _without_locks()
    return Opened(_opened(own, "rw", migrate.stand_in, vfs=vfs, first=_EXCLUSIVE), copy=copy)


def _is_unshared(at: Place) -> bool:
    """Return whether a manifest is kept without shared memory; the file alone is looked at, without locks."""
    try:
        with contextlib.closing(_connect(at.path, "ro&immutable=1")) as db:
            return settings.get(db, UNSHARED) is not None
    except sqlite3.Error:
        return False  # whatever is wrong with it is found when it is opened


def _has_wal(at: Place) -> bool:
    """Return whether the file's header says that there may be a journal of the kind WAL."""
    with contextlib.suppress(OSError), OpenFile(at.path, os.O_RDONLY) as file:
        return file.read(1, 18) == b"\x02"
    return False


def _refuse_unreadable(at: Place) -> None:
    if not os.access(at.path, os.R_OK):
        raise ManifestError(f"{at.path}: {os.strerror(errno.EACCES)}; you need the right to read it")


def _missing_feature(at: Place, error: sqlite3.OperationalError) -> str:
    """Return in words what the file system lacks for a shared journal, or nothing when that is not the trouble."""
    if not _can_lock(at):
        return "file locks (fcntl)"
    return "shared memory (mmap), or locks on it" if error.sqlite_errorcode & 0xFF in _NO_WAL else ""


def _can_lock(at: Place) -> bool:
    """Return False when the manifest's file system has no locks of fcntl's; a lock that is held is one."""
    if os.name == "nt":
        return True
    import fcntl  # noqa: PLC0415 - only there

    # a file of its own: closing any handle of the manifest would let go of this process's locks on it
    probe = at.side(".probe")
    try:
        file = OpenFile(probe, os.O_RDWR | os.O_CREAT)
    except OSError:
        return True
    with file:
        try:
            fcntl.lockf(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
        finally:
            probe.unlink(missing_ok=True)
    return True


def _without_locks() -> str:
    return "unix-none" if os.name == "posix" else ""


def _connect(path: Path, mode: str, *, vfs: str = "") -> PatientConnection:
    uri = f"{path.absolute().as_uri()}?mode={mode}{f'&vfs={vfs}' if vfs else ''}"
    return sqlite3.connect(
        uri, uri=True, timeout=ONE_WAIT_S, isolation_level=None, check_same_thread=False, factory=PatientConnection
    )


def _opened(
    at: Place,
    mode: str,
    prepare: Callable[[PatientConnection], None],
    *,
    vfs: str = "",
    first: str = "",
    lock_wait_s: float | None = None,
) -> PatientConnection:
    connection = _connect(at.path, mode, vfs=vfs)
    try:
        if lock_wait_s is not None:
            connection.lock_wait_s = lock_wait_s
        if first:
            connection.execute(first)
        migrate.check(connection, at.path)
        _refuse_another_folders(connection, at)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_another_folders(db: PatientConnection, at: Place) -> None:
    if at.id and settings.get(db, "id") != at.id:
        raise ManifestError(
            f"{at.path} is the manifest of another folder than {at.folder}; put the right one there, or see "
            f"{at.folder / place.POINTER_NAME}"
        )
