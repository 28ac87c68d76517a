"""
Noise model of a cutout: photon noise of what a pixel holds, sky included, and read noise.

In electrons, ``sigma = sqrt(max(signal, 0) + read_noise**2)``. Gains and read noises are those of the WFC3
Instrument Handbook (section 5: UVIS 3.1 e- and 1.5 e-/DN; IR 12 e- effective for 16 reads and 2.5 e-/DN) and of the
WFPC2 Instrument Handbook (table 4.4, mean of the four chips at the usual gain: 5.3 e- and 7.1 e-/DN). Dark current,
flat field and cosmic rays are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psfharvest.core.catalog.detectors import Electronics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ELECTRONS, ELECTRONS_PER_S, COUNTS = "electron", "electron / s", "adu"
UNITS = {
    "ELECTRONS": ELECTRONS, "ELECTRONS/S": ELECTRONS_PER_S, "COUNTS": COUNTS, "COUNTS/S": "adu / s", "DN": COUNTS,
}  # fmt: skip
"""Units by the card BUNIT, as the calibration pipelines write it."""
BORDER_PX = 4


def sigma(
    image: NDArray[np.float32],
    unit: str,
    electronics: Electronics,
    *,
    exptime_s: float | None = None,
    is_raw: bool = False,
    sky_electrons: float = 0.0,
) -> NDArray[np.float32]:
    """
    Return the standard deviation of each pixel, in the image's unit.

    Parameters
    ----------
    image
        Pixels, shape ``(ny, nx)``; NaN stays NaN.
    unit
        ``electron``, ``electron / s`` or ``adu``.
    electronics
        Of the detector.
    exptime_s
        Exposure time; needed where the unit is a rate.
    is_raw
        Whether the bias level is still in: the median of the outermost pixels is taken for bias and sky together.
    sky_electrons
        The sky in electrons per pixel, put back for a raw image.

    Raises
    ------
    ValueError
        When the unit is a rate and there is no exposure time.
    """
    import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays

    electrons_a_unit = 1.0 if unit.startswith("electron") else electronics.gain
    if unit.endswith("/ s"):
        if not exptime_s or not exptime_s > 0:
            raise ValueError(f"the noise of pixels in {unit} needs the exposure time, which is not known here")
        electrons_a_unit *= exptime_s
    signal = np.asarray(image, np.float64) * electrons_a_unit
    if is_raw:
        signal += sky_electrons - border_median(image) * electrons_a_unit
    variance = np.maximum(signal, 0.0) + electronics.read_noise**2
    result: NDArray[np.float32] = (np.sqrt(variance) / electrons_a_unit).astype(np.float32)
    return result


def border_median(image: NDArray[np.float32]) -> float:
    """Return the median of the outermost 4 pixels that are no NaN, or of all; 0 where all are NaN."""
    import numpy as np  # noqa: PLC0415 - as above

    is_border = np.ones(image.shape, np.bool_)
    is_border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    finite = np.isfinite(image)
    chosen = image[is_border & finite] if (is_border & finite).any() else image[finite]
    return float(np.median(chosen)) if chosen.size else 0.0
