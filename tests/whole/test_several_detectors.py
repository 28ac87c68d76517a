"""Several detectors in one command and one folder; limits that grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import rows_of
from psfharvest import Query, blocking
from psfharvest.simulator import Fault, Simulator


@pytest.fixture
def env(simulator: Simulator) -> dict[str, str]:
    return {"PSFHARVEST_ARCHIVE": simulator.url}


def test_several_detectors_in_one_folder(simulator: Simulator, psfharvest, env, tmp_path: Path) -> None:
    """Each detector takes the suffixes that it has; the same command again asks for nothing."""
    words = ["harvest", "d", "all", "--limit", "10", "--suffix", "flt,c0m", "--json"]
    first = psfharvest(*words, env=env)
    simulator.forget()
    again = psfharvest(*words, env=env)
    resumed = psfharvest("resume", "d", "--json", env=env)

    assert (0, 30) == (first.status, first.account["done"])
    assert (0, 30, 0) == (again.status, again.account["done"], simulator.count("any"))
    assert (0, 30) == (resumed.status, resumed.account["done"])
    assert {"WFC3PSF", "WFPC2PSF"} == {row["location"].split("/")[0] for row in rows_of(tmp_path / "d")}


def test_another_set_of_detectors_is_another_harvest(psfharvest, env) -> None:
    """A detector more is refused without --extend."""
    words = ["--limit", "5", "--suffix", "flt"]
    assert 0 == psfharvest("harvest", "d", "UVIS", *words, env=env).status

    refused = psfharvest("harvest", "d", "UVIS,IR", *words, env=env)
    more = psfharvest("harvest", "d", "UVIS,IR", *words, "--extend", "--json", env=env)

    assert (2, True) == (refused.status, "--extend" in refused.err)
    assert (0, 10) == (more.status, more.account["done"])


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["all", "--suffix", "flt"], "WFPC2 has: d0m"), (["UVIS,IR", "--suffix", "drz"], "unknown suffix"),
     (["UVIS,IRR", "--suffix", "flt"], "did you mean IR"), (["IR,UVIS", "--suffix", "raw,d0m"], "d0m")],
)  # fmt: skip
def test_suffixes_fit_every_detector(psfharvest, env, words: list[str], hint: str, tmp_path: Path) -> None:
    """A detector without any of the suffixes, or a suffix that fits none, is refused."""
    run = psfharvest("harvest", "d", *words, env=env)

    assert (2, True, []) == (run.status, hint in run.err, list(tmp_path.iterdir())), run.err


def test_count_of_several(psfharvest, env) -> None:
    """The count is the sum; JSON has each."""
    run = psfharvest("count", "UVIS,IR", "--json", env=env)
    counts = [int(psfharvest("count", name, env=env).out) for name in ("UVIS", "IR")]

    assert {"count": sum(counts), "UVIS": counts[0], "IR": counts[1]} == run.account


@pytest.mark.parametrize("limits", [["30", "45"], ["30", None], ["1", "2", "3"], ["0", "12"]])
def test_a_limit_that_grows_goes_on(
    simulator: Simulator, psfharvest, env, tmp_path: Path, limits: list[str | None]
) -> None:
    """The lowest ids of the larger limit are held in the end, each once; nothing done is fetched again."""
    words = ["UVIS", "filter=F606W", "n_sat_pixels=0", "--suffix", "flt", "--via", "file", "--json"]
    simulator.forget()
    runs = []
    for limit in limits:
        more = [] if limit is None else ["--limit", limit]
        runs.append(psfharvest("harvest", "d", *words, *more, env=env))
        assert (tmp_path / "d").exists() == (limit != "0")
    n_fetched = simulator.count("file")
    whole = psfharvest("harvest", "whole", *words, *more, env=env)

    assert [0] * len(limits) == [run.status for run in runs]
    assert whole.account["done"] == runs[-1].account["done"]
    assert {r["uri"] for r in rows_of(tmp_path / "whole")} == {r["uri"] for r in rows_of(tmp_path / "d")}
    assert n_fetched == whole.account["done"]


def test_a_limit_that_shrinks_is_refused(psfharvest, env) -> None:
    """A smaller limit is another harvest, said in those words."""
    words = ["harvest", "d", "UVIS", "--suffix", "flt", "--limit"]
    assert 0 == psfharvest(*words, "9", env=env).status
    run = psfharvest(*words, "5", env=env)

    assert (2, True) == (run.status, "larger --limit" in run.err)


def test_a_list_of_queries_in_python(simulator: Simulator, tmp_path: Path) -> None:
    """`harvest` and `stream` take several queries."""
    queries = [Query("UVIS", limit=4), Query("IR", limit=3)]
    with blocking.Archive(simulator.url) as archive:
        report = archive.harvest(queries, tmp_path / "d", suffixes=["flt"])
        with archive.stream(queries, suffixes=["flt"]) as cutouts:
            streamed = {cutout.uri for cutout in cutouts}

    assert (7, 7) == (report.done, len(streamed))


def test_sources_that_were_counted_and_did_not_come_are_asked_for_again(
    simulator: Simulator, tmp_path: Path
) -> None:
    """The account has them as lacking, and is incomplete; the same harvest gets them once the archive does."""
    with blocking.Archive(simulator.url) as archive:
        ids = archive.query(Query("UVIS", limit=3))["id"]
        query = Query("UVIS", id=(None, int(ids[-1])))
        simulator.faults = [Fault("short_answer", rows=2)]
        first = archive.harvest(query, tmp_path / "d", suffixes=["flt"])
        simulator.faults = [Fault("short_answer", rows=0)]
        none = archive.harvest(query, tmp_path / "e", suffixes=["flt"])
        simulator.faults = []
        simulator.forget()
        again = archive.harvest(query, tmp_path / "e", suffixes=["flt"])

    assert (3, 0) == (first.done, first.lacking)
    assert (0, 3, 3) == (none.done, none.lacking, none.exit_status)
    assert (3, 0, 0) == (again.done, again.lacking, again.exit_status)
