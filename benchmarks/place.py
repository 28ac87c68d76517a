"""
Where clients store: a fresh ext4, memory, or the plain disk.

The law: a run never pays for another. Each gets a folder of its own; what it left in the page cache is written out
before the next begins; and on a disk nothing is deleted between runs, for ext4 creates files slowly after mass
deletes. So a fresh ext4 is an image that each round makes anew, and the plain disk is cleaned at the very end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
MARGIN_BYTES = 2 * 2**30
"""Free space that is never used."""
_PROBE_BYTES = 128 * 2**20


class NoRoom(Exception):
    """Raised when a run would fill a disk or the memory."""


class Place:
    """
    A folder that hands out folders.

    Parameters
    ----------
    name
        What the report calls it.
    root
        Where the folders are made.
    keeps
        Whether outputs stay until the end.
    """

    def __init__(self, name: str, root: Path, *, keeps: bool = True) -> None:
        self.name = name
        self.root = root
        self._keeps = keeps
        self._n = 0

    def fresh(self) -> Path:
        """Return a new, empty folder."""
        self._n += 1
        path = self.root / f"{self._n:04d}"
        path.mkdir()
        return path

    def settle(self, path: Path) -> None:
        """
        Let a run's writes reach the disk, so that the next run does not pay for them.

        Parameters
        ----------
        path
            The run's folder.
        """
        if self._keeps:
            subprocess.run(["sync", "-f", str(path)], check=True)
        else:
            shutil.rmtree(path)

    def write_mb_per_s(self) -> float:
        """Return how fast a file is written here with an `fdatasync` a megabyte: what durable stores live on."""
        piece = os.urandom(2**20)
        path = self.root / "probe"
        start = time.monotonic()
        with path.open("wb", buffering=0) as file:
            for _ in range(_PROBE_BYTES // len(piece)):
                file.write(piece)
                os.fdatasync(file.fileno())
        elapsed_s = time.monotonic() - start
        path.unlink()
        return _PROBE_BYTES / 2**20 / elapsed_s


@contextmanager
def memory(size_bytes: int) -> Iterator[Place]:
    """
    Open a folder in memory; it keeps no outputs.

    Parameters
    ----------
    size_bytes
        What the largest run will store.
    """
    _require(MEMORY, size_bytes)
    with tempfile.TemporaryDirectory(prefix="psfharvest-", dir=MEMORY) as folder:
        yield Place("tmpfs", Path(folder), keeps=False)


@contextmanager
def disk(size_bytes: int, scratch: Path) -> Iterator[Place]:
    """
    Open a folder on the plain disk.

    Parameters
    ----------
    size_bytes
        What all runs will store.
    scratch
        A folder on that disk.
    """
    _require(scratch, size_bytes)
    with tempfile.TemporaryDirectory(prefix="psfharvest-", dir=scratch) as folder:
        yield Place("the plain disk", Path(folder))


@contextmanager
def fresh_ext4(size_bytes: int, n_files: int, scratch: Path) -> Iterator[Place]:
    """
    Open a folder on an ext4 made for it, an image behind a loop device; on the plain disk where that is forbidden.

    Parameters
    ----------
    size_bytes, n_files
        What all runs will store.
    scratch
        A folder that has room for the image. In memory, ext4 is as it is and no disk sets the pace.
    """
    if not _can_mount():
        with disk(size_bytes, scratch) as place:
            yield place
        return
    room = size_bytes + size_bytes // 8 + 2**29
    _require(scratch, room)
    with tempfile.TemporaryDirectory(prefix="psfharvest-", dir=scratch) as folder:
        image, mount = Path(folder, "image"), Path(folder, "mount")
        mount.mkdir()
        with image.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room)  # the disk below must not search for space during a run
        inodes = str(n_files + n_files // 8 + 10_000)
        # What mkfs puts off, the kernel would do while clients are measured.
        lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", inodes, "-E", lazy, str(image))
        _run("mount", "-o", "loop,noinit_itable", str(image), str(mount))
        try:
            yield Place(f"a fresh ext4 (an image {'in memory' if _is_memory(image) else 'on the disk'})", mount)
        finally:
            _run("umount", "--lazy", str(mount))  # also where an ended client is still letting go of it


def _can_mount() -> bool:
    has_tools = all(map(shutil.which, ("mkfs.ext4", "mount", "umount")))
    return os.geteuid() == 0 and has_tools and Path("/dev/loop-control").exists()


def _is_memory(path: Path) -> bool:
    return MEMORY in path.resolve().parents


def _require(path: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(path).free
    if size_bytes + MARGIN_BYTES > free:
        raise NoRoom(
            f"{size_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free: see --scratch and --quick"
        )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
