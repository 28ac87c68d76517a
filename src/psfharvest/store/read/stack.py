"""Many cutouts as one array, or combined into one image: read in stretches, memory-mapped where it is large."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.advice import repair
from psfharvest.core.errors import BadInput, LocalError, SinkError
from psfharvest.core.fits import accepted_deviations, datauri, noise, pixels
from psfharvest.core.fits.cutout import Cutout
from psfharvest.filesystem.atomic import require_parent, written_whole
from psfharvest.store.read.stars import known_flux

if TYPE_CHECKING:
    from psfharvest.store.read.harvest import Harvest

IN_MEMORY_BYTES = 512 * 10**6
BATCH_SIZE = 512
BACKGROUNDS = ("border", "catalogue", "mmm")
NORMALISATIONS = ("flux", "sum", "peak")
CENTRES = ("catalogue", "centroid")
COMBINATIONS = ("median", "mean", "sigma_clip")
FULL = 0.999
"""Below this share of good pixels, a moved pixel is NaN."""
Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to each image before it is stacked; see `Harvest.stack`."""

    background: str | None = None
    normalise: str | None = None
    recentre: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("background", BACKGROUNDS), ("normalise", NORMALISATIONS), ("recentre", CENTRES)):
            check_word(name, getattr(self, name), allowed)

    def apply(self, cutout: Cutout, image: Pixels) -> Pixels:
        """Return a cutout's image, treated."""
        if self.background is not None:
            image = image - np.float32(self._background(cutout, image))
        if self.recentre is not None:
            image = _centred(image, self._centre(cutout, image))
        if self.normalise is not None:
            image = image / np.float32(self._scale(cutout, image))
        return image

    def _background(self, cutout: Cutout, image: Pixels) -> float:
        if self.background == "border":
            return noise.border_median(image)
        if self.background == "catalogue":
            return _known(cutout, "sky", "border")
        from photutils.background import MMMBackground  # noqa: PLC0415 - an extra

        return float(MMMBackground()(image[np.isfinite(image)]))

    def _centre(self, cutout: Cutout, image: Pixels) -> tuple[float, float]:
        known = cutout.center
        if self.recentre == "catalogue" and known is not None:
            return known
        from photutils.centroids import centroid_quadratic  # noqa: PLC0415 - an extra

        middle = (image.shape[1] // 2, image.shape[0] // 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it cannot fit comes back as NaN
            x, y = centroid_quadratic(
                image,
                mask=~np.isfinite(image),
                fit_boxsize=5,
                xpeak=middle[0],
                ypeak=middle[1],
                search_boxsize=7,
            )
        if not (math.isfinite(x) and math.isfinite(y)):
            return known or (float(middle[0]), float(middle[1]))
        return float(x), float(y)

    def _scale(self, cutout: Cutout, image: Pixels) -> float:
        if self.normalise == "flux":
            scale = known_flux(cutout)
            if scale is None:
                raise BadInput(
                    f"{cutout.uri}: the catalogue's flux is not known in the pixels' unit; normalise='sum' or "
                    "'peak' takes it from the pixels"
                )
            return scale
        scale = float(np.nansum(image, dtype=np.float64) if self.normalise == "sum" else np.nanmax(image))
        return scale or math.nan


def stack(
    harvest: Harvest,
    size: int,
    out: str | Path | None = None,
    *,
    treatment: Treatment | None = None,
    in_memory_bytes: int = IN_MEMORY_BYTES,
) -> Pixels:
    """Return what `Harvest.stack` says; what is larger than `in_memory_bytes` is memory-mapped."""
    numbers = harvest.done_numbers(size)
    sizes = {side: n for side, n in harvest.sizes().items() if side is not None} if not len(numbers) else {}
    if sizes:
        there = ", ".join(f"{side} ({n:,})" for side, n in sorted(sizes.items()))
        raise BadInput(f"no cutout is {size} pixels a side; there are: {there}")
    shape = (len(numbers), size, size)
    if out is not None:
        return _into_file(harvest, size, shape, Path(out), treatment)
    if 4 * len(numbers) * size * size <= in_memory_bytes:
        array = np.empty(shape, np.float32)
        start = 0
        for piece in stretches(harvest, size, treatment):
            array[start : start + len(piece)] = piece
            start += len(piece)
        return array
    with tempfile.TemporaryFile(prefix="psfharvest-") as file:
        _write(harvest, size, file, file.name, treatment)
        return np.memmap(file, np.float32, "r+", shape=shape)


def combined(images: Pixels, how: str) -> Pixels:
    """
    Return one image of many, NaN left out; a row of pixels at once, since a median needs all images together.

    Parameters
    ----------
    images
        Shape ``(n, ny, nx)``.
    how
        One of `COMBINATIONS`.

    Raises
    ------
    BadInput
        When there is no image.
    """
    from astropy.stats import sigma_clip  # noqa: PLC0415 - heavy

    if not len(images):
        raise BadInput("no cutout of that size to combine")
    result = np.empty(images.shape[1:], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pixel that is NaN in all images is NaN
        for y in range(images.shape[1]):
            row = np.asarray(images[:, y, :], np.float64)
            if how == "sigma_clip":
                row = sigma_clip(np.ma.masked_invalid(row), sigma=3, axis=0).filled(np.nan)
            result[y] = np.nanmedian(row, axis=0) if how == "median" else np.nanmean(row, axis=0)
    return result


def stretches(harvest: Harvest, size: int, treatment: Treatment | None = None) -> Iterator[Pixels]:
    """
    Yield the pixels of all done cutouts of one size, at most `BATCH_SIZE` together, shape ``(n, size, size)``.

    Raises
    ------
    LocalError
        When a cutout is not where the manifest says, or is not of that size.
    """
    may_differ = accepted_deviations.WRONG_SHAPE in harvest.status().quirks
    for numbers in harvest.done_numbers(size).pieces(BATCH_SIZE):
        piece = np.empty((len(numbers), size, size), np.float32)
        n = 0
        found = harvest.bodies(numbers) if treatment is None else harvest.cutouts(numbers)
        for cutout in found:
            image = pixels.image(cutout.raw, datauri.parts_of(cutout.uri))
            if image is not None and may_differ:
                image = pixels.framed(image, size)
            if image is None or image.shape != (size, size):
                raise LocalError(
                    f"{cutout.uri}: no image of {size} x {size} px is stored; run: {repair(harvest.folder)}"
                )
            piece[n] = image if treatment is None else treatment.apply(cutout, image)
            n += 1
        if n < len(numbers):
            raise LocalError(f"{harvest.folder}: a cutout was taken back meanwhile; make a new Harvest")
        yield piece


def check_word(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise `BadInput` for what is neither None nor one of the allowed words."""
    if value is not None and value not in allowed:
        raise BadInput(f"{name} is {value!r}: None, {', '.join(map(repr, allowed))} are allowed")


def _known(cutout: Cutout, column: str, instead: str) -> float:
    value = cutout.source.get(column)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(
            f"{cutout.uri}: the catalogue has no {column} for it; background={instead!r} is always there"
        )
    return float(value)


def _centred(image: Pixels, centre: tuple[float, float]) -> Pixels:
    """Return an image moved so that `centre` is the middle pixel's; NaN where a NaN or the outside took part."""
    from scipy.ndimage import shift  # noqa: PLC0415 - an extra

    by = (image.shape[0] // 2 - centre[1], image.shape[1] // 2 - centre[0])
    good = np.isfinite(image)
    fill = float(np.median(image[good])) if good.any() else 0.0
    moved = shift(np.where(good, image, fill), by, order=3, mode="nearest", output=np.float32)
    share = shift(good.astype(np.float32), by, order=1, cval=0.0)
    moved[share < FULL] = np.nan
    result: Pixels = moved
    return result


def _into_file(
    harvest: Harvest, size: int, shape: tuple[int, int, int], out: Path, treatment: Treatment | None
) -> NDArray[np.float32]:
    if out.suffix != ".npy":
        raise BadInput(f"{out}: an array is written to a .npy file; call it {out.with_suffix('.npy').name}")
    require_parent(out)
    with written_whole(out) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4" if np.little_endian else ">f4", "fortran_order": False, "shape": shape}
        )
        _write(harvest, size, file, str(out), treatment)
    mapped: NDArray[np.float32] = np.load(out, mmap_mode="r+")
    return mapped


def _write(harvest: Harvest, size: int, file: IO[bytes], name: str, treatment: Treatment | None) -> None:
    try:
        for piece in stretches(harvest, size, treatment):
            file.write(piece.data)
        file.flush()
    except OSError as error:
        raise SinkError(f"cannot write {name}: {error.strerror or error}") from error
