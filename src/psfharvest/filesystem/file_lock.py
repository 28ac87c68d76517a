"""Locks on open files that the kernel releases when their process ends, however it ends."""

from __future__ import annotations

import errno
import os
import weakref
from contextlib import suppress

from psfharvest.filesystem.open_file import OpenFile

if os.name == "nt":

    def try_lock(handle: int, *, is_shared: bool = False) -> bool:
        """
        Lock an open file, and return whether nobody else holds it.

        Raises
        ------
        OSError
            Where the system has no such lock.
        """
        import msvcrt  # noqa: PLC0415 - only there

        if is_shared:
            raise OSError(errno.ENOSYS, "no shared locks")
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

    def unlock(handle: int) -> None:
        """Leave it to the closing of the file."""

else:

    def try_lock(handle: int, *, is_shared: bool = False) -> bool:
        """
        Lock an open file, and return whether nobody else holds it.

        Raises
        ------
        OSError
            Where the file system has no such lock.
        """
        import fcntl  # noqa: PLC0415 - only there

        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(handle: int) -> None:
        """Release the lock, which a copy of the descriptor in another process would hold on to."""
        import fcntl  # noqa: PLC0415 - only there

        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


_held: weakref.WeakSet[OpenFile] = weakref.WeakSet()


def keep_from_children(file: OpenFile) -> None:
    """Have a forked child close its copy: the lock belongs to all copies, and must end with this process."""
    _held.add(file)


def _close_all() -> None:
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
