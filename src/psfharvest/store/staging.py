"""
Temporary files for bodies that have arrived but may not be claimed yet; swept at the start and end of each run.

They stand apart from what the sinks write, so that a shard, a Parquet file or a folder of cutouts never holds a
byte of which the proof is still to come: whatever the sinks hold after a death is safe to read and to adopt.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from psfharvest.core.errors import SinkError
from psfharvest.filesystem.failures import cannot_store

STAGING = ".staging"


class StagingFolder:
    """
    The temporary files of one run over a harvest folder.

    Parameters
    ----------
    folder
        The harvest folder; its lock is held.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / STAGING
        self._n = 0
        self.close()  # what a run that was killed left behind

    def begin(self) -> StagedBodies:
        """Return an empty temporary file; nothing is made on the disk before the first body."""
        self._n += 1
        return StagedBodies(self._folder / f"{self._n}.bodies")

    def close(self) -> None:
        """Remove all temporary files."""
        shutil.rmtree(self._folder, ignore_errors=True)


class StagedBodies:
    """
    One temporary file: bodies one after the other, read back in the order in which they were written.

    No descriptor is held between two calls, so that many bundles under way cost none.

    Parameters
    ----------
    path
        Where it is, once it has been written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0

    def append(self, bodies: Sequence[bytes]) -> None:
        """
        Write bodies behind those that are there.

        Raises
        ------
        SinkError
            When the system refuses.
        """
        try:
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("ab") as file:
                file.writelines(bodies)
        except OSError as error:
            raise cannot_store(error, str(self._path)) from error

    def read(self, sizes_bytes: Sequence[int]) -> list[bytes]:
        """
        Return the next bodies, of the given sizes.

        Raises
        ------
        SinkError
            When they cannot be read, or are gone.
        """
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._read_to)
                bodies = [file.read(size) for size in sizes_bytes]
        except OSError as error:
            raise cannot_store(error, str(self._path)) from error
        if [len(body) for body in bodies] != list(sizes_bytes):
            raise SinkError(f"{self._path} was cut while it was in use; run the same again")
        self._read_to += sum(sizes_bytes)
        return bodies

    def discard(self) -> None:
        """Remove the file, if there is one."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_store(error, str(self._path)) from error
