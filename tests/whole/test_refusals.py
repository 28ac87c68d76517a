"""Bad input: refused with status 2, in words that name the way out, and nothing is changed on disk."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from astropy.table import Table

from harness import command
from psfharvest.simulator import Simulator

HARVEST = ["harvest", "d"]
REFUSED = {
    "unknown detector": (["count", "UVS"], "did you mean UVIS"),
    "misspelt column": (["count", "UVIS", "fliter=F606W"], "did you mean filter"),
    "column of another detector": (["count", "UVIS", "filter_2=F606W"], "only for WFPC2"),
    "proptype": (["query", "WFPC2", "--columns", "proptype"], "only for UVIS and IR"),
    "no value": (["count", "UVIS", "filter"], "column=value"),
    "empty value": (["count", "UVIS", "filter="], "column=value"),
    "empty range": (["count", "UVIS", "qfit=1..0"], "lower end comes first"),
    "range of words": (["count", "UVIS", "qfit=a..b"], "number"),
    "open range": (["count", "UVIS", "qfit=.."], "at least one end"),
    "doubled column": (["count", "UVIS", "qfit=1", "qfit=2"], "two criteria"),
    "flc for IR": ([*HARVEST, "IR", "--suffix", "flc"], "flt (calibrated"),
    "flt for WFPC2": ([*HARVEST, "WFPC2", "--suffix", "flt"], "c0m (calibrated"),
    "d0m for WFC3": ([*HARVEST, "UVIS", "--suffix", "raw,d0m"], "UVIS has: raw"),
    "unknown suffix": ([*HARVEST, "UVIS", "--suffix", "drz"], "unknown suffix 'drz'"),
    "no suffix": ([*HARVEST, "UVIS"], "--suffix"),
    "nothing": (HARVEST, "harvest what?"),
    "both": ([*HARVEST, "UVIS", "--uris", "x"], "either a query or --uris"),
    "suffix with a list": ([*HARVEST, "--uris", "x", "--suffix", "flt"], "goes with a query"),
    "limit with a list": ([*HARVEST, "--uris", "x", "--limit", "3"], "goes with a query"),
    "size with a list": ([*HARVEST, "--uris", "x", "--unsat-size", "31"], "goes with a query"),
    "empty folder": (["harvest", "", "UVIS", "--suffix", "flt"], "an empty name"),
    "empty archive": (["count", "UVIS", "--archive", ""], "base URL"),
    "backward infinity": (["count", "UVIS", "psf_flux=inf.."], "open end"),
    "no number": (["count", "UVIS", "--max-per-second", "nan"], "--max-per-second"),
    "endless time": (["count", "UVIS", "--timeout", "inf"], "a number of seconds from 0.001 to 1,000,000"),
    "endless patience": (["count", "UVIS", "--patience", "inf"], "from 0 to 1,000,000,000"),
    "attempts past all": (["count", "UVIS", "--attempts", "1e3"], "a whole number from 1"),
    "no latency": (["simulate", "--latency", "nan"], "a number of seconds from 0 to 3,600"),
    "layout of shards": (
        [*HARVEST, "UVIS", "--suffix", "flt", "--sink", "shards", "--layout", "flat"],
        "goes with",
    ),
    "part rows of one process": ([*HARVEST, "UVIS", "--suffix", "flt", "--part-rows", "100"], "--workers N"),
    "layout of parts": (
        [*HARVEST, "UVIS", "--suffix", "flt", "--layout", "tree", "--workers", "2"],
        "--layout does",
    ),
    "detector after criteria": (["count", "filter=F606W", "UVIS"], "comes before it"),
    "no such list": ([*HARVEST, "--uris", "absent.txt"], "absent.txt"),
    "list without any": ([*HARVEST, "--uris", "junk.txt"], "holds no dataURI"),
    "no such option": ([*HARVEST, "UVIS", "--sufix", "flt"], "No such option"),
    "bad size": ([*HARVEST, "UVIS", "--suffix", "flt", "--unsat-size", "0"], "from 1 to 99,999"),
    "bad state": ([*HARVEST, "UVIS", "--suffix", "flt", "--retry", "done"], "failed and missing"),
    "bad ending": (["query", "UVIS", "-o", "t.xls"], ".ecsv, .csv, .fits, .parquet"),
    "no such folder": (["query", "UVIS", "-o", "no/t.csv"], "make it first"),
    "not a URI": (["fetch", "http://x/y"], "begins with 'mast:'"),
    "no harvest": (["status", "."], "no harvest folder"),
    "nothing to resume": (["resume", "."], "no harvest folder"),
    "bad fault": (["simulate", "--fault", "explode"], "explode"),
    "bad archive": (["count", "UVIS", "--archive", "ftp://x"], "base URL"),
    "token in the clear": (["count", "UVIS", "--token", "x", "--archive", "http://example.org"], "https"),
    "bad value": (["count", "UVIS", "chip=2", "n_sat_pixels=none"], "onver"),
    "column unknown to the archive": (["count", "UVIS", "zzz=1"], "Invalid column name 'zzz'"),
    "columns unknown to the archive": (["query", "UVIS", "--columns", "id,zzz"], "Invalid column name 'zzz'"),
    "columns of a harvest": (
        [*HARVEST, "UVIS", "--suffix", "flt", "--columns", "id,zzz"],
        "Invalid column name 'zzz'",
    ),
}


@pytest.mark.sample(24)
@pytest.mark.parametrize("name", REFUSED)
def test_refused(simulator: Simulator, psfharvest, tmp_path: Path, name: str) -> None:
    """The status is 2, standard error names the way out, and no file appears."""
    words, hint = REFUSED[name]
    (tmp_path / "junk.txt").write_text("# nothing\nnot a uri\n")
    run = psfharvest(*words, env={"PSFHARVEST_ARCHIVE": simulator.url})

    assert 2 == run.status
    assert hint in run.err
    assert "Traceback" not in run.err
    assert "" == run.out
    assert ["junk.txt"] == [p.name for p in tmp_path.iterdir()]


def test_another_harvest_on_the_same_folder(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Another query, list, suffix, size or layout is refused and changes nothing; --extend adds it."""
    words = ["harvest", "d", "UVIS", "--limit", "20"]
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    assert 0 == psfharvest(*words, "--suffix", "flt", env=env).status
    (tmp_path / "list.txt").write_text("mast:HST/x.fits\n")
    before = (tmp_path / "d/manifest.sqlite").read_bytes()
    others = [
        [*words, "--suffix", "flc"],
        [*words, "--suffix", "flt", "--unsat-size", "31"],
        ["harvest", "d", "IR", "--suffix", "flt"],
        ["harvest", "d", "--uris", "list.txt"],
        [*words, "--suffix", "flt", "--layout", "flat"],
    ]
    wrong = psfharvest("harvest", "d", "IR", "--suffix", "flt", "--columns", "zzz", "--extend", env=env)
    assert (2, before) == (wrong.status, (tmp_path / "d/manifest.sqlite").read_bytes())
    for other in others:
        run = psfharvest(*other, env=env)
        assert (2, before) == (run.status, (tmp_path / "d/manifest.sqlite").read_bytes())
        assert "choose another folder" in run.err

    simulator.forget()
    more = psfharvest(*others[0], "--extend", "--json", env=env)
    assert (0, 40, 20) == (more.status, more.account["total"], simulator.count("file"))
    assert simulator.count("any") == more.account["requests"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["shards", "parquet"])
@pytest.mark.parametrize("layout", ["tree", "flat"])
def test_a_layout_of_a_folder_without_files(
    simulator: Simulator, psfharvest, tmp_path: Path, sink: str, layout: str
) -> None:
    """Is refused also where the folder knows its sink and the command does not name it; it would have no effect."""
    words = ["harvest", "d", "UVIS", "--limit", "3", "--suffix", "flt"]
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    assert 0 == psfharvest(*words, "--sink", sink, env=env).status
    before = (tmp_path / "d/manifest.sqlite").read_bytes()
    run = psfharvest(*words, "--layout", layout, env=env)
    assert (2, before) == (run.status, (tmp_path / "d/manifest.sqlite").read_bytes())
    assert f"kept with sink {sink!r}: leave --layout away" in run.err
    assert 0 == psfharvest(*words, env=env).status


@pytest.mark.campaign
def test_a_full_disk_is_74_and_the_same_command_continues(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """When storage fails the run stops with the account, and goes on once there is room."""
    words = ["harvest", "d", "UVIS", "--limit", "300", "--suffix", "flt", "--archive", simulator.url, "--json"]

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (18_000, resource.RLIM_INFINITY))

    broken = subprocess.run(
        command(*words),
        cwd=tmp_path,
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    again = psfharvest(*words)

    assert 74 == broken.returncode, broken.stderr
    assert "Traceback" not in broken.stderr
    assert (0, 300) == (again.status, again.account["done"])


def test_a_folder_that_cannot_be_made_is_74(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A path through a file is a local failure, told with its name."""
    (tmp_path / "file").write_text("")
    words = ["harvest", "file/d", "UVIS", "--limit", "3", "--suffix", "flt", "--archive", simulator.url]
    run = psfharvest(*words)

    assert 74 == run.status
    assert "file/d" in run.err


def test_a_damaged_manifest_is_74_and_stays_as_it_is(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A manifest that cannot be read is told, and nothing is written over it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/manifest.sqlite").write_bytes(b"damaged" * 1000)
    for words in (["status", "d"], ["resume", "d", "--archive", simulator.url]):
        run = psfharvest(*words)

        assert 74 == run.status
        assert "manifest.sqlite" in run.err
    assert b"damaged" * 1000 == (tmp_path / "d/manifest.sqlite").read_bytes()


def test_a_folder_is_not_made_for_a_call_that_cannot_be(simulator: Simulator, tmp_path: Path) -> None:
    """The API refuses wrong words before it touches the disk."""
    import anyio

    from psfharvest import Archive, BadInput, BadURI, Query

    async def try_all() -> None:
        query = Query("UVIS", limit=3)
        async with Archive(simulator.url) as archive:
            for what, words in (
                (query, {"suffixes": ["flt"], "via": "ftp"}),
                (query, {"suffixes": ["flt"], "retry_states": ["bogus"]}),
                (query, {"suffixes": ["flt"], "sink": "floppy"}),
                ("mast:HST/x.fits", {}),
                (Table({"uri": ["mast:HST/x.fits"]}), {}),
                (pd.DataFrame({"uri": ["mast:HST/x.fits"]}), {}),
            ):
                with pytest.raises(BadInput):
                    await archive.harvest(what, tmp_path / "d", **words)
            for no_text in (None, b"mast:HST/x.fits", ["mast:HST/x.fits"], {}, 3):
                with pytest.raises(BadURI, match="it is a text"):
                    await archive.fetch(no_text)
            for no_list in ("mast:HST/x.fits", Table({"uri": ["mast:HST/x.fits"]})):
                with pytest.raises(BadInput):
                    async with archive.stream(no_list) as cutouts:
                        await anext(aiter(cutouts))

    anyio.run(try_all)

    assert [] == list(tmp_path.iterdir())


def test_a_list_that_changed_is_not_gone_on_with(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A list whose content changed since it was read in part is refused on resume, not read on in its middle."""
    path = tmp_path / "list.txt"
    path.write_text("mast:HST/a.fits\n" * 3)
    words = ["--archive", simulator.url]
    psfharvest("harvest", "d", "--uris", "list.txt", *words)
    with sqlite3.connect(tmp_path / "d/manifest.sqlite") as db:
        db.execute("UPDATE ask SET is_complete = 0, position = 16")
    db.close()
    path.write_text("mast:HST/bbbbbbbbbbbbbbbbbbbbbbbbb.fits\n" * 3)
    run = psfharvest("resume", "d", *words)

    assert 2 == run.status
    assert "has changed" in run.err


def test_standard_input_from_nowhere_is_an_empty_list(simulator: Simulator, tmp_path: Path) -> None:
    """A job without a terminal, whose input is the null device, has nothing to do."""
    words = command("harvest", "d", "--uris", "-", "--archive", simulator.url, "--json")
    done = subprocess.run(
        words, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert '"total": 0' in done.stdout


def test_an_archive_that_is_down_at_the_first_question_still_gives_an_account(psfharvest) -> None:
    """The final JSON is printed after every status but 2."""
    run = psfharvest(
        "harvest", "d", "UVIS", "--suffix", "flt", "--archive", "http://127.0.0.1:9", "--patience", "1", "--json"
    )

    assert (75, 0, "archive_down") == (run.status, run.account["total"], run.account["stopped"])


def test_a_damaged_mark_costs_no_shard(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Where the manifest says that a shard ends before its last claim, nothing is cut, and the way out is told."""
    words = ["harvest", "d", "UVIS", "--limit", "20", "--suffix", "flt", "--sink", "shards"]
    words += ["--archive", simulator.url, "--json"]
    assert 0 == psfharvest(*words).status
    with sqlite3.connect(tmp_path / "d/manifest.sqlite") as db:
        db.execute("UPDATE meta SET value = 1024 WHERE name = 'shard_end'")
    db.close()
    shard = tmp_path / "d/shards/000000.tar"
    before = shard.read_bytes()
    run = psfharvest(*words)

    assert 74 == run.status
    assert "psfharvest adopt d" in run.err
    assert before == shard.read_bytes()
