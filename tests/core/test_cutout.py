"""A cutout in memory gives the pixels and the header that astropy gives."""

import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from psfharvest.core.fits.cutout import Cutout

URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514"
    "&format=fits/ibe802npq_27404778_F606W_flc_cutout.fits"
)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)


def written(*units: fits.PrimaryHDU | fits.ImageHDU | fits.BinTableHDU) -> bytes:
    """Give the bytes that astropy writes."""
    file = io.BytesIO()
    fits.HDUList(list(units)).writeto(file)
    return file.getvalue()


def scaled(pixels: np.ndarray, scale: float, zero: float) -> bytes:
    """Give a file whose stored whole numbers are scaled by its header, as BSCALE and BZERO have it."""
    body = written(fits.PrimaryHDU(pixels))
    cards = fits.Header({"BSCALE": scale, "BZERO": zero}).tostring(endcard=False, padding=False)
    end = body.index(b"END" + b" " * 77)
    return body[:end] + cards.encode() + body[end : 2880 - len(cards)].ljust(2880 - end - len(cards)) + body[2880:]


@given(hnp.arrays(st.sampled_from([">f4", "<f4"]), SHAPES, elements=st.floats(width=32)))
def test_float_pixels_are_astropys(pixels):
    """Pixels come out bit for bit, NaN and infinity included, in rows of x, native and writable."""
    cutout = Cutout(URI, written(fits.PrimaryHDU(pixels)))

    np.testing.assert_array_equal(fits.getdata(io.BytesIO(cutout.raw)), cutout.data)
    assert pixels.shape == cutout.data.shape
    assert np.dtype(np.float32) == cutout.data.dtype
    assert cutout.data.dtype.isnative
    assert cutout.data.flags.writeable


@given(
    hnp.arrays(">i2", SHAPES),
    st.sampled_from([(1, 0), (1, 32768), (2, 0), (0.5, -3.25), (-1, 10)]),
)
def test_scaled_whole_numbers_are_astropys(pixels, scaling):
    """Whole numbers with BSCALE and BZERO come out as the numbers that they stand for."""
    body = scaled(pixels, *scaling)
    with fits.open(io.BytesIO(body)) as file:
        np.testing.assert_allclose(file[0].data.astype(np.float32), Cutout(URI, body).data, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">i4", ">i8", ">f4", ">f8"])
def test_every_pixel_type(dtype):
    """All six pixel types of FITS are read."""
    pixels = np.arange(35).reshape(5, 7).astype(dtype)

    np.testing.assert_array_equal(pixels, Cutout(URI, written(fits.PrimaryHDU(pixels))).data)


def test_the_image_of_an_extension():
    """Where the primary array is empty, the first image extension is the image, its header included."""
    table = fits.BinTableHDU.from_columns([fits.Column("a", "B", array=np.ones(3, "u1"))])
    image = fits.ImageHDU(np.full((3, 4), 7.0, ">f4"), fits.Header({"FILTER": "F606W"}))
    cutout = Cutout(URI, written(fits.PrimaryHDU(), table, image))

    assert (3, 4) == cutout.data.shape
    assert "F606W" == cutout.header["FILTER"]


def test_the_header_is_astropys():
    """Every card of the image's header is there: values, comments, long texts and commentary."""
    header = fits.Header([("CRPIX1", 26.5, "shifted"), ("LONG", "x" * 100), ("FLAG", True), ("HISTORY", "made")])
    body = written(fits.PrimaryHDU(np.zeros((5, 5), ">f4"), header))

    assert fits.getheader(io.BytesIO(body)) == Cutout(URI, body).header
    assert "shifted" == Cutout(URI, body).header.comments["CRPIX1"]


@pytest.mark.parametrize(
    "raw", [b"", b"text", written(fits.PrimaryHDU()), b"SIMPLE", b"\x89PNG"], ids=lambda raw: repr(raw[:9])
)
def test_a_file_without_an_image(raw):
    """A file of another kind has no pixels, and says so with its dataURI."""
    with pytest.raises(ValueError, match="mast:x holds no image"):
        _ = Cutout("mast:x", raw).data


def test_its_source_and_name():
    """A cutout knows its row where there is one, and the archive's name for it; its repr leaves out the bytes."""
    cutout = Cutout.of(URI, b"\0" * 10_000, '{"id": 27404778, "focus": null}')

    assert {"id": 27404778, "focus": None} == cutout.source
    assert {} == Cutout.of(URI, b"", "").source
    assert "ibe802npq_27404778_F606W_flc_cutout.fits" == cutout.file_name
    assert len(repr(cutout)) < 250
