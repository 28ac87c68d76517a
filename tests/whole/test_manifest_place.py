"""A manifest that is kept outside its folder: every command finds it without being told again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from psfharvest import FolderRefused, Harvest
from psfharvest.simulator import Simulator

QUERY = ("UVIS", "--limit", "6", "--suffix", "flt")


@pytest.fixture
def kept_apart(psfharvest: Callable, simulator: Simulator, tmp_path: Path) -> Path:
    """A harvest whose manifest is kept in another folder."""
    (tmp_path / "local").mkdir()
    run = psfharvest("harvest", "d", *QUERY, "--manifest", "local/m.sqlite", "--archive", simulator.url, "--json")
    assert (0, 6) == (run.status, run.account["done"])
    return tmp_path / "d"


def test_all_commands_find_the_manifest(kept_apart: Path, psfharvest: Callable, simulator: Simulator) -> None:
    """Status, verify, resume, the same command, and reading back need no flag."""
    assert not (kept_apart / "manifest.sqlite").exists()
    assert 6 == psfharvest("status", "d", "--json").account["done"]
    assert (6, 0) == (psfharvest("verify", "d", "--json").account["ok"], psfharvest("verify", "d").status)
    assert 0 == psfharvest("resume", "d", "--archive", simulator.url).status
    assert 0 == psfharvest("harvest", "d", *QUERY, "--archive", simulator.url).status
    with Harvest(kept_apart) as stars:
        assert 6 == len(list(stars))


@pytest.mark.parametrize("place", ["local/other.sqlite", "missing/m.sqlite", "d/manifest.sqlite"])
def test_another_place_is_refused(kept_apart: Path, psfharvest: Callable, simulator: Simulator, place: str) -> None:
    """A folder's manifest stays where it is."""
    run = psfharvest("harvest", "d", *QUERY, "--manifest", place, "--archive", simulator.url)

    assert 2 == run.status
    assert str(kept_apart.parent / "local/m.sqlite") in run.err


def test_a_manifest_that_is_not_there_is_named(
    kept_apart: Path, psfharvest: Callable, simulator: Simulator
) -> None:
    """Nothing starts anew where the manifest is out of reach: the refusal says where it was kept."""
    (kept_apart.parent / "local").rename(kept_apart.parent / "gone")

    for words in (["status", "d"], ["harvest", "d", *QUERY, "--archive", simulator.url]):
        run = psfharvest(*words)
        assert 2 == run.status
        assert "local/m.sqlite, which is not there" in run.err
    with pytest.raises(FolderRefused):
        Harvest(kept_apart)


def test_another_folders_manifest_is_refused(kept_apart: Path, psfharvest: Callable, simulator: Simulator) -> None:
    """Two folders' manifests cannot be swapped unnoticed."""
    psfharvest("harvest", "e", *QUERY, "--manifest", "local/e.sqlite", "--archive", simulator.url)
    (kept_apart.parent / "local/e.sqlite").replace(kept_apart.parent / "local/m.sqlite")

    run = psfharvest("status", "d")
    assert 74 == run.status
    assert "another folder" in run.err
