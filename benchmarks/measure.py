"""
Measuring: clients take turns, round after round, and what counts is the cost of more cutouts.

The law: in a round each client runs with a small and with a large number of cutouts, and its figures are the
difference of the two divided by the difference of the numbers, so nobody's start-up counts. Reported are medians
over the rounds; the order of the clients turns from round to round.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import Client, Job
from benchmarks.place import Place
from benchmarks.server import Server

_LAUNCHER = Path(__file__).with_name("launch.py")
_CLEAN = ("_proxy", "_PROXY")
_OURS = "PSFHARVEST_"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    exit_status: int
    is_late: bool
    """It was ended because it took too long."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a client."""

    n: int
    stored: int
    usage: Usage
    server_cpu_s: float
    words: str = ""
    """The last that it said, where it failed."""


@dataclass(slots=True)
class Series:
    """All runs of one client, in pairs of a small and a large one."""

    client: Client
    pairs: list[tuple[Run, Run]] = field(default_factory=list)

    @property
    def per_s(self) -> float | None:
        """Cutouts a second."""
        return _median(
            _ratio(large.n - small.n, large.usage.wall_s - small.usage.wall_s) for small, large in self.pairs
        )

    @property
    def per_cpu_s(self) -> float | None:
        """Cutouts per second of processor time: the rate of one full core."""
        return _median(
            _ratio(large.n - small.n, large.usage.cpu_s - small.usage.cpu_s) for small, large in self.pairs
        )

    @property
    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest rate of all rounds."""
        rates = [_ratio(b.n - a.n, b.usage.wall_s - a.usage.wall_s) for a, b in self.pairs]
        known = [rate for rate in rates if rate is not None]
        return (min(known), max(known)) if known else None

    @property
    def peak_bytes(self) -> int | None:
        """Peak memory of the large run."""
        peak = _median(float(large.usage.peak_bytes) for _, large in self.pairs)
        return None if peak is None else int(peak)

    @property
    def server_load(self) -> float | None:
        """How much of its core the server was using."""
        return _median(_ratio(large.server_cpu_s, large.usage.wall_s) for _, large in self.pairs)

    @property
    def faults(self) -> list[str]:
        """What was wrong with its runs: cutouts lost, time run out, a failure."""
        found = (_fault(run) for pair in self.pairs for run in pair)
        return sorted({fault for fault in found if fault})


def launch(
    command: Sequence[str], desk: Path, core: int | None, timeout_s: float, environment: Mapping[str, str]
) -> Usage:
    """
    Run a command on a core and return what it took.

    Parameters
    ----------
    command
        Program and arguments.
    desk
        Where its ``output`` and ``output.err`` are written.
    core
        Where to run; None is anywhere.
    timeout_s
        After which it is ended.
    environment
        Variables to add.
    """
    kept = {k: v for k, v in os.environ.items() if not k.endswith(_CLEAN) and not k.startswith(_OURS)}
    usage, output = desk / "usage.json", desk / "output"
    words = [str(usage), "-" if core is None else str(core), str(timeout_s), str(output), *command]
    launcher = subprocess.Popen([sys.executable, "-I", "-S", str(_LAUNCHER), *words], env={**kept, **environment})
    try:
        launcher.wait()
    except BaseException:
        launcher.send_signal(signal.SIGTERM)
        launcher.wait()
        raise
    return Usage(**json.loads(usage.read_text()))


def run(client: Client, job: Job, core: int | None, timeout_s: float, body_bytes: int | None) -> Run:
    """
    Run a client once and look at what it stored.

    Parameters
    ----------
    client
        Who.
    job
        What.
    core, timeout_s
        As in `launch`.
    body_bytes
        The size of a whole cutout, if known.
    """
    command = client.command(job)
    ca = str(job.server.ca or "")
    trust = {"SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca} if ca else {}
    before_s = job.server.cpu_s()
    usage = launch(command, job.desk, core, timeout_s, trust)
    server_cpu_s = job.server.cpu_s() - before_s
    try:
        stored = client.stored(job, body_bytes)
    except Exception:  # noqa: BLE001 - a client that stored nothing readable has stored nothing
        stored = 0
    words = "" if stored == job.n else _last_words(job.desk)
    return Run(job.n, stored, usage, server_cpu_s, words)


def rounds(
    clients: Sequence[Client],
    sizes: Mapping[str, tuple[int, int]],
    server: Server,
    place: Callable[[], AbstractContextManager[Place]],
    *,
    connections: int,
    n_rounds: int,
    core: int | None,
    timeout_s: float,
    body_bytes: int | None,
    tell: Callable[[str], None],
) -> list[Series]:
    """
    Let clients take turns.

    Parameters
    ----------
    clients
        Who; each must be installed.
    sizes
        A small and a large number of cutouts for each client's name.
    server
        The same for all.
    place
        Opens where they store; once a round.
    connections
        The same for all.
    n_rounds
        How often.
    core, timeout_s, body_bytes
        As in `run`.
    tell
        Is told of progress.
    """
    series = [Series(client) for client in clients]
    for turn in range(n_rounds):
        with place() as where:
            for one in series[turn % len(series) :] + series[: turn % len(series)]:
                small, large = sizes[one.client.name]
                pair = [
                    _one(one.client, n, server, where, connections, core, timeout_s, body_bytes)
                    for n in (small, large)
                ]
                one.pairs.append((pair[0], pair[1]))
                tell(f"  round {turn + 1}: {one.client.name}, {small:,} and {large:,}: {_told(pair[0], pair[1])}")
    return series


def _one(
    client: Client,
    n: int,
    server: Server,
    place: Place,
    connections: int,
    core: int | None,
    timeout_s: float,
    body_bytes: int | None,
) -> Run:
    out = place.fresh()
    with tempfile.TemporaryDirectory(prefix="psfharvest-desk-") as desk:
        done = run(client, Job(server, n, connections, out, Path(desk)), core, timeout_s, body_bytes)
    place.settle(out)
    return done


def _told(small: Run, large: Run) -> str:
    fault = _fault(small) or _fault(large)
    rate = _ratio(large.n - small.n, large.usage.wall_s - small.usage.wall_s)
    return fault or (f"{rate:,.0f}/s" if rate else "too fast to tell")


def _fault(run: Run) -> str:
    if run.usage.is_late:
        return f"took too long: ended with {run.stored:,} of {run.n:,}"
    if run.stored != run.n:
        return f"stored {run.stored:,} of {run.n:,} (exit status {run.usage.exit_status}) {run.words}".strip()
    return f"exit status {run.usage.exit_status}" if run.usage.exit_status else ""


def _last_words(desk: Path) -> str:
    text = (desk / "output.err").read_text(errors="replace").strip() if (desk / "output.err").exists() else ""
    return text.splitlines()[-1][-160:] if text else ""


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
