"""The grammar of dataURIs, against the published one, the real rows, and any text."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.catalog.detectors import DETECTORS, IR, UVIS, WFPC2, Detector
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.fits.datauri import CutoutURI

DATA = Path(__file__).parents[1] / "data"
REAL_URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514"
    "&format=fits/ibe802npq_27404778_F606W_flc_cutout.fits"
)
SERVICE = REAL_URI.partition("?")[0]
PAIRS = [(detector, suffix) for detector in DETECTORS.values() for suffix in detector.suffixes]


def real_rows() -> list[dict[str, str]]:
    """Give the 19 real rows that the published notebook printed, as texts."""
    with (DATA / "uvis_rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def published(row: dict[str, Any], detector: str, suffix: str, unsat_size: int = 51, sat_size: int = 101) -> str:
    """Build a dataURI by the published notebook's rule, written anew from PROTOCOL 4 and 2."""
    instrument = "WFPC2" if detector == "WFPC2" else "WFC3"
    filt = row["filter_1"] if detector == "WFPC2" else row["filter"]
    if detector == "UVIS":
        ext = "4" if str(row["chip"]) == "1" and int(row["subarray"]) == 0 else "1"
    else:
        ext = str(row["chip"])
    size = unsat_size if float(row["qfit"]) > 0 else sat_size
    x, y = (row["x_raw"], row["y_raw"]) if suffix in ("raw", "d0m") else (row["x_cal"], row["y_cal"])
    name = row["rootname"] + "_" + str(row["id"]) + "_" + filt + "_" + suffix + "_cutout.fits"
    return (
        "mast:" + instrument + "PSF/url/cgi-bin/fitscut.cgi?red=" + row["rootname"] + "_" + suffix + "[" + ext + "]"
        "&size=" + str(size) + "&x=" + str(float(x)) + "&y=" + str(float(y)) + "&format=fits/" + name
    )  # fmt: skip


SIZES = st.integers(1, 4000)
COORDINATES = st.floats(-1e4, 1e4) | st.integers(-(10**8), 10**8).map(lambda n: n / 10_000)


def rows_of(detector: Detector) -> st.SearchStrategy[dict[str, Any]]:
    """Give rows as the archive could hold them, with its numbers in any of the types that they travel in."""
    chips = {"UVIS": [1, 2], "IR": [1], "WFPC2": [1, 2, 3, 4]}[detector.name]
    whole = st.sampled_from([int, str, np.int64, np.int32])
    return st.fixed_dictionaries(
        {
            "id": st.tuples(whole, st.integers(0, 2**31 - 1)).map(lambda t: t[0](t[1])),
            "rootname": st.from_regex(r"[a-z0-9]{9}", fullmatch=True),
            detector.filter_column: st.from_regex(r"F[A-Z0-9]{3,6}", fullmatch=True),
            "chip": st.tuples(whole, st.sampled_from(chips)).map(lambda t: t[0](t[1])),
            "subarray": st.tuples(whole, st.sampled_from([0, 1])).map(lambda t: t[0](t[1])),
            "qfit": st.just(0.0) | st.floats(0, 1) | st.floats(0, 1).map(np.float64) | st.floats(0, 1).map(str),
            **{name: COORDINATES | COORDINATES.map(np.float64) for name in ("x_cal", "y_cal", "x_raw", "y_raw")},
        }
    )


@given(st.sampled_from(PAIRS).flatmap(lambda p: st.tuples(st.just(p), rows_of(p[0]))), SIZES, SIZES)
def test_build_is_the_published_grammar_and_parses_back(asked, unsat, sat):
    """Whatever a row holds, its dataURI is byte for byte the published rule's, and reading it loses nothing."""
    (detector, suffix), row = asked

    uri = datauri.build_checked(row, detector, suffix, unsat_size_px=unsat, sat_size_px=sat)

    assert published(row, detector.name, suffix, unsat, sat) == str(uri)
    assert uri == datauri.parse(str(uri))
    assert uri.file_name == datauri.file_name(str(uri))


@pytest.mark.parametrize("suffix", UVIS.suffixes)
@pytest.mark.parametrize("row", real_rows(), ids=lambda row: row["rootname"])
def test_real_rows_give_the_published_uris(row, suffix):
    """Each of the 19 real rows gives what the published rule gives."""
    assert published(row, "UVIS", suffix) == str(datauri.build_checked(row, UVIS, suffix))


def test_protocol_example():
    """The first real row gives the dataURI that PROTOCOL quotes, and its parts are the row's."""
    row = real_rows()[0]

    assert str(datauri.build(row, UVIS, "flc")) == REAL_URI
    assert CutoutURI("WFC3", "ibe802npq", "flc", 1, 51, "1977.875", "675.3514", 27404778, "F606W") == datauri.parse(
        REAL_URI
    )


def test_rows_of_an_astropy_table_build_too():
    """A row of a Table, whose cells are numpy scalars, serves like a dict."""
    table = Table.read(DATA / "uvis_rows.csv", format="ascii.csv")

    assert [str(datauri.build(dict(zip(r.colnames, r, strict=True)), UVIS, "raw")) for r in table] == [
        published(row, "UVIS", "raw") for row in real_rows()
    ]


@pytest.mark.parametrize(
    ("chip", "subarray", "extension"),
    [("1", 0, 4), (1, 0, 4), (np.int64(1), np.int64(0), 4), (" 1 ", "0", 4), (1.0, 0.0, 4),
     ("1", 1, 1), ("2", 0, 1), (2, 0, 1), (np.str_("2"), 1, 1)],
    ids=repr,
)  # fmt: skip
def test_uvis_extension(chip, subarray, extension):
    """Chip 1 of a full frame is extension 4, however the chip is typed; all else of UVIS is extension 1."""
    row = real_rows()[0] | {"chip": chip, "subarray": subarray}

    assert extension == datauri.build(row, UVIS, "flt").extension


@pytest.mark.parametrize("detector", [IR, WFPC2], ids=lambda d: d.name)
@pytest.mark.parametrize("chip", ["1", 2, np.int16(3), 4.0], ids=repr)
@pytest.mark.parametrize("subarray", [0, 1])
def test_other_detectors_extension_is_the_chip(detector, chip, subarray):
    """On IR and WFPC2 the extension is the chip's number, full frame or not."""
    row = real_rows()[0] | {"chip": chip, "subarray": subarray, "filter_1": "F606W"}

    assert int(float(chip)) == datauri.build(row, detector, detector.suffixes[0]).extension


@pytest.mark.parametrize(
    ("qfit", "size"), [(0.041, 51), ("0.041", 51), (1e-9, 51), (0, 101), ("0.0", 101)], ids=repr
)
def test_saturated_sources_get_the_larger_cutout(qfit, size):
    """A qfit of exactly 0 marks a saturated source."""
    assert size == datauri.build(real_rows()[0] | {"qfit": qfit}, UVIS, "flt").size_px


@pytest.mark.parametrize(
    ("number", "text"),
    [(40, "40.0"), ("40", "40.0"), (1e-05, "1e-05"), (0.1 + 0.2, "0.30000000000000004"),
     (np.float64(675.3514), "675.3514"), (np.float32(0.5), "0.5"), ("675.3514", "675.3514"),
     (1e16, "1e+16"), (-0.0, "-0.0")],
    ids=repr,
)  # fmt: skip
def test_coordinates_are_the_shortest_texts(number, text):
    """Coordinates print as ``str(float)`` does: the fewest digits that give the number back."""
    uri = datauri.build_checked(real_rows()[0] | {"x_cal": number}, UVIS, "flt")

    assert text == uri.x


MASKED_TABLE_CELL = Table({"v": MaskedColumn([1.0], mask=[True])})["v"][0]
NOTHINGS = [float("nan"), None, MASKED_TABLE_CELL, "--", "nan", "", " ", np.float64("nan")]
NO_NUMBERS = [float("inf"), float("-inf"), "four", [1.0], pytest.param(10**400, id="10**400")]


@pytest.mark.parametrize("nothing", NOTHINGS, ids=repr)
@pytest.mark.parametrize("column", ["id", "rootname", "chip", "x_cal", "y_cal"])
def test_rows_without_a_value_are_refused_by_its_column(column, nothing):
    """A null, masked or blank value that a dataURI needs gives a BadURI that names source and column."""
    row = real_rows()[0] | {"chip": "1", column: nothing}

    with pytest.raises(BadURI, match=f"'source .*': {column} is null"):
        datauri.build(row, UVIS, "flt")


@pytest.mark.parametrize("garbled", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("column", ["id", "chip", "subarray", "qfit", "x_cal", "y_cal"])
def test_rows_without_a_number_are_refused(column, garbled):
    """A garbled or infinite number gives no dataURI but a BadURI that names source and column."""
    row = real_rows()[0] | {"chip": "1", column: garbled}

    with pytest.raises(BadURI, match=f"'source .*': {column} is "):
        datauri.build(row, UVIS, "flt")


@pytest.mark.parametrize("nothing", [*NOTHINGS, "absent"], ids=repr)
def test_what_a_uri_can_do_without(nothing):
    """Without qfit a source counts as saturated, without subarray as a full frame's; a filter's name is `--`."""
    row = real_rows()[0] | {"chip": "1"}
    for column, find, value in (("qfit", "size_px", 101), ("subarray", "extension", 4), ("filter", "filter", "--")):
        without = row | {column: nothing}
        if nothing == "absent":
            del without[column]

        assert value == getattr(datauri.build_checked(without, UVIS, "flt"), find), column


@pytest.mark.parametrize("column", ["id", "rootname", "chip", "x_raw", "y_raw", "x_cal", "y_cal"])
def test_rows_without_a_column_are_refused_by_its_name(column):
    """A column that is absent is named, unless this suffix does without it."""
    row = {name: value for name, value in real_rows()[0].items() if name != column}

    for suffix in ("raw", "flt"):
        if column.startswith(("x_", "y_")) and ("raw" in column) != (suffix == "raw"):
            assert isinstance(datauri.build(row, UVIS, suffix), CutoutURI)
            continue
        with pytest.raises(BadURI, match=f"column '{column}' is absent"):
            datauri.build(row, UVIS, suffix)


@pytest.mark.parametrize(
    ("detector", "chip", "extension"),
    [(UVIS, "1.0", 4), (UVIS, 1.0, 4), (UVIS, "UVIS1", 4), (UVIS, "uvis2", 1), (UVIS, "2 ", 1), (IR, None, 1),
     (IR, "IR", 1), (IR, "", 1), (IR, MASKED_TABLE_CELL, 1), (IR, "1", 1), (WFPC2, "WF3", 3), (WFPC2, "PC1", 1),
     (WFPC2, "PC", 1), (WFPC2, "4.0", 4), (WFPC2, None, None), (WFPC2, "WF", None), (UVIS, "IR", None),
     (UVIS, None, None), (UVIS, "1.5", None), (WFPC2, "3x", None)],
    ids=repr,
)  # fmt: skip
def test_a_chip_in_any_form(detector, chip, extension):
    """A chip is a number, or a name that ends in one; only IR does without."""
    row = real_rows()[0] | {"chip": chip, "filter_1": "F606W"}
    if extension is None:
        with pytest.raises(BadURI, match="chip is "):
            datauri.build(row, detector, detector.suffixes[0])
        return

    assert extension == datauri.build(row, detector, detector.suffixes[0]).extension


@pytest.mark.parametrize(
    ("subarray", "is_full"),
    [("F", True), ("T", False), (False, True), (True, False), ("false", True), ("1", False), (np.bool_(0), True)],
    ids=repr,
)
def test_a_subarray_in_any_form(subarray, is_full):
    """Whether a frame is a subarray may be a number, a truth value or a word."""
    row = real_rows()[0] | {"chip": "1", "subarray": subarray}

    assert is_full == (datauri.build(row, UVIS, "flt").extension == 4)


def test_texts_are_stripped():
    """Blanks that a database pads its texts with are no part of them."""
    padded = {name: f"{value}  " if isinstance(value, str) else value for name, value in real_rows()[0].items()}

    assert REAL_URI == str(datauri.build_checked(padded, UVIS, "flc"))


@pytest.mark.parametrize("id_", [1.5, "1.5", np.float64(2.25)], ids=repr)
def test_an_id_is_never_rounded(id_):
    """An id that is no whole number is refused, not cut."""
    with pytest.raises(BadURI):
        datauri.build(real_rows()[0] | {"id": id_}, UVIS, "flt")


@pytest.mark.parametrize(
    "wrong",
    [{"filter": "F606W F814W"}, {"filter": "F60é"}, {"rootname": "a/b"}, {"rootname": "ibe802npq_flt"}, {"id": -1},
     {"id": 10**18}, {"filter": "F606W\nx"}, {"chip": 1000, "subarray": 0}],
    ids=repr,
)  # fmt: skip
def test_rows_whose_texts_break_the_grammar_are_refused(wrong):
    """What would not be read back as it was written is refused by build_checked."""
    detector = IR if "chip" in wrong else UVIS
    with pytest.raises(BadURI, match=f"the row's {next(iter(wrong))} cannot stand in a dataURI"):
        datauri.build_checked(real_rows()[0] | wrong, detector, "flt")


URI_LIKE = st.text(st.sampled_from("mast:WFC3PSF/url?red=ibe_flc[1]&x=.5-+ \n\0\x85\ud800é"), max_size=60)


@given(st.text() | URI_LIKE | URI_LIKE.map("mast:".__add__) | st.text(st.characters(codec=None)))
@example("mast:")
@example("mast:\ud800")
@example("mast:a\x9bb")
def test_parse_gives_parts_or_none_or_badURI_for_any_text(text):  # noqa: N802 - the exception's name
    """Any text at all is a cutout, another mast: URI, or refused; what is accepted can be sent and shown."""
    try:
        parts = datauri.parse(text)
    except BadURI as error:
        assert text == error.text  # noqa: PT017 - raised or not, both are right
        return

    assert parts is None or text == str(parts)
    assert text.startswith("mast:")
    assert text.encode().decode() == text
    assert not any(ord(c) < 33 or 127 <= ord(c) < 160 for c in text)


@given(st.integers(0, len(REAL_URI) - 1), st.characters(codec=None))
@example(REAL_URI.index("1977"), "\ud800")
@example(REAL_URI.index("675"), "\0")
@example(REAL_URI.index("675"), "é")
def test_one_character_changed(at, character):
    """A dataURI with any one character changed is read losslessly, taken for another file's, or refused."""
    text = REAL_URI[:at] + character + REAL_URI[at + 1 :]
    try:
        parts = datauri.parse(text)
    except BadURI:
        return

    assert parts is None or (text == str(parts) and text.isascii() and text.isprintable())
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
     (f"{SERVICE}?red=ibe802npq_flc[1]", "size and x and y and format are absent"),
     (REAL_URI.partition("&y=")[0], "y and format are absent"),
     (SERVICE, "red and size and x and y and format are absent"),
     ("mast:HLA/url/cgi-bin/fitscut.cgi", "absent"), ("mast:WFPC2PSF/url/other", "absent"),
     ("mast:wfc3psf/URL/x", "absent"), ("mast:WFC3PSF%2Furl/x", "absent"), ("mast:WFC3PSF%252Furl/x", "absent"),
     (REAL_URI + "x", "'x' stands behind"), (REAL_URI + ",8000495,F390W", "',8000495,F390W' stands behind"),
     (REAL_URI + "\t12", "stands behind"), (REAL_URI[:-3], "has the form"),
     (REAL_URI.replace("flc[1]", "flt[1]"), "has the form"), (REAL_URI.replace("flc", "c1m"), "has the form"),
     (REAL_URI.replace("flc", "c0m"), "WFC3PSF has no c0m"),
     (REAL_URI.replace("size=51", "size=0"), "has the form"),
     (REAL_URI.replace("[1]", "[01]"), "has the form"), (REAL_URI.replace("_cutout", ""), "has the form"),
     (REAL_URI.replace("x=1977.875", "x=nan"), "has the form"),
     (REAL_URI.replace("y=675.3514", "y=--"), "has the form"),
     (REAL_URI.replace("F606W", "F606%20W"), "has the form"),
     ("", "begins with 'mast:'"), ("http://mast.stsci.edu", "begins with 'mast:'"), ("MAST:x", "begins with"),
     (" mast:x", "begins with"), ("mast:", "path must follow"), ("mast:a b", "spaces"), ("mast:a\n", "spaces"),
     ("mast:" + "a" * 2000, "longer than 2000"), ("mast:\ud800", "Unicode")],
)  # fmt: skip
def test_texts_that_are_no_datauri(text, why):
    """What is no dataURI is refused with the reason, and the message stays short."""
    with pytest.raises(BadURI, match=why) as caught:
        datauri.read(text)

    assert len(caught.value.why) < 200
    assert len(str(caught.value)) < 420


@pytest.mark.parametrize(
    "text",
    ["mast:HST/product/ibe802npq_flc.fits", "mast:x", "mast:HLA/url/cgi-bin/other.cgi?red=1", "mast:WFC3PSF/a.txt"],
)
def test_other_mast_uris_have_no_parts(text):
    """Other files of the archive are dataURIs without a cutout's parts, and keep their spelling."""
    assert (text, None) == datauri.read(text)


ESCAPES = {
    "none": lambda c: c,
    "brackets": lambda c: f"%{ord(c):02X}" if c in "[]" else c,
    "small letters": lambda c: f"%{ord(c):02x}" if c in "[]&=/?" else c,
    "html": lambda c: "&amp;" if c == "&" else c,
    "html twice": lambda c: "&amp;AMP;" if c == "&" else c,
    "number": lambda c: "&#38;" if c == "&" else c,
    "all": lambda c: f"%{ord(c):02X}",
    "twice": lambda c: f"%25{ord(c):02x}" if c in "[]+" else c,
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@given(rows_of(UVIS), st.booleans())
def test_every_spelling_of_a_cutout_is_one_cutout(escape, row, is_large):
    """However a dataURI was escaped on its way, it is read as the one that the row gives; so is its dataURL."""
    if is_large:
        row = row | {"x_cal": 1e16}  # printed with a plus sign
    uri = datauri.build_checked(row, UVIS, "flt")
    head, tail = str(uri)[:5], str(uri)[5:]
    prefix = "".join(map(escape, head)) if escape is ESCAPES["all"] else head

    assert (str(uri), uri) == datauri.read(prefix + "".join(map(escape, tail)))

    url = datauri.data_url(str(uri), "http://127.0.0.1:9")
    base, question, order = url.partition("?")
    assert ("http://127.0.0.1:9", str(uri)) == datauri.from_data_url(base + question + "".join(map(escape, order)))


@given(st.text(st.sampled_from("mast:/?%5bBaA2&;ampfitscut.cgi+~ é"), max_size=40).map("mast:".__add__))
def test_reading_again_changes_nothing(text):
    """What was read is read as itself; two spellings of another file differ in escapes only."""
    try:
        uri, parts = datauri.read(text)
    except BadURI:
        return

    assert (uri, parts) == datauri.read(uri)
    assert len(uri) <= len(text)


@pytest.mark.parametrize(
    ("text", "uri"),
    [("mast:HST/a%2fb%41.fits", "mast:HST/a%2FbA.fits"), ("mast:HST/a?b=1&amp;c=2", "mast:HST/a?b=1&c=2"),
     ("mast%3AHST%2Fproduct%2Fa.fits", "mast:HST/product/a.fits"), ("mast:HST/a+b%zz", "mast:HST/a+b%zz"),
     ("mast:HST/a%2Bb", "mast:HST/a%2Bb")],
)  # fmt: skip
def test_escapes_of_other_files(text, uri):
    """In another file's dataURI only what cannot change its meaning is made plain."""
    assert (uri, None) == datauri.read(text)


def test_data_url():
    """The dataURL is the one that PROTOCOL quotes, or the same under another base."""
    tail = (
        "/cgi-bin/hla/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514&format=fits"
        "&imagename=ibe802npq_27404778_F606W_flc_cutout.fits"
    )

    assert f"https://archive.stsci.edu{tail}" == datauri.data_url(REAL_URI)
    assert f"http://127.0.0.1:8000{tail}" == datauri.data_url(REAL_URI, "http://127.0.0.1:8000/")


@pytest.mark.parametrize("text", ["mast:HST/product/a.fits", "mast:a/b/c/d/e", REAL_URI.replace("F606W", "F6/06W")])
def test_other_files_have_no_data_url(text):
    """Only a cutout whose file name is one path component has a dataURL."""
    with pytest.raises(BadURI, match="dataURL"):
        datauri.data_url(text)
