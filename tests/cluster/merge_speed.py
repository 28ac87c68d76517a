"""
Merge parts of many rows: time and memory, or kills: python tests/cluster/merge_speed.py FOLDER [--kills 20].

The first call makes FOLDER; each later one merges copies of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from psfharvest.core.catalog.partition import HIGHEST, LOWEST
from psfharvest.core.catalog.plan import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.fits import datauri
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.run.parts import part_target
from psfharvest.run.rows import query_target
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import Settings, new_folder
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget, folder_of

COLUMNS = ["id", *(f"column_{k}" for k in range(24))]
AT_ONCE = 5000
REMOVAL_S = 0.06
"""Kills after the commit point come within so long: about what the removal of the parts takes."""
DIGEST = hashlib.sha256(b"").digest()


def make(folder: Path, n_rows: int, n_parts: int) -> None:
    """Make a plan and its parts: their manifests alone claim cutouts of one shard each."""
    query = Query("UVIS")
    parent = query_target(query, ["flc"], n_sources=n_rows, unsat_size_px=51, sat_size_px=101)
    each = n_rows // n_parts
    edges = [LOWEST, *(n * each for n in range(1, n_parts)), HIGHEST + 1]
    parts = [PlannedPart(0, low, high - 1, each) for low, high in zip(edges, edges[1:], strict=False)]
    (folder / PARTS_NAME).mkdir(parents=True)
    Plan([PlannedTarget("query", parent.identity, parent.spec)], "shards", parts).write(folder)
    for n, part in enumerate(parts):
        home = folder_of(folder, n)
        with new_folder(home, Settings("shards", is_part=True)) as manifest:
            (target,) = targets.find_or_add(
                manifest, [part_target(parent, query, Part(part.low, part.high, each))], extend=False
            )
            (home / "shards").mkdir()
            with (home / "shards/000000.tar").open("wb") as shard:
                shard.truncate(each * 20_000 + 10_240)
            for start in range(n * each, (n + 1) * each, AT_ONCE):
                ids = range(start, min(start + AT_ONCE, (n + 1) * each))
                fill(manifest, ids, n * each)
            with manifest.transaction():
                manifest.set(shard=0, shard_end=each * 20_000)
            targets.complete(manifest, target)


def fill(manifest, ids: range, first: int) -> None:
    uris = [
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ib{k % 997:03d}{k % 89:02d}aq[{1 + k % 2}]"
        f"&size=51&x={k % 4096}.123&y={k % 2051}.456&format=fits&id={k}&filter=F606W&suffix=flc"
        for k in ids
    ]
    with manifest.transaction():
        rows = [[k, *(k * 1.001 + c for c in range(24))] for k in ids]
        numbers = manifest.sources("UVIS", COLUMNS, rows)
        items = manifest.add(
            [WantedURI(uri, n, datauri.parts_of(uri)) for uri, n in zip(uris, numbers, strict=True)]
        )
    with manifest.transaction():
        manifest.record(
            [
                Stored(Outcome(item, State.DONE, 1, b"", DIGEST), 0, (k - first) * 20_000)
                for item, k in zip(items, ids, strict=True)
            ]
        )


def merged(folder: Path, kill_after_s: float | None = None, *, is_after_commit: bool = False) -> bool:
    """Run the command; return whether it has ended by itself, which it must do well."""
    process = subprocess.Popen([sys.executable, "-m", "psfharvest", "merge", folder, "--quiet"])
    while is_after_commit and process.poll() is None and not (folder / "manifest.sqlite").exists():
        time.sleep(0.0005)
    try:
        status = process.wait(kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    if status:
        raise RuntimeError(f"merge has ended with {status}")
    return True


def measure(folder: Path) -> dict[str, Any]:
    """Merge a copy of the parts: time and memory."""
    before_bytes = sum(path.stat().st_size for path in (folder / PARTS_NAME).rglob("manifest.sqlite"))
    target = copy(folder)
    began_at = time.monotonic()
    merged(target)
    took_s = time.monotonic() - began_at
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    n = count(target)
    size = (target / "manifest.sqlite").stat().st_size
    shutil.rmtree(target)
    return {
        "rows": n, "s": round(took_s, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "rss_MB": round(usage.ru_maxrss * 1024 / 1e6), "bytes_a_row": round(size / n),
        "bytes_a_row_in_parts": round(before_bytes / n),
    }  # fmt: skip


def kill(folder: Path, n_kills: int, n_after: int, seed: int, span_s: float) -> dict[str, Any]:
    """
    Kill merges at random times, the last `n_after` after the commit point, while the parts are removed.

    After each kill the folder is unmerged and whole, or merged and whole; the same command then removes the parts.
    """
    draw = random.Random(seed)
    n_rows = in_parts.summed(folder).done
    found = Counter()
    target, n_killed = copy(folder), 0
    while n_killed < n_kills:
        is_after = n_killed >= n_kills - n_after
        wait_s = draw.uniform(0.0, REMOVAL_S) if is_after else draw.uniform(0.2, span_s)
        if merged(target, wait_s, is_after_commit=is_after):
            found["ended"] += 1
        else:
            n_killed += 1
        is_merged = (target / "manifest.sqlite").exists()
        n = count(target) if is_merged else in_parts.summed(target).done
        if n != n_rows:
            raise RuntimeError(f"{n} of {n_rows} rows after {n_killed} kills in {target}")
        words = f"merged, {len(list(target.glob('parts/*')))} parts left" if is_merged else "unmerged"
        found[words] += 1
        if is_merged:
            end(target, n_rows)
            target = copy(folder)
    end(target, n_rows)
    return {"rows": n_rows, "kills": n_killed, **found}


def end(target: Path, n_rows: int) -> None:
    """Run the same command again: merged as a whole, without parts."""
    merged(target)
    if count(target) != n_rows or (target / PARTS_NAME).exists():
        raise RuntimeError(f"{target} is not merged as a whole")
    shutil.rmtree(target)


def copy(folder: Path) -> Path:
    """Copy parts: their shards are sparse files without bytes, which get second names."""
    target = folder.with_name(f"copy-{uuid.uuid4().hex[:8]}")
    for path in folder.rglob("*"):
        place = target / path.relative_to(folder)
        if path.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            with place.open("wb") as file:
                file.truncate(path.stat().st_size)
        else:
            shutil.copyfile(path, place)
    return target


def count(folder: Path) -> int:
    """Return the rows of a merged folder, each dataURI and each place once."""
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        columns = "count(*), count(DISTINCT uri), count(DISTINCT location)"
        n, uris, places = db.execute(f"SELECT {columns} FROM cutout WHERE state = 'done'").fetchone()
    db.close()
    if not n == uris == places:
        raise RuntimeError(f"{n} rows, {uris} dataURIs, {places} places in {folder}")
    return n


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path, help="made with its parts when absent, which then is all that is done")
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--parts", type=int, default=20)
    words.add_argument("--kills", type=int, default=0)
    words.add_argument("--after", type=int, default=0, metavar="N", help="so many of the kills: after the commit")
    words.add_argument("--span", type=float, default=3.0, metavar="S", help="a merge is killed within so long")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    if not given.folder.exists():
        make(given.folder, given.rows, given.parts)
        return 0
    found = (
        kill(given.folder, given.kills, given.after, given.seed, given.span)
        if given.kills
        else measure(given.folder)
    )
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
