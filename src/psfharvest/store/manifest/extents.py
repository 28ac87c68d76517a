"""How far the claims of a folder reach into its files: what must be there, without a look at any byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from psfharvest.store.manifest.manifest import Manifest

ROWS_AT_ONCE = 4096


class ClaimedFile(NamedTuple):
    """A cutout in a file of its own; `location` is relative to the folder."""

    n: int
    location: str
    size_bytes: int


def claimed_files(manifest: Manifest) -> Iterator[list[ClaimedFile]]:
    """Yield what a folder of single files has claimed, a page at a time, in the order of asking."""
    sql = "SELECT n, location, size_bytes FROM cutout WHERE state = 'done' AND n > ? ORDER BY n LIMIT ?"
    for page in manifest.pages(sql, size=ROWS_AT_ONCE):
        yield [ClaimedFile._make(row) for row in page]


def shard_ends(manifest: Manifest) -> list[tuple[int, int]]:
    """Return the number of each shard, and where its last claimed byte ends."""
    with manifest.connection() as db:
        return db.execute(
            "SELECT shard, max(place + size_bytes) FROM outcome WHERE state = 'done' AND shard IS NOT NULL "
            "GROUP BY shard ORDER BY shard"
        ).fetchall()


def parquet_sides(manifest: Manifest) -> list[tuple[int, int | None]]:
    """Return the number and the side of the images, in pixels, of each Parquet file that holds claims."""
    with manifest.connection() as db:
        return db.execute(
            "SELECT DISTINCT outcome.shard, item.size_px FROM outcome JOIN item ON item.n = outcome.n "
            "WHERE outcome.state = 'done' AND outcome.shard IS NOT NULL ORDER BY 1, 2"
        ).fetchall()


def claims_beyond(manifest: Manifest, shard: int, length_bytes: int) -> list[int]:
    """Return the numbers of the cutouts that are claimed in a shard, and not within its first bytes."""
    with manifest.connection() as db:
        rows = db.execute(
            "SELECT n FROM outcome WHERE shard = ? AND state = 'done' AND place + size_bytes > ? ORDER BY n",
            (shard, length_bytes),
        ).fetchall()
    return [n for (n,) in rows]
