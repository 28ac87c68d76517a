"""``columns``, and what a query that matches nothing or that the archive refuses is answered with."""

from __future__ import annotations

import json

import pytest

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.simulator import Simulator


def test_columns_as_json_lines(psfharvest) -> None:
    """One object a line: name, unit, meaning, detectors, and values that can be written in a criterion."""
    run = psfharvest("columns", "--json")
    rows = {row["name"]: row for row in map(json.loads, run.out.splitlines())}

    assert (0, set(COLUMNS), "") == (run.status, set(rows), run.err)
    assert all({"name", "unit", "meaning", "detectors", "values"} <= set(row) for row in rows.values())
    assert ("s", ["UVIS", "IR", "WFPC2"]) == (rows["exptime"]["unit"], rows["exptime"]["detectors"])
    assert {"F606W", "F160W"} <= set(rows["filter"]["values"])
    assert ["UVIS", "IR"] == rows["filter"]["detectors"]


@pytest.mark.parametrize(
    ("words", "has", "lacks"),
    [("uvis", "FQ232N", "F160W"), ("IR", "F160W", "FQ232N"), ("WFPC2", "F1042M", "FQ232N"),
     ("IR,WFPC2", "F170W", "FQ232N"), ("all", "FQ232N", "F999W")],
)  # fmt: skip
def test_columns_of_one_detector(psfharvest, words: str, has: str, lacks: str) -> None:
    """Only the detector's own columns and filters are shown."""
    run = psfharvest("columns", words)

    assert 0 == run.status
    assert has in run.out
    assert lacks not in run.out
    assert ("proptype" in run.out) == (words != "WFPC2")


@pytest.mark.parametrize("width", ["20", "40", "80", "132"])
def test_columns_fit_the_terminal(psfharvest, width: str) -> None:
    """No line is wider than the terminal."""
    run = psfharvest("columns", env={"COLUMNS": width})

    assert max(map(len, run.out.splitlines())) < int(width)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("words", "hints"),
    [(["UVIS", "filter=F606"], ["no source matches", "no filter F606", "near: F606W"]),
     (["WFPC2", "filter=F814W,F815W", "chip=9"], ["no filter F815W", "F814W", "no chip 9", "1, 2, 3, 4"]),
     (["IR", "psf_x_center=2000.."], ["1..1014 on IR"]),
     (["UVIS", "filter=F606W", "psf_flux=1e20.."], ["filter=F606W ", "psf_flux=1e+20.. 0"])],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["count", "query"])
def test_a_query_without_a_match_says_why(
    simulator: Simulator, psfharvest, verb: str, words: list[str], hints: list[str]
) -> None:
    """Standard error names the value that does not exist and near ones, or what each criterion matches alone."""
    run = psfharvest(verb, *words, env={"PSFHARVEST_ARCHIVE": simulator.url})

    assert (0, "0" if verb == "count" else "") == (run.status, run.out.strip())
    assert all(hint in run.err for hint in hints), run.err


def test_a_harvest_without_a_match_says_why(simulator: Simulator, psfharvest) -> None:
    """The report of a harvest that matches nothing explains it, too."""
    run = psfharvest(
        "harvest", "d", "UVIS", "filter=F606", "--suffix", "flt", env={"PSFHARVEST_ARCHIVE": simulator.url}
    )

    assert 0 == run.status
    assert "near: F606W" in run.err


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("words", "hints"),
    [(["UVIS", "n_sat_pixels=many"], ["Conversion failed", "n_sat_pixels=many", "a whole number"]),
     (["UVIS", "chip=2", "psf_flux=bright,3"], ["psf_flux=bright:", "a number"]),
     (["WFPC2", "filter=300..400"], ["filter_1=300..400", "give values", "F122M"])],
)  # fmt: skip
def test_an_error_of_the_archive_is_answered_with_column_and_value(
    simulator: Simulator, psfharvest, words: list[str], hints: list[str]
) -> None:
    """SQL's own words name no column: the one at fault, its value and what is allowed stand behind them."""
    run = psfharvest("count", *words, env={"PSFHARVEST_ARCHIVE": simulator.url})

    assert (2, "") == (run.status, run.out)
    assert all(hint in run.err for hint in hints), run.err


@pytest.mark.parametrize(
    ("word", "hint"), [("WFC3", "UVIS or IR"), ("wfc3/ir", "write IR"), ("uvsi", "did you mean")]
)
def test_instruments_are_answered_with_their_detectors(psfharvest, word: str, hint: str) -> None:
    """An instrument's name is no detector's; the message says which to write."""
    for verb in ("count", "columns"):
        run = psfharvest(verb, word)
        assert 2 == run.status
        assert hint in run.err


def test_filters_in_lower_case(simulator: Simulator, psfharvest) -> None:
    """A filter's name is understood in any case."""
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    upper, lower = (psfharvest("count", "UVIS", f"filter={name}", env=env).out for name in ("F606W", "f606w"))

    assert upper == lower != "0\n"
