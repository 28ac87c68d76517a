"""
One database: its sources as compact arrays sorted by id, and how their numbers print.

Rule: positions, fluxes and the like are kept as whole numbers of their last decimal, so that they come out
as the archive prints them; x and y of every frame follow from the centre.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from psfharvest.simulator.sky.exposures import Exposures
from psfharvest.simulator.sky.geometry import CHIP_ROWS, raw_offsets

SCALE: Final = {"x": 10_000, "y": 10_000, "flux": 100, "pixc": 100, "sky": 100, "qfit": 1_000}
"""Units of the stored whole numbers in one of the archive's."""
SCALED: Final = {
    "psf_x_center": "x", "psf_y_center": "y", "psf_flux": "flux", "pixc": "pixc", "sky": "sky", "qfit": "qfit"
}  # fmt: skip
"""Column to the array that holds it scaled."""
_EXPOSURE_COLUMNS: Final = {field.name for field in fields(Exposures)} - {"chip"} | {"filter_1"}
_PLAIN: Final = {"id": "ids", "iso_index": "iso_index", "n_sat_pixels": "n_sat_pixels"}


@dataclass(frozen=True, slots=True)
class Source:
    """What a cutout of one source needs to know."""

    detector: str
    id: int
    filter: str
    flux: float
    sky: float
    is_saturated: bool
    n_sat_pixels: int
    is_real: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One database; arrays over sources have shape ``(n_sources,)`` and stand in the order of ``ids``."""

    detector: str
    exposures: Exposures
    ids: NDArray[np.int32]
    exposure: NDArray[np.int32]
    """Index into ``exposures``."""
    chip: NDArray[np.int8]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    flux: NDArray[np.int32]
    pixc: NDArray[np.int32]
    sky: NDArray[np.int32]
    qfit: NDArray[np.int32]
    iso_index: NDArray[np.int32]
    n_sat_pixels: NDArray[np.int32]
    is_real: NDArray[np.bool_]
    raw_y_chip1: int
    raw_border: int

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str, at: Any = slice(None)) -> NDArray[Any]:
        """
        Give one column as the archive would print it: int64, float64 (null is NaN) or str (null is empty).

        Parameters
        ----------
        name
            One of ``COLUMNS[detector]``.
        at
            Which sources: a slice, a mask or indices.

        Returns
        -------
        ndarray of shape (n,)
        """
        if name in _EXPOSURE_COLUMNS:
            values = self.exposure_column(name)
            wide = values.astype(np.int64) if values.dtype.kind == "i" else values
            return np.asarray(wide[self.exposure[at]])
        if name == "chip":
            return np.asarray(self.chip[at].astype("U1"))
        if name in _PLAIN:
            return np.asarray(getattr(self, _PLAIN[name])[at], dtype=np.int64)
        if name in SCALED:
            return self._decimal(SCALED[name], at)
        return self._position(name, at)

    def exposure_column(self, name: str) -> NDArray[Any]:
        """Give a column that all sources of an exposure share, over the exposures."""
        values: NDArray[Any] = getattr(self.exposures, "filter" if name == "filter_1" else name)
        return values

    @staticmethod
    def is_shared(name: str) -> bool:
        """Tell whether a column belongs to exposures rather than to single sources."""
        return name in _EXPOSURE_COLUMNS

    def _decimal(self, name: str, at: Any) -> NDArray[np.float64]:
        whole: NDArray[np.int32] = getattr(self, name)
        return np.asarray(
            whole[at] / np.float64(SCALE[name])
        )  # correctly rounded, so it prints with its few decimals

    def _position(self, name: str, at: Any) -> NDArray[np.float64]:
        axis, frame = name.split("_")
        unit = SCALE[axis]
        chip = self.chip[at]
        whole = getattr(self, axis)[at].astype(np.int64) - unit
        if axis == "y" and self.detector == "UVIS":
            whole -= np.where(chip == 1, CHIP_ROWS * unit, 0)
        if frame == "raw":
            in_x, in_y = raw_offsets(self.detector, self.raw_y_chip1, self.raw_border)
            whole += in_x(whole, unit) if axis == "x" else in_y(chip) * unit
        return np.asarray(whole / np.float64(unit))

    def source(self, source_id: int) -> Source | None:
        """Look up one source."""
        at = int(np.searchsorted(self.ids, source_id))
        if at == len(self.ids) or self.ids[at] != source_id:
            return None
        return Source(
            detector=self.detector,
            id=source_id,
            filter=str(self.exposures.filter[self.exposure[at]]),
            flux=int(self.flux[at]) / SCALE["flux"],
            sky=int(self.sky[at]) / SCALE["sky"],
            is_saturated=bool(self.qfit[at] == 0),
            n_sat_pixels=int(self.n_sat_pixels[at]),
            is_real=bool(self.is_real[at]),
        )
