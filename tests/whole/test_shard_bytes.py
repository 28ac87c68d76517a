"""``harvest --shard-bytes``: as many shards as a reader has workers, also of a small harvest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import rows_of
from psfharvest.simulator import Simulator
from standard_readers import every_file_opens

QUERY = ("UVIS", "filter=F814W", "n_sat_pixels=0", "--suffix", "flc", "--sink", "shards")


@pytest.mark.campaign
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_small_harvest_has_a_shard_for_each_worker(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """Each worker of a loader has its own shards; together they have every cutout once, typed alike."""
    import webdataset  # here, since it imports torch where that is installed

    folder = tmp_path / "stars"
    words = ("harvest", folder, *QUERY, "--archive", simulator.url, "--quiet")
    first = psfharvest(*words, "--limit", 40, "--shard-bytes", 100_000, "--json")
    more = psfharvest(*words, "--limit", 60, "--extend", "--json")
    shards = sorted(map(str, (folder / "shards").glob("*.tar")))

    assert (0, 0) == (first.status, more.status)
    assert len(shards) > 4
    assert 60 == every_file_opens(folder)
    assert all(Path(path).stat().st_size < 150_000 for path in shards)
    n_workers = 4
    uris = []
    for worker in range(n_workers):
        some = shards[worker::n_workers]
        samples = [*webdataset.WebDataset(some, shardshuffle=False).decode()]
        assert samples
        uris += [sample["json"]["uri"] for sample in samples]
    assert sorted(row["uri"] for row in rows_of(folder)) == sorted(uris)


def test_it_goes_with_shards_only(psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """With another sink, for a new folder or an old one, it is refused and nothing changes."""
    words = ("harvest", tmp_path / "d", "UVIS", "--limit", 2, "--suffix", "flc", "--archive", simulator.url)
    for more in (("--sink", "parquet"), ()):
        refused = psfharvest(*words, *more, "--shard-bytes", 1000)
        assert 2 == refused.status
        assert "shards" in refused.err
        assert not (tmp_path / "d").exists()
    assert 2 == psfharvest(*words, "--sink", "shards", "--shard-bytes", 0).status
