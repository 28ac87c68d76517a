"""``harvest --dry-run`` and ``--max-bytes``: what a harvest takes, and an end before the disk's."""

from __future__ import annotations

from pathlib import Path

import pytest

from psfharvest import Query, blocking, mast_api_psf
from psfharvest.simulator import Simulator

FIGURES = {"sources", "cutouts", "bytes", "requests", "seconds", "free_bytes", "inodes", "connections"}


@pytest.fixture
def env(simulator: Simulator) -> dict[str, str]:
    return {"PSFHARVEST_ARCHIVE": simulator.url}


@pytest.mark.parametrize(
    "words", [["UVIS", "n_sat_pixels=0"], ["IR"], ["UVIS,WFPC2", "--limit", "40"]], ids=" ".join
)
def test_a_dry_run_foretells_the_harvest(psfharvest, env, tmp_path: Path, words: list[str]) -> None:
    """Cutouts are exact, bytes within a few per cent; no file or folder is made."""
    words = [*words, "--suffix", "flt,c0m" if "WFPC2" in words[0] else "flt", "--json"]
    dry = psfharvest("harvest", "d", *words, "--dry-run", env=env)
    assert (0, []) == (dry.status, list(tmp_path.iterdir()))
    real = psfharvest("harvest", "d", *words, env=env)

    assert dry.account.keys() >= FIGURES
    assert real.account["total"] == dry.account["cutouts"]
    assert abs(real.account["bytes"] / dry.account["bytes"] - 1) < 0.05
    assert dry.account["free_bytes"] > 10**6


@pytest.mark.parametrize("sink", ["files", "shards"])
def test_a_dry_run_of_a_list(simulator: Simulator, psfharvest, env, tmp_path: Path, sink: str) -> None:
    """A list is read, doubles counted once, and its kinds measured; --uris - too."""
    with blocking.Archive(simulator.url) as archive:
        table = archive.query(Query("UVIS", limit=20))
    uris = mast_api_psf.make_dataURIs(table, "UVIS", ["flt"])
    (tmp_path / "list").write_text(
        "\n".join([*uris, *uris, "# end", "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?junk", ""])
    )
    words = ["--dry-run", "--json", "--sink", sink]
    dry = psfharvest("harvest", "d", "--uris", "list", *words, env=env)
    piped = psfharvest("harvest", "d", "--uris", "-", *words, env=env, stdin=(tmp_path / "list").read_text())
    real = psfharvest("harvest", "d", "--uris", "list", "--json", "--sink", sink, env=env)

    assert (20, 1, ["list"]) == (dry.account["cutouts"], dry.account["bad_lines"], ["list"])
    assert {n: dry.account[n] for n in ("cutouts", "bytes")} == {n: piped.account[n] for n in ("cutouts", "bytes")}
    assert (20, dry.account["bytes"]) == (real.account["done"], real.account["bytes"])
    assert (dry.account["inodes"] > 20) == (sink == "files")


def test_a_dry_run_refuses_what_the_harvest_would(psfharvest, env, tmp_path: Path) -> None:
    """Bad input is refused with status 2; a query without a match is explained."""
    refused = psfharvest("harvest", "d", "IR", "--suffix", "flc", "--dry-run", env=env)
    empty = psfharvest("harvest", "d", "UVIS", "filter=F606", "--suffix", "flc", "--dry-run", "--json", env=env)

    assert (2, 0, 0) == (refused.status, empty.status, empty.account["cutouts"])
    assert "near: F606W" in empty.err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("sink", ["files", "shards"])
@pytest.mark.parametrize("via", ["file", "bundle"])
def test_max_bytes_stops_cleanly(psfharvest, env, sink: str, via: str) -> None:
    """The run ends with 75 and no more bytes than allowed; the same command with a larger limit ends it."""
    words = ["harvest", "d", "UVIS", "--limit", "60", "--suffix", "flt", "--json", "--sink", sink, "--via", via]
    stopped = psfharvest(*words, "--max-bytes", "0.5M", env=env)
    again = psfharvest(*words, "--max-bytes", "500k", env=env)
    ended = psfharvest(*words, "--max-bytes", "1G", env=env)

    assert (75, "max_bytes") == (stopped.status, stopped.account["stopped"])
    assert 400_000 < stopped.account["bytes"] <= 500_000
    assert stopped.account["done"] + stopped.account["pending"] == stopped.account["total"]
    assert again.status == 75
    assert stopped.account["bytes"] <= again.account["bytes"] <= 500_000  # a smaller cutout may still have had room
    assert (0, 60) == (ended.status, ended.account["done"])
    assert "resume d" in stopped.err


@pytest.mark.parametrize(
    "word", ["-1", "many", "1X", "", "inf", "9" * 400, "9999999999T"], ids=lambda word: f"{word[:8]} of {len(word)}"
)
def test_max_bytes_is_a_size(psfharvest, env, word: str) -> None:
    """Another word is refused with what is allowed."""
    run = psfharvest("harvest", "d", "UVIS", "--suffix", "flt", "--max-bytes", word, env=env)

    assert (2, True) == (run.status, "500M" in run.err)
