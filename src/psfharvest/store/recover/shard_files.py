"""Shards as numbered files: claims that they lost, what cannot be read in them, their repair."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from psfharvest.filesystem import portable
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest import extents
from psfharvest.store.manifest.manifest import Claim, Manifest
from psfharvest.store.manifest.merging import SourceShard
from psfharvest.store.readers import shard_scan
from psfharvest.store.recover.candidates import numbers_in
from psfharvest.store.recover.numbered_files import (
    EVERYTHING,
    Flaws,
    Lost,
    Mended,
    is_in_the_way,
    length_of,
    move_aside,
)
from psfharvest.store.sinks import shards


class ShardFiles:
    """The shards of a folder; satisfies `NumberedFiles`."""

    def last(self, folder: Path, number: int) -> Path | None:
        """Return the shard with a number: it is appended to as long as it is the last."""
        return folder / _path(number)

    def lost(self, folder: Path, manifest: Manifest) -> Iterator[Lost]:
        """Yield the cutouts beyond the end of each shard but the last: see `presence.cut_tail`."""
        last, _ = manifest.mark
        for number, end in extents.shard_ends(manifest):
            if number >= last:
                return
            path = _path(number)
            length = length_of(folder / path)
            is_whole = length is not None and length >= end
            yield Lost([] if is_whole else extents.claims_beyond(manifest, number, length or 0), path)

    def paths(self, folder: Path, shard: int, end: int) -> Iterator[str]:
        """Yield the shards up to the last; that one also where it is gone and something was claimed in it."""
        numbers = {n for n in numbers_in(folder / shards.FOLDER) if n <= shard}
        for number in sorted(numbers | ({shard} if end else set())):
            yield _path(number)

    def flaws(self, folder: Path, path: str, shard: int, end: int) -> Flaws:
        """Return what a reader of tars cannot walk over."""
        is_last = path == _path(shard)
        if is_in_the_way(folder / path):
            return Flaws("missing", end=0)
        try:
            return find_flaws(folder / path, end if is_last else None)
        except FileNotFoundError:
            return Flaws("missing", end=0) if is_last and end else Flaws()

    def mend(
        self, folder: Path, number: int, claims: Sequence[Claim], dead: Collection[int], end: int | None
    ) -> Iterator[Mended]:
        """Overwrite dead members by fillers, and cut a shard where its rest cannot be read."""
        move_aside(folder / _path(number))
        yield _mend(folder / _path(number), claims, dead, end)

    def whole(self, source: Path, shard: SourceShard, *, is_last: bool) -> list[Path]:
        """Return a shard of a merge's source, which may be linked once nothing is appended to it."""
        path = Path(_path(shard.number))
        return [path] if not is_last and (length_of(source / path) or 0) >= shard.end else []

    def numbered(self, folder: Path) -> Iterator[Path]:
        """Yield all shards."""
        yield from (folder / shards.FOLDER).glob("[0-9]*.tar")


def find_flaws(path: Path, end: int | None) -> Flaws:
    """
    Return what a reader of tars cannot walk over; `end` is how much was claimed, None: all of it.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    """
    damage = shard_scan.find_damage(path, end)
    if not damage.is_any:
        return Flaws()
    return Flaws("unreadable", tuple(damage.gaps), damage.end if damage.is_cut else EVERYTHING)


def _path(number: int) -> str:
    return f"{shards.FOLDER}/{number:06d}.tar"


def _mend(path: Path, claims: Iterable[Claim], dead: Collection[int], end: int | None) -> Mended:
    """Mend a shard; `end` is how much of it was claimed where it is the last one."""
    try:
        flaws = find_flaws(path, end)
    except FileNotFoundError:
        return Mended({claim.n for claim in claims}, 0 if end else None)
    places = {claim.place for claim in claims if claim.n in dead}
    records = (record for record in shard_scan.scan(path) if record.is_whole and record.end <= flaws.end)
    stretches = [*flaws.stretches, *((r.begin, r.end) for r in records if r.start in places)]
    is_cut = flaws.end < EVERYTHING
    with OpenFile(path, os.O_RDWR) as file:
        for first, behind in _merged(stretches):
            file.write_at(first, [shard_scan.filler(first, behind)])
        if is_cut:
            shards.end_tar(file, flaws.end)
        file.sync()
    if is_cut and flaws.end == 0 and end is None:
        path.unlink()
        portable.sync_folder(path.parent)
    return Mended({c.n for c in claims if flaws.hit(c.place)}, flaws.end if is_cut and end is not None else None)


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches in their order, neighbours as one."""
    merged: list[tuple[int, int]] = []
    for first, end in sorted(stretches):
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged
