"""
The crash campaign: harvests are killed, hundreds of times, at chosen and random instants, and looked at each time.

``python tests/whole/crash_campaign.py --kills 2000 --seed 7`` prints the table: for each combination of wire, sink,
way and source how many lives were killed, how many cutouts had to be fetched again, and how many claims were lost.
A life is one fork of a process that has everything imported (`zygote`); the archive is the simulator.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from psfharvest.simulator import Fault
from whole import crash_life
from whole.crash_checks import Watch
from whole.crash_points import POINTS, TRAVEL, Point
from whole.crash_world import World, open_world

KILLED = -signal.SIGKILL
TORN = -signal.SIGXFSZ
"""How a life ends that may not write on: in the middle of its write."""
EVENTS_MAX = 40_000
"""Of the profiler's in a whole life, about; a random death lies below."""


DAMAGE = (Fault("bundle_corrupt", form="pixel", rate=0.1, every=2),)
"""Changed pixels in every other bundle, of which only the checksum at its end tells."""


class Combination(NamedTuple):
    """One way to harvest."""

    wire: str
    sink: str
    way: str
    source: str

    def __str__(self) -> str:
        return " ".join(self)

    def points(self) -> list[Point]:
        """
        Return where lives of this kind are to die.

        Before and after the travel neither wire nor way has a part, and in the travel the source has none.
        """
        is_plain = (self.wire, self.way) == ("curl", "file")
        points = POINTS if is_plain else TRAVEL if self.source == "list" else ()
        return [p for p in points if self.sink in p.sinks and self.way in p.ways and self.source in p.sources]


COMBINATIONS = [
    Combination(*words)
    for words in itertools.product(
        ("curl", "httpx"), ("files", "shards", "parquet"), ("file", "bundle"), ("list", "query")
    )
]


@dataclass(slots=True)
class Score:
    """What became of one combination."""

    combination: Combination
    folders: int = 0
    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """Deaths at each chosen point."""
    again: int = 0
    """Cutouts fetched more than once."""
    again_max: int = 0
    """The most that one death cost."""
    elapsed_s: float = 0.0


class Trial:
    """
    The lives of one combination, in one folder after another.

    Parameters
    ----------
    world
        What they live in.
    combination
        How they harvest.
    scratch
        Where the logs are, and the folders, unless there is a `disk`.
    seed
        Of everything that is drawn.
    disk
        Where the folders are.
    faults
        What the archive does wrong while they live.
    """

    def __init__(
        self,
        world: World,
        combination: Combination,
        scratch: Path,
        seed: int,
        *,
        disk: Path | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.score = Score(combination)
        self._world = world
        self._faults = list(faults)
        self._scratch = scratch
        self._disk = disk or scratch
        self._draw = random.Random(f"{seed} {combination}")
        self._combination = combination
        self._begin_folder()

    def run(self, points: Sequence[Point], n_random: int) -> Score:
        """Die once at each of `points`, and `n_random` times wherever it happens, then finish."""
        start = time.monotonic()
        every = len(points) / n_random if n_random else 0.0
        n_done = 0
        for n, point in enumerate(points, 1):
            self.die_at(point)
            while n_done < n_random and n_done * every < n:
                self.die_anywhere()
                n_done += 1
        while n_done < n_random:
            self.die_anywhere()
            n_done += 1
        self.finish()
        self.score.elapsed_s = time.monotonic() - start
        return self.score

    def die_at(self, point: Point) -> None:
        """Die at a chosen point: in the folder as it stands, or, where nothing is left to do, in a new one."""
        nth = self._draw.randint(1, point.nth_max)
        rolls = {"rolls": self._combination.sink != "files"}
        for _ in range(2):
            if self.live({"point": point.name, "nth": nth} | rolls) == KILLED:
                self.score.hits[point.name] += 1
                return
            self._begin_folder()
            nth = 1
        if self.live({"point": point.name, "nth": 1} | rolls) != KILLED:
            raise AssertionError(f"{self._combination}: no life passes {point}")
        self.score.hits[point.name] += 1

    def die_anywhere(self) -> None:
        """Die at an instant that is drawn: of the process's events, of time, of requests, or amid a write."""
        while True:
            kind = self._draw.choice(("events", "time", "requests", "torn"))
            if kind == "events":
                status = self.live({"nth": int(EVENTS_MAX ** self._draw.uniform(0.4, 1))})
            elif kind == "time":
                status = self.live({}, after_s=self._draw.uniform(0, 0.25))
            elif kind == "requests":
                n = self._draw.randrange(len(self._world.bodies))
                status = self.live({}, after_requests=self._draw.choice((0, 1, n)))
            else:
                status = self.live({"limits": {"RLIMIT_FSIZE": self.room()}, "is_torn": True})
            if status:
                return
            self._begin_folder()

    def room(self) -> int:
        """Draw how long files may grow: often just beyond one that is there."""
        sizes = [p.stat().st_size for p in self.folder.rglob("*") if p.is_file()]
        return self._draw.choice([*sizes, 0]) + int(500 * 200 ** self._draw.random())

    def finish(self) -> None:
        """Live on to the end; then nothing may be left to ask, to do or to mend."""
        self.live({})
        self._end_folder()

    def _begin_folder(self) -> None:
        if self.score.folders:
            self._end_folder()
        self.score.folders += 1
        self.folder = self._disk / f"{'-'.join(self._combination)}-{self.score.folders}"
        self._log_path = str(self._scratch / f"{self.folder.name}.log")
        self._watch = Watch(self.folder, self._world.bodies, self._draw.randrange(2**32))

    def _end_folder(self) -> None:
        world, sink = self._world, self._combination.sink
        self.live({"rolls": False}, ends=[0])
        assert world.simulator.count("any") == 0, "a finished harvest asked again"
        self._watch.look_at_the_end(sink)
        assert world.zygote.live({"words": ["verify", str(self.folder), "--json"], "log": self._log_path}) == 0
        verified = json.loads(self.log().splitlines()[-1])
        n = len(world.bodies)
        assert (verified["checked"], verified["broken"], verified["strays"]) == (n, 0, 0), verified

    def live(
        self,
        more: dict[str, Any],
        *,
        ends: Sequence[int] = (0, KILLED, TORN),
        after_s: float | None = None,
        after_requests: int | None = None,
    ) -> int:
        """Live once, look, and return how it ended: 0 is with all done; what `ends` lacks is a failure."""
        world = self._world
        world.settle()
        world.simulator.forget()
        before = set(self._watch.done)
        if self._faults:
            world.simulator.faults = self._faults
        number = world.zygote.begin(self._life() | more)
        try:
            status = self._wait(number, after_s, after_requests)
        finally:
            if self._faults:
                world.simulator.faults = []
        assert status in ends, f"{self._combination} {more}: {status}\n{self.log()}"
        assert "Traceback" not in self.log(), self.log()
        world.settle()
        new = self._watch.look()
        asked = world.asked()
        assert not before.intersection(asked), "what was claimed was asked for again"
        cost = len(asked) - new
        assert cost <= crash_life.CONNECTIONS + 512
        self.score.kills += status < 0
        self.score.again += cost
        self.score.again_max = max(cost, self.score.again_max)
        return status

    def _life(self) -> dict[str, Any]:
        wire, sink, way, source = self._combination
        return {
            "folder": str(self.folder), "url": self._world.simulator.url, "log": self._log_path, "wire": wire,
            "sink": sink, "via": way, "list": str(self._world.list) if source == "list" else None,
            "rolls": sink != "files" and self._draw.random() < 0.7,
        }  # fmt: skip

    def _wait(self, number: int, after_s: float | None, after_requests: int | None) -> int:
        zygote, simulator = self._world.zygote, self._world.simulator
        status = None
        if after_s is not None:
            status = zygote.wait(number, after_s)
        while after_requests is not None and status is None and simulator.count("any") <= after_requests:
            status = zygote.wait(number, 0.001)
        if status is None and (after_s is not None or after_requests is not None):
            zygote.kill(number)
        status = zygote.wait(number) if status is None else status
        assert status is not None, f"a life hangs\n{self.log()}"
        return status

    def log(self) -> str:
        """Return what the last life said; it may have been killed before its first word."""
        path = Path(self._log_path)
        return path.read_text() if path.exists() else ""


def campaign(
    world: World, scratch: Path, *, n_random: int, seed: int, combinations: Sequence[Combination] = COMBINATIONS
) -> Iterator[Score]:
    """
    Yield what became of each combination, after a death at each of its points and `n_random` more.

    Those by bundles are lived twice: the second time every other bundle is damaged.
    """
    for combination in combinations:
        yield Trial(world, combination, scratch, seed).run(combination.points(), n_random)
    for combination in combinations:
        if combination.way == "bundle":
            folder = scratch / "damaged"
            folder.mkdir(exist_ok=True)
            yield Trial(world, combination, folder, seed, faults=DAMAGE).run((), 2 * n_random)


def main() -> None:
    """Run a campaign for people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=1000, help="deaths in all; each chosen point gets one at least"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n_chosen = sum(len(c.points()) for c in COMBINATIONS)
    n_random = max(1, -(-(options.kills - n_chosen) // len(COMBINATIONS)))
    scores = []
    print(f"{'combination':<28}{'kills':>7}{'points':>8}{'folders':>9}{'again':>7}{'most':>6}{'lost':>6}{'s':>8}")  # noqa: T201
    with tempfile.TemporaryDirectory() as scratch, open_world(Path(scratch)) as world:
        for score in campaign(world, Path(scratch), n_random=n_random, seed=options.seed):
            scores.append(score)
            print(  # noqa: T201
                f"{score.combination!s:<28}{score.kills:>7}{len(score.hits):>8}{score.folders:>9}{score.again:>7}"
                f"{score.again_max:>6}{0:>6}{score.elapsed_s:>8.1f}",
                flush=True,
            )
    print(f"{sum(s.kills for s in scores)} kills, each followed by a look at the folder; no claim was lost")  # noqa: T201


if __name__ == "__main__":
    main()
