"""
Re-read what is stored and compare it with the manifest, at the disk's speed, with memory flat.

A claim holds when the bytes are there, have the recorded hash, and stand where the file's own readers find them.
Nothing is changed: that is `psfharvest.store.recover.mend`.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from psfharvest.core import bundle_page
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.structure import Structure

BATCH_SIZE = 512
"""Cutouts that one thread looks at in one go: a Parquet file is decoded for a row group of them at once."""
STRAYS_MAX = 1_000_000
"""Claims held in memory to find strays, at most."""
OUTSIDE = frozenset({"manifest.sqlite", "manifest.place.json", "plan.json", "contact-sheet.png", bundle_page.NAME})
"""Files of the folder's top that hold no cutout; the last is an extracted bundle's."""


class CheckedClaim(NamedTuple):
    """
    One stored cutout: `problem` is empty, ``missing``, ``truncated``, ``changed`` or ``unreadable``.

    A whole file has the number 0, no dataURI, and its path as location.
    """

    number: int
    uri: str
    location: str
    problem: str


def audit(folder: Path, manifest: Manifest, *, workers: int | None = None) -> Iterator[CheckedClaim]:
    """
    Yield the finding on every cutout that is claimed as done, in the order of asking.

    Parameters
    ----------
    folder, manifest
        The harvest folder, and its manifest, open.
    workers
        Threads that read and hash; None is one a processor.

    Yields
    ------
    Checked
        Of every claim, then of every shard and Parquet file that its own readers cannot read throughout; these
        have the number 0.
    """
    n = workers or os.cpu_count() or 1
    structure = Structure(folder, manifest.sink, *manifest.mark)
    rows = manifest.cutouts("n, uri, location, size_bytes, sha256", "state = 'done'")
    with ThreadPoolExecutor(n, thread_name_prefix="psfharvest-verify") as pool:
        under_way: deque[Future[list[CheckedClaim]]] = deque()
        while chunk := list(islice(rows, BATCH_SIZE)):
            under_way.append(pool.submit(_check_all, folder, structure, chunk))
            if len(under_way) > 2 * n:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    for path, problem in structure.flawed():
        yield CheckedClaim(0, "", path, problem)


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


def _check_all(folder: Path, structure: Structure, rows: list[tuple[Any, ...]]) -> list[CheckedClaim]:
    with Reader(folder) as reader:
        return [
            CheckedClaim(n, uri, location, _problem(reader, structure, location, size, digest))
            for n, uri, location, size, digest in rows
        ]


def _problem(reader: Reader, structure: Structure, location: str, size_bytes: int, sha256: str) -> str:
    try:
        body = reader.read(location, size_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError, IndexError):
        return "unreadable"
    if len(body) < size_bytes:
        return "truncated"
    if hashlib.sha256(body).hexdigest() != sha256:
        return "changed"
    path, _, place = location.rpartition(":")
    return "unreadable" if path and structure.flaws(path).hit(int(place)) else ""
