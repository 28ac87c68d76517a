"""
Slots for the connections to one archive, shared by all processes of a user on a machine.

Each slot is a file that the process with the connection holds locked: the kernel frees the slots of a process that
ends, however it ends. Two more files a process tell the others that it takes part, and that it lacks its fair part.
How many of the slots a process holds is decided in `psfharvest.engine.slot_keeper`.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Protocol

import platformdirs

from psfharvest.core.model import PUBLIC_CEILING
from psfharvest.filesystem.file_lock import keep_from_children, try_lock, unlock
from psfharvest.filesystem.open_file import OpenFile

USERS_MAX = 64
"""Users that are distinguished; more than that get a connection when one is free."""
TOUCH_S = 600.0
"""How often held files get a new time, so that no cleaner of old files takes them."""


class Lock(Protocol):
    """A lock that is held."""

    is_orphaned: bool
    """The holder before ended without releasing it: the archive may still be at work for it."""

    def is_valid(self) -> bool:
        """Return False when the lock has been lost: its file was removed."""
        ...

    def touch(self) -> None:
        """Show that the lock is in use."""
        ...

    def release(self) -> None:
        """Let others have it."""
        ...


class Locks(Protocol):
    """A set of locks with names."""

    def hold(self, name: str) -> Lock | None:
        """Hold a lock, or return None where somebody else does."""
        ...

    def is_held(self, name: str) -> bool:
        """Return whether somebody holds a lock; it must not be one's own."""
        ...


class Others(NamedTuple):
    """The other users of the slots."""

    n: int
    is_one_short: bool
    """One of them has less than its fair part."""


class ConnectionSlots:
    """
    One user's side of the slots.

    Parameters
    ----------
    locks
        One for each slot, and two for each user.
    n
        How many slots there are.
    note
        What is to be said of how they are counted; empty when all is well.
    clock
        Seconds that only grow.
    """

    def __init__(
        self, locks: Locks, n: int = PUBLIC_CEILING, *, note: str = "", clock: Callable[[], float] = monotonic
    ) -> None:
        self.n = n
        self.note = note
        self._locks = locks
        self._clock = clock
        self._held: dict[int, Lock] = {}
        self._number = -1
        self._user: Lock | None = None
        self._short: Lock | None = None
        self._touched_at = clock()

    @property
    def held(self) -> int:
        """Slots held."""
        return len(self._held)

    def take(self, n: int) -> tuple[int, bool]:
        """Hold up to `n` more; return how many more are held, and whether one was left by a process that died."""
        self._join()
        n_before, is_orphaned = self.held, False
        for slot in range(self.n):
            if self.held - n_before == n:
                break
            if slot not in self._held and (lock := self._locks.hold(f"connection-{slot}")) is not None:
                self._held[slot] = lock
                is_orphaned = is_orphaned or lock.is_orphaned
        return self.held - n_before, is_orphaned

    def give_back(self, n: int) -> None:
        """Release `n` of those held."""
        for _ in range(min(n, self.held)):
            self._held.popitem()[1].release()

    def poll(self) -> Others:
        """Return what the others do; what was lost meanwhile is not held any more."""
        for slot, lock in tuple(self._held.items()):
            if not lock.is_valid():
                self._held.pop(slot).release()
        now = self._clock()
        if now - self._touched_at > TOUCH_S:
            self._touched_at = now
            for lock in (*self._held.values(), *filter(None, (self._user, self._short))):
                lock.touch()
        present = [u for u in range(USERS_MAX) if u != self._number and self._locks.is_held(f"user-{u}")]
        return Others(len(present), any(self._locks.is_held(f"short-{u}") for u in present))

    def set_short(self, *, is_short: bool) -> None:
        """Tell the others whether less than the fair part is held."""
        if not is_short and self._short is not None:
            self._short.release()
            self._short = None
        elif is_short and self._short is None and self._user is not None:
            self._short = self._locks.hold(f"short-{self._number}")

    def leave(self) -> None:
        """Release everything; `take` begins anew."""
        self.set_short(is_short=False)
        self.give_back(self.held)
        if self._user is not None:
            self._user.release()
            self._user, self._number = None, -1

    def _join(self) -> None:
        for number in range(USERS_MAX if self._user is None else 0):
            if (lock := self._locks.hold(f"user-{number}")) is not None:
                self._user, self._number = lock, number
                return


class FileLocks:
    """
    Locks that are files of one folder.

    Parameters
    ----------
    folder
        Made when it does not exist; it must be the user's own.

    Raises
    ------
    OSError
        When the folder cannot be used, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
            raise PermissionError(f"{folder} belongs to somebody else")
        self._require_locks()

    def hold(self, name: str) -> Lock | None:
        """Hold a lock, or return None where somebody else does, or its file cannot be opened just now."""
        path = self._folder / name
        try:
            file = self._open(path)
        except OSError:
            return None
        try:
            if try_lock(file.number) and _is_file_of(file, path):
                return _FileLock(file)
        except OSError:
            pass
        file.close()
        return None

    def is_held(self, name: str) -> bool:
        """Return whether somebody holds a lock."""
        try:
            with OpenFile(self._folder / name) as file:
                return not try_lock(file.number, is_shared=True)
        except OSError:
            return False

    def _open(self, path: Path) -> OpenFile:
        try:
            return OpenFile(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # somebody cleaned up
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return OpenFile(path, os.O_RDWR | os.O_CREAT)

    def _require_locks(self) -> None:
        path = self._folder / f"try-{os.getpid()}-{threading.get_ident()}"
        try:
            with self._open(path) as one, self._open(path) as other:
                if not try_lock(one.number) or try_lock(other.number, is_shared=True):
                    raise OSError("its file system does not keep locks apart")
        finally:
            path.unlink(missing_ok=True)


class _FileLock:
    """A locked file; while it is in use it is not empty, so that a holder's death shows."""

    def __init__(self, file: OpenFile) -> None:
        keep_from_children(file)
        self._file = file
        self.is_orphaned = file.size() > 0
        if not self.is_orphaned:
            file.write(b"%d\n" % os.getpid())

    def is_valid(self) -> bool:
        return self._file.is_open and os.fstat(self._file.number).st_nlink > 0

    def touch(self) -> None:
        os.utime(self._file.path)

    def release(self) -> None:
        if self._file.is_open:
            self._file.truncate(0)
            unlock(self._file.number)
            self._file.close()


class MemoryLocks:
    """Locks within this process, for systems where files cannot be locked."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._mutex = threading.Lock()

    def hold(self, name: str) -> Lock | None:
        """Hold a lock, or return None where somebody else does."""
        with self._mutex:
            if name in self._names:
                return None
            self._names.add(name)
        return _MemoryLock(self, name)

    def is_held(self, name: str) -> bool:
        """Return whether somebody holds a lock."""
        return name in self._names

    def release(self, name: str) -> None:
        """Let others have a lock."""
        with self._mutex:
            self._names.discard(name)


class _MemoryLock:
    """A name that is taken."""

    is_orphaned = False

    def __init__(self, locks: MemoryLocks, name: str) -> None:
        self._locks = locks
        self._name = name

    def is_valid(self) -> bool:
        return True

    def touch(self) -> None:
        """Do nothing: no cleaner comes here."""

    def release(self) -> None:
        self._locks.release(self._name)


_of_this_process = MemoryLocks()


def of_this_machine(folder: Path | None = None) -> ConnectionSlots:
    """
    Return the slots of the public archive, for one more user.

    Parameters
    ----------
    folder
        Where the files are; None: in the user's folder for what lasts as long as a login.
    """
    try:
        return ConnectionSlots(FileLocks(_runtime_folder() if folder is None else folder))
    except OSError as error:
        note = (
            f"connections to the archive are counted for this process only ({error.strerror or error}): do not run "
            f"others beside it, since all of yours together may have {PUBLIC_CEILING}"
        )
        return ConnectionSlots(_of_this_process, note=note)


def _runtime_folder() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no such folder, it names one under /tmp
        return Path(platformdirs.user_runtime_dir("psfharvest", appauthor=False)) / "public-archive"


def _is_file_of(file: OpenFile, path: Path) -> bool:
    """Return whether the path still leads to the open file: it may have been removed before it was locked."""
    found = os.fstat(file.number)
    there = path.stat()
    return (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino)
