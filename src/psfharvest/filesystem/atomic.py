"""
Write, then rename: a file or folder takes its name when it is whole, and else is not there.

What is written grows beside its target, in the same folder: a rename never crosses into another file system. A
link is followed, so that it goes on leading where it led; a device or pipe is written as it is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psfharvest.core.errors import BadInput, SinkError
from psfharvest.filesystem import portable
from psfharvest.filesystem.open_file import OpenFile

_numbers = itertools.count(1)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """
    Yield a path to write to; what stands there when the block ends well takes the target's name.

    Raises
    ------
    SinkError
        When it cannot be written.
    """
    try:
        final = Path(os.path.realpath(target))
        if final.exists() and not (final.is_file() or final.is_dir()):
            yield final
            return
        partial = final.with_name(f".{os.getpid()}-{next(_numbers)}.partial{final.suffix}")
        try:
            yield partial
            replace(partial, final)
        finally:
            _remove(partial)
    except OSError as error:
        raise SinkError(f"cannot write {target}: {error.strerror or error}") from error


def require_parent(target: Path) -> None:
    """Raise `BadInput` when the folder that a file is to be written into does not exist."""
    if not target.absolute().parent.is_dir():
        raise BadInput(f"{target}: the folder {target.parent} does not exist; make it first")


def require_ending(target: Path, allowed: Iterable[str]) -> None:
    """Raise `BadInput` when the ending of a file's name is none of those allowed."""
    endings = tuple(allowed)
    if target.suffix.lower() not in endings:
        raise BadInput(f"{target}: the ending says the format; {', '.join(endings)} are allowed")


def replace(partial: Path, final: Path, *, is_synced: bool = False) -> None:
    """
    Give a file or folder its final name, in place of what has that name.

    Parameters
    ----------
    partial, final
        Both in the same file system.
    is_synced
        Whether the bytes, then the name, are on the disk when this returns, also for a power loss.

    Raises
    ------
    OSError
        When that cannot be done; then what had the name still has it.
    """
    if is_synced:
        with OpenFile(partial, os.O_RDWR) as file:
            file.sync()
    if partial.is_dir() and final.is_dir():
        _replace_folder(partial, final)
    else:
        partial.replace(final)
    if is_synced:
        portable.sync_folder(final.parent)


def _replace_folder(partial: Path, final: Path) -> None:
    old = final.with_name(f".{os.getpid()}-{next(_numbers)}.old")  # a folder cannot take another's place
    final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        old.rename(final)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
