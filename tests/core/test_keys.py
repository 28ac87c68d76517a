"""Keys: whatever a dataURI says, a path that harms nobody."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.fits.keys import MAX_COMPONENT, MAX_KEY, digest, key_of, number, safe

REAL_URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514"
    "&format=fits/ibe802npq_27404778_F606W_flc_cutout.fits"
)
PLAIN = re.compile(r"[A-Za-z0-9_.+=,@%~-]+")
DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
OURS = [
    "manifest.sqlite",
    "manifest.sqlite-wal",
    "shards",
    "parquet",
    "other",
    "contact-sheet.png",
    ".partial",
    ".lock",
]
TRICKS = ["..", ".", "", "~", "con", "NUL.txt", "a" * 300, "é" * 90, "\\", "a:b", "C:", "%2e%2e", "a.", *OURS]
PATHS = st.lists(st.text(max_size=30) | st.sampled_from(TRICKS), max_size=60).map("/".join)


@given(st.text() | st.sampled_from(TRICKS))
@example("é" * 300)
@example("." * 300)
def test_a_component_is_made_harmless(text):
    """Any text becomes a name that no file system minds: plain, short, not hidden, no step up, no device."""
    name = safe(text)

    assert len(name) <= MAX_COMPONENT
    assert text == "" or PLAIN.fullmatch(name)
    assert not name.startswith((".", "-"))
    assert not name.endswith(".")
    assert not DEVICES.fullmatch(name)


@given(st.from_regex(r"[A-Za-z0-9_+=,@][A-Za-z0-9_.+=,@-]{0,180}[A-Za-z0-9_]", fullmatch=True))
def test_what_is_plain_stays(text):
    """A name of plain characters is its own key, unless it is a device's."""
    assert (f"_{text}" if DEVICES.fullmatch(text) else text) == safe(text)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
@example("a" * 200 + "x", "a" * 200 + "y")
@example("a%2F", "a/")
@example("a b", "a%20b")
def test_different_components_stay_different(one, other):
    """Two texts get one name only where they differ by what had to be put before or behind it."""
    same = safe(one) == safe(other)

    assert same or one != other
    assert not same or one == other or one.strip("_.-") == other.strip("_.-")


@given(PATHS | st.text(), st.integers(0, 12))
@example("?", 0)
@example("a?", 0)
@example("///", 1)
@example("/".join(["é" * 40] * 40), 0)
@example("WFC3PSF/../../etc/passwd", 0)
@example("Manifest.SQLITE", 0)
def test_any_uris_key_is_a_safe_path(path, copy):
    """The key of any mast: URI is a short relative path of harmless names that is none of the folder's own."""
    uri = f"mast:{path}"
    key = key_of(uri, None, copy)
    components = key.split("/")

    assert all(PLAIN.fullmatch(c) and not c.startswith((".", "-")) and len(c) <= 210 for c in components)
    assert len(key) <= MAX_KEY + 10
    assert not key.casefold().startswith(tuple(OURS))
    assert key.isascii()


@given(st.sampled_from(["WFC3", "WFPC2"]), st.from_regex(r"[!-~]{1,40}", fullmatch=True), st.integers(0, 10**17))
@example("WFC3", "../../x", 5)
@example("WFPC2", "F606W;F814W", 5)
def test_a_cutouts_key_is_its_folder_and_file_name(instrument, name, source_id):
    """A cutout's key is its instrument's folder and the archive's file name, however odd the filter's name."""
    suffix = "flt" if instrument == "WFC3" else "d0m"
    parts = datauri.CutoutURI(instrument, "u2", suffix, 1, 51, "1.0", "2.0", source_id, name)
    uri = str(parts)
    folder, *rest = key_of(uri, parts).split("/")

    assert f"{instrument}PSF" == folder
    assert [safe(parts.file_name)] == rest
    if re.fullmatch(r"[A-Za-z0-9]+", name):
        assert [parts.file_name] == rest


@given(st.integers(1, 1000))
def test_a_long_exposure_name_gives_no_long_component(length):
    """No rootname, however long, makes a key that a file system would refuse."""
    uri = REAL_URI.replace("ibe802npq", "a" * length)
    try:
        key = key_of(uri, datauri.parse(uri))
    except BadURI:
        return

    assert max(map(len, key.split("/"))) <= MAX_COMPONENT


def test_the_real_key():
    """The example's key is what DESIGN 3.2 calls the flat layout."""
    assert "WFC3PSF/ibe802npq_27404778_F606W_flc_cutout.fits" == key_of(REAL_URI, datauri.parse(REAL_URI))


@pytest.mark.parametrize(
    ("uri", "key"),
    [("mast:HST/product/ib_flc.fits", "HST/product/ib_flc.fits"),
     ("mast:HLA/url/x.cgi?red=a&format=fits/a b.fits", "HLA/url/x.cgi/red=a%26format=fits_a%20b.fits"),
     ("mast:../x", "_.._/x"), ("mast:shards/0.tar", "_shards/0.tar"), ("mast:/", "_"), ("mast:a?", "a")],
)  # fmt: skip
def test_other_uris_keep_their_path(uri, key):
    """Any other URI's key is its own path, made safe, with what was asked of it at the end."""
    assert key == key_of(uri, None)


@given(st.from_regex(r"[a-z]{1,5}(/[a-z.]{1,8}){0,2}", fullmatch=True), st.sets(st.integers(0, 50), min_size=2))
def test_copies_have_keys_of_their_own(key, copies):
    """The copies of one name are all different, stand beside it, and keep its ending."""
    keys = [number(key, copy) for copy in sorted(copies)]

    assert len(copies) == len(set(keys))
    assert {key.count("/")} == {k.count("/") for k in keys}
    assert {key.rpartition("/")[0]} == {k.rpartition("/")[0] for k in keys}
    assert key == number(key, 0)


@pytest.mark.parametrize(
    ("key", "copy", "numbered"),
    [("a/b.fits", 1, "a/b-2.fits"), ("a/b", 1, "a/b-2"), ("a.b/c", 2, "a.b/c-3"), ("b.tar.gz", 1, "b.tar-2.gz")],
)
def test_a_copys_number_stands_before_the_ending(key, copy, numbered):
    """The second of a name is number 2."""
    assert numbered == number(key, copy)


@given(st.text(max_size=20), st.text(max_size=20))
@example("A/b", "a/B")
@example("Straße", "STRASSE")
def test_digests_are_equal_for_keys_that_differ_in_case_only(one, other):
    """A file system that ignores case sees one name where the digests are equal, and only there."""
    assert (one.casefold() == other.casefold()) == (digest(one) == digest(other))
    assert 12 == len(digest(one)) if one.isascii() else True


@given(PATHS)
def test_a_uri_that_is_accepted_has_a_digest(path):
    """Whatever the grammar lets through has a key and a digest."""
    try:
        parts = datauri.parse(f"mast:{path}")
    except BadURI:
        return

    assert 12 == len(digest(key_of(f"mast:{path}", parts)))
