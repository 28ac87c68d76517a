"""
Soak: one long harvest from a server of which one answer in a hundred is bad, watched from outside.

The law: what must be exact is counted on both sides. The server's log counts requests, the list says which sources
are missing, and the kernel says what memory and how many open files the process had, every second of the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import asks, machine, peers, place, server
from benchmarks.table import STORED_BYTES

LOOK_EVERY_S = 1.0
WARM_UP = 0.1
"""The part of the run after which memory must not grow any more."""


class Look(NamedTuple):
    """What the kernel said of the process."""

    at_s: float
    rss_mb: float
    n_files: int


def play(n: int, sink: str, scratch: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """
    Harvest `n` cutouts under trouble, and hold the account against what the server and the list say.

    Parameters
    ----------
    n
        How many cutouts.
    sink
        How they are stored: ``shards``, ``files`` or ``parquet``.
    scratch
        A folder on a disk with room for all.
    tell
        Receives progress.
    """
    cores = machine.cores()
    with server.troubled(cores.server) as where, place.disk(STORED_BYTES * n, scratch) as disk:
        folder, uris = disk.root / "harvest", disk.root / "uris.txt"
        asks.write_uris(uris, n)
        with uris.open() as lines:
            n_missing = sum("777_F606W" in line for line in lines)
        command = peers.harvest_command(folder, uris, where, "--sink", sink)
        tell(f"  {n:,} cutouts, {n_missing:,} of them missing")
        with server.pinned(cores.client):
            account, looks = _watched(command, tell)
            tell("  verifying")
            verified = _verified(folder)
        n_logged = sum(1 for _ in where.arrivals.open()) if where.arrivals else 0
        return {
            "server": where.name,
            "n": n,
            "sink": sink,
            "account": account,
            "verified": verified,
            "looks": [look._asdict() for look in looks],
            "facts": _facts(n, n_missing, n_logged, account, verified, looks),
        }


def _facts(
    n: int,
    n_missing: int,
    n_logged: int,
    account: dict[str, Any],
    verified: dict[str, Any],
    looks: list[Look],
) -> dict[str, Any]:
    n_bad = sum(account["retried"].values())
    warm = looks[int(WARM_UP * len(looks)) :] or looks
    half = len(warm) // 2
    first, last = (max(look.rss_mb for look in part) for part in (warm[: half or 1], warm[half:] or warm))
    return {
        "the account adds up": n == account["total"] == sum(account[k] for k in ("done", "missing", "failed")),
        "missing, as the list says": account["missing"] == n_missing,
        "failed": account["failed"],
        "bad answers overcome": n_bad,
        "requests, as the server's log says": (account["requests"], n_logged),
        "verified": f"{verified['ok']:,} of {verified['checked']:,}, {verified['broken']} broken",
        "peak memory MB, first half and second": (round(first, 1), round(last, 1)),
        "open files, least and most": (min(x.n_files for x in warm), max(x.n_files for x in warm)),
        "elapsed s": round(account["elapsed_s"], 1),
        "cutouts/s": round(n / account["elapsed_s"]),
    }


def _watched(command: list[str], tell: Callable[[str], None]) -> tuple[dict[str, Any], list[Look]]:
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, text=True) as process,
    ):
        looks = list(_looks(process, tell))
        out.seek(0)
        return json.loads(out.read().splitlines()[-1]), looks


def _looks(process: subprocess.Popen[str], tell: Callable[[str], None]) -> Iterator[Look]:
    start = time.monotonic()
    reported_at_s = 0.0
    while process.poll() is None:
        try:
            fields = Path(f"/proc/{process.pid}/statm").read_text().split()
            n_files = sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())
        except OSError:
            break  # it has just ended
        at_s = time.monotonic() - start
        look = Look(round(at_s, 1), int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, n_files)
        yield look
        if at_s - reported_at_s > 30:
            reported_at_s = at_s
            tell(f"  {look.at_s:.0f} s: {look.rss_mb:.0f} MB, {look.n_files} open files")
        time.sleep(LOOK_EVERY_S)
    process.wait()


def _verified(folder: Path) -> dict[str, Any]:
    command = [peers.own_command() or "psfharvest", "verify", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout.splitlines()[-1]))
