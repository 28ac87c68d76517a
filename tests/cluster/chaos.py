"""End head, scheduler and workers in turn, stop a worker, run two heads: python tests/cluster/chaos.py."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stage import CLAIMED_AT_ONCE, Head, Processes, figures, wait_for

from psfharvest.cluster.shares import TTL_S
from psfharvest.simulator import Fault, Settings, Simulator


class Campaign:
    """One folder, ended in several ways."""

    def __init__(self, given: argparse.Namespace, simulator: Simulator, home: Path) -> None:
        self.given, self.simulator, self.home = given, simulator, home
        self.folder = home / "stars"
        self.processes = Processes(home, given.workers)
        self.must_hold: dict[str, bool] = {}

    def head(self) -> Head:
        url, n, ceiling = self.simulator.url, self.given.cutouts, self.given.ceiling
        part_rows = max(50, n // (3 * self.given.workers))
        return Head(self.folder, str(self.processes.file), url, n, ceiling, part_rows)

    def reach(self, share: float, head: Head) -> None:
        """Wait until so many requests for cutouts have come."""
        wanted = share * self.given.cutouts
        wait_for(lambda: self.simulator.count("file") >= wanted or not head.is_running(), 600, f"{share} requested")
        if not head.is_running():
            raise RuntimeError(f"the head ended before {share} of the cutouts had been requested: {head.end(10)}")

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        head = self.head()
        self.reach(0.1, head)
        head.kill()  # its tasks go on
        head = self.head()
        self.reach(0.2, head)
        stopped = self.processes.workers[0]
        stopped.send_signal(signal.SIGSTOP)
        time.sleep(3 * TTL_S)
        found["peak while one is stopped"] = self.simulator.peak_connections
        stopped.send_signal(signal.SIGCONT)
        second = self.head()
        n = self.given.workers
        for k in range(n):
            self.reach(0.4 + 0.3 * k / n, head)
            self.processes.workers[k].kill()
            self.processes.workers.append(self.processes.add_worker(self.home))
        self.reach(0.75, head)
        self.processes.scheduler.kill()
        at = time.monotonic()
        gone = [one.end(120) for one in (head, second)]
        found["without scheduler"] = [status for status, *_ in gone]
        if any(status != 75 for status, *_ in gone):
            found["their words"] = [words[-1500:] for *_, words in gone]
        found["after s"] = round(time.monotonic() - at)
        self.processes.kill()
        self.processes = Processes(self.home, n)
        heads = [self.head(), self.head()]
        ends = [one.end(900) for one in heads]
        found["two heads"] = [(status, account.get("done")) for status, account, _ in ends]
        found |= figures(self.folder)
        found["peak_connections"] = self.simulator.peak_connections
        found["file_requests"] = self.simulator.count("file")
        if any(status for status, *_ in ends):
            found["words"] = [words[-500:] for *_, words in ends]
        cutouts, ends_of_workers = self.given.cutouts, 2 * n + 1  # killed in turn, fenced twice
        self.must_hold = {
            "both heads without a scheduler end with 75": found["without scheduler"] == [75, 75],
            "two heads end with the same account": found["two heads"] == 2 * [(0, cutouts)],
            "each cutout is there once, at a place of its own": (
                found["rows"] == found["done"] == found["uris"] == found["places"] == cutouts
            ),
            "verify finds nothing": found["broken"] == found["strays"] == 0,
            "at most the ceiling's connections": found["peak_connections"] <= self.given.ceiling,
            "few requests twice": (
                found["file_requests"] <= cutouts + ends_of_workers * (self.given.ceiling + CLAIMED_AT_ONCE)
            ),
        }
        return found

    def pause(self) -> dict[str, Any]:
        """Answer one request with 429 and Retry-After 5: when do the others come?"""
        head = self.head()
        self.reach(0.2, head)
        self.simulator.faults = [Fault("status", code=429, service="file", first=1, retry_after=5)]
        wait_for(lambda: any(seen.status == 429 for seen in self.simulator.requests[-3000:]), 60, "a 429")
        told = next(seen.at_s for seen in self.simulator.requests if seen.status == 429)
        self.simulator.faults = []
        time.sleep(12)
        after = [seen.at_s - told for seen in self.simulator.requests if seen.at_s > told]
        was_running = head.is_running()
        head.kill()
        within = [round(at, 2) for at in after if 1.5 < at < 5]
        self.must_hold = {
            "no request between 1.5 and 5 s after it": not within,
            "the harvest was under way, and went on": was_running and any(at >= 5 for at in after),
            "at most the ceiling's connections": self.simulator.peak_connections <= self.given.ceiling,
        }
        return {
            "last before the pause s": round(max((at for at in after if at <= 1.5), default=0), 2),
            "within": within,
            "first after it s": round(min((at for at in after if at >= 5), default=0), 2),
        }

    def reshare(self) -> dict[str, Any]:
        """Kill one worker for good: when do the others use the whole ceiling again?"""
        head = self.head()
        self.reach(0.2, head)
        found = {"peak before": self.simulator.peak_connections}
        self.processes.workers[0].kill()
        self.simulator.forget()
        time.sleep(2 * TTL_S)
        found["peak meanwhile"] = self.simulator.peak_connections
        self.simulator.forget()
        time.sleep(3)
        found["peak 2 ttl_s later"] = self.simulator.peak_connections
        was_running = head.is_running()
        head.kill()
        ceiling = self.given.ceiling
        self.must_hold = {
            "the harvest was under way": was_running,
            "the others use the whole ceiling": found["peak 2 ttl_s later"] == ceiling,
            "never more": max(found["peak before"], found["peak meanwhile"]) <= ceiling,
        }
        return found


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cutouts", 4000), ("workers", 4), ("ceiling", 12), ("seed", 0)):
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
    wrong = [words for words, is_so in campaign.must_hold.items() if not is_so]
    for words in wrong:
        sys.stderr.write(f"does not hold: {words}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
