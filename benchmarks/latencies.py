"""
Files, bundles and auto side by side, on an archive with the real one's latencies.

Usage: latencies.py [N]. The simulator answers a single cutout after 0.3 s, and a bundle after 0.03 s a member: that
is what is known of MAST (a few tenths of a second; a bundle of 1,000 in about 30 s). Six connections, as there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import anyio

from psfharvest import Archive, Limits, Query
from psfharvest.simulator import Settings, Simulator

SINGLE_S, MEMBER_S, CONNECTIONS = 0.3, 0.03, 6


async def harvest(url: str, via: str, n: int) -> str:
    """
    Harvest `n` cutouts in one way.

    Returns
    -------
    str
        A row of the table.
    """
    async with Archive(url, limits=Limits(max_connections=CONNECTIONS)) as archive:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            report = await archive.harvest(
                Query("UVIS", limit=n), Path(folder) / "d", suffixes=["flt"], sink="shards", via=via
            )
            elapsed_s = time.monotonic() - began
    return f"| {via} | {report.done / elapsed_s:.1f} | {report.requests} | {report.done} of {n} |"


def main(n: int) -> None:
    """Print the table."""
    settings = Settings(latency_s=SINGLE_S, bundle_latency_s_per_cutout=MEMBER_S)
    print("| via | cutouts/s | requests | done |\n|---|---:|---:|---:|")
    with Simulator(settings) as simulator:
        for via in ("file", "bundle", "auto"):
            print(anyio.run(harvest, simulator.url, via, n), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
