"""
What is measured of queries and of starting up: seconds that people wait.

The law: the simulator counts, so "exact" means that the rows in a file are those in its catalogue.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, peers, server
from psfharvest.simulator import Settings, Simulator

UVIS_SHARE = 0.4
"""Of the simulator's sources."""
STARTS = 7
TURNS = 3
ONE_ANSWER = 49_000
"""Sources of a query that the archive answers in one piece, of 50,000 rows at most."""
_TIMEOUT_S = 900.0


def startup() -> dict[str, Any]:
    """Return the seconds that ``psfharvest --help`` takes, beside an interpreter that does nothing."""
    with tempfile.TemporaryDirectory(prefix="psfharvest-desk-") as name:
        desk, core = Path(name), machine.cores().client
        commands = {
            "psfharvest --help, s": [peers.own_command() or "psfharvest", "--help"],
            "python -c pass, s": [sys.executable, "-c", "pass"],
        }
        taken: dict[str, list[float]] = {title: [] for title in commands}
        for _ in range(STARTS):
            for title, command in commands.items():
                taken[title].append(measure.launch(command, desk, core, _TIMEOUT_S, {}).wall_s)
        return {title: round(statistics.median(times), 3) for title, times in taken.items()}


def play(n_sources: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """
    Query all UVIS sources of a large catalogue, then start to harvest them.

    Parameters
    ----------
    n_sources
        How many UVIS sources the simulator shall have, about.
    tell
        Receives progress.
    """
    cores = machine.cores()
    settings = Settings(sources=round(n_sources / UVIS_SHARE), static=True, max_result_rows=n_sources * 2)
    with server.pinned(cores.server), Simulator(settings) as simulator:
        tell(f"a query: the simulator, {n_sources:,} UVIS sources")
        with tempfile.TemporaryDirectory(prefix="psfharvest-desk-") as name:
            return _rows(simulator, Path(name), cores.client) | _lead(simulator, Path(name), cores.client)


def beside_astroquery(python: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """
    Write one whole answer of the archive as CSV, by turns with this program and with astroquery.

    Parameters
    ----------
    python
        The interpreter that has astroquery.
    tell
        Receives progress.
    """
    if machine.first_line(python, "-c", "import importlib.metadata as m; print(m.version('astroquery'))") is None:
        return {"astroquery": "not installed"}
    cores, found = machine.cores(), {}
    settings = Settings(sources=round(ONE_ANSWER / UVIS_SHARE), static=True)
    with server.pinned(cores.server), Simulator(settings) as simulator, tempfile.TemporaryDirectory() as name:
        desk = Path(name)
        script = str(peers.CLIENTS / "with_astroquery.py")
        ours, theirs = desk / "ours.csv", desk / "theirs.csv"
        at = ["--archive", simulator.url]
        commands = {
            "psfharvest query": [peers.own_command() or "psfharvest", "query", "UVIS", "-o", str(ours), *at],
            "astroquery": [python, "-I", script, simulator.url, str(theirs)],
        }
        runs: dict[str, list[measure.Usage]] = {title: [] for title in commands}
        for turn in range(TURNS):
            tell(f"a query beside astroquery's: turn {turn + 1}")
            for title, command in commands.items():
                runs[title].append(measure.launch(command, desk, cores.client, _TIMEOUT_S, {}))
        for title, path in (("psfharvest query", ours), ("astroquery", theirs)):
            with path.open() as file:
                found[f"{title}: rows"] = sum(1 for line in file if line[:1].isdigit())
            for what, values in (("s", [u.wall_s for u in runs[title]]), ("CPU s", [u.cpu_s for u in runs[title]])):
                words = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                found[f"{title}: {what}"] = words
            found[f"{title}: peak MB"] = round(statistics.median(u.peak_bytes for u in runs[title]) / 1e6)
    return found


def _rows(simulator: Simulator, desk: Path, core: int | None) -> dict[str, Any]:
    """Write the whole table."""
    command, at = peers.own_command() or "psfharvest", ["--archive", simulator.url]
    measure.launch([command, "count", "UVIS", *at], desk, core, _TIMEOUT_S, {})
    expected = int((desk / "output").read_text().split()[0].replace(",", ""))
    table = desk / "sources.csv"
    usage = measure.launch([command, "query", "UVIS", "-o", str(table), *at], desk, core, _TIMEOUT_S, {})
    with table.open() as file:
        n_rows = sum(1 for line in file if line[:1].isdigit())
    return {
        "sources": expected,
        "rows in the file": n_rows,
        "rows are exact": n_rows == expected,
        "the table as .csv, s": round(usage.wall_s, 2),
        "the table as .csv, peak MB": round(usage.peak_bytes / 1e6, 1),
    }


def _lead(simulator: Simulator, desk: Path, core: int | None) -> dict[str, Any]:
    """Harvest until the first cutouts were asked for, and see how far the planning was."""
    simulator.forget()
    command = [peers.own_command() or "psfharvest", "harvest", str(desk / "stars"), "UVIS", "--suffix", "flt"]
    words = [*command, "--archive", simulator.url, "--json", "--quiet"]
    start = time.monotonic()
    with measure.background(words, desk, core, _TIMEOUT_S, {}):
        while not simulator.count("file") and time.monotonic() < start + _TIMEOUT_S:
            time.sleep(0.02)
        waited_s = time.monotonic() - start
        seen = [request.service for request in simulator.requests]
    n_before = seen.index("file") if "file" in seen else None
    return {"first cutout requested after, s": round(waited_s, 2), "queries before it": n_before}
