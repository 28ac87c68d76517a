"""Bodies that are not quite as they should be: taken when astropy gives the star's pixels, else refused."""

from __future__ import annotations

import gzip
import io
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from psfharvest.core.fits import datauri, filekinds, fitscheck, pixels, quirks
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Item, Reason

BLOCK = 2880
SIZE = 11
URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size={size}&x={x}&y={y}&format=fits/"
    "ibe802npq_27404778_F606W_flc_cutout.fits"
)
IMAGE = np.random.default_rng(1).normal(40, 5, (SIZE, SIZE)).astype(np.float32)


def item(x: float = 1977.875, y: float = 675.3514, size: int = SIZE) -> Item:
    """Give the item of a star."""
    return Item(1, URI.format(size=size, x=x, y=y), "key.fits", size, "ibe802npq")


def body_of(image: NDArray[np.float32] = IMAGE, **cards: object) -> bytes:
    """Give a file with one image, and the names that real headers have."""
    unit = fits.PrimaryHDU(image)
    unit.header.update({"ROOTNAME": "ibe802npq", "EXPNAME": "ibe802npq", "CRPIX1": 5.5, "CRPIX2": 6.5, **cards})
    return written(unit)


def written(*units: object) -> bytes:
    """Give the bytes of a file of these units."""
    out = io.BytesIO()
    fits.HDUList(list(units)).writeto(out)
    return out.getvalue()


def packed(**how: object) -> bytes:
    """Give a tile-compressed file."""
    unit = fits.CompImageHDU(IMAGE, **how)
    unit.header["ROOTNAME"] = "ibe802npq"
    return written(fits.PrimaryHDU(), unit)


def n_data_bytes(body: bytes) -> int:
    """Give where the pixels of a plain body end."""
    return fitscheck.walk(body)[0].data_start + 4 * SIZE * SIZE


PLAIN = body_of()
GROUPS = body_of(GROUPS=True, PCOUNT=0, GCOUNT=1)
LINES = body_of(np.full((SIZE, SIZE), np.frombuffer(b"A\n\n\1", ">f4")[0], np.float32))
END = b"END" + b" " * 77
ODD = {
    "degenerate_axes": [body_of(IMAGE[None]), body_of(IMAGE[None, None]), body_of(IMAGE[:, None, :]),
                        written(fits.PrimaryHDU(), fits.ImageHDU(IMAGE[None]))],
    "nul_padding": [PLAIN.replace(END, b"END" + b"\0" * 77),
                    PLAIN.replace(END, b"END  " + b"\0" * 75)],
    "unpadded": [PLAIN[: n_data_bytes(PLAIN)],
                 written(fits.PrimaryHDU(), fits.ImageHDU(IMAGE))[: -(-4 * SIZE**2 % BLOCK)]],
    "extra_blocks": [PLAIN + bytes(BLOCK), PLAIN + bytes(2 * BLOCK)],
    "trailing_bytes": [PLAIN + b"\n", PLAIN + b"\r\n", PLAIN + b"<!-- served by x -->\n", PLAIN + bytes(100),
                       PLAIN + bytes(BLOCK) + b"\n"],
    "tile_compressed": [packed(), packed(compression_type="GZIP_1"),
                        packed(compression_type="RICE_1", quantize_level=0)],
    "gzip_body": [gzip.compress(PLAIN), gzip.compress(PLAIN + b"\n"), gzip.compress(PLAIN) + b"\n",
                  gzip.compress(body_of(IMAGE[None]))],
}  # fmt: skip
CASES = [
    pytest.param(name, body, id=f"{name}-{n}") for name, bodies in ODD.items() for n, body in enumerate(bodies)
]
REFUSED = {
    "cut within the padding": (PLAIN[:-1], Reason.TRUNCATED),
    "cut within the pixels": (PLAIN[: n_data_bytes(PLAIN) - 1], Reason.TRUNCATED),
    "a block of blanks behind": (PLAIN + b" " * BLOCK, Reason.TRAILING_BYTES),
    "twice": (PLAIN + PLAIN, Reason.TRAILING_BYTES),
    "a letter behind": (PLAIN + b"x", Reason.TRAILING_BYTES),
    "noise behind": (PLAIN + b"\n\xff\xfe", Reason.TRAILING_BYTES),
    "zeros without end": (PLAIN + bytes(100 * BLOCK), Reason.TRAILING_BYTES),
    "begun once more": (PLAIN + b"SIMPLE  =  ", Reason.TRAILING_BYTES),
    "a newline before": (b"\n" + PLAIN, Reason.TEXT_PAGE),
    "a CR before each LF": (LINES.replace(b"\n", b"\r\n"), Reason.TRAILING_BYTES),
    "a byte within the pixels": (PLAIN[: BLOCK + 9] + b"\1" + PLAIN[BLOCK + 9 :], Reason.TRAILING_BYTES),
    "gzip cut off": (gzip.compress(PLAIN)[:-9], Reason.NOT_FITS),
    "gzip of a page": (gzip.compress(b"<html>busy</html>"), Reason.NOT_FITS),
    "gzip of half a file": (gzip.compress(PLAIN[:BLOCK]), Reason.NOT_FITS),
    "SIMPLE is F": (PLAIN[:29] + b"F" + PLAIN[30:], Reason.NOT_FITS),
    "random groups": (GROUPS, Reason.NOT_FITS),
    "a cube": (body_of(np.stack([IMAGE, IMAGE])), Reason.WRONG_SHAPE),
    "larger": (body_of(np.zeros((SIZE + 1, SIZE + 1), np.float32)), Reason.WRONG_SHAPE),
    "smaller, far from an edge": (body_of(IMAGE[1:]), Reason.WRONG_SHAPE),
    "another exposure, unpadded": (body_of(ROOTNAME="ibe802nqq")[: n_data_bytes(PLAIN)], Reason.WRONG_SOURCE),
    "a table": (written(fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])])),
                Reason.WRONG_SHAPE),
}  # fmt: skip


def astropys(path: Path, body: bytes) -> NDArray[np.float32] | None:
    """Give the pixels that astropy gets from a file of these bytes, or None."""
    path.write_bytes(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.squeeze(fits.getdata(path)).astype(np.float32)
        except Exception:  # noqa: BLE001 - whatever astropy says of it
            return None


@pytest.mark.parametrize(("name", "body"), CASES)
def test_what_astropy_reads_is_taken_with_its_quirk(tmp_path, name, body):
    """A body from which astropy gives the star's pixels is accepted under the name of its quirk, and read alike."""
    theirs = astropys(tmp_path / "a.fits", body)
    if "quantize" not in name and name != "tile_compressed":
        np.testing.assert_array_equal(IMAGE, theirs)

    assert (None, name) == filekinds.verdict(item(), body)
    np.testing.assert_array_equal(theirs, pixels.image(body))
    cutout = Cutout(item().uri, body)
    np.testing.assert_array_equal(theirs, cutout.data)
    assert (2, SIZE, SIZE) == tuple(cutout.header[k] for k in ("NAXIS", "NAXIS1", "NAXIS2"))


@pytest.mark.parametrize("why", REFUSED)
def test_the_rest_is_refused(why):
    """What astropy does not read as the asked image, or what is not whole, stays refused by its own reason."""
    body, reason = REFUSED[why]

    assert reason is filekinds.verdict(item(), body).flaw.reason


def test_a_plain_body_has_no_quirk():
    """What is as it should be has none."""
    assert (None, "") == filekinds.verdict(item(), PLAIN)


X_EDGE, Y_EDGE = 4096, 2051
NEAR = st.floats(0, SIZE).map(lambda x: round(x, 3))


@given(NEAR, NEAR, st.booleans(), st.booleans())
def test_a_crop_at_the_edge_keeps_the_star_at_its_place(dx, dy, is_right, is_top):
    """What of the frame lies on the detector is accepted, and stands where the frame has it: the rest is NaN."""
    x = X_EDGE - 0.6 - dx if is_right else dx
    y = Y_EDGE - 0.6 - dy if is_top else dy
    x0, y0 = (math.floor(v - SIZE // 2 + 0.5) for v in (x, y))
    full = np.full((SIZE, SIZE), np.nan, np.float32)
    inside = slice(max(0, -y0), min(SIZE, Y_EDGE - y0)), slice(max(0, -x0), min(SIZE, X_EDGE - x0))
    full[inside] = IMAGE[inside]
    crop = body_of(IMAGE[inside].copy(), CRPIX1=100.0 - max(x0, 0), CRPIX2=200.0 - max(y0, 0))
    asked = item(x, y)

    flaw, quirk = filekinds.verdict(asked, crop)
    cutout = Cutout(asked.uri, crop)

    assert (None, "" if IMAGE[inside].shape == full.shape else "edge_crop") == (flaw, quirk)
    np.testing.assert_array_equal(full, cutout.data)
    assert (100.0 - x0, 200.0 - y0, SIZE) == tuple(cutout.header[k] for k in ("CRPIX1", "CRPIX2", "NAXIS1"))
    if not quirk:
        return
    column, row = (round(v) for v in cutout.center)
    if np.isfinite(full[row, column]):
        assert full[row, column] == IMAGE[row, column]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 5])
def test_a_crop_that_is_not_the_detectors_is_refused(axis, n):
    """A smaller image that does not end where the detector does is not the asked one."""
    crop = body_of(np.delete(IMAGE, np.s_[:n], axis))

    assert Reason.WRONG_SHAPE is filekinds.verdict(item(2.0 if axis == 0 else 900.0, 900.0), crop).flaw.reason


def test_a_subarray_ends_where_its_header_says():
    """The edge of a subarray is told by SIZAXIS."""
    crop = body_of(IMAGE[:8].copy(), SIZAXIS1=700, SIZAXIS2=608)

    assert (None, "edge_crop") == filekinds.verdict(item(300.0, 605.0), crop)
    assert Reason.WRONG_SHAPE is filekinds.verdict(item(300.0, 606.0), crop).flaw.reason


@given(
    st.binary(max_size=200), st.sampled_from([*(b for bodies in ODD.values() for b in bodies), PLAIN]), st.data()
)
def test_any_damage_is_taken_or_refused(noise, body, data):
    """Whatever is done to a body, it is refused, or the pixels are there: never another error."""
    at = data.draw(st.integers(0, len(body)))
    damaged = body[:at] + noise + body[at + data.draw(st.integers(0, 300)) :]
    flaw, quirk = filekinds.verdict(item(), damaged)
    image = pixels.image(damaged, datauri.parts_of(item().uri))

    assert flaw is None or not quirk
    assert flaw is not None or (SIZE, SIZE) == image.shape


def test_a_bomb_is_not_inflated():
    """A gzip body of more than any cutout takes is refused without being inflated."""
    bomb = gzip.compress(bytes(quirks.MAX_INFLATED_BYTES + 1), 1)

    assert Reason.NOT_FITS is filekinds.verdict(item(), bomb).flaw.reason
