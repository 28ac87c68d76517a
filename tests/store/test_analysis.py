"""Parts, stacks and effective PSFs of a harvest, held against numpy and the simulator's own PSF."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats

from psfharvest import Archive, Harvest, Query
from psfharvest.core.errors import BadInput, BadQuery
from psfharvest.examples import epsf as example
from psfharvest.simulator import Settings, Simulator
from psfharvest.simulator.sky import scene
from psfharvest.simulator.sky.optics import SAMPLES_PER_PX, profile


def true_epsf(shape: tuple[int, int], oversampling: int, filter_name: str = "F814W") -> np.ndarray:
    """The effective PSF that the simulator draws a UVIS star with: fraction of the light in a pixel, spikes too."""
    ny, nx = shape
    y, x = (np.mgrid[:ny, :nx] - np.array([(ny - 1) / 2, (nx - 1) / 2])[:, None, None]) / oversampling
    light = profile(filter_name, "UVIS").value
    spikes = (4 * x * x * y * y / (x * x + y * y + scene._SPIKE_ONSET) ** 2) ** 4
    radial = np.interp(np.hypot(x, y) * SAMPLES_PER_PX, np.arange(len(light)), light)
    return radial * (1 + scene._SPIKE_STRENGTH * spikes)


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """Bright stars of two filters and both sizes, and of WFPC2."""
    home = tmp_path_factory.mktemp("analysis") / "stars"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            for detector, suffix, more in (
                ("UVIS", "flc", {"filter": ["F814W", "F606W"], "psf_flux": (2e4, None)}),
                ("WFPC2", "c0m", {"filter": "F606W"}),
            ):
                query = Query(detector, limit=60, **more)
                await archive.harvest(query, home, suffixes=[suffix], extend=True)

    with Simulator(Settings(sources=8000, seed=1)) as simulator:
        anyio.run(work, simulator.url)
    return Harvest(home)


def test_groups_are_a_partition(stars: Harvest) -> None:
    """Each star is in one part; what a part's key says is so of each of its stars."""
    edges = [-20.0, -2.0, 0.0, 3.0]
    parts = list(stars.groups("detector", "filter", focus=edges, region=(2, 3)))

    uris = [cutout.uri for part in parts for cutout in part]
    assert sorted(uris) == sorted(cutout.uri for cutout in stars)
    assert len(parts) == len({str(part.group) for part in parts}) > 6
    for part in parts:
        table = part.table()
        names = table["filter"] if part.group["detector"] == "UVIS" else table["filter_1"]
        assert {part.group["filter"]} == set(names)
        focus = np.asarray(table["focus"])
        if part.group["focus"] is None:
            assert not np.any((focus >= edges[0]) & (focus <= edges[-1]))
        else:
            low, high = part.group["focus"]
            assert np.all((focus >= low) & (focus <= high))
        side = 4096 if part.group["detector"] == "UVIS" else 800
        i, j = part.group["region"]
        assert np.all((table["psf_x_center"] > i * side / 2) & (table["psf_x_center"] <= (i + 1) * side / 2 + 1))
        assert np.all((table["psf_y_center"] > j * side / 3) & (table["psf_y_center"] <= (j + 1) * side / 3 + 1))


def test_groups_of_groups_remember_their_keys(stars: Harvest) -> None:
    part = next(next(stars.groups("detector")).groups(psf_flux=2))

    assert {"detector", "psf_flux"} == {*part.group}
    assert [] == list(stars[:0].groups("filter"))


@pytest.mark.parametrize(
    ("names", "bins"), [((), {}), ((), {"focus": 0}), ((), {"focus": [2, 1]}), ((), {"region": (0, 1)})]
)
def test_groups_of_nothing_are_refused(stars: Harvest, names: tuple, bins: dict) -> None:
    with pytest.raises(BadInput):
        list(stars.groups(*names, **bins))
    with pytest.raises(BadQuery, match="fokus"):
        list(stars.groups("fokus"))


def test_stacks_are_treated_as_numpy_says(stars: Harvest) -> None:
    """Background, flux and combination are equal to the plain formula on the untreated stack."""
    uvis = stars.select(detector="UVIS", size_px=51, n_sat_pixels=0)
    plain = uvis.stack(51)
    table = uvis.table()
    border = np.ones((51, 51), bool)
    border[4:-4, 4:-4] = False
    skies = np.nanmedian(plain[:, border], axis=1)[:, None, None]
    flux, sky = (np.asarray(table[name])[:, None, None] for name in ("psf_flux", "sky"))

    np.testing.assert_allclose(
        (plain - skies) / flux, uvis.stack(51, background="border", normalise="flux"), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(plain - sky, uvis.stack(51, background="catalogue"), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        plain / np.nanmax(plain, (1, 2), keepdims=True), uvis.stack(51, normalise="peak"), rtol=1e-5
    )
    np.testing.assert_allclose(1, np.nansum(uvis.stack(51, normalise="sum"), (1, 2)), rtol=1e-4)
    np.testing.assert_allclose(np.nanmedian(plain, 0), uvis.stack(51, combine="median"), rtol=1e-5)
    np.testing.assert_allclose(np.nanmean(plain, 0, np.float64), uvis.stack(51, combine="mean"), rtol=1e-5)
    clipped = sigma_clipped_stats(np.ma.masked_invalid(plain.astype(float)), axis=0, maxiters=5)[0]
    np.testing.assert_allclose(clipped, uvis.stack(51, combine="sigma_clip"), rtol=1e-2)
    assert (51, 51) == uvis.stack(51, background="mmm", recentre="centroid", combine="mean").shape


def test_recentred_stars_are_the_true_psf(stars: Harvest) -> None:
    """Moved onto the middle pixel and divided by their flux, the mean of the stars is what the simulator draws."""
    uvis = stars.select(filter="F814W", detector="UVIS", size_px=51, n_sat_pixels=0)
    truth = true_epsf((51, 51), 1)
    how = {"background": "border", "normalise": "flux", "combine": "median"}
    for centre in ("catalogue", "centroid"):
        image = uvis.stack(51, recentre=centre, **how)
        assert np.abs(image - truth)[2:-2, 2:-2].max() < 0.05 * truth.max()  # splines ring on an undersampled star
        assert (25, 25) == np.unravel_index(np.nanargmax(image), image.shape)
    assert np.abs(uvis.stack(51, **how) - truth).max() > 0.1 * truth.max()


@pytest.mark.parametrize("word", ["background", "normalise", "recentre", "combine"])
def test_other_words_are_refused(stars: Harvest, word: str) -> None:
    with pytest.raises(BadInput, match=f"{word} is 'best'"):
        stars.stack(51, **{word: "best"})


def test_wfpc2_has_no_flux_in_its_unit(stars: Harvest) -> None:
    """Its pixels are counts: a division by electrons is refused, and an ePSF is on photutils' own scale."""
    wfpc2 = stars.select(detector="WFPC2", n_sat_pixels=0)[:6]
    with pytest.raises(BadInput, match="normalise='sum'"):
        wfpc2.stack(51, normalise="flux")
    with pytest.raises(BadInput, match="one detector"):
        stars.epsf(region=1)


@pytest.mark.campaign
def test_a_grid_of_epsfs_is_a_gridded_model(stars: Harvest) -> None:
    """Each cell is the ePSF of its own stars, at the cell's middle."""
    uvis = stars.select(filter="F814W", detector="UVIS", size_px=51, n_sat_pixels=0)
    model = uvis.epsf(1, region=2)
    [first] = [part for part in uvis.groups(region=2) if part.group["region"] == (0, 0)]

    assert (4, 51, 51) == model.data.shape
    assert [(1023.5, 1023.5), (3071.5, 1023.5)] == [tuple(xy) for xy in model.grid_xypos[:2]]
    np.testing.assert_allclose(first.epsf(1).data, model.data[0])
    with pytest.raises(BadInput, match="no star in cells"):
        uvis[:4].epsf(1, region=5)


@pytest.mark.campaign
def test_an_epsf_of_native_pixels_is_not_smoothed(stars: Harvest) -> None:
    """A kernel of five points is wider than the core there: its peak was half of the true one."""
    model = stars.select(filter="F606W", detector="UVIS", size_px=51, n_sat_pixels=0).epsf(1)
    truth = true_epsf(model.data.shape, 1, "F606W")

    assert 0.03 > abs(model.data.max() / truth.max() - 1)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_stars_at_the_edge_make_the_epsf_too(tmp_path: Path) -> None:
    """Of 20 stars, each with a part of its frame beyond the detector: largest residual 2 % of the peak."""
    places = {"psf_x_center": (None, 22)}, {"psf_x_center": (4080, None)}, {"psf_y_center": (None, 15)}

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            for place in places:
                query = Query("UVIS", filter="F606W", n_sat_pixels=0, psf_flux=(2e4, None), **place)
                await archive.harvest(query, tmp_path / "d", suffixes=["flc"], extend=True)

    with Simulator(Settings(sources=20000, seed=1)) as simulator:
        anyio.run(work, simulator.url)
    model = Harvest(tmp_path / "d")[:20].epsf(4)
    truth = true_epsf(model.data.shape, 4, "F606W")

    assert (20, True) == (model.meta["n_stars"], model.meta["converged"])
    assert np.abs(model.data - truth).max() <= 0.02 * truth.max()


@pytest.mark.campaign
def test_the_example_makes_the_simulators_epsf(tmp_path: Path) -> None:
    """In 25 lines, of 200 stars: converged, peak within 0.5 %, rms within 0.3 % of the peak, with no free scale."""
    with Simulator(Settings(sources=20000, seed=1)) as simulator:
        model = example.main(tmp_path / "d", simulator.url)
    truth = true_epsf(model.data.shape, 4)

    assert len(Path(example.__file__).read_text().splitlines()) <= 25
    assert (200, True, "catalogue") == tuple(model.meta[k] for k in ("n_stars", "converged", "flux_scale"))
    assert abs(model.data.max() / truth.max() - 1) < 0.005
    assert np.sqrt(np.mean((model.data - truth) ** 2)) < 0.003 * truth.max()
    assert b"\x89PNG" == (tmp_path / "d/epsf.png").read_bytes()[:4]
