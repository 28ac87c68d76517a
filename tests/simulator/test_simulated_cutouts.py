"""Cutouts are whole, exact, and always the same."""

import io
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from psfharvest.simulator import FitscutError, Settings, Simulator, fwhm_px
from sampling import examples

SHARED = Simulator(Settings(sources=2_000, seed=1))


def opened(body: bytes) -> tuple[fits.Header, np.ndarray]:
    """Read a cutout with astropy, which must find no fault with it."""
    with fits.open(io.BytesIO(body)) as hdus:
        assert len(hdus) == 1
        hdus.verify("exception")
        return hdus[0].header.copy(), np.array(hdus[0].data)


def uri(root="ibe802npq", suffix="flt", ext=1, size=51, x=1977.875, y=675.3514, name="27404778_F606W") -> str:
    """Write a dataURI."""
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={root}_{suffix}[{ext}]&size={size}&x={x}&y={y}"
        f"&format=fits/{root}_{name}_{suffix}_cutout.fits"
    )


@pytest.mark.parametrize("size", [1, 2, 51, 101, 150])
def test_header_and_shape(size):
    """A cutout is one primary HDU of the asked shape, with the cards that fitscut leaves."""
    body = SHARED.render(uri(size=size))
    header, data = opened(body)

    assert (size, size) == data.shape
    assert data.dtype.str == ">f4"
    assert (header["ROOTNAME"], header["EXPNAME"]) == ("ibe802npq", "ibe802npq")
    assert header.comments["CRPIX1"] == "Reference pixel shifted for cutout"
    assert str(header["HISTORY"]) == "Created by fitscut 1.4.4 (William Jon McCann)"
    assert not {"FILTER", "EXPTIME", "EXTNAME", "EXTEND", "BSCALE"} & set(header)
    assert len(body) % 2880 == 0
    assert len(header.tostring()) == 3 * 2880


def test_usual_sizes_in_bytes():
    """The two usual cutouts have three blocks of header."""
    assert (len(SHARED.render(uri(size=51))), len(SHARED.render(uri(size=101)))) == (20_160, 51_840)


@settings(max_examples=examples(10), deadline=None)
@given(st.integers(0, 500), st.integers(0, 1_000))
def test_same_uri_same_bytes(sources, seed):
    """A real source's cutout depends neither on the catalogue's size nor on its seed."""
    other = Simulator(Settings(sources=sources, seed=seed))

    assert SHARED.render(uri()) == other.render(uri())


def test_neighbouring_orders_differ():
    """Another position, suffix or size is another cutout."""
    bodies = {SHARED.render(uri(**change)) for change in ({}, {"x": 1977.876}, {"suffix": "flc"}, {"size": 52})}

    assert len(bodies) == 4


@settings(max_examples=examples(40), deadline=None)
@given(st.floats(60, 2_000), st.floats(60, 1_900), st.sampled_from([51, 50, 101]))
def test_star_stands_where_asked(x, y, size):
    """The star's centroid lies at x, y, in the frame that CRPIX and the corner tell."""
    _, data = opened(SHARED.render(uri(x=x, y=y, size=size)))
    x0, y0 = np.floor(x - size // 2 + 0.5), np.floor(y - size // 2 + 0.5)
    rows, columns = np.indices(data.shape)
    near = np.hypot(columns + x0 - x, rows + y0 - y) < 6
    weight = np.where(near, data, 0).astype(float)

    assert x == pytest.approx((weight * columns).sum() / weight.sum() + x0, abs=0.1)
    assert y == pytest.approx((weight * rows).sum() / weight.sum() + y0, abs=0.1)


def test_width_is_the_told_one():
    """Half of the peak is reached at half of the told width."""
    told = fwhm_px("F606W")
    values, radii = [], []
    for step in range(40):
        x, y = 1000 + step / 40, 700 + step * 7 % 40 / 40
        _, data = opened(SHARED.render(uri(x=x, y=y)))
        rows, columns = np.indices(data.shape)
        radius = np.hypot(columns + np.floor(x + 0.5) - 25 - x, rows + np.floor(y + 0.5) - 25 - y)
        values.append(data[radius < 2])
        radii.append(radius[radius < 2])
    value, radius = np.concatenate(values), np.concatenate(radii)
    order = np.argsort(radius)
    peak = np.median(value[radius < 0.1])

    assert told / 2 == pytest.approx(
        np.interp(-peak / 2, -np.maximum.accumulate(value[order][::-1])[::-1], radius[order]), abs=0.06
    )


def test_widths_grow_with_wavelength():
    """A redder filter has a wider star."""
    assert fwhm_px("F275W") < fwhm_px("F606W") < fwhm_px("F814W")
    assert fwhm_px("F105W", "IR") < fwhm_px("F160W", "IR")


@pytest.mark.parametrize(
    ("x", "y", "outside"),
    [
        (10.0, 700.0, np.s_[:, :15]),
        (700.0, 3.2, np.s_[:22, :]),
        (4090.0, 700.0, np.s_[:, 31:]),
        (700.0, 2050.0, np.s_[26:, :]),
    ],
)
def test_nan_beyond_the_detector(x, y, outside):
    """What lies beyond the detector is NaN, and nothing else is."""
    _, data = opened(SHARED.render(uri(x=x, y=y)))
    expected = np.zeros(data.shape, dtype=bool)
    expected[outside] = True

    np.testing.assert_array_equal(np.isnan(data), expected)


def test_notebook_cutouts_hold_no_nan_but_negatives(uris):
    """The six cutouts of the notebook are free of NaN, and some pixels lie below zero."""
    found = [opened(SHARED.render(each))[1] for each in uris]

    assert len(found) == 6
    assert not any(np.isnan(data).any() for data in found)
    assert any((data < 0).any() for data in found)


def test_saturated_star_is_flat():
    """A saturated source's core is flat, and its column bleeds."""
    rows = SHARED.catalogue.rows("UVIS")
    at = np.flatnonzero(
        (rows["n_sat_pixels"] > 20)
        & (rows["chip"] == "2")
        & (abs(rows["x_cal"] - 2000) < 1900)
        & (abs(rows["y_cal"] - 1000) < 900)
    )[0]
    name = f"{rows['id'][at]}_{rows['filter'][at]}"
    _, data = opened(
        SHARED.render(uri(str(rows["rootname"][at]), size=101, x=rows["x_cal"][at], y=rows["y_cal"][at], name=name))
    )

    assert (data == data.max()).sum() > 10
    assert (data[:, 50] == data.max()).sum() >= 7


def test_raw_differs_from_calibrated():
    """Raw frames have a bias level and whole counts."""
    _, raw = opened(SHARED.render(uri(suffix="raw", x=2002.875)))

    assert 2_400 < np.median(raw) < 2_700
    np.testing.assert_array_equal(raw, np.rint(raw))


def test_all_detectors_serve_all_their_suffixes():
    """Every database's first source has all the products of its detector."""
    for detector, folder, suffixes in (
        ("UVIS", "WFC3PSF", "raw flt flc"),
        ("IR", "WFC3PSF", "raw flt"),
        ("WFPC2", "WFPC2PSF", "d0m c0m"),
    ):
        rows = SHARED.catalogue.rows(detector)
        root = rows["rootname"][0]
        for suffix in suffixes.split():
            text = uri(root, suffix, 1, 51, 300.5, 300.5, f"{rows['id'][0]}_F606W").replace("WFC3PSF", folder)

            assert opened(SHARED.render(text))[1].shape == (51, 51)


def test_dead_pixels_become_nan_or_stay_zero():
    """An exactly-zero pixel leaves as NaN or as zero, as the switch says; real sources have none."""
    rows = SHARED.catalogue.rows("IR")
    text = uri(str(rows["rootname"][0]), "flt", 1, 51, 500.5, 500.5, f"{rows['id'][0]}_F160W")
    counts = []
    for zero_is_nan in (True, False):
        sim = Simulator(Settings(sources=2_000, seed=1, dead_pixels=1.0, zero_is_nan=zero_is_nan))
        _, data = opened(sim.render(text))
        counts.append((int(np.isnan(data).sum()), int((data == 0).sum())))

        assert SHARED.render(uri()) == sim.render(uri())

    assert counts == [(1, 0), (0, 1)]


def test_naming_cards_are_a_switch():
    """Without naming cards a header names no exposure."""
    sim = Simulator(Settings(sources=0, naming_cards=False))
    header, _ = opened(sim.render(uri()))

    assert not {"ROOTNAME", "EXPNAME"} & set(header)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (uri(root="ixxx02npq"), "missing"),
        (uri(suffix="c0m"), "missing"),
        (uri(ext=7), "missing"),
        (uri().replace("WFC3PSF", "WFPC2PSF"), "missing"),
        ("mast:HST/product/nix.fits", "missing"),
        (uri(x=-30), "no_overlap"),
        (uri(size=0), "no_overlap"),
        (uri(size=99_999), "bad_request"),
        (uri(size="many"), "bad_request"),
        (uri(x="nan"), "bad_request"),
        ("mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]", "bad_request"),
    ],
)
def test_refusals(text, problem):
    """What fitscut would not serve is refused, with its reason."""
    with pytest.raises(FitscutError) as caught:
        SHARED.render(text)

    assert problem == caught.value.problem


def test_both_paths_serve_the_same_bytes(plain, real):
    """Download/file, with and without a slash, and fitscut.cgi give the very bytes that render gives."""
    _, _, _, query, name = real.split("/")
    answers = [
        plain.file(real).content,
        plain.http.get("/api/v0.1/Download/file/", params={"bundle_name": "x.sh", "uri": real}).content,
        plain.http.get(f"/cgi-bin/hla/{query}&imagename={name}").content,
    ]

    assert [plain.sim.render(real)] * 3 == answers


def test_unescaped_ampersand_is_told_in_a_text(plain, real):
    """A URI whose & was not escaped gets a text with status 200."""
    answer = plain.http.get(f"/api/v0.1/Download/file?uri={real}")

    assert (answer.status_code, answer.text) == (200, "dataset parameter is required")


def test_errors_over_http_follow_the_switches(start, real):
    """Status and form of error answers are the settings', and TextErrors asks fitscut for text."""
    off, gone = real.replace("x=1977.875", "x=-900"), real.replace("ibe802npq", "ixxx02npq")
    mild = start()
    strict = start(missing_status=500, no_overlap_status=404, error_form="html")
    text = "Some image dimensions are negative for all planes"
    query = off.split("/")[3]

    assert (200, text) == (mild.file(off).status_code, mild.file(off).text)
    assert mild.file(gone).status_code == 404
    assert (strict.file(off).status_code, strict.file(gone).status_code) == (404, 500)
    assert strict.file(off).text.startswith("<!DOCTYPE html>")
    assert mild.http.get(f"/cgi-bin/hla/{query}").text.startswith("<!DOCTYPE html>")
    assert text == mild.http.get(f"/cgi-bin/hla/{query}&TextErrors=1").text


def test_headers_follow_the_switches(start, real):
    """By default a cutout has no length; with the switches it has one, and all that goes with static files."""
    bare, rich = start(), start(content_length=True, etag=True, accept_ranges=True, content_disposition=True)
    part = rich.file(real, headers={"range": "bytes=2880-2899"})

    assert "content-length" not in bare.file(real).headers
    assert {"content-length": "20160", "accept-ranges": "bytes"}.items() <= dict(rich.file(real).headers).items()
    assert {"etag", "content-disposition"} <= set(rich.file(real).headers)
    assert (206, rich.sim.render(real)[2880:2900]) == (part.status_code, part.content)


def test_head_sends_no_body(plain, real):
    """HEAD answers like GET, without the body."""
    answer = plain.http.head("/api/v0.1/Download/file", params={"uri": real})

    assert (answer.status_code, answer.content) == (200, b"")


def test_gzip_encoding_is_a_switch(start, real):
    """A client that accepts gzip gets it, and the same cutout."""
    asker = start(content_encoding="gzip")
    answer = asker.file(real)

    assert answer.headers["content-encoding"] == "gzip"
    assert asker.sim.render(real) == answer.content


def test_products_are_whole_files(start):
    """A further product of the settings is served as it is."""
    asker = start(products={"mast:HST/product/note.txt": b"hello"})

    assert asker.file("mast:HST/product/note.txt").content == b"hello"


def test_static_mode_serves_one_body_per_size(start, real):
    """Static mode has one whole, nameless body for a size, whatever is asked."""
    asker = start(static=True)
    one = asker.file(real).content
    two = asker.file(real.replace("ibe802npq", "iabc02xyq")).content
    header, data = opened(one)

    assert one == two == asker.sim.render(real)
    assert "ROOTNAME" not in header
    assert data.shape == (51, 51)
    assert opened(asker.file(real.replace("size=51", "size=101")).content)[1].shape == (101, 101)
    assert urlsplit(asker.sim.url).hostname == "127.0.0.1"
