"""
Frames: how large each detector's images are, and where a pixel of one frame lies in another.

As the archive's notebook computes them: calibrated positions are 0-based in their extension; UVIS chip 1 sits on
top of chip 2 in the stacked frame of ``psf_y_center``; raw frames add prescan and overscan.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CHIP_ROWS: Final = 2_048
"""Rows of UVIS chip 2 in the stacked frame."""
SIDES: Final = {"UVIS": (4_096, CHIP_ROWS), "IR": (1_014, 1_014), "WFPC2": (800, 800)}
"""Width and height, in pixels, of the part of a chip that holds sources."""
_CALIBRATED: Final = {"UVIS": (4_096, 2_051), "IR": (1_014, 1_014), "WFPC2": (800, 800)}
_RAW_UVIS: Final = (4_206, 2_070)
_PRESCAN: Final = 25
_PRESCAN_AND_VIRTUAL: Final = 85
_AMP_COLUMNS: Final = 2_048

Whole = NDArray[np.int64]


def frame_shape(detector: str, is_raw: bool, raw_border: int) -> tuple[int, int]:
    """
    Give the ``(ny, nx)`` shape, in pixels, of one image extension.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``.
    is_raw
        Whether it is a raw frame.
    raw_border
        Pixels that a raw IR or WFPC2 frame has more on each side.
    """
    nx, ny = _CALIBRATED[detector]
    if is_raw and detector == "UVIS":
        nx, ny = _RAW_UVIS
    elif is_raw:
        nx, ny = nx + 2 * raw_border, ny + 2 * raw_border
    return ny, nx


def raw_offsets(
    detector: str, rows_below_chip1: int, border: int
) -> tuple[Callable[[Whole, int], Whole], Callable[[NDArray[Any]], Whole]]:
    """
    Give what to add to calibrated positions to get raw ones: in x by position, in y by chip.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``.
    rows_below_chip1
        Rows before the first light-sensitive one of UVIS chip 1.
    border
        Pixels that a raw IR or WFPC2 frame has more on each side.
    """
    if detector != "UVIS":
        return (
            lambda x, unit: np.full(x.shape, border * unit, dtype=np.int64),
            lambda chip: np.full(chip.shape, border, dtype=np.int64),
        )
    return (
        lambda x, unit: np.where(x < _AMP_COLUMNS * unit, _PRESCAN * unit, _PRESCAN_AND_VIRTUAL * unit),
        lambda chip: np.where(chip == 1, rows_below_chip1, 0),
    )
