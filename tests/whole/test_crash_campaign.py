"""
Killed at any instant: nothing claimed is lost, nothing is doubled, nothing half stands under a final name.

More than 500 lives are ended by SIGKILL: at every chosen point (before and after each rename, record, commit, sync,
roll of a shard, turn of a journal, checkpoint of a part) in each combination where it applies, and at drawn
instants; a few by the kernel in the middle of a write. After each death the folder is looked at from outside.

The default run has the fewest combinations that pass every point, with both wires, ways and sources. Of the points
before and after one thing it dies at one, in turn, at all others once; the rest carries the ``campaign`` marker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import sampled
from psfharvest import Query
from psfharvest.simulator import Fault
from whole import crash_life
from whole.crash_campaign import COMBINATIONS, DAMAGE, KILLED, Combination, Trial
from whole.crash_points import POINTS, Point
from whole.crash_world import World, make_world, open_world

DEFAULT = [
    Combination("curl", "files", "file", "query"),
    Combination("curl", "shards", "file", "list"),
    Combination("curl", "parquet", "file", "list"),
    Combination("httpx", "shards", "bundle", "list"),
]

SIDES = ("before", "after")


def n_random(combination: Combination) -> int:
    """Return how many deaths a combination gets at drawn instants; ``crash_campaign.py`` has more."""
    return 3 if combination.points() else 7


def sides() -> tuple[list[Point], list[Point]]:
    """Return the points of the default run, and the other side of each thing that it dies before or after."""
    things = list(dict.fromkeys(point.name.partition(" ")[2] for point in POINTS if point.event in SIDES))
    chosen = {f"{SIDES[n % 2]} {thing}" for n, thing in enumerate(things)}
    now = [point for point in POINTS if point.event not in SIDES or point.name in chosen]
    return now, [point for point in POINTS if point not in now]


def shares(points: Sequence[Point]) -> dict[Combination, list[Point]]:
    """Return points divided among the combinations of the default run: each goes to the one that has fewest."""
    divided: dict[Combination, list[Point]] = {combination: [] for combination in DEFAULT}
    for point in points:
        able = [combination for combination in DEFAULT if point in combination.points()]
        divided[min(able, key=lambda combination: len(divided[combination]))].append(point)
    return divided


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.mark.sample(4)
@pytest.mark.parametrize("combination", DEFAULT, ids=str)
def test_a_death_at_each_point(world: World, tmp_path: Path, combination: Combination) -> None:
    """Each point is met and survived once, in one of the combinations, and one death more comes anywhere."""
    die_at_each(world, tmp_path, combination, sides()[0])


@pytest.mark.campaign
def test_a_death_at_the_other_side_of_each_thing(world: World, tmp_path: Path) -> None:
    """Where the default run dies before something, this dies after it, and the other way round."""
    for combination in DEFAULT:
        (folder := tmp_path / str(combination)).mkdir()
        die_at_each(world, folder, combination, sides()[1])


def die_at_each(world: World, folder: Path, combination: Combination, points: Sequence[Point]) -> None:
    """Let lives of a combination die at its share of the points, and one anywhere."""
    own = shares(points)[combination]
    score = Trial(world, combination, folder, seed=4).run(own, 1)

    assert {point.name for point in own} == set(score.hits)
    assert len(own) + 1 <= score.kills


@pytest.mark.campaign
@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_deaths_at_every_point_and_anywhere(world: World, tmp_path: Path, combination: Combination) -> None:
    """Each point is met and survived; in the end all is done, whole, verified, and nothing is asked again."""
    points = combination.points()
    score = Trial(world, combination, tmp_path, seed=1).run(points, n_random(combination))

    assert {point.name for point in points} == set(score.hits)
    assert len(points) + n_random(combination) <= score.kills


@pytest.mark.campaign
@pytest.mark.parametrize("sink", sampled(["files", "shards", "parquet"], ["shards"]))
def test_deaths_amid_damaged_bundles(world: World, tmp_path: Path, sink: str) -> None:
    """Where every other bundle is damaged, no death leaves a false cutout claimed or under its name."""
    combination = Combination("curl", sink, "bundle", "list")
    score = Trial(world, combination, tmp_path, seed=3, faults=DAMAGE).run((), 12)

    assert score.kills >= 12


def test_every_point_is_tried_and_the_deaths_are_many() -> None:
    """The two sides are all points, and alike; all combinations together make five hundred deaths at least."""
    tried = [point for combination in COMBINATIONS for point in combination.points()]
    now, later = sides()

    assert set(POINTS) == {point for points in shares(POINTS).values() for point in points} == set(tried)
    assert set(POINTS) == {*now, *later}
    assert {p.name.partition(" ")[2] for p in later} <= {p.name.partition(" ")[2] for p in now}
    assert 500 <= len(tried) + sum(n_random(combination) for combination in COMBINATIONS)


@pytest.mark.campaign
@pytest.mark.parametrize("sink", sampled(["files", "shards"], ["files"]))
def test_a_death_costs_no_more_than_is_promised(world: World, tmp_path: Path, sink: str) -> None:
    """Killed when most is fetched, a life has claimed all but connections + 512 cutouts of what it asked for."""
    large = make_world(world.zygote, world.simulator, tmp_path, Query("UVIS", id=(0, 10**9), limit=1100))
    trial = Trial(large, Combination("curl", sink, "file", "list"), tmp_path, seed=2)
    try:
        for after in (1050, 20):
            world.simulator.faults = [Fault("stall", seconds=600, service="file", start=after + 2)]
            assert KILLED == trial.live({"rolls": False}, after_requests=after)
    finally:
        world.simulator.faults = []
    trial.finish()

    assert trial.score.again_max <= crash_life.CONNECTIONS + 512
