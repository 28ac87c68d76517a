"""
Harvest on two nodes that share nothing but the folder and the network: python tests/cluster/second_node.py.

The second node is another user namespace of this machine, with a ``/tmp`` and a host name of its own. One of its
workers is traced: it maps no ``-shm`` file. On the other one every ``flock`` fails. Workers of both are killed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stage import CLAIMED_AT_ONCE, Head, Processes, figures, kill_tree

from psfharvest.simulator import Settings, Simulator

NODE = ["unshare", "-Urmu", "sh", "-c", 'mount -t tmpfs none /tmp && hostname "$0" && exec "$@"']
SHIM = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int flock(int fd, int op) {
    int log = open(getenv("FLOCK_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    (void)fd; (void)op;
    if (log >= 0) { (void)!write(log, "f", 1); close(log); }
    errno = ENOLCK;
    return -1;
}
"""
"""A preload under which there are no locks; it counts how often one was asked for."""


class Nodes:
    """A scheduler, plain workers on the first node, and on the second a traced one and one without flock."""

    def __init__(self, home: Path) -> None:
        (home / "shim.c").write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", home / "shim.so", home / "shim.c"], check=True)
        self.home = home
        self.n_traces = 0
        self.processes = Processes(home, 1)
        self.processes.workers += [self.traced(), self.without_flock("node2"), self.without_flock("node3")]

    def traced(self) -> subprocess.Popen[bytes]:
        self.n_traces += 1
        trace = ["strace", "-f", "--seccomp-bpf", "-y", "-e", "trace=mmap,flock", "-o"]
        within = [*NODE, "node2", *trace, self.home / f"trace.{self.n_traces}"]
        return self.processes.add_worker("/tmp/dask", within)

    def without_flock(self, name: str) -> subprocess.Popen[bytes]:
        env = {"LD_PRELOAD": str(self.home / "shim.so"), "FLOCK_LOG": str(self.home / "flocks")}
        return self.processes.add_worker("/tmp/dask", [*NODE, name], **env)

    def kill(self, k: int) -> None:
        """Kill a worker, and start another like it."""
        kill_tree(self.processes.workers[k])
        again = [
            lambda: self.processes.add_worker(self.home),
            self.traced,
            lambda: self.without_flock("node2"),
            lambda: self.without_flock("node3"),
        ]
        self.processes.workers[k] = again[k]()

    def seen(self) -> dict[str, int]:
        """Return what the traces and the preload have counted."""
        lines = [
            line for path in self.home.glob("trace.*") for line in path.read_text(errors="replace").splitlines()
        ]
        flocks = self.home / "flocks"
        return {
            "manifests seen by strace": sum(bool(re.search(r"flock\(.*parts/", line)) for line in lines),
            "mmap": sum("mmap(" in line for line in lines),
            "mmap of -shm": sum("mmap(" in line and "-shm" in line for line in lines),
            "flocks that failed": flocks.stat().st_size if flocks.exists() else 0,
        }


def campaign(given: argparse.Namespace, home: Path) -> tuple[dict[str, Any], dict[str, bool], str]:
    draw = random.Random(given.seed)
    folder = home / "stars"
    marks = sorted(draw.uniform(0.1, 0.9) * given.cutouts for _ in range(given.kills))
    settings = Settings(sources=max(2000, int(given.cutouts * 2.6)), seed=given.seed, latency_s=given.latency)
    n_killed = 0
    with Simulator(settings) as simulator:
        nodes = Nodes(home)
        part_rows = max(50, given.cutouts // 16)
        head = Head(folder, str(nodes.processes.file), simulator.url, given.cutouts, given.ceiling, part_rows)
        began_at = time.monotonic()
        try:
            while head.is_running() and time.monotonic() < began_at + given.timeout:
                if n_killed < len(marks) and simulator.count("file") >= marks[n_killed]:
                    nodes.kill(1 + n_killed % 3)
                    n_killed += 1
                time.sleep(0.1)
            status, account, err = head.end(30)
        finally:
            head.kill()
            nodes.processes.kill()
        found = {
            "seed": given.seed, "status": status, "account": account, "kills": n_killed,
            "file_requests": simulator.count("file"), "peak_connections": simulator.peak_connections,
            "seconds": round(time.monotonic() - began_at, 1), **figures(folder), **nodes.seen(),
        }  # fmt: skip
    most = given.cutouts + n_killed * (given.ceiling + CLAIMED_AT_ONCE)
    return (
        found,
        {
            "all are done": status == 0 and account["done"] == given.cutouts,
            "each cutout is there once, at a place of its own": (
                found["rows"] == found["done"] == found["uris"] == found["places"] == given.cutouts
            ),
            "verify finds nothing": found["broken"] == found["strays"] == 0,
            "at most the ceiling's connections": found["peak_connections"] <= given.ceiling,
            f"at most {most} requests for files": found["file_requests"] <= most,
            "all kills were made": n_killed == given.kills,
            "the traced worker has harvested parts": found["manifests seen by strace"] > 0,
            "no -shm was mapped": found["mmap"] > 0 and found["mmap of -shm"] == 0,
            "workers without flock have harvested parts": found["flocks that failed"] > 0,
        },
        err,
    )


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cutouts", 3000), ("ceiling", 16), ("kills", 6), ("seed", 0)):
        words.add_argument(f"--{name}", type=int, default=default)
    words.add_argument("--latency", type=float, default=0.05)
    words.add_argument("--timeout", type=float, default=900.0)
    given = words.parse_args()
    for tool in ("unshare", "strace", "cc"):
        if shutil.which(tool) is None:
            raise SystemExit(f"this needs {tool}")
    if subprocess.run([*NODE, "node2", "true"], check=False).returncode:
        raise SystemExit("this machine gives no user namespaces of one's own")
    home = Path(tempfile.mkdtemp(prefix="second-node-", dir="/var/tmp"))
    found, must_hold, err = campaign(given, home)
    sys.stdout.write(f"{json.dumps(found)}\n")
    wrong = [words for words, is_so in must_hold.items() if not is_so]
    for words in wrong:
        sys.stderr.write(f"does not hold: {words}\n")
    if wrong:
        sys.stderr.write(err)
    else:
        shutil.rmtree(home)
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
