"""Stars within an angle of a place on the sky: one cutout of an exposure says whether the others need a look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from psfharvest.core.errors import BadInput
from psfharvest.core.fits import sky
from psfharvest.store.read.intervals import IntervalSet, Numbers

if TYPE_CHECKING:
    from psfharvest.store.read.harvest import Harvest

EXPOSURE_DEG = 0.1
"""No two stars of one exposure are farther apart: UVIS' field, the largest, has a diagonal of 0.064 degrees."""
PIECE = 512


def numbers(harvest: Harvest, ra: Any, dec: Any, radius: Any) -> IntervalSet:
    """Return the manifest's numbers of the done cutouts within `radius` of a place; see `Harvest.cone`."""
    center = sky.Place(_degrees("ra", ra, -360, 360), _degrees("dec", dec, -90, 90))
    return IntervalSet.of(_pieces(harvest, center, _degrees("radius", radius, 0, 180)))


def _pieces(harvest: Harvest, center: sky.Place, radius_deg: float) -> Iterator[Numbers]:
    far: dict[str, bool] = {}
    found: list[int] = []
    for row in harvest.rows():
        exposure = str(row.source.get("rootname"))
        if far.get(exposure):
            continue
        place = sky.place(harvest.read(row))
        if place is None:
            continue
        away_deg = sky.separation_deg(center, place)
        far[exposure] = away_deg > radius_deg + EXPOSURE_DEG
        if away_deg <= radius_deg:
            found.append(row.number)
        if len(found) == PIECE:
            yield np.array(found, np.int64)
            found = []
    yield np.array(found, np.int64)


def _degrees(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value.to_value("deg")) if hasattr(value, "to_value") else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name} is {value!r}: an angle in degrees, or an astropy quantity, is allowed") from error
    if not (math.isfinite(number) and low <= number <= high):
        raise BadInput(f"{name} is {number} degrees: {low} to {high} is allowed")
    return number
