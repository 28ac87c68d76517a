"""The three databases, and which suffixes fit them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.catalog.detectors import DETECTORS, SUFFIX_MEANING, detector
from psfharvest.core.errors import BadQuery

HAVE = {"UVIS": ["raw", "flt", "flc"], "IR": ["raw", "flt"], "WFPC2": ["d0m", "c0m"]}


@pytest.mark.parametrize("name", HAVE)
@given(st.data())
def test_detector_in_any_case(name, data):
    """A detector's name is understood in any case and with blanks around it."""
    typed = "".join(c.lower() if data.draw(st.booleans()) else c for c in name)

    assert name == detector(typed).name == detector(f" {typed}\n").name


@given(st.text())
def test_other_words_are_refused_with_the_right_ones(word):
    """Any other word is refused by a message that names all three detectors."""
    if word.strip().upper() in HAVE:
        return

    with pytest.raises(BadQuery, match="UVIS, IR, WFPC2") as caught:
        detector(word)

    assert caught.value.field == "detector"


@pytest.mark.parametrize(("word", "near"), [("UVSI", "UVIS"), ("wfpc", "WFPC2"), ("ir2", "IR")])
def test_a_near_miss_is_told_the_nearest(word, near):
    """A detector misspelt is answered with the one that was meant."""
    with pytest.raises(BadQuery, match=rf"did you mean {near}\?"):
        detector(word)


@pytest.mark.parametrize("thing", [None, 3, ["UVIS"], b"UVIS"])
def test_a_detector_is_a_word(thing):
    """Anything but a text is refused as bad input."""
    with pytest.raises(BadQuery, match="UVIS, IR, WFPC2"):
        detector(thing)


@pytest.mark.parametrize("name", HAVE)
@given(suffixes=st.lists(st.sampled_from([*SUFFIX_MEANING, "drz"]), max_size=4))
def test_suffixes_fit_or_are_refused_with_those_that_do(name, suffixes):
    """Suffixes are accepted, each once and in order, exactly when the detector has them all."""
    if suffixes and set(suffixes) <= set(HAVE[name]):
        assert tuple(dict.fromkeys(suffixes)) == DETECTORS[name].check_suffixes(suffixes)
        return

    with pytest.raises(BadQuery) as caught:
        DETECTORS[name].check_suffixes(suffixes)

    assert caught.value.field == "suffix"
    assert all(f"{right} (" in str(caught.value) for right in HAVE[name])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("IR", "flc"), ("WFPC2", "flt"), ("WFPC2", "raw"), ("UVIS", "d0m"), ("UVIS", "c0m"), ("IR", "c0m")],
)
def test_wrong_pairs_say_what_the_suffix_is(name, suffix):
    """The message of a wrong pair says what the suffix means and which detector lacks it."""
    with pytest.raises(BadQuery, match=f"{suffix!r} is {SUFFIX_MEANING[suffix]}, which {name} does not have"):
        DETECTORS[name].check_suffixes([suffix])
