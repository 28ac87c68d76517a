"""
Merge two harvest folders of N cutouts together. Usage: merging.py [N], from the project's folder.

What is measured is the manifest: rows of 18 columns, half of them in each folder, in shards that are linked, not
read; so the folders' shards are holes of the right length. Prints time, CPU and peak memory of the command.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reading import COLUMNS, row, uri
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.store import folder as folders
from psfharvest.store.folder import Settings
from psfharvest.store.manifest.manifest import Stored

BODY = bytes(20_160)
MEMBER_BYTES = 23_040
"""What a cutout takes in a shard: its bytes and its row, each with a header."""
PER_SHARD = 40_000
AT_ONCE = 4096


def make(folder: Path, first: int, end: int) -> None:
    """Make a harvest folder of the cutouts from `first` to before `end`."""
    (folder / "shards").mkdir(parents=True)
    with folders.new_folder(folder, Settings(sink="shards")) as manifest:
        n_done = 0
        for start in range(first, end, AT_ONCE):
            rows = [row(k) for k in range(start, min(start + AT_ONCE, end))]
            with manifest.transaction():
                sources = manifest.sources("UVIS", COLUMNS, rows)
                items = manifest.add([WantedURI(uri(r), number) for r, number in zip(rows, sources, strict=True)])
                stored = []
                for item in items:
                    shard, place = divmod(n_done, PER_SHARD)
                    outcome = Outcome(item, State.DONE, 1, BODY, item.number.to_bytes(32))
                    stored.append(Stored(outcome, shard, MEMBER_BYTES * place + 512))
                    n_done += 1
                manifest.record(stored)
                manifest.set(shard=shard + 1, shard_end=0)  # the last one is closed, too: else it would be copied
        for number in range(shard + 1):
            n = PER_SHARD if number < shard else place + 1
            with (folder / f"shards/{number:06d}.tar").open("wb") as file:
                file.truncate(MEMBER_BYTES * n + 1024)


def merge(*folders_and_target: Path) -> dict[str, float]:
    """Run the command, and return its account with what it took."""
    out = folders_and_target[-1].with_suffix(".json")
    command = [sys.executable, "-m", "psfharvest", "merge", *map(str, folders_and_target), "--json", "--quiet"]
    began_s = time.monotonic()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - began_s
    if status:
        raise SystemExit(f"merge ended with {os.waitstatus_to_exitcode(status)}")
    account = json.loads(out.read_text())
    cpu_s = usage.ru_utime + usage.ru_stime
    return {**account, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1024}


def main(n: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="psfharvest-merging-") as name:
        home = Path(name)
        make(home / "a", 0, n // 2)
        make(home / "b", n // 2, n)
        took = merge(home / "a", home / "b", home / "c")
    if took["done"] != n:
        raise SystemExit(f"{took['done']} of {n} cutouts are there")
    print("| rows | s | CPU s | peak MB |\n|---:|---:|---:|---:|")
    print(f"| {n:,} | {took['wall_s']:.1f} | {took['cpu_s']:.1f} | {took['peak_mb']:.0f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
