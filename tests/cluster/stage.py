"""A simulator, a cluster and a head, each in processes of its own, for campaigns that end some of them."""

from __future__ import annotations

import bisect
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from psfharvest.simulator import Simulator
from psfharvest.store import parts as in_parts
from psfharvest.store.parts import Plan
from psfharvest.store.recover.verification import verify

CLAIMED_AT_ONCE = 512
LOOK_EVERY_S = 1.0


class Head:
    """A ``psfharvest harvest`` over a cluster."""

    def __init__(self, folder: Path, address: str, url: str, n: int, ceiling: int, part_rows: int) -> None:
        words = [
            "harvest", folder, "UVIS", "--limit", n, "--suffix", "flc", "--dask", address, "--via", "file",
            "--part-rows", part_rows, "--max-connections", ceiling, "--archive", url, "--json", "--quiet",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "psfharvest", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self, timeout_s: float) -> tuple[int, dict[str, Any], str]:
        out, err = self.process.communicate(timeout=timeout_s)
        lines = out.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else {}, err

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=20)


class Processes:
    """A scheduler and workers of one thread each, without nannies: nobody restarts them."""

    def __init__(self, home: Path, n_workers: int) -> None:
        self.file = home / "scheduler.json"
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", self.file)
        wait_for(self.file.exists, 60, "the scheduler writes its file")
        self.workers = [self.add_worker(home) for _ in range(n_workers)]

    def add_worker(self, local: object, within: Sequence[object] = (), **env: str) -> subprocess.Popen[bytes]:
        """Start one whose own files are in a folder `local`, within another command."""
        words = [
            "worker",
            "--scheduler-file",
            self.file,
            "--nthreads",
            "1",
            "--no-nanny",
            "--local-directory",
            local,
        ]
        return self._start(*words, within=within, **env)

    def _start(self, *words: object, within: Sequence[object] = (), **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*map(str, within), sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **env},
        )

    def kill(self) -> None:
        for process in (self.scheduler, *self.workers):
            kill_tree(process)


def pids_at_work(cluster: Any) -> set[int]:
    """Return the workers that a local cluster has; Dask gives up one that is killed before it has registered."""
    known = set(cluster.scheduler.workers)
    return {nanny.pid for nanny in cluster.workers.values() if nanny.pid and nanny.worker_address in known}


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it has started, the youngest first."""
    for pid in reversed(descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(20)


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, the oldest first."""
    found = [pid]
    with suppress(OSError):
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            for child in (tasks / "children").read_text().split():
                found += descendants(int(child))
    return found


class Finished:
    """Notes when each part was first seen finished, by the simulator's clock."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self._folder = folder
        self._simulator = simulator
        self._looked_at = 0.0
        self.at_s: dict[int, float] = {}

    def plan(self) -> Plan:
        plan = in_parts.read_plan(self._folder)
        assert plan is not None
        return plan

    def look(self) -> None:
        if time.monotonic() < self._looked_at + LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        plan = in_parts.read_plan(self._folder)
        if plan is None or (self._folder / "manifest.sqlite").exists():
            return
        for n in range(len(plan.parts)):
            with suppress(Exception):
                if n not in self.at_s and in_parts.is_finished(in_parts.folder_of(self._folder, n)):
                    requests = self._simulator.requests
                    self.at_s[n] = requests[-1].at_s if requests else 0.0

    def n_late(self) -> int:
        """Return how many requests came for parts that had been finished before."""
        lows = [part.low for part in self.plan().parts]
        with sqlite3.connect(self._folder / "manifest.sqlite") as db:
            rows = db.execute("SELECT c.uri, i.id FROM cutout c JOIN item i ON i.n = c.n")
            part_of = {uri: bisect.bisect(lows, number) - 1 for uri, number in rows}
        db.close()
        late = 0
        for seen in self._simulator.requests:
            for uri in seen.uris if seen.service == "file" else ():
                late += seen.at_s > self.at_s.get(part_of.get(uri, -1), float("inf"))
        return late


def figures(folder: Path) -> dict[str, int]:
    """Count a merged folder's cutouts, dataURIs and places, and verify it."""
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        n, uris, places = db.execute(
            "SELECT count(*), count(DISTINCT uri), count(DISTINCT location) FROM cutout WHERE state = 'done'"
        ).fetchone()
        (rows,) = db.execute("SELECT count(*) FROM cutout").fetchone()
    db.close()
    checked = verify(folder)
    return {
        "rows": rows,
        "done": n,
        "uris": uris,
        "places": places,
        "broken": checked.broken,
        "strays": checked.strays,
    }


def wait_for(condition: Any, timeout_s: float, what: str) -> None:
    """Wait until a condition holds; raise after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.05)
