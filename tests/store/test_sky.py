"""Where stars are on the sky: equal to astropy's answer, in tables, in Parquet, and for cones."""

from __future__ import annotations

import math
from pathlib import Path

import anyio
import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy_healpix import HEALPix
from hypothesis import example, given
from hypothesis import strategies as st
from sink_contract import cutout_uri

from psfharvest import Archive, Cutout, Harvest, Query
from psfharvest.core.errors import BadInput
from psfharvest.core.fits import sky
from psfharvest.export import export
from psfharvest.simulator import Settings, Simulator

REFERENCE = HEALPix(nside=2**29, order="nested")


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """Cutouts of the three detectors, and a dataURI that names none, in Parquet."""
    home = tmp_path_factory.mktemp("sky") / "stars"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            for detector, suffix in (("UVIS", "flc"), ("IR", "flt"), ("WFPC2", "c0m")):
                query = Query(detector, n_sat_pixels=0, limit=12)
                await archive.harvest(query, home, suffixes=[suffix], extend=True, sink="parquet")
            await archive.harvest([cutout_uri(1).replace("ibc302ioq", "nosuchexp")], home, extend=True)

    with Simulator(Settings(sources=3000, seed=1)) as simulator:
        anyio.run(work, simulator.url)
    return Harvest(home)


def by_astropy(cutout: Cutout) -> SkyCoord:
    assert cutout.center is not None
    return cutout.wcs.pixel_to_world(*cutout.center).icrs


def test_tables_have_astropys_places(stars: Harvest) -> None:
    """For each detector to a microarcsecond; what is not done has none; columns alone ask for them, too."""
    table = stars.table(sky=True)
    wanted = SkyCoord([by_astropy(cutout) for cutout in stars])
    found = SkyCoord(table["ra"], table["dec"])

    assert {"UVIS", "IR", "WFPC2"} == set(table["detector"])
    assert wanted.separation(found).max() < 1 * u.uas
    assert ("deg", "deg") == (table["ra"].unit, table["dec"].unit)
    assert "ra" not in stars.table().colnames
    assert ["id", "ra"] == stars.table(["id", "ra"]).colnames
    everything = stars.table(sky=True, state=None)
    assert len(everything) == len(table) + 1
    assert 1 == np.isnan(everything["ra"]).sum()


def test_parquet_is_ready_for_hats(stars: Harvest, tmp_path: Path) -> None:
    """The sink's files and the export have ``ra, dec, _healpix_29``, as astropy-healpix has the last."""
    export(stars, tmp_path / "stars.parquet")
    table = stars.table(sky=True)
    cells = REFERENCE.lonlat_to_healpix(table["ra"].quantity, table["dec"].quantity)
    for path in (stars.folder / "parquet/51", tmp_path / "stars.parquet"):
        read = pq.read_table(path).sort_by("uri")
        order = np.argsort(table["uri"])
        for name, values in (("ra", table["ra"]), ("dec", table["dec"]), (sky.NAME, cells)):
            np.testing.assert_array_equal(np.asarray(values)[order], read[name].to_numpy())
        assert "int64" == str(read.schema.field(sky.NAME).type)
        assert b"deg" == read.schema.field("ra").metadata[b"unit"]


def test_cones_are_astropys(stars: Harvest) -> None:
    """Around a star with any radius: the same stars as a brute search over the whole sky finds."""
    places = SkyCoord([by_astropy(cutout) for cutout in stars])
    for radius in (1 * u.uas, 20 * u.arcsec, 0.05 * u.deg, 40 * u.deg, 180 * u.deg):
        for k in (0, 17, 35):
            inside = places.separation(places[k]) <= radius
            cone = stars.cone(places[k].ra, places[k].dec.deg, radius)
            assert [c.uri for c in stars[inside]] == [c.uri for c in cone]
    assert 0 < len(stars[:10].cone(places[0].ra.deg, places[0].dec.deg, 180)) == 10


@pytest.mark.parametrize(
    "place",
    [(0, 91, 1), (math.nan, 0, 1), (0, 0, -1), ("x", 0, 1), (0, 0, 1 * u.m), (10**400, 0, 1)],
    ids=lambda p: str(p)[:9],
)
def test_what_is_no_cone_is_refused(stars: Harvest, place: tuple) -> None:
    with pytest.raises(BadInput, match="allowed"):
        stars.cone(*place)


@given(st.floats(-360, 360), st.floats(-90, 90))
@example(0.0, 90.0)
@example(360.0, -90.0)
@example(-1e-300, 89.99999999)
def test_cells_are_those_of_astropy_healpix(ra: float, dec: float) -> None:
    """Anywhere: the same cell, or one that a rounding of the place apart."""
    cell = sky.healpix(sky.Place(ra, dec))
    wanted = int(REFERENCE.lonlat_to_healpix(ra * u.deg, dec * u.deg))
    if cell != wanted:
        lon, lat = REFERENCE.healpix_to_lonlat([cell, wanted])
        near = SkyCoord(lon, lat)
        assert near[0].separation(near[1]) < 1.5 * u.mas


CARDS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 3.0, "CRPIX2": -40.0, "CRVAL1": 0.001, "CRVAL2": 89.99,
    "CDELT1": -1e-5, "CDELT2": 1.1e-5, "PC1_2": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {}, {"CD1_1": 1e-5, "CD2_2": -2e-5, "CDELT1": None, "CDELT2": None, "PC1_2": None},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-5,
         "B_ORDER": 3, "B_0_3": 1e-6},
        {"RADESYS": "FK5", "EQUINOX": 2000.0}, {"EQUINOX": 1975.0}, {"CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC"},
        {"LONPOLE": 170.0}, {"CUNIT1": "arcsec", "CUNIT2": "arcsec"}, {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"},
        {"CTYPE1": "LINEAR"}, {"CTYPE1": None}, {"CPDIS1": "LOOKUP"}, {"CRVAL1": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_any_header_is_read_as_astropy_reads_it(more: dict) -> None:
    """What the plain way does not know goes through astropy; without celestial coordinates there is no place."""
    header = fits.Header({k: v for k, v in {**CARDS, **more}.items() if v is not None})
    hdu = fits.PrimaryHDU(np.zeros((51, 51), np.float32), header)
    cutout = Cutout(cutout_uri(1), bytes(_file(hdu)))

    place = sky.place(cutout)
    try:
        wanted = by_astropy(cutout)
    except Exception:  # noqa: BLE001 - whatever astropy makes of it
        assert place is None
        return
    assert place is not None
    assert wanted.separation(SkyCoord(place.ra * u.deg, place.dec * u.deg)) < 1 * u.uas


SIP = {"A_ORDER": 2, "A_2_0": 1e-5, "B_ORDER": 3, "B_0_3": 1e-6}
LEFTOVERS = {
    "tables": {
        "CPDIS1": "LOOKUP", "CQDIS2": "LOOKUP", "D2IMDIS1": "LOOKUP", "DP1": "EXTVER: 1.0", "D2IM1": "NAXES: 2.0",
        "DP2.EXTVER": 2.0, "CPERR1": 0.05, "D2IMEXT": "iref$y7b1516hi_d2i.fits", "NPOLEXT": "jref$v_npl.fits",
        "NPOLFILE": "jref$v_npl.fits", "AXISCORR": 1,
    },
    "a third axis": {
        "WCSAXES": 3, "CTYPE3": "WAVE-TAB", "PS3_0": "WCS-TABLE", "PS3_1": "WAVE", "CD3_3": 1.0, "CRPIX3": 1.0,
        "CD1_3": 0.0, "PV3_1": 1,
    },
    "four axes": {"WCSAXES": 4, "CTYPE3": "STOKES", "CTYPE4": "FREQ", "CRVAL4": 1e9},
    "one polynomial": {"A_ORDER": 2, "A_2_0": 1e-5, "AP_ORDER": 2, "AP_2_0": 1e-5},
    "polynomials without an order": {"A_2_0": 1e-5, "B_0_2": 1e-5},
}  # fmt: skip


@pytest.mark.parametrize("ending", ["", "-SIP"])
@pytest.mark.parametrize("name", LEFTOVERS)
def test_cards_of_what_a_cutout_lacks_change_nothing(
    name: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tables, further axes and half a SIP are passed over; a whole one counts with and without its suffix."""
    is_half = "polynomial" in name
    whole = {**CARDS, **({} if is_half else SIP), "CTYPE1": f"RA---TAN{ending}", "CTYPE2": f"DEC--TAN{ending}"}
    plain, odd = (
        Cutout(cutout_uri(1), _file(fits.PrimaryHDU(np.zeros((51, 51), np.float32), fits.Header(cards))))
        for cards in (whole, {**whole, **LEFTOVERS[name]})
    )
    caplog.clear()

    assert odd.center is not None
    np.testing.assert_array_equal(plain.wcs.wcs_pix2world([odd.center], 0), odd.wcs.wcs_pix2world([odd.center], 0))
    place = sky.place(odd)
    assert place is not None
    assert by_astropy(odd).separation(SkyCoord(place.ra * u.deg, place.dec * u.deg)) < 1 * u.uas
    assert not caplog.records


def _file(hdu: fits.PrimaryHDU) -> bytes:
    import io

    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()
