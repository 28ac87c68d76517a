"""Kill workers while a cluster harvests; the server counts: python tests/cluster/kills.py --kills 40."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from distributed import LocalCluster
from stage import CLAIMED_AT_ONCE, Finished, Head, figures

from psfharvest.simulator import Fault, Settings, Simulator


def states(folder: Path) -> set[tuple[str, ...]]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = set(db.execute("SELECT uri, state, sha256 FROM cutout").fetchall())
    db.close()
    return rows


def local_run(folder: Path, url: str, n: int) -> None:
    words = [
        "harvest",
        folder,
        "UVIS",
        "--limit",
        n,
        "--suffix",
        "flc",
        "--archive",
        url,
        "--via",
        "file",
        "--quiet",
    ]
    subprocess.run([sys.executable, "-m", "psfharvest", *map(str, words)], check=False)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cutouts", 2000), ("workers", 4), ("ceiling", 24), ("kills", 10), ("seed", 0)):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument("--part-rows", type=int, default=0)
    words.add_argument("--latency", type=float, default=0.05)
    words.add_argument("--fault", action="append", default=[])
    words.add_argument("--timeout", type=float, default=3600.0)
    given = words.parse_args()
    draw = random.Random(given.seed)
    sources = max(2000, int(given.cutouts * 2.6))
    part_rows = given.part_rows or max(50, given.cutouts // (3 * given.workers))
    folder = Path(tempfile.mkdtemp(prefix="kills-")) / "stars"
    marks = sorted(draw.uniform(0.02, 0.95) * given.cutouts for _ in range(given.kills))
    n_killed = 0
    began_at = time.monotonic()
    with (
        Simulator(Settings(sources=sources, seed=given.seed, latency_s=given.latency)) as simulator,
        LocalCluster(
            n_workers=given.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
        ) as cluster,
    ):
        simulator.faults = [Fault.parse(text) for text in given.fault]
        finished = Finished(folder, simulator)
        head = Head(folder, cluster.scheduler_address, simulator.url, given.cutouts, given.ceiling, part_rows)
        while head.is_running() and time.monotonic() < began_at + given.timeout:
            finished.look()
            if n_killed < len(marks) and simulator.count("file") >= marks[n_killed]:
                pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                with suppress(ProcessLookupError, IndexError):
                    os.kill(draw.choice(pids), signal.SIGKILL)
                    n_killed += 1
            time.sleep(0.2)
        status, account, err = head.end(60)
        found = {
            "seed": given.seed, "status": status, "kills": n_killed, "account": account.get("done"),
            "file_requests": simulator.count("file"), "peak_connections": simulator.peak_connections,
            "seconds": round(time.monotonic() - began_at, 1), **figures(folder),
        }  # fmt: skip
        found["late"] = finished.n_late() if not given.fault else 0
        if given.fault:
            local_run(folder.with_name("local"), simulator.url, given.cutouts)
            found["except"] = len(states(folder) ^ states(folder.with_name("local")))
    sys.stdout.write(f"{json.dumps(found)}\n")
    most = given.cutouts + n_killed * (given.ceiling + CLAIMED_AT_ONCE)
    n = found["done"]
    is_good = (
        status in (0, 3)
        and n == found["uris"] == found["places"]
        and (bool(given.fault) or (n == given.cutouts and found["file_requests"] <= most))
        and found["broken"] == found["strays"] == found["late"] == found.get("except", 0) == 0
        and found["peak_connections"] <= given.ceiling
    )
    if not is_good:
        sys.stderr.write(err)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
