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


def scaled(pixels: np.ndarray, scale: float, zero: float, **more: int) -> bytes:
    """Give a file whose stored whole numbers are scaled by its header, as BSCALE and BZERO have it."""
    body = written(fits.PrimaryHDU(pixels))
    cards = fits.Header({"BSCALE": scale, "BZERO": zero, **more}).tostring(endcard=False, padding=False)
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


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">i4", ">i8"])
@pytest.mark.parametrize("scaling", [(1, 0), (0.5, -3.25)])
@pytest.mark.parametrize("blank", [7, 99])
def test_whole_numbers_that_stand_for_no_value_are_nan(dtype, scaling, blank):
    """As astropy has it: the stored number that BLANK names, before it is scaled."""
    body = scaled(np.arange(35).reshape(5, 7).astype(dtype), *scaling, BLANK=blank)

    np.testing.assert_allclose(fits.getdata(io.BytesIO(body)).astype(np.float32), Cutout(URI, body).data, rtol=1e-6)
    assert (blank == 7) == np.isnan(Cutout(URI, body).data[1, 0])


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "i1"])
def test_unsigned_pixels_are_astropys(dtype):
    """FITS stores them shifted by half of their range, which a float of 64 bits does not bear for the longest."""
    pixels = np.arange(100, 135).reshape(5, 7).astype(dtype)

    np.testing.assert_array_equal(pixels, Cutout(URI, written(fits.PrimaryHDU(pixels))).data)


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


LOOKUP = [
    "CPDIS1  = 'LOOKUP  '", "CPDIS2  = 'LOOKUP  '", "DP1     = 'EXTVER: 1.0'", "DP1     = 'NAXES: 2.0'",
    "DP2     = 'EXTVER: 2.0'", "DP2     = 'NAXES: 2.0'", "CPERR1  =                 0.05", "D2IMDIS1= 'LOOKUP  '",
    "D2IM1   = 'EXTVER: 1.0'", "D2IM1   = 'NAXES: 2.0'", "D2IMERR1=                 0.04",
    "D2IMEXT = 'iref$y7b1516hi_d2i.fits'",
]  # fmt: skip


def on_the_sky(bunit: str = "ELECTRONS", value: float = 100.0) -> bytes:
    """Give a cutout with a celestial WCS, and cards of look-up tables that are not there, as the archive's have."""
    header = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -70.0, "CRPIX1": 26.0,
         "CRPIX2": 26.0, "CD1_1": -1.1e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1.1e-5, "BUNIT": bunit}
    )  # fmt: skip
    body = written(fits.PrimaryHDU(np.full((51, 51), value, ">f4"), header))
    cards = "".join(card.ljust(80) for card in LOOKUP).encode()
    end = body.index(b"END" + b" " * 77)
    whole = body[:end] + cards + b"END"
    return whole.ljust(-(-len(whole) // 2880) * 2880) + body[2880:]


def test_the_wcs_goes_without_tables_that_are_not_there():
    """The WCS is the linear one, where astropy's own reading of the header raises."""
    from astropy.wcs import WCS

    cutout = Cutout(URI, on_the_sky())
    with pytest.raises((ValueError, TypeError, AssertionError, KeyError)):
        WCS(cutout.header)
    sky = cutout.wcs.pixel_to_world(25, 25)

    assert (10.0, -70.0) == pytest.approx((sky.ra.deg, sky.dec.deg))
    with pytest.raises(ValueError, match="no celestial"):
        _ = Cutout(URI, written(fits.PrimaryHDU(np.zeros((3, 3), ">f4")))).wcs


@pytest.mark.parametrize(
    ("bunit", "source", "filter_name", "suffix", "expected"),
    [
        ("ELECTRONS", {}, "F606W", "flc", np.sqrt(100 + 3.1**2)),
        ("ELECTRONS/S", {"exptime": 50.0}, "F160W", "flt", np.sqrt(5000 + 12.0**2) / 50),
        ("COUNTS", {"sky": 30.0}, "F606W", "raw", np.sqrt(30 + 3.1**2) / 1.5),
    ],
)
def test_noise_is_that_of_photons_and_read_out(bunit, source, filter_name, suffix, expected):
    """In the unit of the pixels: electrons, electrons a second, or counts with their bias."""
    uri = URI.replace("F606W", filter_name).replace("_flc", f"_{suffix}")
    cutout = Cutout(uri, on_the_sky(bunit), source)

    np.testing.assert_allclose(cutout.sigma, expected, rtol=1e-6)


def test_a_cutout_becomes_ccddata():
    """Unit, WCS, NaN mask, uncertainty and header go along; a rate without exposure time has no noise."""
    raw = bytearray(on_the_sky())
    raw[-11520:-11516] = np.array(np.nan, ">f4").tobytes()
    cutout = Cutout(URI, bytes(raw))
    data = cutout.to_ccddata()

    assert ("electron", 1, True) == (str(data.unit), data.mask.sum(), data.mask[0, 0])
    np.testing.assert_array_equal(cutout.sigma, data.uncertainty.array)
    assert data.wcs.pixel_to_world(25, 25).ra.deg == pytest.approx(10)
    assert "ELECTRONS" == data.meta["BUNIT"]
    with pytest.raises(ValueError, match="exposure time"):
        _ = Cutout(URI.replace("F606W", "F160W"), on_the_sky("ELECTRONS/S")).sigma
