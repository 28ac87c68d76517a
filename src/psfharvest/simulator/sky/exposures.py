"""
Exposures: what all sources of one HST image have in common.

Rule: an exposure's name is unique in the archive, and no synthetic name begins as a real one in
``real_rows.csv``.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAMES: Final = 36**6
_FIRST_LETTERS: Final = {"UVIS": ("i", "fg"), "IR": ("i", "hj"), "WFPC2": ("u", "2345")}
"""Instrument letter, and the program letters that only this database's synthetic exposures use."""

FILTERS: Final = {
    "UVIS": ("F606W", "F814W", "F275W", "F336W", "F390W", "F438W", "F467M", "F555W", "F775W", "F850LP"),
    "IR": ("F160W", "F110W", "F105W", "F125W", "F140W", "F098M", "F127M"),
    "WFPC2": ("F606W", "F814W", "F300W", "F450W", "F555W", "F675W", "F702W", "F850LP"),
}
_APERTURES: Final = {
    "UVIS": ("UVIS-CENTER", "UVIS1-C512A-SUB", "UVIS2-C1K1C-SUB"),
    "IR": ("IR", "IR-FIX", "IRSUB512"),
    "WFPC2": ("WFALL", "PC1", "WF3"),
}
_EXPTIMES: Final = (20.0, 40.0, 60.0, 140.0, 348.0, 350.0, 402.938, 500.0, 725.0, 1200.0)
_PROPTYPES: Final = ("GO", "SNAP", "CAL/WFC3", "GTO", "GO/PAR")
_FIRST_MJD: Final = {"UVIS": 55_010.0, "IR": 55_010.0, "WFPC2": 49_350.0}
_SPAN_DAYS: Final = {"UVIS": 5_500.0, "IR": 5_500.0, "WFPC2": 5_600.0}
_MJD_EPOCH: Final = dt.date(1858, 11, 17)


@dataclass(frozen=True, slots=True)
class Exposures:
    """Columns over the exposures of one database, each of shape ``(n_exposures,)``."""

    rootname: NDArray[np.str_]
    filter: NDArray[np.str_]
    filter_2: NDArray[np.str_]
    """Empty for null."""
    aperture: NDArray[np.str_]
    exptime: NDArray[np.float64]
    subarray: NDArray[np.int8]
    chip: NDArray[np.int8]
    """The one chip of a subarray; 0 for a full frame."""
    mtflag: NDArray[np.str_]
    focus: NDArray[np.float64]
    midexp: NDArray[np.float64]
    mjd: NDArray[np.float64]
    date: NDArray[np.str_]
    """Empty for null."""
    proptype: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.rootname)


def rootnames(detector: str, seed: int, n: int) -> NDArray[np.str_]:
    """Give names of synthetic exposures: the first ``n`` of a seed, no two alike."""
    letter, programs = _FIRST_LETTERS[detector]
    stride = 36_644_071  # shares no factor with 36**6, so numbers do not repeat before all are used
    start = seed * 7_919_317
    last = "m" if letter == "u" else "q"
    names = []
    for index in range(n):
        number = (start + index * stride) % _NAMES
        digits = ""
        for _ in range(6):
            number, digit = divmod(number, 36)
            digits += _DIGITS[digit]
        names.append(f"{letter}{programs[index % len(programs)]}{digits}{last}")
    return np.array(names, dtype="U9")


def _dates(mjd: NDArray[np.float64]) -> list[str]:
    return ["" if np.isnan(day) else str(_MJD_EPOCH + dt.timedelta(days=int(day))) for day in mjd]


def _subarrays(detector: str, draw: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    subarray = (draw < 0.15).astype(np.int8)
    chips = {"UVIS": (1, 2), "IR": (1, 1), "WFPC2": (1, 3)}[detector]
    return subarray, np.where(subarray == 1, np.where(draw < 0.05, chips[0], chips[1]), 0).astype(np.int8)


def synthetic_exposures(detector: str, n: int, rng: np.random.Generator, seed: int) -> Exposures:
    """Draw the exposures of one database."""
    filters = np.array(FILTERS[detector])
    favourite = rng.random(n)
    code = np.where(favourite < 0.5, (favourite < 0.25).astype(int), rng.integers(0, len(filters), n))
    code[:2] = (0, 1)[:n]  # the favourites are there however few exposures there are
    subarray, chip = _subarrays(detector, rng.random(n))
    mjd = np.round(_FIRST_MJD[detector] + _SPAN_DAYS[detector] * rng.random(n), 5)
    exptime = np.array(_EXPTIMES)[rng.integers(0, len(_EXPTIMES), n)]
    midexp = np.round(mjd + exptime / 172_800, 5)
    focus = np.round(rng.normal(0, 2.5, n).clip(-9.9, 9.9), 2)
    focus[rng.random(n) < 0.12] = np.nan
    date = np.array(_dates(mjd), dtype="U10")
    mjd[rng.random(n) < 0.03] = np.nan
    midexp[np.isnan(mjd)] = np.nan
    date[np.isnan(mjd)] = ""
    return Exposures(
        rootname=rootnames(detector, seed, n),
        filter=filters[code],
        filter_2=np.where((rng.random(n) < 0.05) | (np.arange(n) == 2), "POLQ", ""),
        aperture=np.array(_APERTURES[detector])[np.where(subarray == 1, np.where(chip == 1, 1, 2), 0)],
        exptime=exptime,
        subarray=subarray,
        chip=chip,
        mtflag=np.where(rng.random(n) < 0.02, "1", "0"),
        focus=focus,
        midexp=midexp,
        mjd=mjd,
        date=date,
        proptype=np.array(_PROPTYPES)[rng.integers(0, len(_PROPTYPES), n)],
    )
