"""verify finds what was lost or changed, and repair makes exactly that pending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import check_every_file, rows_of
from psfharvest import Harvest, Query, blocking
from psfharvest.simulator import Simulator
from sampling import examples


class Kept(NamedTuple):
    """A harvest of twenty files that is whole after each test."""

    archive: blocking.Archive
    folder: Path
    locations: list[str]


@pytest.fixture(scope="module")
def kept(_shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept") / "d"
    with blocking.Archive(_shared_simulator.url) as archive:
        archive.harvest(Query("UVIS", limit=20), folder, suffixes=["flt"])
        yield Kept(archive, folder, [row["location"] for row in rows_of(folder)])


@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
def test_damage_is_found_repaired_and_fetched_again(
    simulator: Simulator, psfharvest, tmp_path: Path, sink: str
) -> None:
    """A changed, a cut and a removed cutout are found; after repair and resume all is as claimed."""
    words = ["harvest", "d", "UVIS", "--limit", "60", "--suffix", "flt", "--sink", sink, "--archive", simulator.url]
    assert 0 == psfharvest(*words).status
    clean = psfharvest("verify", "d", "--json")
    assert (0, 60, 0) == (clean.status, clean.account["ok"], clean.account["broken"])

    rows = rows_of(tmp_path / "d")
    if sink == "files":
        places = [tmp_path / "d" / row["location"] for row in rows[:3]]
        body = bytearray(places[0].read_bytes())
        body[6000] ^= 1
        places[0].write_bytes(body)
        places[1].write_bytes(places[1].read_bytes()[:5000])
        places[2].unlink()
        (tmp_path / "d/WFC3PSF/stray.fits").write_bytes(b"nobody's")
        expected = {"changed": 1, "truncated": 1, "missing": 1}
    else:
        path = tmp_path / "d" / rows[0]["location"].rpartition(":")[0]
        body = bytearray(path.read_bytes())
        at = int(rows[0]["location"].rpartition(":")[2]) + 6000 if sink == "shards" else len(body) // 2
        body[at] ^= 1
        path.write_bytes(body)
        expected = {"changed": 1}
    found = psfharvest("verify", "d", "--repair", "--json")
    assert 3 == found.status
    if sink != "parquet":
        assert expected == found.account["problems"]
        assert (60, sum(expected.values())) == (found.account["checked"], found.account["broken"])
        assert set(found.account["uris"]) == {row["uri"] for row in rows[: sum(expected.values())]}
    assert 1 == found.account["strays"] or sink != "files"

    status = psfharvest("status", "d", "--json").account
    assert found.account["broken"] == status["pending"]
    simulator.forget()
    again = psfharvest("resume", "d", "--archive", simulator.url, "--json")
    assert (0, 60, found.account["broken"]) == (again.status, again.account["done"], simulator.count("file"))
    assert 0 == psfharvest("verify", "d").status
    (tmp_path / "d/WFC3PSF/stray.fits").unlink(missing_ok=True)
    if sink != "parquet":
        assert 60 == check_every_file(tmp_path / "d", simulator)


def test_a_shard_that_was_cut_is_repaired(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """After verify --repair on a shard that lost its end, resume goes on and all is done."""
    words = [
        "harvest",
        "d",
        "IR",
        "--limit",
        "40",
        "--suffix",
        "flt",
        "--sink",
        "shards",
        "--archive",
        simulator.url,
    ]
    assert 0 == psfharvest(*words).status
    shard = tmp_path / "d/shards/000000.tar"
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    assert 3 == psfharvest("verify", "d", "--repair").status
    again = psfharvest("resume", "d", "--archive", simulator.url, "--json")

    assert (0, 40) == (again.status, again.account["done"])
    assert 40 == check_every_file(tmp_path / "d", simulator)


@given(rounds=st.lists(st.sets(st.integers(0, 19), min_size=1, max_size=4), min_size=2, max_size=4))
@settings(max_examples=examples(50))
def test_repairs_in_any_order_are_all_fetched(kept: Kept, rounds: list[set[int]]) -> None:
    """What each of several repairs makes pending is fetched by one resume, whatever has the lower number."""
    for broken in rounds:
        for n in broken:
            (kept.folder / kept.locations[n]).unlink(missing_ok=True)
        with Harvest(kept.folder) as stars:
            stars.verify(repair=True)
    report = kept.archive.resume(kept.folder)

    assert (20, 0) == (report.done, report.pending)
