"""The catalogue keeps its promises for every seed and size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psfharvest.simulator import Catalogue, Settings
from psfharvest.simulator.sky.synthesis import places
from sampling import examples

sizes = st.integers(0, 3_000)
seeds = st.integers(0, 2**32)
DETECTORS = ("UVIS", "IR", "WFPC2")


def catalogue(sources: int, seed: int, **more: int) -> Catalogue:
    """Make a catalogue."""
    return Catalogue(Settings(sources=sources, seed=seed, **more))


@settings(max_examples=examples(30), deadline=None)
@given(sizes, seeds)
def test_six_answer_the_notebook(sources, seed):
    """Exactly six unsaturated UVIS sources have their centre in 100..102, whatever the seed and size."""
    rows = catalogue(sources, seed).rows("UVIS")
    x, y = rows["psf_x_center"], rows["psf_y_center"]
    inside = (x >= 100) & (x <= 102) & (y >= 100) & (y <= 102)

    assert inside.sum() == 6
    assert not rows["n_sat_pixels"][inside].any()
    assert {8184981, 8986399, 30113376, 32834736, 17177489} < set(rows["id"][inside].tolist())


def test_box_is_kept_free_in_a_crowd():
    """No synthetic source strays into the notebook's box, even in a crowd of millions."""
    n = 3_000_000
    for seed in range(4):
        x, y, _ = places("UVIS", n, np.full(n, 2, dtype=np.int8), np.random.default_rng(seed))
        around = (abs(x - 1_010_000) <= 30_000) & (abs(y - 1_010_000) <= 30_000)
        inside = (abs(x - 1_010_000) <= 10_000) & (abs(y - 1_010_000) <= 10_000)

        assert around.any()
        assert not inside.any()


@settings(max_examples=examples(20), deadline=None)
@given(sizes, seeds)
def test_ids_are_unique_and_sorted(sources, seed):
    """An id stands for one source of its database, and rows come sorted by it."""
    whole = catalogue(sources, seed)
    for detector in DETECTORS:
        ids = whole.rows(detector)["id"]

        assert (np.diff(ids) > 0).all()
    assert sources + 25 == sum(len(whole[detector]) for detector in DETECTORS)


def test_rootnames_are_unique_over_all_databases():
    """No exposure's name stands for two exposures."""
    whole = catalogue(20_000, 9)
    names = [name for detector in DETECTORS for name in whole[detector].exposures.rootname.tolist()]

    assert len(names) == len(set(names))
    assert {9} == {len(name) for name in names}


@pytest.mark.parametrize(("detector", "share"), [("UVIS", 0.4), ("IR", 0.3), ("WFPC2", 0.3)])
def test_shares(detector, share):
    """Sources are split 40:30:30; nine in ten are unsaturated; F606W and F814W are among the filters."""
    rows = catalogue(20_000, 2).rows(detector)

    assert share * 20_000 == pytest.approx(len(rows["id"]), abs=25)
    assert pytest.approx((rows["n_sat_pixels"] == 0).mean(), abs=0.02) == 0.9
    assert ((rows["n_sat_pixels"] == 0) == (rows["qfit"] > 0)).all()
    name = "filter_1" if detector == "WFPC2" else "filter"
    assert {"F606W", "F814W"} <= set(rows[name].tolist()) or detector == "IR"
    assert (("proptype" in rows), ("filter_2" in rows)) == (detector != "WFPC2", detector == "WFPC2")


def test_same_seed_same_catalogue():
    """A catalogue is a function of its seed and size."""
    one, two, other = catalogue(500, 3), catalogue(500, 3), catalogue(500, 4)
    for detector in DETECTORS:
        for name, values in one.rows(detector).items():
            np.testing.assert_array_equal(values, two.rows(detector)[name])
        assert (one.rows(detector)["id"][:20] != other.rows(detector)["id"][:20]).any()


def test_real_rows_print_as_recorded():
    """The recorded rows are there, digit by digit."""
    rows = catalogue(100, 8).rows("UVIS")
    at = int(np.flatnonzero(rows["id"] == 25899457)[0])
    recorded = {
        "rootname": "ibcd40kvq", "filter": "F606W", "chip": "2", "exptime": 450.0, "psf_x_center": 2117.457,
        "psf_y_center": 727.3718, "pixc": 59853.12, "sky": 42.24, "qfit": 0.047, "iso_index": 24, "subarray": 0,
        "x_raw": 2201.457, "y_raw": 726.3718, "x_cal": 2116.457, "y_cal": 726.3718,
    }  # fmt: skip

    assert recorded == {name: rows[name][at].item() for name in recorded}


def test_geometry_of_uvis():
    """Calibrated positions follow from the centre, and chip 1 sits on top of chip 2."""
    rows = catalogue(2_000, 1).rows("UVIS")
    top = rows["chip"] == "1"

    np.testing.assert_allclose(rows["x_cal"], rows["psf_x_center"] - 1, atol=1e-9)
    np.testing.assert_allclose(rows["y_cal"], rows["psf_y_center"] - 1 - 2048 * top, atol=1e-9)
    np.testing.assert_allclose(rows["x_raw"] - rows["x_cal"], np.where(rows["x_cal"] < 2048, 25, 85), atol=1e-9)
    np.testing.assert_allclose(rows["y_raw"] - rows["y_cal"], np.where(top, 19, 0), atol=1e-9)
    assert ((rows["y_cal"] >= 0) & (rows["y_cal"] < 2048)).all()


def test_unknown_raw_offsets_are_switches():
    """The raw offsets that nobody knows are what the settings say."""
    whole = catalogue(500, 1, raw_border_ir=7, raw_border_wfpc2=3, raw_rows_below_chip1=11)

    for detector, offset in (("IR", 7), ("WFPC2", 3)):
        rows = whole.rows(detector)
        np.testing.assert_allclose(rows["x_raw"] - rows["x_cal"], offset, atol=1e-9)
    uvis = whole.rows("UVIS")
    top = uvis["chip"] == "1"
    np.testing.assert_allclose((uvis["y_raw"] - uvis["y_cal"])[top], 11, atol=1e-9)


def test_some_values_are_null():
    """Focus, time and date are null for some sources, and nothing that may not be null is."""
    rows = catalogue(20_000, 1).rows("UVIS")

    assert 0 < np.isnan(rows["focus"]).mean() < 0.5
    assert 0 < (rows["date"] == "").mean() < 0.5
    assert not np.isnan(rows["x_cal"]).any()
    assert not (rows["rootname"] == "").any()


def test_some_sources_stand_at_the_edge():
    """Cutouts of some sources reach beyond the detector."""
    x = catalogue(2_000, 1).rows("IR")["x_cal"]

    assert ((x < 20) | (x > 993)).sum() > 5


def test_the_second_notebooks_query_gives_fifty() -> None:
    """Thirteen criteria around the 19 recorded rows give these and 31 more, whatever the seed."""
    bounds = {
        "psf_x_center": (1400, 2200), "psf_y_center": (600, 1400), "qfit": (0, 0.05), "exptime": (30, 800),
        "iso_index": (20, 4096), "psf_flux": (1e5, 3e5), "pixc": (59_000, 63_500), "sky": (30, 50),
        "focus": (-10, 10),
    }  # fmt: skip
    for seed in (0, 1, 7):
        rows = Catalogue(Settings(seed=seed)).rows("UVIS")
        keeps = (rows["subarray"] == 0) & (rows["n_sat_pixels"] == 0) & (rows["filter"] == "F606W")
        keeps &= rows["mtflag"] == "0"
        for name, (low, high) in bounds.items():
            keeps &= (rows[name] >= low) & (rows[name] <= high)
        assert keeps.sum() == 50
        assert len(set(rows["rootname"][keeps])) == 50
