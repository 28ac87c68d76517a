"""An effective PSF of stars by photutils, on the catalogue's flux scale; one for each cell of a grid, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from psfharvest.core.errors import BadInput
from psfharvest.store.read.groups import grid_centers, grid_shape
from psfharvest.store.read.stars import with_fluxes

if TYPE_CHECKING:
    from photutils.psf import GriddedPSFModel, ImagePSF

    from psfharvest.store.read.harvest import Harvest

MANY_A_PIXEL = 10
"""Stars for each point of an oversampled pixel from which on the ePSF is smoothed by a quartic; below, by a
quadratic, which takes away more of the noise, and of the peak (0.5 %)."""
FINE = 4
"""Points a pixel from which on a quadratic over five points is narrower than the core; below, it takes 6 % (at 3)
or 25 % (at 2) of the peak away. A quartic takes 3 % at 2. At 1 either takes half, so that there is none."""


def epsf(harvest: Harvest, oversampling: int, *, min_good: float) -> ImagePSF:
    """Return the effective PSF of all cutouts, of one size; see `Harvest.epsf`."""
    _check(oversampling)
    stars, fluxes = with_fluxes(harvest, subtract_sky=True, saturation=None, min_good=min_good)
    if not fluxes:
        raise BadInput(f"{harvest.folder}: no star to make an ePSF of; choose another size, or other stars")
    from photutils.psf import EPSFBuilder, ImagePSF  # noqa: PLC0415 - an extra

    builder = EPSFBuilder(
        oversampling=oversampling, smoothing_kernel=_smoothing(len(fluxes), oversampling), progress_bar=False
    )
    result = builder(stars)
    scale = _scale(result.fitted_stars, fluxes)
    made = ImagePSF(result.epsf.data * (scale or 1.0), oversampling=oversampling)
    made.meta.update(
        n_stars=len(fluxes),
        converged=bool(result.converged),
        iterations=int(result.iterations),
        flux_scale="catalogue" if scale else "unit sum",
        harvest=str(harvest.folder),
    )
    return made


def gridded(harvest: Harvest, oversampling: int, region: Any, *, min_good: float) -> GriddedPSFModel:
    """Return an ePSF for each cell of a grid over the detector; see `Harvest.epsf`."""
    _check(oversampling)
    shape = grid_shape(region)
    if shape[0] * shape[1] in (2, 3):
        raise BadInput(f"region is {region!r}: photutils interpolates in grids of 1, 4 or more cells")
    detectors = {group.group["detector"] for group in harvest.groups("detector")}
    if len(detectors) != 1:
        raise BadInput(f"a grid is of one detector, here are {sorted(map(str, detectors))}: select one of them")
    cells = {group.group["region"]: group for group in harvest.groups(region=shape)}
    centers = grid_centers(shape, detectors.pop())
    empty = [cell for cell in centers if cell not in cells]
    if empty:
        raise BadInput(f"no star in cells (column, row) {', '.join(map(str, empty))} of the grid: use fewer cells")
    from astropy.nddata import NDData  # noqa: PLC0415 - heavy
    from photutils.psf import GriddedPSFModel  # noqa: PLC0415 - an extra

    models = [epsf(cells[cell], oversampling, min_good=min_good) for cell in centers]
    about = {
        "grid_xypos": [*centers.values()],
        "oversampling": oversampling,
        "n_stars": [model.meta["n_stars"] for model in models],
        "converged": [model.meta["converged"] for model in models],
        "harvest": str(harvest.folder),
    }
    return GriddedPSFModel(NDData(np.stack([model.data for model in models]), meta=about))


def _smoothing(n_stars: int, oversampling: int) -> str | None:
    """Return the name of photutils' smoothing kernel, of 5 x 5 points, or None."""
    if oversampling == 1:
        return None
    is_many = n_stars >= MANY_A_PIXEL * oversampling**2
    return "quartic" if is_many or oversampling < FINE else "quadratic"


def _check(oversampling: int) -> None:
    if type(oversampling) is not int or not 1 <= oversampling <= 20:
        raise BadInput(f"oversampling is {oversampling!r}: a whole number from 1 to 20 is allowed")


def _scale(fitted: Any, fluxes: Sequence[float | None]) -> float | None:
    """
    Return what an ePSF of sum 1 is multiplied by, so that it times a star's catalogue flux is the star.

    The cutout holds less than all of a star's light, so that photutils' sum of 1 is not the catalogue's scale.
    """
    ratios = [
        star.flux / flux
        for star, flux in zip(fitted.all_stars, fluxes, strict=True)
        if flux is not None and np.isfinite(star.flux)
    ]
    return float(np.median(ratios)) if ratios else None
