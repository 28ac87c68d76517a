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
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import Client, Job
from benchmarks.place import Place
from benchmarks.server import Server

_LAUNCHER = Path(__file__).with_name("launch.py")
_CLEAN = ("_proxy", "_PROXY")
_OURS = "PSFHARVEST_"


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all clients of a series."""

    server: Server
    connections: int
    core: int | None
    """Where clients run; None is anywhere."""
    body_bytes: int | None
    """The size of a whole cutout, if known."""
    n_rounds: int = 3
    timeout_s: float = 120.0


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

    @property
    def fault(self) -> str:
        """What was wrong, or nothing."""
        if self.usage.is_late:
            return f"took too long: ended with {self.stored:,} of {self.n:,}"
        if self.stored != self.n:
            status = self.usage.exit_status
            return f"stored {self.stored:,} of {self.n:,} (exit status {status}) {self.words}".strip()
        return f"exit status {self.usage.exit_status}" if self.usage.exit_status else ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A small and a large run of one client in one round; what they differ by is the cost of more cutouts."""

    small: Run
    large: Run

    @property
    def is_good(self) -> bool:
        """Whether both did their work."""
        return not (self.small.fault or self.large.fault)

    @property
    def per_s(self) -> float | None:
        """Cutouts a second."""
        return _ratio(self.large.n - self.small.n, self.large.usage.wall_s - self.small.usage.wall_s)

    @property
    def per_cpu_s(self) -> float | None:
        """Cutouts per second of processor time: the rate of one full core."""
        return _ratio(self.large.n - self.small.n, self.large.usage.cpu_s - self.small.usage.cpu_s)

    def __str__(self) -> str:
        rate = self.per_s
        return self.small.fault or self.large.fault or (f"{rate:,.0f}/s" if rate else "too few to tell")


@dataclass(slots=True)
class Series:
    """All runs of one client; figures are medians over the rounds in which it did its work."""

    client: Client
    pairs: list[Pair] = field(default_factory=list)

    @property
    def good(self) -> list[Pair]:
        """The rounds that count."""
        return [pair for pair in self.pairs if pair.is_good]

    @property
    def per_s(self) -> float | None:
        """Cutouts a second."""
        return _median(pair.per_s for pair in self.good)

    @property
    def per_cpu_s(self) -> float | None:
        """Cutouts per second of processor time."""
        return _median(pair.per_cpu_s for pair in self.good)

    @property
    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest rate of all rounds."""
        rates = [rate for pair in self.good if (rate := pair.per_s) is not None]
        return (min(rates), max(rates)) if rates else None

    @property
    def peak_bytes(self) -> float | None:
        """Peak memory of the large run."""
        return _median(pair.large.usage.peak_bytes for pair in self.good)

    @property
    def server_load(self) -> float | None:
        """How much of its core the server was using."""
        return _median(_ratio(pair.large.server_cpu_s, pair.large.usage.wall_s) for pair in self.good)

    @property
    def faults(self) -> list[str]:
        """What was wrong with its runs: cutouts lost, time run out, a failure."""
        return sorted({run.fault for pair in self.pairs for run in (pair.small, pair.large) if run.fault})


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
    with background(command, desk, core, timeout_s, environment) as launcher:
        launcher.wait()
    return Usage(**json.loads((desk / "usage.json").read_text()))


@contextmanager
def background(
    command: Sequence[str],
    desk: Path,
    core: int | None,
    timeout_s: float,
    environment: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a command as `launch` does, for the time of a ``with`` block; what is left of it then is ended.

    Parameters
    ----------
    command, desk, core, timeout_s, environment
        As in `launch`.

    Yields
    ------
    subprocess.Popen
        Its launcher.
    """
    kept = {k: v for k, v in os.environ.items() if not k.endswith(_CLEAN) and not k.startswith(_OURS)}
    usage, output = desk / "usage.json", desk / "output"
    words = [str(usage), "-" if core is None else str(core), str(timeout_s), str(output), *command]
    launcher = subprocess.Popen([sys.executable, "-I", "-S", str(_LAUNCHER), *words], env={**kept, **environment})
    try:
        yield launcher
    finally:
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
            launcher.wait()


def run(client: Client, n: int, out: Path, terms: Terms) -> Run:
    """
    Run a client once and look at what it stored.

    Parameters
    ----------
    client
        Who.
    n
        How many cutouts.
    out
        An empty folder.
    terms
        The rest.
    """
    with tempfile.TemporaryDirectory(prefix="psfharvest-desk-") as desk:
        job = Job(terms.server, n, terms.connections, out, Path(desk))
        command = client.command(job)
        before_s = terms.server.cpu_s()
        usage = launch(command, job.desk, terms.core, terms.timeout_s, trust(terms.server))
        server_cpu_s = terms.server.cpu_s() - before_s
        stored = _stored(client, job, terms.body_bytes)
        return Run(n, stored, usage, server_cpu_s, "" if stored == n else last_words(job.desk))


def trust(server: Server) -> dict[str, str]:
    """
    Return the variables by which clients come to trust a server's certificate.

    Parameters
    ----------
    server
        The server.
    """
    return {"SSL_CERT_FILE": str(server.ca), "REQUESTS_CA_BUNDLE": str(server.ca)} if server.ca else {}


def rounds(
    clients: Sequence[Client],
    sizes: Mapping[str, tuple[int, int]],
    terms: Terms,
    place: Callable[[], AbstractContextManager[Place]],
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
    terms
        The same for all.
    place
        Opens where they store; once a round.
    tell
        Receives progress.
    """
    series = [Series(client) for client in clients]
    for turn in range(terms.n_rounds):
        first = turn % len(series)
        with place() as where:
            for one in series[first:] + series[:first]:
                small, large = (_one(one.client, n, where, terms) for n in sizes[one.client.name])
                one.pairs.append(Pair(small, large))
                tell(f"  round {turn + 1}: {one.client.name}, {small.n:,} and {large.n:,}: {one.pairs[-1]}")
    return series


def last_words(desk: Path) -> str:
    """
    Return the last line that a command wrote to standard error.

    Parameters
    ----------
    desk
        As in `launch`.
    """
    lines = (desk / "output.err").read_text(errors="replace").split("\n")
    return next((line.strip()[-160:] for line in reversed(lines) if line.strip()), "")


def _one(client: Client, n: int, place: Place, terms: Terms) -> Run:
    out = place.fresh()
    done = run(client, n, out, terms)
    place.settle(out)
    return done


def _stored(client: Client, job: Job, body_bytes: int | None) -> int:
    try:
        return client.stored(job, body_bytes)
    except (OSError, ValueError, LookupError, sqlite3.Error):  # what cannot be read has not been stored
        return 0


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
