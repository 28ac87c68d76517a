"""End head, scheduler and workers in turn, stop a worker, run two heads: python tests/cluster/chaos.py."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stage import Head, figures, wait_for

from psfharvest.cluster.shares import TTL_S
from psfharvest.simulator import Fault, Settings, Simulator


class Processes:
    """A scheduler and workers of one thread each, without nannies: nobody restarts them."""

    def __init__(self, home: Path, n_workers: int) -> None:
        self.file = home / "scheduler.json"
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", self.file)
        wait_for(self.file.exists, 60, "the scheduler writes its file")
        self.workers = [self.add_worker(home) for _ in range(n_workers)]

    def add_worker(self, home: Path) -> Any:
        return self._start(
            "worker", "--scheduler-file", self.file, "--nthreads", "1", "--no-nanny", "--local-directory", home
        )

    def _start(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait(20)


class Campaign:
    """One folder, ended in several ways."""

    def __init__(self, given: argparse.Namespace, simulator: Simulator, home: Path) -> None:
        self.given, self.simulator, self.home = given, simulator, home
        self.folder = home / "stars"
        self.processes = Processes(home, given.workers)

    def head(self) -> Head:
        url, n, ceiling = self.simulator.url, self.given.cutouts, self.given.ceiling
        part_rows = max(50, n // (3 * self.given.workers))
        return Head(self.folder, str(self.processes.file), url, n, ceiling, part_rows)

    def reach(self, share: float, head: Head) -> None:
        """Wait until so many requests for cutouts have come."""
        wanted = share * self.given.cutouts
        wait_for(lambda: self.simulator.count("file") >= wanted or not head.is_running(), 300, f"{share} requested")

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        head = self.head()
        self.reach(0.1, head)
        head.kill()  # its tasks go on
        head = self.head()
        self.reach(0.25, head)
        stopped = self.processes.workers[0]
        stopped.send_signal(signal.SIGSTOP)
        time.sleep(3 * TTL_S)
        found["peak while one is stopped"] = self.simulator.peak_connections
        stopped.send_signal(signal.SIGCONT)
        second = self.head()
        self.reach(0.5, head)
        self.processes.workers[1].kill()
        self.processes.workers.append(self.processes.add_worker(self.home))
        self.reach(0.7, head)
        self.processes.scheduler.kill()
        at = time.monotonic()
        gone = [one.end(90) for one in (head, second)]
        found["without scheduler"] = [status for status, *_ in gone]
        if any(status != 75 for status, *_ in gone):
            found["their words"] = [words[-1500:] for *_, words in gone]
        found["after s"] = round(time.monotonic() - at)
        self.processes.kill()
        self.processes = Processes(self.home, self.given.workers)
        heads = [self.head(), self.head()]
        ends = [one.end(600) for one in heads]
        found["two heads"] = [(status, account.get("done")) for status, account, _ in ends]
        found |= figures(self.folder)
        found["peak_connections"] = self.simulator.peak_connections
        found["file_requests"] = self.simulator.count("file")
        if any(status for status, *_ in ends):
            found["words"] = [words[-500:] for *_, words in ends]
        return found

    def pause(self) -> dict[str, Any]:
        """Answer one request with 429 and Retry-After 5: when do the others come?"""
        head = self.head()
        self.reach(0.2, head)
        self.simulator.faults = [Fault("status", code=429, service="file", first=1, retry_after=5)]
        wait_for(lambda: any(seen.status == 429 for seen in self.simulator.requests[-3000:]), 60, "a 429")
        told = next(seen.at_s for seen in self.simulator.requests if seen.status == 429)
        self.simulator.faults = []
        time.sleep(7)
        after = [seen.at_s - told for seen in self.simulator.requests if seen.at_s > told]
        head.kill()
        within = [round(at, 2) for at in after if 1.5 < at < 5]
        return {
            "last before the pause s": round(max((at for at in after if at <= 1.5), default=0), 2),
            "within": within,
        }

    def reshare(self) -> dict[str, Any]:
        """Kill one worker for good: when do the others use the whole ceiling again?"""
        head = self.head()
        self.reach(0.2, head)
        self.processes.workers[0].kill()
        time.sleep(2 * TTL_S)
        found = {"peak before": self.simulator.peak_connections}
        self.simulator.forget()
        time.sleep(3)
        found["peak after 2 ttl_s"] = self.simulator.peak_connections
        head.kill()
        return found


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cutouts", 2000), ("workers", 3), ("ceiling", 12), ("seed", 0)):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument("--latency", type=float, default=0.1)
    words.add_argument("--what", choices=["run", "pause", "reshare"], default="run")
    given = words.parse_args()
    random.seed(given.seed)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    with Simulator(
        Settings(sources=int(given.cutouts * 2.6), seed=given.seed, latency_s=given.latency)
    ) as simulator:
        campaign = Campaign(given, simulator, home)
        try:
            found = getattr(campaign, given.what)()
        finally:
            campaign.processes.kill()
    sys.stdout.write(f"{json.dumps({'what': given.what, 'pid': os.getpid(), **found})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
