"""
How the rate grows with workers, and what one worker costs beside none: python tests/cluster/scaling.py.

The server's own clock counts: a rate is that between its first and its last request for a cutout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from psfharvest.simulator import Settings, Simulator

CONNECTIONS = 32
"""Of each worker."""


def harvest(simulator: Simulator, folder: Path, n: int, n_workers: int, part_rows: int) -> dict[str, Any]:
    """Harvest with so many workers, 0: in the command's own process; return what the server has counted."""
    simulator.forget()
    words = [
        "harvest", folder, "UVIS", "--limit", n, "--suffix", "flc", "--sink", "shards", "--via", "file",
        "--max-connections", CONNECTIONS * max(1, n_workers), "--archive", simulator.url, "--quiet", "--json",
    ]  # fmt: skip
    if n_workers:
        words += ["--workers", n_workers, "--part-rows", part_rows]
    began_s = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "psfharvest", *map(str, words)], check=True, capture_output=True, text=True
    )
    took_s = time.monotonic() - began_s
    account = json.loads(run.stdout.splitlines()[-1])
    at_s = [seen.at_s for seen in simulator.requests if seen.service == "file"]
    if account["done"] != n or len(at_s) != n:
        raise RuntimeError(f"{account['done']} done with {len(at_s)} requests, not {n}")
    shutil.rmtree(folder)
    return {
        "workers": n_workers, "per_second": round((n - 1) / (at_s[-1] - at_s[0]), 1),
        "peak_connections": simulator.peak_connections, "command_s": round(took_s, 1),
    }  # fmt: skip


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--cutouts", type=int, default=12_000)
    words.add_argument("--latency", type=float, default=0.15)
    words.add_argument("--part-rows", type=int, default=500)
    words.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    words.add_argument("--one", action="store_true", help="one worker and one part, beside no worker")
    given = words.parse_args()
    home = Path(tempfile.mkdtemp(prefix="scaling-"))
    settings = Settings(
        sources=int(given.cutouts * 2.6), latency_s=given.latency, record_size=10**6, record_bytes=10**9
    )
    found = []
    with Simulator(settings) as simulator:
        for n in [0, 1] if given.one else given.workers:
            part_rows = 10 * given.cutouts if given.one else given.part_rows
            found.append(harvest(simulator, home / f"{n}", given.cutouts, n, part_rows))
            sys.stdout.write(f"{json.dumps(found[-1])}\n")
            sys.stdout.flush()
    first = found[0]["per_second"]
    sys.stdout.write(f"{json.dumps({'ratios': [round(one['per_second'] / first, 3) for one in found]})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
