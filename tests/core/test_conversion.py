"""Criteria given as quantities, dates and times."""

import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.catalog.criterion import AnyOf, Between
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadQuery


def one(detector="UVIS", **criteria):
    (found,) = Query(detector, **criteria).criteria
    return found


def test_quantities_are_converted_to_the_columns_unit():
    """An end or a value with a unit means the same length of time, number of pixels, or flux."""
    assert one(exptime=(1 * u.min, 200 * u.s)) == Between("exptime", 60, 200)
    assert one(exptime=(None, 0.5 * u.h)) == Between("exptime", None, 1800)
    assert one(exptime=100_000 * u.ms) == AnyOf("exptime", ("100.0",))
    assert one(exptime=[1, 2] * u.min) == AnyOf("exptime", ("60.0", "120.0"))
    assert one(focus=(-2 * u.um, 3 * u.um)) == Between("focus", -2, 3)
    assert one(psf_x_center=(100 * u.pix, 102)) == Between("psf_x_center", 100, 102)
    assert one(psf_flux=(1e4 * u.electron, None)) == Between("psf_flux", 10000, None)
    assert one("IR", psf_flux=(10 * u.electron / u.s, None)) == Between("psf_flux", 10, None)


@pytest.mark.parametrize(
    ("detector", "criteria", "words"),
    [("UVIS", {"exptime": (1 * u.m, None)}, "exptime=1.0 m: a quantity in s"),
     ("UVIS", {"qfit": (0, 1 * u.s)}, "qfit=1.0 s: a plain number"),
     ("IR", {"psf_flux": 5 * u.electron}, "psf_flux=5.0 electron: a quantity in electron / s"),
     ("UVIS", {"filter": 3 * u.s}, "filter=3.0 s: a plain number")],
)  # fmt: skip
def test_a_unit_that_does_not_fit_is_refused(detector, criteria, words):
    """The message has column, value and what is allowed."""
    with pytest.raises(BadQuery, match=re.escape(words)):
        Query(detector, **criteria)


@pytest.mark.parametrize(
    "asked",
    [
        "2012-01-01..2013-01-01",
        ("2012-01-01", "2013-01-01"),
        (dt.date(2012, 1, 1), dt.date(2013, 1, 1)),
    ],
)
def test_a_range_of_dates_is_one_of_mjd(asked):
    """Both days are included."""
    found = one(date=asked)

    assert ("mjd", Time("2012-01-01").mjd) == (found.column, found.low)
    assert Time("2013-01-01T23:59:59").mjd < found.high < Time("2013-01-02").mjd


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("2012", "2012-01-01", "2013-01-01"),
     ("2012-12", "2012-12-01", "2013-01-01"), ("2012-02..", "2012-02-01", None),
     ("..2012", None, "2013-01-01"), ("2012..2014", "2012-01-01", "2015-01-01")],
)  # fmt: skip
def test_years_and_months_are_ranges(text, low, high):
    """A year or month is all of it; an end may be open; words of the shell mean the same."""
    found = one(date=text)

    assert found.low == (None if low is None else Time(low).mjd)
    assert (found.high is None) == (high is None)
    assert high is None or 0 < Time(high).mjd - found.high < 1e-6
    assert (found,) == Query.parse("UVIS", [f"date={text}"]).criteria


def test_times_of_every_make_are_mjd():
    """astropy's, numpy's and Python's times, and ISO texts, as ends of `mjd`."""
    for moment in (
        Time("2012-05-01T12:00:00"), np.datetime64("2012-05-01T12:00:00"), "2012-05-01T12:00:00",
        dt.datetime(2012, 5, 1, 12, tzinfo=dt.UTC),
    ):  # fmt: skip
        assert one(mjd=(moment, None)) == Between("mjd", 56048.5, None)
    assert one(date="2012-05-01") == AnyOf("date", ("2012-05-01",))
    assert one(date=dt.date(2012, 5, 1)) == AnyOf("date", ("2012-05-01",))


@given(st.dates(dt.date(1990, 1, 1), dt.date(2024, 1, 1)))
def test_mjd_is_astropys(day):
    """Our arithmetic of days is right."""
    assert one(mjd=(day, None)).low == Time(day.isoformat()).mjd


@pytest.mark.parametrize(
    ("criteria", "words"),
    [({"n_sat_pixels": {}}, "n_sat_pixels: an empty list"),
     ({"n_sat_pixels": None}, "n_sat_pixels=None: a whole number"),
     ({"filter": object}, "filter=<class 'object'>: a text is allowed"),
     ({"date": ("soon", None)}, "a date such as"),
     ({"psf_flux": float("nan")}, "psf_flux=nan: a finite number"), ({"date": "2012-13..2013"}, "2012-13"),
     ({"date": "2012-13"}, "a date is 2012"), ({"date": "2012-13-45"}, "a date is 2012"),
     ({"date": "soon"}, "a date is 2012"), ({"date": 5}, "a date is 2012"),
     ({"date": "20120501"}, "a date is 2012"), ({"date": "2012-W05"}, "a date is 2012"),
     ({"date": "2012-05..2012-W30"}, "2012-W30"), ({"date": (pd.NaT, None)}, "a date such as"),
     ({"date": pd.NaT}, "date=NaT"), ({"mjd": (None, pd.NaT)}, "a number or open"),
     ({"date": (np.datetime64("NaT"), None)}, "a date such as"), ({"mjd": (np.ma.masked, None)}, "cannot be nan")],
)  # fmt: skip
def test_a_wrong_type_says_column_value_and_what_is_allowed(criteria, words):
    """And never anything but BadQuery."""
    with pytest.raises(BadQuery, match=re.escape(words)):
        Query("UVIS", **criteria)
