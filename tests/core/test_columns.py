"""What is known of the columns, and how a name is resolved."""

import pytest
from astropy import units
from hypothesis import assume, given
from hypothesis import strategies as st

from psfharvest.core.catalog import columns
from psfharvest.core.catalog.columns import COLUMNS, near_matches, resolve, resolve_all
from psfharvest.core.catalog.detectors import DETECTORS, IR, UVIS, WFPC2
from psfharvest.core.errors import BadQuery

PLACES = st.sampled_from(list(DETECTORS.values()))


@given(PLACES, st.sampled_from(list(COLUMNS)))
def test_known_columns_resolve_where_they_exist(place, name):
    """A known column is itself where it exists and refused where not; filter is filter_1 on WFPC2."""
    if name == "filter":
        assert {"UVIS": "filter", "IR": "filter", "WFPC2": "filter_1"}[place.name] == resolve(name, place)
    elif place.name in COLUMNS[name].only:
        assert name == resolve(name, place)
    else:
        with pytest.raises(BadQuery, match=f"'{name}' does not exist for {place.name}, only for") as caught:
            resolve(name, place)

        assert name == caught.value.field


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [("filter_1", UVIS, "only for WFPC2; use filter$"), ("filter_2", IR, "only for WFPC2; use filter$"),
     ("proptype", WFPC2, "only for UVIS and IR$")],
)  # fmt: skip
def test_columns_of_other_detectors_name_the_right_ones(name, place, words):
    """The message says where the column exists, and what to use instead of another detector's filter."""
    with pytest.raises(BadQuery, match=words):
        resolve(name, place)


@given(PLACES, st.sampled_from(list(COLUMNS)), st.data())
def test_a_known_column_misspelt_is_refused_with_the_right_one(place, name, data):
    """Two letters swapped in a longer name are answered with that name among the near matches."""
    assume(len(name) > 5 and place.name in COLUMNS[name].only)
    at = data.draw(st.integers(1, len(name) - 2))
    typed = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    assume(typed not in COLUMNS)

    with pytest.raises(BadQuery, match=r"did you mean") as caught:
        resolve(typed, place)

    assert name in str(caught.value)
    assert name in near_matches(typed, place)


@given(PLACES, st.text(max_size=20))
def test_other_names_are_passed_on_or_refused(place, name):
    """A name that is like no known one is the archive's to judge; what is no name at all is refused."""
    try:
        resolved = resolve(name, place)
    except BadQuery as error:
        assert name == error.field  # noqa: PT017 - raised or not, both are right
        return

    assert resolved in (name, place.filter_column)
    assert name.isidentifier()


@given(PLACES, st.text(max_size=20))
def test_near_matches_are_the_detectors_own(place, name):
    """A suggestion is always a column that the detector has."""
    assert all(place.name in COLUMNS[near].only for near in near_matches(name, place))


def test_resolve_all_keeps_order_and_doubles_once():
    """Names come out in the order given, each once, also where two spellings mean one column."""
    assert resolve_all(["qfit", "filter", "id", "filter_1", "qfit"], WFPC2) == ("qfit", "filter_1", "id")


@pytest.mark.parametrize("place", DETECTORS.values(), ids=lambda d: d.name)
def test_needed_columns_exist(place):
    """What a dataURI needs is among the columns that the detector has."""
    assert list(columns.needed(place)) == [resolve(name, place) for name in columns.needed(place)]


def test_units_and_kinds_are_known_to_astropy():
    """Every unit is one of astropy's, and every kind one of ours."""
    assert all(units.Unit(c.unit) is not None for c in COLUMNS.values())
    assert {"int", "float", "str"} == {c.kind for c in COLUMNS.values()}
