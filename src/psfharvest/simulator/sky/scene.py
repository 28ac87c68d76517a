"""
The sky and the camera: pixels of a star at a given place, as a detector would have recorded them.

Rules: the star's centre lies exactly at ``(x, y)``; noise depends on the cutout's own key and on nothing
else, so the same request always gets the same pixels; what lies beyond the detector is NaN.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from psfharvest.simulator.sky.optics import REACH_PX, SAMPLES_PER_PX, profile

Pixels = NDArray[np.float32]

_NOISE_SIZE: Final = 1 << 18
_SPIKE_STRENGTH: Final = np.float32(2.5)
_SPIKE_ONSET: Final = np.float32(4.0)


@dataclass(frozen=True, slots=True)
class Electronics:
    """How one detector turns light into numbers."""

    read_noise: float
    electrons_per_count: float
    """Electrons behind one unit of a calibrated pixel; Poisson noise follows from it."""
    full_well: float
    """Calibrated value at which a pixel is full."""
    raw_bias: float
    raw_gain: float
    """Calibrated units in one raw count."""
    bleeds: bool


ELECTRONICS: Final = {
    "UVIS": Electronics(3.2, 1.0, 68_000, 2_500, 1.55, bleeds=True),
    "IR": Electronics(0.06, 350.0, 3_000, 11_000, 0.02, bleeds=False),
    "WFPC2": Electronics(0.8, 7.0, 30_000, 340, 7.1, bleeds=True),
}
_RAW_FULL: Final = np.float32(65_535)


@dataclass(frozen=True, slots=True)
class Star:
    """One point source."""

    detector: str
    filter: str
    flux: float
    sky: float
    n_sat_pixels: int
    """0 for a star that nothing saturates."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where a cutout lies in its frame: lower corner, and both shapes in ``(ny, nx)`` order."""

    x0: int
    y0: int
    shape: tuple[int, int]
    frame: tuple[int, int]

    @property
    def overlaps(self) -> bool:
        """Whether any pixel lies on the detector."""
        (ny, nx), (rows, columns) = self.shape, self.frame
        return self.x0 < columns and self.y0 < rows and self.x0 + nx > 0 and self.y0 + ny > 0

    @property
    def is_inside(self) -> bool:
        """Whether all pixels lie on the detector."""
        (ny, nx), (rows, columns) = self.shape, self.frame
        return self.x0 >= 0 and self.y0 >= 0 and self.x0 + nx <= columns and self.y0 + ny <= rows


@cache
def _noise() -> Pixels:
    """Give standard normal deviates that every cutout takes its own stretch of."""
    return np.random.default_rng(20_260_801).standard_normal(_NOISE_SIZE, dtype=np.float32)


@lru_cache(maxsize=8)
def _grid(n: int) -> Pixels:
    return np.arange(n, dtype=np.float32)


def _starlight(star: Star, x: float, y: float, shape: tuple[int, int]) -> Pixels:
    """Give the star's light alone; ``x``, ``y`` are its centre in the cutout, 0-based."""
    table = profile(star.filter, star.detector)
    dx2 = (_grid(shape[1]) - np.float32(x)) ** 2
    dy2 = (_grid(shape[0]) - np.float32(y)) ** 2
    r2 = dy2[:, None] + dx2[None, :]
    position = np.sqrt(r2)
    position *= np.float32(SAMPLES_PER_PX)
    entry = position.astype(np.int32)
    position -= entry
    if max(shape) > 2 * REACH_PX / 1.5:
        np.minimum(entry, len(table.value) - 1, out=entry)
    light = table.step.take(entry)
    light *= position
    light += table.value.take(entry)
    # Spikes along both diagonals: 1 on them, falling off steeply beside them, and nothing in the core
    r2 += _SPIKE_ONSET
    diagonal = dy2[:, None] * dx2[None, :]
    diagonal *= np.float32(4)
    r2 *= r2
    diagonal /= r2
    diagonal *= diagonal
    diagonal *= diagonal
    diagonal *= _SPIKE_STRENGTH
    diagonal += np.float32(1)
    light *= diagonal
    light *= np.float32(star.flux)
    return light


def _add_noise(pixels: Pixels, electronics: Electronics, key: int) -> None:
    variance = pixels / np.float32(electronics.electrons_per_count)
    variance += np.float32(electronics.read_noise**2)
    np.sqrt(variance, out=variance)
    n = pixels.size
    noise = _noise()
    start = key % (_NOISE_SIZE - n) if n < _NOISE_SIZE else 0
    stretch = noise[start : start + n] if n <= _NOISE_SIZE else np.resize(np.roll(noise, key), n)
    variance *= stretch.reshape(pixels.shape)
    pixels += variance


def _saturate(pixels: Pixels, star: Star, electronics: Electronics, x: float, y: float) -> None:
    """Flatten the core at full well and let it bleed along the columns."""
    full = np.float32(electronics.full_well)
    np.minimum(pixels, full, out=pixels)
    if not electronics.bleeds:
        return
    reach = 3 + star.n_sat_pixels // 4
    half_width = 1 + star.n_sat_pixels // 120
    row, column = round(y), round(x)
    rows = slice(max(row - reach, 0), max(row + reach + 1, 0))
    columns = slice(max(column - half_width, 0), max(column + half_width + 1, 0))
    pixels[rows, columns] = full


def draw(star: Star, x: float, y: float, window: Window, *, is_raw: bool, dead_pixel: bool, key: int) -> Pixels:
    """
    Draw one cutout.

    Parameters
    ----------
    star
        What stands in it.
    x, y
        The star's centre in the frame, 0-based, in pixels.
    window
        Which part of the frame to draw.
    is_raw
        Bias and whole counts, instead of calibrated values.
    dead_pixel
        Whether one pixel is exactly zero.
    key
        Decides the noise.

    Returns
    -------
    ndarray of shape (ny, nx)
        NaN beyond the frame.
    """
    electronics = ELECTRONICS[star.detector]
    in_x, in_y = x - window.x0, y - window.y0
    pixels = _starlight(star, in_x, in_y, window.shape)
    pixels += np.float32(star.sky)
    _add_noise(pixels, electronics, key)
    if not is_raw:
        pixels -= np.float32(0.9 * star.sky)  # what is left of the sky lets faint pixels go below zero
    if star.n_sat_pixels:
        _saturate(pixels, star, electronics, in_x, in_y)
    if is_raw:
        pixels /= np.float32(electronics.raw_gain)
        pixels += np.float32(electronics.raw_bias)
        np.rint(np.minimum(pixels, _RAW_FULL), out=pixels)
    if dead_pixel:
        pixels[key % window.shape[0], (key >> 16) % window.shape[1]] = 0
    if not window.is_inside:
        _blank_outside(pixels, window)
    return pixels


def _blank_outside(pixels: Pixels, window: Window) -> None:
    (ny, nx), (rows, columns) = window.shape, window.frame
    inside = (
        slice(max(-window.y0, 0), min(rows - window.y0, ny)),
        slice(max(-window.x0, 0), min(columns - window.x0, nx)),
    )
    kept = pixels[inside].copy()
    pixels[...] = np.nan
    pixels[inside] = kept
