"""
Scale: the whole path at growing sizes, and what a manifest of the largest size costs afterwards.

The law: every size is a harvest of its own, in a fresh folder, from the command line; what is read of it is what
any user may read. One run a size: cost per cutout over two decades shows its slope without medians.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import asks, machine, measure, peers, place, server
from benchmarks.measure import Terms, Usage
from benchmarks.peers import Client
from benchmarks.table import CURL, FILES, SHARDS, STORED_BYTES

CONNECTIONS = 32
PENDING = 1_000
"""Cutouts that wait in the manifest when its resume is timed."""
PEER_LARGEST = 100_000
"""Sizes beyond this are ours alone: a folder of a million files is not what is measured here."""
_TIMEOUT_S = 1_800.0


def sizes(largest: int) -> list[int]:
    """
    Return two decades of sizes, two a decade.

    Parameters
    ----------
    largest
        The last one.
    """
    return [round(largest / 10 ** (step / 2)) for step in range(4, -1, -1)]


def play(largest: int, sink: str, scratch: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """
    Harvest growing numbers of cutouts, then time status and resume on the largest manifest.

    Parameters
    ----------
    largest
        The largest number.
    sink
        How ours stores them: ``shards`` or ``files``.
    scratch
        A folder on a disk with room for all.
    tell
        Receives progress.
    """
    clients = {client.name: client for client in peers.everyone("")}
    ours, curl = clients[SHARDS if sink == "shards" else FILES], clients[CURL]
    steps = sizes(largest)
    runs = [(client, n) for n in steps for client in (ours, curl) if client is ours or n <= PEER_LARGEST]
    runs = [(client, n) for client, n in runs if client.version is not None]
    n_stored = sum(n for _, n in runs)
    cores = machine.cores()
    with (
        server.pinned(cores.server),
        server.static(cores.server, logs=True) as where,
        place.disk(STORED_BYTES * n_stored, scratch) as disk,
    ):
        body_bytes = len(server.cutout()) if where.name != server.SIMULATOR else None
        terms = Terms(where, CONNECTIONS, cores.client, body_bytes, timeout_s=_TIMEOUT_S)
        points = []
        folder = disk.root
        for client, n in runs:
            out = disk.fresh()
            points.append(_point(client, n, out, terms))
            disk.settle(out)
            tell(f"  {client.name}, {n:,}: {points[-1]}")
            if client is ours:
                folder = out / "harvest"
        facts = _facts(folder, terms, steps[-1])
        growth = [point["peak_mb"] for point in points if point["client"] == ours.name]
        facts["peak memory, largest to smallest"] = round(growth[-1] / growth[0], 2)
        return {"server": where.name, "place": disk.name, "points": points, "facts": facts}


def _point(client: Client, n: int, out: Path, terms: Terms) -> dict[str, Any]:
    run = measure.run(client, n, out, terms)
    usage = run.usage
    return {
        "client": client.name,
        "n": n,
        "wall_s": round(usage.wall_s, 2),
        "cpu_s_per_1000": round(usage.cpu_s / n * 1000, 4),
        "peak_mb": round(usage.peak_bytes / 1e6, 1),
        "manifest_bytes_per_cutout": _manifest_bytes(out / "harvest", n),
        "fault": run.fault,
    }


def _manifest_bytes(folder: Path, n: int) -> float | None:
    files = list(folder.glob("manifest.sqlite*"))
    return round(sum(path.stat().st_size for path in files) / n, 1) if files else None


def _facts(folder: Path, terms: Terms, n: int) -> dict[str, Any]:
    """Time what comes after a harvest: a look at it, the same again, and a resume of what was left pending."""
    with tempfile.TemporaryDirectory(prefix="psfharvest-desk-") as name:
        desk = Path(name)
        same, more = desk / "same", desk / "more"
        asks.write_uris(same, n)
        asks.write_uris(more, PENDING, start=n)
        nowhere = terms.server._replace(url=f"http://{server.HOST}:{_closed_port()}")
        status = [peers.own_command() or "psfharvest", "status", str(folder), "--json"]
        again = peers.harvest_command(folder, same, terms.server)
        leave = peers.harvest_command(folder, more, nowhere, "--extend", "--patience", "0")
        resume = [status[0], "resume", str(folder), "--archive", terms.server.url, "--json", "--quiet"]
        facts: dict[str, Any] = {"status s": _timed(status, desk, terms)}
        facts["the same command again s"] = _timed(again, desk, terms)
        _launched(leave, desk, terms)
        facts["pending before the resume"] = _account(desk).get("pending", measure.last_words(desk))
        _forget_arrivals(terms)
        start = time.time()
        usage = _launched(resume, desk, terms)
        first = _first_arrival(terms)
        facts["resume, first request after s"] = None if first is None else round(first - start, 3)
        facts["resume, as a whole s"] = round(usage.wall_s, 3)
        facts["pending after the resume"] = _account(desk).get("pending", measure.last_words(desk))
        return facts


def _timed(command: Sequence[str], desk: Path, terms: Terms) -> float | str:
    usage = _launched(command, desk, terms)
    return round(usage.wall_s, 3) if usage.exit_status == 0 else f"exit status {usage.exit_status}"


def _launched(command: Sequence[str], desk: Path, terms: Terms) -> Usage:
    return measure.launch(command, desk, terms.core, _TIMEOUT_S, {})


def _account(desk: Path) -> dict[str, Any]:
    """Return the JSON object that a command's output ends with, or nothing."""
    try:
        return dict(json.loads((desk / "output").read_text().splitlines()[-1]))
    except (IndexError, ValueError):
        return {}


def _forget_arrivals(terms: Terms) -> None:
    if terms.server.arrivals:
        terms.server.arrivals.write_bytes(b"")  # emptied in place: nginx appends


def _first_arrival(terms: Terms) -> float | None:
    text = terms.server.arrivals.read_text() if terms.server.arrivals else ""
    return float(text.split(maxsplit=1)[0]) if text.strip() else None


def _closed_port() -> int:
    """Return a port where nobody listens: an archive that is down."""
    with socket.socket() as probe:
        probe.bind((server.HOST, 0))
        return int(probe.getsockname()[1])
