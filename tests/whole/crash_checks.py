"""
What must hold of a harvest folder after every death, seen from outside: no code of the package's own is used.

The manifest is copied, with its journal, and opened there: looking neither mends nor disturbs what the next life
finds. What was read whole once is read again by sample, and all of it at the end.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import sqlite3
import struct
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from standard_readers import every_file_opens

SAMPLE = 10
LOCK, MANIFEST = ".psfharvest.lock", "manifest.sqlite"


class Watch:
    """
    One harvest folder through all of its lives.

    Parameters
    ----------
    folder
        The harvest folder.
    bodies
        What the archive has for each dataURI that is asked.
    seed
        Of the sample.
    """

    def __init__(self, folder: Path, bodies: Mapping[str, bytes], seed: int) -> None:
        self.folder = folder
        self.done: dict[str, str] = {}
        """What was claimed when it was last looked at: dataURI to location."""
        self._bodies = bodies
        self._by_name = {uri.rpartition("/")[2]: body for uri, body in bodies.items()}
        self._names_seen: set[Path] = set()
        self._draw = random.Random(seed)

    def look(self, *, is_all: bool = False) -> int:
        """Check everything that must hold now, and return how many claims are new."""
        self._check_names()
        every_file_opens(self.folder, with_tar=False)
        if not (self.folder / MANIFEST).exists():
            assert not self.done, "the manifest has gone"
            return 0
        rows = self._check_account()
        done = {row["uri"]: row for row in rows if row["state"] == "done"}
        for uri, location in self.done.items():
            assert uri in done, f"{uri} was done, and is {[r['state'] for r in rows if r['uri'] == uri]}"
            assert location == done[uri]["location"], "a claim has moved"
        new = done.keys() - self.done.keys()
        old = sorted(self.done)
        again = old if is_all else self._draw.sample(old, min(SAMPLE, len(old)))
        for uri in [*new, *again]:
            self._check_bytes(done[uri])
        self.done = {uri: row["location"] for uri, row in done.items()}
        return len(new)

    def look_at_the_end(self, sink: str) -> None:
        """Check that all is done, all of it whole, and nothing left over."""
        self.look(is_all=True)
        assert self.done.keys() == self._bodies.keys()
        tops = {p.name for p in self.folder.iterdir()}
        assert tops == {MANIFEST, LOCK, "WFC3PSF" if sink == "files" else sink}, tops
        names = [p for p in self.folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, LOCK)]
        claimed = {self.folder / location.rpartition(":")[0] if ":" in location else self.folder / location
                   for location in self.done.values()}  # fmt: skip
        left_over = set(names) - claimed - ({self._last_shard()} if sink == "shards" else set())
        assert not left_over, left_over
        assert len(self._bodies) == every_file_opens(self.folder) or sink == "files"

    def _check_account(self) -> list[dict[str, Any]]:
        with manifest_copy(self.folder) as db:
            assert ["ok"] == [row[0] for row in db.execute("PRAGMA quick_check")]
            rows = [dict(row) for row in db.execute("SELECT uri, state, location, size_bytes, sha256 FROM cutout")]
            tally = Counter(
                {row["state"]: row["n"] for row in db.execute("SELECT state, n FROM tally WHERE reason = ''")}
            )
            stored = db.execute("SELECT coalesce(sum(bytes), 0) FROM tally").fetchone()[0]
            asks = [tuple(row) for row in db.execute("SELECT kind, lines, is_complete FROM ask")]
            n_parts = db.execute("SELECT coalesce(sum(n_rows), 0) FROM part").fetchone()[0]
            claim = {row["name"]: row["value"] for row in db.execute("SELECT name, value FROM meta")}
            check_catalogue(db)
        states = Counter(row["state"] for row in rows)
        assert set(states) <= {"pending", "done"}, states
        assert (len(rows), states["done"]) == (tally["asked"], tally["done"])
        assert stored == sum(row["size_bytes"] for row in rows if row["state"] == "done")
        uris = {row["uri"] for row in rows}
        assert len(uris) == len(rows), "a key twice"
        assert uris <= self._bodies.keys()
        assert len({row["location"] for row in rows}) == states["done"] + ("pending" in states), "a place twice"
        self._check_asking(asks, len(rows), n_parts)
        if claim["sink"] == "shards" and "shard" in claim:
            assert (self.folder / f"shards/{claim['shard']:06d}.tar").stat().st_size >= claim["shard_end"]
        return rows

    def _check_asking(self, asks: list[tuple[str, int, int]], n_rows: int, n_parts: int) -> None:
        """Check that what is checkpointed as asked is there, and no more."""
        if not asks:
            assert not n_rows
            return
        ((kind, n_lines, is_complete),) = asks
        assert n_rows == n_parts or kind != "query"
        assert bool(n_lines) == bool(n_rows) or kind != "file"
        assert not is_complete or n_rows == len(self._bodies)

    def _check_bytes(self, row: dict[str, Any]) -> None:
        body = stored(self.folder, row["location"], row["size_bytes"])
        assert self._bodies[row["uri"]] == body, row["location"]
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row["size_bytes"], row["sha256"])

    def _check_names(self) -> None:
        """Check that what stands under a final name is whole, claimed or not."""
        for path in {*self.folder.glob("WFC3PSF/**/*.fits")} - self._names_seen:
            assert self._by_name[path.name] == path.read_bytes(), path
            self._names_seen.add(path)

    def _last_shard(self) -> Path:
        return max(self.folder.glob("shards/*.tar"))


def check_catalogue(db: sqlite3.Connection) -> None:
    """Check that every cutout of a query has its own catalogue row, and that the stretches say the same."""
    ids: dict[int, int] = {}
    blocks = db.execute(
        "SELECT first, block.n, columns, data FROM block JOIN layout ON layout.n = block.layout ORDER BY first"
    )
    for first, n, columns, data in blocks:
        assert first == len(ids) + 1, "a gap between blocks"
        ids |= enumerate(whole_numbers(data, n, json.loads(columns).index("id")), first)
    items = db.execute("SELECT n, id, source FROM item WHERE source IS NOT NULL").fetchall()
    assert {number for _, _, number in items} == ids.keys()
    assert all(ids[number] == id_ for _, id_, number in items)
    numbers = {n: number for n, _, number in items}
    for first, n, number, per in db.execute("SELECT first, n, source, per FROM source_span"):
        assert all(numbers[first + k] == number + k // per for k in range(n))


def whole_numbers(data: bytes, n_rows: int, column: int) -> list[int]:
    """Return a column of whole numbers of a block, as its format is described."""
    length, crc = struct.unpack_from("<II", data)
    assert crc == zlib.crc32(data[8 : 8 + length])
    n, *entries = json.loads(zlib.decompress(data[8 : 8 + length]))
    start = 8 + length + sum(entry[1] for entry in entries[:column])
    kind, length, crc, marks, width, base, like, _ = entries[column]
    stream = data[start : start + length]
    assert ("int", 0, n_rows, zlib.crc32(stream)) == (kind, marks, n, crc)
    content = zlib.decompress(stream)
    found = [sum(content[place * n + row] << 8 * place for place in range(width)) for row in range(n)]
    assert like < 0
    return [base + number for number in (accumulate(found) if like == -1 else found)]


@contextmanager
def manifest_copy(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a folder's manifest, as it stands on the disk."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in (MANIFEST, f"{MANIFEST}-wal"):
            if (folder / name).exists():
                shutil.copyfile(folder / name, Path(scratch, name))
        db = sqlite3.connect(Path(scratch, MANIFEST))
        db.row_factory = sqlite3.Row
        yield db
        db.close()


def stored(folder: Path, location: str, size_bytes: int) -> bytes:
    """Return the bytes at a location, as the design describes it."""
    path, _, place = location.rpartition(":")
    if path.endswith(".tar"):
        with (folder / path).open("rb") as file:
            file.seek(int(place))
            return file.read(size_bytes)
    if not path.endswith(".parquet"):
        return (folder / location).read_bytes()
    if (folder / path).exists():
        return _parquet_bodies(folder / path, (folder / path).stat().st_mtime_ns)[int(place)]
    _, name, file_name = path.split("/")
    journal = folder / f"parquet/.journal/{file_name[:-8]}.tar"
    return _journal_bodies(journal, journal.stat().st_mtime_ns, journal.stat().st_size)[name][int(place)]


@lru_cache(8)
def _parquet_bodies(path: Path, _changed_ns: int) -> list[bytes]:
    """Put the cutouts of a file together from header and pixels."""
    table = pq.read_table(path, columns=["header", "image", "fits"])
    assert table["fits"].null_count == table.num_rows
    images = table["image"].combine_chunks().flatten().to_numpy().astype(">f4").reshape(table.num_rows, -1)
    bodies = []
    for header, image in zip(table["header"].to_pylist(), images, strict=True):
        data = np.ascontiguousarray(image).tobytes()
        bodies.append(header.encode("latin-1") + data + bytes(-len(data) % 2880))
    return bodies


@lru_cache(8)
def _journal_bodies(path: Path, _changed_ns: int, _size: int) -> dict[str, list[bytes]]:
    """Read a journal as a tar, a torn end aside; its cutouts by the side of their images."""
    bodies: dict[str, list[bytes]] = {}
    with path.open("rb") as file, tarfile.open(fileobj=file) as tar:
        body = b""
        try:
            for member in tar:
                file.seek(member.offset_data)
                content = file.read(member.size)
                if member.name.endswith(".json"):
                    side = re.search(r"&size=(\d+)&", json.loads(content)["uri"])
                    assert side is not None
                    bodies.setdefault(side[1], []).append(body)
                body = content
        except (tarfile.ReadError, json.JSONDecodeError):
            pass  # the end of a batch that was not claimed
    return bodies
