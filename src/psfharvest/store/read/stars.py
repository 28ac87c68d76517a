"""Cutouts as photutils' stars: centres and fluxes from the catalogue, weights from the noise model, no sky."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.errors import BadInput
from psfharvest.core.fits import noise
from psfharvest.filesystem import extras

if TYPE_CHECKING:
    from photutils.psf import EPSFStars

    from psfharvest.core.fits.cutout import Cutout
    from psfharvest.store.read.harvest import Harvest

Pixels = NDArray[np.float32]


def epsf_stars(
    harvest: Harvest, *, subtract_sky: bool, saturation: float | None, min_good: float = 0.5
) -> EPSFStars:
    """Return all cutouts of `harvest` as stars; see `Harvest.epsf_stars` for the parameters."""
    return with_fluxes(harvest, subtract_sky=subtract_sky, saturation=saturation, min_good=min_good)[0]


def with_fluxes(
    harvest: Harvest, *, subtract_sky: bool, saturation: float | None, min_good: float
) -> tuple[EPSFStars, list[float | None]]:
    """Return stars as `epsf_stars` does, and the catalogue's flux of each, where `known_flux` has it."""
    extras.require("an ePSF", "photutils", "photutils")
    from photutils.psf import EPSFStar, EPSFStars  # noqa: PLC0415 - an extra

    stars, fluxes, n_dropped = [], [], 0
    for cutout in harvest:
        image = cutout.data
        good = good_pixels(image, cutout.source, saturation)
        if not good.any() or central_fraction(good, cutout.center) < min_good:
            n_dropped += 1
            continue
        fluxes.append(known_flux(cutout))
        sky = noise.border_median(image) if subtract_sky else 0.0
        stars.append(
            EPSFStar(
                np.where(np.isfinite(image), image - sky, 0.0),
                weights=_weights(cutout, good),
                cutout_center=cutout.center,
                flux=fluxes[-1],
                id_label=cutout.source.get("id"),
            )
        )
    if n_dropped and not stars:
        raise BadInput(
            f"{harvest.folder}: of {n_dropped:,} stars none has enough usable pixels at its centre "
            f"(they are saturated or NaN); min_good=0 keeps all with any usable pixel"
        )
    return EPSFStars(stars), fluxes


def known_flux(cutout: Cutout) -> float | None:
    """
    Return the catalogue's flux where it is in the unit of the pixels, else None.

    ``psf_flux`` is in electrons on UVIS and in electrons per second on IR, as calibrated pixels are; raw pixels and
    those of WFPC2 are in DN.
    """
    flux = cutout.source.get("psf_flux")
    if not isinstance(flux, int | float) or not math.isfinite(flux) or flux <= 0 or cutout.unit == noise.COUNTS:
        return None
    return float(flux)


def central_fraction(good: NDArray[np.bool_], center: tuple[float, float] | None) -> float:
    """Return which part of the 3 x 3 pixels around the star's place ``(x, y)`` is good."""
    x, y = center if center is not None else ((good.shape[1] - 1) / 2, (good.shape[0] - 1) / 2)
    column, row = round(x), round(y)
    return float(good[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean())


def _weights(cutout: Cutout, good: NDArray[np.bool_]) -> NDArray[np.float64]:
    try:
        sigma = cutout.sigma
    except ValueError:  # a rate without its exposure time
        return good.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights: NDArray[np.float64] = np.where(good, 1.0 / sigma, 0.0).astype(np.float64)
    return weights


def good_pixels(image: Pixels, source: Mapping[str, Any], saturation: float | None = None) -> NDArray[np.bool_]:
    """
    Return which pixels are neither NaN nor saturated, shape ``(ny, nx)``.

    Parameters
    ----------
    image
        Pixels, shape ``(ny, nx)``.
    source
        The star's catalogue row: without `saturation`, its ``n_sat_pixels`` brightest pixels count as saturated,
        and all that are as bright.
    saturation
        Pixels at or above it are saturated.
    """
    good = np.isfinite(image)
    n = int(source.get("n_sat_pixels") or 0)
    if saturation is None and n > 0 and good.any():
        bright = np.sort(image[good])
        saturation = float(bright[-min(n, len(bright))])
    if saturation is not None:
        good &= ~(image >= saturation)
    return good
