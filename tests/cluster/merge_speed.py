"""Merge parts of many rows and print time and memory: python tests/cluster/merge_speed.py."""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from psfharvest.core.catalog.partition import HIGHEST, LOWEST
from psfharvest.core.catalog.plan import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.fits import datauri
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.run.parts import part_target
from psfharvest.run.rows import query_target
from psfharvest.store.folder import Settings, new_folder
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget, folder_of

COLUMNS = ["id", *(f"column_{k}" for k in range(24))]
AT_ONCE = 5000
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


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--parts", type=int, default=20)
    given = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="merge-")) / "stars"
    make(folder, given.rows, given.parts)
    before_bytes = sum(path.stat().st_size for path in (folder / PARTS_NAME).rglob("manifest.sqlite"))
    began_at = time.monotonic()
    subprocess.run([sys.executable, "-m", "psfharvest", "merge", folder, "--quiet"], check=False)
    took_s = time.monotonic() - began_at
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = (folder / "manifest.sqlite").stat().st_size
    sys.stdout.write(
        json.dumps(
            {
                "rows": given.rows, "parts": given.parts, "s": round(took_s, 1),
                "cpu_s": round(usage.ru_utime + usage.ru_stime, 1), "rss_MB": round(usage.ru_maxrss / 1000),
                "bytes_a_row": round(size / given.rows), "bytes_a_row_in_parts": round(before_bytes / given.rows),
            }
        ) + "\n"
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
