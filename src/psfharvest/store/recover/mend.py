"""
Repair of a folder: broken claims are taken back, and shards and Parquet files made readable by their own readers.

Files first, then claims: a death in between leaves broken claims, which the same call finds and takes back. What is
whole stays where it is. Damaged bytes within a shard are overwritten by a filler, a tar member of its own; at its
end they are cut off. Damaged rows of a Parquet file become null. A journal is cut at its first damaged record: the
place of those behind it is not certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.sink_kinds import is_synced, numbered_files


def repair(folder: Path, broken: Iterable[int], paths: Iterable[str] = ()) -> int:
    """
    Take claims back, so that these cutouts are pending again, and mend their files; return how many.

    Parameters
    ----------
    folder
        The harvest folder.
    broken
        Numbers of cutouts.
    paths
        Shards and Parquet files that are damaged themselves, relative to the folder.

    Raises
    ------
    FolderRefused
        When another process harvests the folder.
    SinkError
        When a file cannot be mended.
    """
    with held(folder):
        return repair_held(folder, broken, paths)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep harvests off a folder that is to be repaired; raises as `repair` does."""
    places.existing(folder)
    places.refuse_moved(folder)
    with folder_lock(folder):
        yield


def repair_held(folder: Path, broken: Iterable[int], paths: Iterable[str]) -> int:
    """Do what `repair` does, within `held`."""
    with Manifest.read(folder) as manifest:
        durable = is_synced(manifest.sink)
    with Manifest.open(folder, durable=durable) as manifest:
        return len(take_back(folder, manifest, broken, paths))


def take_back(folder: Path, manifest: Manifest, broken: Iterable[int], paths: Iterable[str] = ()) -> list[int]:
    """
    Do the same in a folder that this process holds; return the numbers of what is pending now.

    A sink that is open must not be writing into one of the files.

    Raises
    ------
    SinkError
        When a file cannot be mended.
    """
    dead = set(broken)
    mark, lost = _mend_files(folder, manifest, dead, paths)
    numbers = sorted(dead | lost)
    with manifest.transaction():
        manifest.retract(numbers)
        if mark is not None:
            manifest.set(shard=mark[0], shard_end=mark[1])
    return numbers


def _mend_files(
    folder: Path, manifest: Manifest, dead: set[int], paths: Iterable[str]
) -> tuple[tuple[int, int] | None, set[int]]:
    """Mend what holds dead cutouts; return the sink's new mark, if there is one, and what else was lost."""
    shard, end = manifest.mark
    numbered = numbered_files(manifest.sink)
    mark: tuple[int, int] | None = None
    lost: set[int] = set()
    if numbered is None:
        return mark, lost
    for number in sorted(manifest.shards_of(dead) | {_number_of(path) for path in paths}):
        claims = manifest.claims_in(number)
        last_end = end if number == shard else None
        try:
            for mended in numbered.mend(folder, number, claims, dead, last_end):
                lost |= mended.lost
                mark = mark if mended.end is None else (number, mended.end)
        except OSError as error:
            raise cannot_store(error, f"{error.filename or folder}") from error
    return mark, lost


def _number_of(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])
