"""The verdict on bytes, against files that astropy makes and reads."""

import io
import re
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.fits.fitscheck import BLOCK, ERROR_CHARS, Rejection, error_text, first_image, flaw, walk
from psfharvest.core.model import Reason

DTYPES = ["u1", ">i2", ">i4", ">i8", ">f4", ">f8"]
ROOT = "ibe802npq"


def written(*units: fits.PrimaryHDU | fits.ImageHDU | fits.BinTableHDU) -> bytes:
    """Give the bytes that astropy writes."""
    file = io.BytesIO()
    fits.HDUList(list(units)).writeto(file)
    return file.getvalue()


def cutout(size: int = 51, dtype: str = ">f4", **cards: object) -> bytes:
    """Give a cutout as fitscut would: a single primary image."""
    pixels = np.arange(size * size).reshape(size, size).astype(dtype)
    return written(fits.PrimaryHDU(pixels, fits.Header(list(cards.items()))))


def card(text: str) -> bytes:
    """Give one header card."""
    return text.encode("latin-1").ljust(80)


def header(*cards: str) -> bytes:
    """Give a whole header of these cards, padded to blocks."""
    text = b"".join(map(card, (*cards, "END")))
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


SMALL = cutout(5, ROOTNAME=ROOT, EXPNAME=ROOT.upper())
IN_EXTENSION = written(fits.PrimaryHDU(), fits.ImageHDU(np.ones((5, 5), ">f4")))


@given(st.lists(st.integers(0, 12), max_size=5), st.sampled_from(DTYPES), st.integers(0, 90))
def test_astropys_files_are_whole(shape, dtype, n_cards):
    """Whatever the axes, the pixel type and the length of the header, a file of astropy's is whole."""
    primary = fits.PrimaryHDU(np.zeros(shape, dtype) if shape else None)
    for n in range(n_cards):
        primary.header[f"CARD{n}"] = n
    body = written(primary)
    (unit,) = walk(body)

    assert None is flaw(body, None)
    assert len(body) == unit.end
    assert tuple(shape) == unit.shape
    assert fits.open(io.BytesIO(body))[0].fileinfo()["datLoc"] == unit.data_start


@given(st.integers(1, 30), st.sampled_from(DTYPES))
def test_only_the_asked_shape_passes(size, dtype):
    """A square image passes for its own size and for no other."""
    body = cutout(size, dtype)

    assert None is flaw(body, size)
    assert Reason.WRONG_SHAPE is flaw(body, size + 1).reason
    assert f"{size}x{size} instead of 51x51" == flaw(body, 51).detail


@pytest.mark.parametrize("shape", [(51, 50), (50, 51), (51,), (1, 51, 51), (51, 51, 1), ()])
def test_other_shapes_are_wrong(shape):
    """An image that is no square of two axes is no cutout, though it is a whole file."""
    body = written(fits.PrimaryHDU(np.zeros(shape, ">f4") if shape else None))

    assert Reason.WRONG_SHAPE is flaw(body, 51).reason
    assert None is flaw(body, None)


@given(st.integers(0, len(SMALL) - 1))
@example(2880)
@example(79)
@example(len(SMALL) - 1)
def test_a_proper_prefix_is_not_whole(length):
    """A body that ends early, at whichever byte, is never taken for the whole, with or without a size asked."""
    assert flaw(SMALL[:length], 5).reason in (Reason.TRUNCATED, Reason.EMPTY)
    assert flaw(SMALL[:length], None).reason in (Reason.TRUNCATED, Reason.EMPTY)


@given(st.integers(0, len(IN_EXTENSION) - 1))
@example(2880)
def test_a_proper_prefix_of_a_file_with_an_extension_is_no_cutout(length):
    """Where the image stands in an extension, its file is no cutout until the last byte is there."""
    assert None is not flaw(IN_EXTENSION[:length], 5)
    assert None is flaw(IN_EXTENSION, 5)


@given(st.sampled_from([SMALL, IN_EXTENSION]), st.binary(min_size=1) | st.integers(1, 3 * BLOCK).map(bytes))
@example(SMALL, b"\0" * BLOCK)
@example(SMALL, b"XTENSION")
@example(SMALL, b"XTENSION= 'IMAGE   '")
@example(SMALL, SMALL)
def test_bytes_behind_the_end_are_not_whole(body, tail):
    """Anything behind a file's end that is no whole extension spoils it."""
    assert flaw(body + tail, 5).reason in (Reason.TRAILING_BYTES, Reason.TRUNCATED)
    assert None is not flaw(body + tail, None)


@given(st.lists(st.sampled_from(["image", "cube", "table", "empty"]), max_size=4), st.integers(0, 4))
def test_the_image_may_stand_in_any_extension(kinds, where):
    """The first image extension with two axes is the image; tables, cubes and empty ones before it do not count."""
    make = {
        "image": lambda: fits.ImageHDU(np.ones((7, 7), ">i2")),
        "cube": lambda: fits.ImageHDU(np.ones((2, 5, 5), ">f4")),
        "table": lambda: fits.BinTableHDU.from_columns([fits.Column("a", "5B", array=np.ones((5, 5), "u1"))]),
        "empty": fits.ImageHDU,
    }
    before = [make[kind]() for kind in kinds]
    wanted = fits.ImageHDU(np.ones((5, 5), ">f4"))
    body = written(fits.PrimaryHDU(), *before[:where], wanted, *before[where:])
    is_first = "image" not in kinds[:where]

    assert (None if is_first else Reason.WRONG_SHAPE) == getattr(flaw(body, 5), "reason", None)
    assert ((5, 5) if is_first else (7, 7)) == first_image(walk(body)).shape


@pytest.mark.parametrize(
    ("cards", "verdict"),
    [({}, None),
     ({"ROOTNAME": "ibe802npq"}, None),
     ({"ROOTNAME": "IBE802NPQ"}, None),
     ({"EXPNAME": "ibe802npq"}, None),
     ({"ROOTNAME": "ibe802npq", "EXPNAME": "IBE802NPQ           "}, None),
     ({"ROOTNAME": ""}, None),
     ({"ROOTNAME": "id1x02phq"}, Reason.WRONG_SOURCE),
     ({"EXPNAME": "ID1X02PHQ"}, Reason.WRONG_SOURCE),
     ({"ROOTNAME": "ibe802npq", "EXPNAME": "id1x02phq"}, Reason.WRONG_SOURCE),
     ({"ROOTNAME": "ibe802np"}, Reason.WRONG_SOURCE),
     ({"COMMENT": "ROOTNAME= 'id1x02phq'", "OTHER": "EXPNAME = 'id1x02phq'"}, None)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("asked", ["ibe802npq", "IBE802NPQ"])
def test_another_exposures_header(cards, verdict, asked):
    """A header that names another exposure, in ROOTNAME or EXPNAME and in whichever case, is not believed."""
    body = cutout(5, **cards)

    assert verdict == getattr(flaw(body, 5, asked), "reason", None)
    assert None is flaw(body, 5)


def test_the_name_of_an_extension_counts():
    """A name in an extension's header is compared, too, and the detail tells both names."""
    body = written(fits.PrimaryHDU(), fits.ImageHDU(np.ones((5, 5), ">f4"), fits.Header({"EXPNAME": "ic3f22meq"})))

    assert Rejection(Reason.WRONG_SOURCE, "EXPNAME is 'ic3f22meq', asked was 'ibe802npq'") == flaw(body, 5, ROOT)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", Reason.EMPTY),
     (b"<html><body>down</body></html>", Reason.HTML_PAGE),
     (b"\r\n  <!DOCTYPE HTML PUBLIC><title>x</title>", Reason.HTML_PAGE),
     (b"<?xml version='1.0'?><error/>", Reason.HTML_PAGE),
     (b"\xef\xbb\xbf<!-- proxy --><html>", Reason.HTML_PAGE),
     (b"dataset parameter is required", Reason.TEXT_PAGE),
     (b"\x1f\x8b\x08\0\0\0\0", Reason.NOT_FITS),
     (b"SIMPLE", Reason.TRUNCATED),
     (b"SIMPLE  =", Reason.TRUNCATED),
     (b"Some image dimensions are negative for all planes\n", Reason.OFF_DETECTOR),
     (b"<html><b>Some image dimensions are negative for all planes</b>", Reason.OFF_DETECTOR),
     (b"\0" * 11520, Reason.NOT_FITS),
     (b"XTENSION= 'IMAGE   '", Reason.TEXT_PAGE)],
    ids=lambda v: repr(v[:20]) if isinstance(v, bytes) else str(v),
)  # fmt: skip
def test_what_is_no_fits(body, reason):
    """Error pages are told apart by what they are, for a cutout and for any other FITS file."""
    assert (reason, reason) == (flaw(body, 51).reason, flaw(body, None).reason)


def test_the_archives_words_are_kept():
    """The detail of an error page is its text, without tags, scripts and titles."""
    page = (
        b"<html><title>Oops</title><script>x<y</script>\n<h1>Error:</h1> <p>no <b>such</b>\x00 dataset</p></html>"
    )

    assert "Error: no such dataset" == flaw(page, 51).detail


@given(st.binary() | st.text().map(str.encode))
@example(b"<" * 9000)
def test_error_text_is_one_short_printable_line(body):
    """Whatever a page holds, its gist fits the limit and can be printed on one line."""
    text = error_text(body)

    assert len(text) <= ERROR_CHARS
    assert text == "" or text.isprintable()
    assert [] == re.findall(r"\s\s", text)


@given(st.binary(max_size=300), st.sampled_from([b"", b"SIMPLE  =", SMALL[:80], SMALL[:240], SMALL[:2880]]))
def test_arbitrary_bytes_never_raise(tail, head):
    """No bytes make the check raise, and none but a whole file passes as a cutout."""
    assert None is not flaw(head + tail, 51, ROOT)
    assert isinstance(flaw(head + tail, None), Rejection | None)


@given(st.lists(st.tuples(st.integers(0, 2879), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_headers_never_raise(changes):
    """A header with any bytes changed is judged, never choked on; what passes still has the asked shape."""
    body = bytearray(SMALL)
    for at, value in changes:
        body[at] = value
    verdict = flaw(bytes(body), 5, ROOT)

    if verdict is None:
        assert (5, 5) == first_image(walk(bytes(body))).shape
    else:
        assert verdict.detail


STRUCTURE = ["SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2",
             "NAXIS1  =                    5", "NAXIS2  =                    5"]  # fmt: skip


def lie(keyword: str, value: str) -> bytes:
    """Give a file of 5x5 pixels whose header says something else."""
    cards = [f"{keyword:8}= {value:>20}" if c.startswith(f"{keyword:8}") else c for c in STRUCTURE]
    return header(*cards) + bytes(BLOCK)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [("NAXIS1", "999999999999999999", Reason.TRUNCATED), ("NAXIS1", "9" * 30, Reason.NOT_FITS),
     ("NAXIS1", "-5", Reason.NOT_FITS), ("NAXIS1", "5.0", Reason.NOT_FITS), ("NAXIS1", "'5'", Reason.NOT_FITS),
     ("NAXIS1", "", Reason.NOT_FITS), ("NAXIS1", "0", Reason.TRAILING_BYTES), ("NAXIS", "3", Reason.NOT_FITS),
     ("NAXIS", "-1", Reason.NOT_FITS), ("NAXIS", "1000", Reason.NOT_FITS), ("NAXIS", "0", Reason.TRAILING_BYTES),
     ("BITPIX", "-33", Reason.NOT_FITS), ("BITPIX", "0", Reason.NOT_FITS), ("BITPIX", "T", Reason.NOT_FITS),
     ("NAXIS1", "5000", Reason.TRUNCATED)],
)  # fmt: skip
def test_headers_that_lie(keyword, value, reason):
    """A header that announces what the body does not hold is refused, and nothing is set aside for its claims."""
    body = lie(keyword, value)
    tracemalloc.start()
    try:
        verdict = flaw(body, 5)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reason is verdict.reason
    assert peak_bytes < 100_000


def test_a_lie_with_numbers_too_long_to_print():
    """A header whose size has thousands of digits is refused like any other."""
    axes = [f"NAXIS{n:<3}= {10**17:>20}" for n in range(1, 999)]
    body = header(*STRUCTURE[:2], "NAXIS   =                  998", *axes)

    assert Reason.TRUNCATED is flaw(body, 51).reason
    assert len(flaw(body, 51).detail) < 100


def test_a_header_without_end_is_not_read_for_ever():
    """A header that goes on and on is given up after its thousand blocks."""
    endless = card(STRUCTURE[0]) + card("COMMENT x") * 36_000

    assert Reason.NOT_FITS is flaw(endless, 51).reason
    assert Reason.TRUNCATED is flaw(endless[: 100 * BLOCK], 51).reason


def test_the_word_end_within_a_card_does_not_end_a_header():
    """Only a card of its own ends a header."""
    trap = "COMMENT " + "END".ljust(72)
    body = header(*STRUCTURE, trap, card("HISTORY").decode()[:40] + "END", "FILLER  = 1") + bytes(BLOCK)

    assert None is flaw(body, 5)


def test_extensions_without_number_are_given_up():
    """A body of ever more empty extensions is refused."""
    extension = header("XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 0", "PCOUNT  = 0", "GCOUNT  = 1")

    assert Reason.NOT_FITS is flaw(header(*STRUCTURE[:2], "NAXIS   = 0") + extension * 1001, None).reason
