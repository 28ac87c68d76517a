"""
The telescope: how bright a star's light is at each distance from its centre.

Rule: a profile is the *effective* PSF, already averaged over a pixel, so a pixel's value is the profile
at that pixel's centre. A star's true width is then known exactly, and an effective PSF fitted to cutouts
can be compared to it.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIRROR_M: Final = 2.4
RADIANS_TO_ARCSEC: Final = 206_264.8
SAMPLES_PER_PX: Final = 64
"""Entries of a profile's table for one pixel of radius."""
REACH_PX: Final = 74
"""Radius of the table: the corner of a 101 x 101 cutout lies at 71.4 px."""


@dataclass(frozen=True, slots=True)
class _Camera:
    pixel_arcsec: float
    blur_px: float
    """Standard deviation of the pixel's own width, charge diffusion and jitter together."""
    nm_per_unit: int
    """What the digits of a filter's name count: nanometres, or tens of them in the infrared."""


_CAMERAS: Final = {
    "UVIS": _Camera(pixel_arcsec=0.0396, blur_px=0.42, nm_per_unit=1),
    "IR": _Camera(pixel_arcsec=0.128, blur_px=0.38, nm_per_unit=10),
    "WFPC2": _Camera(pixel_arcsec=0.0996, blur_px=0.50, nm_per_unit=1),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """The effective PSF of one filter as a table over radius."""

    value: NDArray[np.float32]
    """Shape ``(n,)``: fraction of the light per pixel at radius ``i / SAMPLES_PER_PX`` px; the last is 0."""
    step: NDArray[np.float32]
    """Shape ``(n,)``: the difference to the next entry, for linear interpolation."""
    fwhm_px: float

    @property
    def peak(self) -> float:
        """Fraction of the light that falls on a pixel at the star's centre."""
        return float(self.value[0])


def wavelength_nm(filter_name: str, detector: str) -> float:
    """Give the wavelength that a filter's name tells, in nm; 600 (UVIS, WFPC2) or 1400 (IR) where it tells none."""
    digits = re.search(r"\d{3,4}", filter_name)
    unit = _CAMERAS[detector].nm_per_unit
    nm = int(digits[0]) * unit if digits else 0
    low, high, otherwise = (800, 1_800, 1_400) if detector == "IR" else (115, 1_100, 600)
    return float(nm if low <= nm <= high else otherwise)


@cache
def profile(filter_name: str, detector: str) -> Profile:
    """
    Tabulate the effective PSF of a filter.

    The PSF is the Fourier transform of the modulation transfer of a round mirror and a Gaussian blur. A cut
    through a two-dimensional transform is the transform of the projection, so one dimension is summed first.
    """
    camera = _CAMERAS[detector]
    wavelength_m = wavelength_nm(filter_name, detector) * 1e-9
    cutoff = camera.pixel_arcsec / (wavelength_m / MIRROR_M * RADIANS_TO_ARCSEC)  # cycles per px
    n_nodes = 400
    step = cutoff / n_nodes
    node = (np.arange(n_nodes) + 0.5) * step  # one quadrant; the rest by symmetry
    frequency = np.minimum(np.hypot(node[:, None], node[None, :]) / cutoff, 1.0)
    transfer = 2 / np.pi * (np.arccos(frequency) - frequency * np.sqrt(1 - frequency**2))
    transfer *= np.exp(-2 * (np.pi * camera.blur_px * frequency * cutoff) ** 2)
    projected = 4 * step * step * transfer.sum(axis=0)

    coarse_px = np.arange(0, REACH_PX + 0.125, 0.125)
    coarse = np.cos(2 * np.pi * coarse_px[:, None] * node[None, :]) @ projected
    radius_px = np.arange(REACH_PX * SAMPLES_PER_PX + 1) / SAMPLES_PER_PX
    near = radius_px <= 6  # where the curve bends, each entry is computed; further out they are interpolated
    value = np.interp(radius_px, coarse_px, coarse)
    value[near] = np.cos(2 * np.pi * radius_px[near, None] * node[None, :]) @ projected
    value = np.maximum(value, 0)
    value[-2:] = 0  # whatever lies beyond the table gets nothing
    fwhm_px = 2 * float(np.interp(-value[0] / 2, -value[near], radius_px[near]))
    table = value.astype(np.float32)
    return Profile(value=table, step=np.append(np.diff(table), np.float32(0)), fwhm_px=fwhm_px)


def fwhm_px(filter_name: str, detector: str = "UVIS") -> float:
    """Give the true full width at half maximum, in pixels, of the effective PSF that the simulator draws."""
    return profile(filter_name, detector).fwhm_px
