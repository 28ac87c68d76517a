"""Cutouts as photutils' stars: sub-pixel centres from the catalogue, no sky, bad pixels without weight."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.errors import BadInput

if TYPE_CHECKING:
    from photutils.psf import EPSFStars

    from psfharvest.store.read.harvest import Harvest

BORDER_PX = 4
Pixels = NDArray[np.float32]


def epsf_stars(harvest: Harvest, *, subtract_sky: bool, saturation: float | None) -> EPSFStars:
    """Do what `Harvest.epsf_stars` says, for all cutouts of `harvest`."""
    if find_spec("photutils") is None:
        raise BadInput("ePSF stars need photutils: pip install 'psfharvest[photutils]'")
    from photutils.psf import EPSFStar, EPSFStars  # noqa: PLC0415 - an extra

    stars = []
    for cutout in harvest:
        image = cutout.data
        weights = good_pixels(image, cutout.source, saturation).astype(float)
        if not weights.any():
            continue  # nothing of it can be used
        sky = border_median(image) if subtract_sky else 0.0
        data = np.where(np.isfinite(image), image - sky, 0.0)
        stars.append(EPSFStar(data, weights=weights, cutout_center=cutout.center, id_label=cutout.source.get("id")))
    return EPSFStars(stars)


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


def border_median(image: Pixels) -> float:
    """Return the median of the outermost pixels that are no NaN, or of all where there are none."""
    is_border = np.ones(image.shape, np.bool_)
    is_border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    finite = np.isfinite(image)
    chosen = image[is_border & finite] if (is_border & finite).any() else image[finite]
    return float(np.median(chosen)) if chosen.size else 0.0
