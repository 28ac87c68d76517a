"""Stopped processes, jumping clocks and an archive that is restarted cost a harvest nothing but time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import sampled
from whole.bad_days import KINDS, Stage, drawn, open_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A harvester and an archive in processes of their own."""
    with open_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.mark.parametrize("seed", sampled(range(24), [2, 15]))
def test_bad_days_end_well(stage: Stage, seed: int) -> None:
    """None failed, none lost, the account exact, every cutout whole; ``bad_days.py`` has more seeds."""
    assert stage.run(drawn(seed, has_clocks=stage.has_clocks))["met"] > 0


def test_every_kind_of_event_is_drawn() -> None:
    """The seeds of the campaign have every kind of event, with and without clocks that can be set."""
    for has_clocks, kinds in ((True, set(KINDS)), (False, set(KINDS[:-1]))):
        assert kinds == {event.kind for seed in range(24) for event in drawn(seed, has_clocks=has_clocks).events}
