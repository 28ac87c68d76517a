"""
Kill workers while a cluster harvests; the server counts: python tests/cluster/kills.py --kills 40.

Where other programs take the whole machine for half a minute, the scheduler is silent and the head ends with 75, as
it is to; it is begun anew then, and counted under ``heads``.
"""

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
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask
from distributed import LocalCluster
from stage import CLAIMED_AT_ONCE, Finished, Head, figures, pids_at_work

from psfharvest.cluster.local import RESTART_S
from psfharvest.simulator import Fault, Settings, Simulator

STOPPED = 75
"""The exit status of a harvest that the same command continues."""


def states(folder: Path) -> set[tuple[str, ...]]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = set(db.execute("SELECT uri, state, reason, sha256 FROM cutout").fetchall())
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


class Ended(NamedTuple):
    """How a harvest has ended, after so many heads and kills."""

    status: int
    account: dict[str, Any]
    err: str
    n_heads: int
    n_kills: int


def killing(
    begin: Callable[[], Head],
    cluster: Any,
    simulator: Simulator,
    finished: Finished,
    marks: Sequence[float],
    draw: random.Random,
    until: float,
) -> Ended:
    """Harvest to the end, and kill a worker each time that the server has been asked for so many cutouts."""
    head, n_heads = begin(), 1
    killed: set[int] = set()
    try:
        while time.monotonic() < until:
            if not head.is_running():
                status, account, err = head.end(60)
                if status != STOPPED:
                    return Ended(status, account, err, n_heads, len(killed))
                head, n_heads = begin(), n_heads + 1
            finished.look()
            alive = sorted(pids_at_work(cluster) - killed)
            if alive and len(killed) < len(marks) and simulator.count("file") >= marks[len(killed)]:
                pid = draw.choice(alive)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.2)
        return Ended(-1, {}, "it took too long", n_heads, len(killed))
    finally:
        head.kill()


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cutouts", 2000), ("workers", 4), ("ceiling", 24), ("kills", 10), ("seed", 0)):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument("--part-rows", type=int, default=0)
    words.add_argument("--latency", type=float, default=0.05)
    words.add_argument("--fault", action="append", default=[])
    words.add_argument("--timeout", type=float, default=3600.0)
    given = words.parse_args()
    dask.config.set({"distributed.deploy.lost-worker-timeout": RESTART_S})
    draw = random.Random(given.seed)
    sources = max(2000, int(given.cutouts * 2.6))
    part_rows = given.part_rows or max(50, given.cutouts // (3 * given.workers))
    folder = Path(tempfile.mkdtemp(prefix="kills-")) / "stars"
    marks = sorted(draw.uniform(0.02, 0.95) * given.cutouts for _ in range(given.kills))
    began_at = time.monotonic()
    with (
        Simulator(
            Settings(
                sources=sources,
                seed=given.seed,
                latency_s=given.latency,
                record_size=1_000_000,
                record_bytes=1_000_000_000,
            )
        ) as simulator,
        LocalCluster(
            n_workers=given.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
        ) as cluster,
    ):
        simulator.faults = [Fault.parse(text) for text in given.fault]
        finished = Finished(folder, simulator)
        begin = partial(
            Head, folder, cluster.scheduler_address, simulator.url, given.cutouts, given.ceiling, part_rows
        )
        ended = killing(begin, cluster, simulator, finished, marks, draw, began_at + given.timeout)
        if not (folder / "manifest.sqlite").exists():
            sys.stderr.write(f"not merged: {ended}\n")
            return 1
        n_requests = simulator.count("file")
        found = {
            "seed": given.seed, "status": ended.status, "kills": ended.n_kills, "heads": ended.n_heads,
            "account": ended.account,
            "file_requests": n_requests, "peak_connections": simulator.peak_connections,
            "seconds": round(time.monotonic() - began_at, 1), **figures(folder),
            "parts": len(finished.plan().parts), "seen_finished": len(finished.at_s), "late": finished.n_late(),
        }  # fmt: skip
        if not given.fault:
            local_run(folder, simulator.url, given.cutouts)
            found["again"] = simulator.count("file") - n_requests
        else:
            local_run(folder.with_name("local"), simulator.url, given.cutouts)
            here, there = states(folder), states(folder.with_name("local"))
            found["except"] = [len(here - there), len(there - here)]
            found["states"] = dict(Counter(f"{state} {reason or ''}".strip() for _, state, reason, _ in here))
    sys.stdout.write(f"{json.dumps(found)}\n")
    wrong = faults_of(found, given)
    for words in wrong:
        sys.stderr.write(f"{words}\n")
    if wrong:
        sys.stderr.write(ended.err)
    return 1 if wrong else 0


def faults_of(found: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """Say which of the invariants do not hold."""
    most = given.cutouts + found["kills"] * (given.ceiling + CLAIMED_AT_ONCE)
    done = found["done"]
    must_hold = {
        f"{given.kills} workers were killed": found["kills"] == given.kills,
        "the account holds every cutout": found["rows"] == found["account"]["total"] == given.cutouts,
        "nothing is pending": found["account"]["pending"] == 0,
        "each cutout is there once, at a place of its own": done == found["uris"] == found["places"],
        "verify finds nothing broken": found["broken"] == 0,
        "verify finds no strays": found["strays"] == 0,
        f"at most {given.ceiling} connections": found["peak_connections"] <= given.ceiling,
        "a finished part gets no request more": found["late"] == 0,
        "most parts were seen finished before the merge": 2 * found["seen_finished"] > found["parts"],
    }
    if given.fault:
        must_hold["as a local run, both ways"] = found["except"] == [0, 0]
    else:
        must_hold["the same command on the merged folder, without workers, asks for nothing"] = found["again"] == 0
        must_hold["all are done"] = found["status"] == 0 and done == given.cutouts
        must_hold[f"at most {most} requests for files"] = found["file_requests"] <= most
    return [f"does not hold: {words}" for words, is_so in must_hold.items() if not is_so]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
