"""
Files, bundles and auto side by side, at three kinds of archive.

Usage: latencies.py [N…]. The simulator answers a single cutout after one time, and a bundle after that and another
time for each of its members. Slow singles: what is known of MAST (a few tenths of a second; a bundle of 1,000 in
about 30 s). Fast singles: a mirror nearby. Slow bundles: an archive that packs them in longer than it serves files.
Six connections, as at MAST.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import anyio

from psfharvest import Archive, Limits, Query
from psfharvest.simulator import Settings, Simulator

CONNECTIONS = 6
KINDS = {"slow singles": (0.3, 0.03), "fast singles": (0.01, 0.03), "slow bundles": (0.1, 0.5)}
"""Seconds for a single, and seconds for each member of a bundle beside them."""


async def harvest(url: str, via: str, n: int) -> tuple[float, int, int]:
    """Harvest `n` cutouts in one way; return cutouts a second, requests, and what was done."""
    async with Archive(url, limits=Limits(max_connections=CONNECTIONS)) as archive:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            report = await archive.harvest(
                Query("UVIS", limit=n), Path(folder) / "d", suffixes=["flt"], sink="shards", via=via
            )
            elapsed_s = time.monotonic() - began
    return report.done / elapsed_s, report.requests, report.done


def main(*numbers: int) -> None:
    """Print the table."""
    print("| archive | cutouts | via | cutouts/s | requests | of the better way |\n|---|---:|---|---:|---:|---:|")
    for kind, (single_s, member_s) in KINDS.items():
        settings = Settings(latency_s=single_s, bundle_latency_s_per_cutout=member_s)
        with Simulator(settings) as simulator:
            for n in numbers:
                better = 0.0
                for via in ("file", "bundle", "auto"):
                    if kind == "slow bundles" and via == "bundle":
                        continue  # minutes of waiting for what is known
                    per_s, requests, done = anyio.run(harvest, simulator.url, via, n)
                    better = max(better, per_s if via != "auto" else 0.0)
                    words = f"{per_s / better:.2f}" if via == "auto" else ""
                    words += "" if done == n else f" ({done} done)"
                    print(f"| {kind} | {n:,} | {via} | {per_s:.1f} | {requests} | {words} |", flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:] or ("3000",)))
