"""
Bad days: harvests through stopped processes, jumping clocks and an archive that is restarted, drawn by seed.

``python tests/whole/bad_days.py --seeds 0:200`` prints a row for each run: what happened to it, and what it cost.
In every run all cutouts must be done at the end, none failed, none lost, and `verify` must find every one whole.

Harvester and archive are processes of their own (forks, see `zygote`), stopped by SIGSTOP and restarted on the
same port. Their wall clocks jump by libfaketime, each one's by a file of its own; where the library is not
installed, the runs have no jumps, and the table says so. Monotonic clocks are left alone: the system never lets
those jump.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from psfharvest.simulator import Settings, Simulator
from whole import crash_life
from whole.crash_campaign import COMBINATIONS, Combination
from whole.crash_checks import Watch
from whole.crash_world import PATIENCE_S, World, Zygote, make_world

SOURCES, SEED = 600, 1
X_MAX = 1500.0
"""How far the query of a run goes over the detector: some 100 cutouts."""
PAGE_ROWS = 60
LATENCY_S = 0.12
"""Longer than the longest pause before the first event, so that it meets a harvest of one request, too."""
TIMEOUT_S = 1.0
"""How long no byte may come; some stops are longer."""
HANG_S = 360.0
"""A harvest that takes longer hangs; half of it is its patience, which a slow machine may need for a restart."""
STOP_S = (0.2, 1.8)
PAUSE_S = (0.0, 0.4)
"""Between two events of a run."""
FIRST_PAUSE = 0.25
"""Part of its pause that goes before the first one."""
JUMPS_S: Final = (-400 * 86_400, -86_400, -3_600, -2, 2, 3_600, 86_400, 400 * 86_400)
FAULT = "status:503,rate=0.03,times=1,retry_after=date%2B1"
"""A few cutouts are to be asked for again at a date, which the archive writes by its own clock."""
LIBRARY: Final = ("libfaketimeMT.so.1", ("/usr/lib", "/usr/lib64", "/usr/local/lib"))


class Event(NamedTuple):
    """What happens to a run after a pause: its kind, how long it lasts, and how far a clock jumps."""

    pause_s: float
    kind: str
    length_s: float
    jump_s: int

    def __str__(self) -> str:
        length, jump = f" {self.length_s:.1f} s", f" {self.jump_s:+d} s"
        return f"{self.kind}{'' if 'clock' in self.kind else length}{'' if 'stopped' in self.kind else jump}"


KINDS: Final = (
    *("harvester stopped", "archive stopped", "both stopped", "archive restarted", "archive killed"),
    "clock of the harvester",
)
RESTARTS: Final = ("archive restarted", "archive killed")
"""By SIGTERM and by SIGKILL; another archive then listens there, whose clock is wrong by the event's jump."""


@dataclass(frozen=True, slots=True)
class Day:
    """What is drawn for a run."""

    seed: int
    combination: Combination
    skew_s: int
    """By how much the first archive's clock is wrong."""
    events: tuple[Event, ...]


def drawn(seed: int, *, has_clocks: bool) -> Day:
    """Draw a run; one seed in 24 is of each combination of wire, sink, way and source."""
    draw = random.Random(seed)
    kinds = KINDS if has_clocks else KINDS[:-1]
    events = [
        Event(draw.uniform(*PAUSE_S), draw.choice(kinds), draw.uniform(*STOP_S), draw.choice(JUMPS_S))
        for _ in range(draw.randint(2, 4))
    ]
    return Day(seed, COMBINATIONS[seed % len(COMBINATIONS)], draw.choice(JUMPS_S), tuple(events))


def fake_clocks() -> dict[str, str]:
    """Return the variables that load libfaketime into a process, or none where it is not installed."""
    name, roots = LIBRARY
    found = next((path for root in roots for path in Path(root).glob(f"**/{name}")), None)
    if found is None:
        return {}
    return {
        "LD_PRELOAD": str(found), "FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        "FAKETIME_TIMESTAMP_FILE": "/dev/null",
    }  # fmt: skip


class Stage:
    """
    A harvester and an archive that bad days can be made for.

    Parameters
    ----------
    world
        The process that both are forked from, and what the archive has.
    scratch
        Where logs, clocks and folders are.
    has_clocks
        Whether wall clocks can be made to jump.
    """

    def __init__(self, world: World, scratch: Path, *, has_clocks: bool) -> None:
        self.has_clocks = has_clocks
        self._world = world
        self._scratch = scratch
        self._port = free_port()
        self._archive = -1

    def run(self, day: Day) -> dict[str, Any]:
        """Live through a day, check all that must hold at its end, and return the report of the harvest."""
        folder = self._scratch / f"day-{day.seed}"
        wire, sink, way, source = day.combination
        life = {
            "folder": str(folder), "url": f"http://127.0.0.1:{self._port}", "log": str(self._scratch / "log"),
            "wire": wire, "sink": sink, "via": way, "list": str(self._world.list) if source == "list" else None,
            "rolls": False, "x_max": X_MAX, "page_rows": PAGE_ROWS, "timeout_s": TIMEOUT_S,
            "patience_s": HANG_S / 2, **self._set_clock("harvester", 0),
        }  # fmt: skip
        self._begin_archive(day.skew_s)
        try:
            number = self._world.zygote.begin(life)
            n_met = self._meet(day.events, number)
            status = self._world.zygote.wait(number, HANG_S)
            log = Path(life["log"]).read_text()
            assert status == 0, f"seed {day.seed}, {day.combination}: status {status}\n{log}"
            assert "Traceback" not in log, log
            report: dict[str, Any] = json.loads(log.splitlines()[-1])
        finally:
            self._end_archive(signal.SIGKILL)
        n = len(self._world.bodies)
        assert (n, n, 0, 0, 0) == tuple(report[k] for k in ("total", "done", "missing", "failed", "pending")), (
            report
        )
        Watch(folder, self._world.bodies, day.seed).look_at_the_end(sink)
        assert self._world.zygote.live({"words": ["verify", str(folder), "--json"], "log": life["log"]}) == 0
        verified = json.loads(Path(life["log"]).read_text().splitlines()[-1])
        assert (n, 0, 0) == (verified["checked"], verified["broken"], verified["strays"]), verified
        shutil.rmtree(folder)
        return {**report, "met": n_met}

    def _meet(self, events: Sequence[Event], harvester: int) -> int:
        """Make the events happen while the harvester is at work, and return how many did."""
        n_met = 0
        for n, event in enumerate(events):
            time.sleep(event.pause_s if n else event.pause_s * FIRST_PAUSE)
            if self._world.zygote.has_ended(harvester):
                break
            self._happen(event, harvester)
            n_met += 1
        return n_met

    def _happen(self, event: Event, harvester: int) -> None:
        if event.kind in RESTARTS:
            self._end_archive(signal.SIGTERM if event.kind == "archive restarted" else signal.SIGKILL)
            time.sleep(event.length_s / 2)
            self._begin_archive(event.jump_s)
        elif event.kind.startswith("clock"):
            self._set_clock("harvester", event.jump_s)
        else:
            who, _ = event.kind.split()
            stopped = {"harvester": [harvester], "archive": [self._archive], "both": [harvester, self._archive]}[
                who
            ]
            for number in stopped:
                self._world.zygote.send(number, signal.SIGSTOP)
            time.sleep(event.length_s)
            for number in reversed(stopped):
                self._world.zygote.send(number, signal.SIGCONT)

    def _set_clock(self, whose: str, jump_s: int) -> dict[str, str]:
        path = self._scratch / f"clock-of-{whose}"
        growing = path.with_suffix(".growing")
        growing.write_text(f"{jump_s:+d}")
        growing.replace(path)
        return {"clock": str(path)}

    def _begin_archive(self, skew_s: int) -> None:
        log = self._scratch / "archive.log"
        log.unlink(missing_ok=True)
        words = ["simulate", "--port", str(self._port), "--sources", str(SOURCES), "--seed", str(SEED)]
        words += ["--latency", str(LATENCY_S), "--fault", FAULT]
        life = {"words": words, "log": str(log), **self._set_clock("archive", skew_s)}
        self._archive = self._world.zygote.begin(life)
        deadline_s = time.monotonic() + PATIENCE_S
        while not (log.exists() and "http://" in log.read_text()):
            assert time.monotonic() < deadline_s, "the archive does not start"
            assert not self._world.zygote.has_ended(self._archive), log.read_text()
            time.sleep(0.005)

    def _end_archive(self, signum: int) -> None:
        self._world.zygote.send(self._archive, signum)
        if self._world.zygote.wait(self._archive, 5) is None:  # it waits for what is under way
            self._world.zygote.kill(self._archive)
            self._world.zygote.wait(self._archive)


@contextmanager
def open_stage(scratch: Path) -> Iterator[Stage]:
    """Start the process that harvesters and archives are forked from, and ask an archive what it has."""
    env = fake_clocks()
    with Zygote(MappingProxyType(env)) as zygote:
        with Simulator(Settings(sources=SOURCES, seed=SEED)) as simulator:
            world = make_world(zygote, simulator, scratch, crash_life.query(X_MAX))
        yield Stage(world, scratch, has_clocks=bool(env))


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def main() -> None:
    """Run a range of seeds for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:200", metavar="FROM:TO", help="which runs; 0:200 are two hundred")
    first, _, end = parser.parse_args().seeds.partition(":")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch, open_stage(Path(scratch)) as stage:
        if not stage.has_clocks:
            print("no libfaketime: no clock jumps")  # noqa: T201
        print("seed  combination                  done failed requests     s  events")  # noqa: T201
        for seed in range(int(first), int(end)):
            day = drawn(seed, has_clocks=stage.has_clocks)
            report = stage.run(day)
            met = day.events[: report["met"]]
            total.update(event.kind for event in met)
            print(  # noqa: T201
                f"{seed:<6}{day.combination!s:<28}{report['done']:>5}{report['failed']:>7}{report['requests']:>9}"
                f"{report['elapsed_s']:>6.1f}  {', '.join(map(str, met))}",
                flush=True,
            )
    print(f"{int(end) - int(first)} runs, 0 failed, 0 lost; {', '.join(f'{n} x {k}' for k, n in total.items())}")  # noqa: T201


if __name__ == "__main__":
    main()
