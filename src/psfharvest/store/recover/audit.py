"""
Re-read what is stored and hold it against the manifest, at the disk's speed, with memory flat.

A claim is kept when the bytes are there and have the recorded hash. Looking changes nothing; `repair` takes broken
claims back, so that the next run fetches exactly those again.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.store.folder import Settings, old_folder
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.readers.reader import Reader

AT_ONCE = 512
"""Cutouts that one thread looks at in one go: a Parquet file is decoded for a row group of them at once."""
STRAYS_MAX = 1_000_000
"""Claims held in memory to find strays, at most."""
OUTSIDE = frozenset({"manifest.sqlite", "contact-sheet.png", "MANIFEST.HTML"})
"""Files of the folder's top that hold no cutout; the last is an extracted bundle's."""


class Checked(NamedTuple):
    """One stored cutout: `problem` is empty, ``missing``, ``truncated``, ``changed`` or ``unreadable``."""

    number: int
    uri: str
    location: str
    problem: str


def audit(folder: Path, manifest: Manifest, *, workers: int | None = None) -> Iterator[Checked]:
    """
    Yield the finding on every cutout that is claimed as done, in the order of asking.

    Parameters
    ----------
    folder, manifest
        The harvest folder, and its manifest, open.
    workers
        Threads that read and hash; None is one a processor.
    """
    n = workers or os.cpu_count() or 1
    rows = manifest.cutouts("n, uri, location, size_bytes, sha256", "state = 'done'")
    with ThreadPoolExecutor(n, thread_name_prefix="psfharvest-verify") as pool:
        under_way: deque[Future[list[Checked]]] = deque()
        while chunk := list(islice(rows, AT_ONCE)):
            under_way.append(pool.submit(_check_all, folder, chunk))
            if len(under_way) > 2 * n:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()


def strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the files in the folder that no claim stands behind; nothing is looked for among millions of claims."""
    if manifest.tally().done > STRAYS_MAX:
        return
    claimed = {row[0] for row in manifest.cutouts("location", "state = 'done' AND instr(location, ':') = 0")}
    shards = {row[0].rpartition(":")[0] for row in manifest.cutouts("location", "instr(location, ':') > 0")}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_ours = name in OUTSIDE or name.startswith((".", "manifest.sqlite-", "parquet/.journal/"))
        if path.is_file() and not is_ours and name not in claimed and name not in shards:
            yield name


def repair(folder: Path, broken: Iterable[int]) -> int:
    """
    Take claims back, so that these cutouts are pending again; return how many.

    Raises
    ------
    FolderRefused
        When another process harvests the folder.
    """
    numbers = list(broken)
    with old_folder(folder, Settings()) as manifest, manifest.transaction():
        manifest.retract(numbers)
        _leave_cut_shard(folder, manifest)
    return len(numbers)


def _leave_cut_shard(folder: Path, manifest: Manifest) -> None:
    """Go on with a new shard where the open one has lost claimed bytes."""
    if manifest.setting("sink") != "shards":
        return
    shard, end = int(manifest.setting("shard", 0)), int(manifest.setting("shard_end", 0))
    path = folder / "shards" / f"{shard:06d}.tar"
    if end > (path.stat().st_size if path.exists() else 0):
        manifest.set(shard=shard + 1, shard_end=0)


def _check_all(folder: Path, rows: list[tuple[Any, ...]]) -> list[Checked]:
    with Reader(folder) as reader:
        return [
            Checked(n, uri, place, _problem(reader, place, size, digest)) for n, uri, place, size, digest in rows
        ]


def _problem(reader: Reader, location: str, size_bytes: int, sha256: str) -> str:
    try:
        body = reader.read(location, size_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError, IndexError):
        return "unreadable"
    if len(body) < size_bytes:
        return "truncated"
    return "" if hashlib.sha256(body).hexdigest() == sha256 else "changed"
