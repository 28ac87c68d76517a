"""
What is known of the catalogues' columns: type, unit, meaning, and which detector lacks them.

Sources: the printed tables of the published notebooks, the PSF search page and the producer's code, as far as
public copies show them. The list may lack a column: an unknown name is passed on to the archive, which has the
last word, unless it is all but a known one misspelt.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from psfharvest.core.catalog.detectors import DETECTORS, Detector
from psfharvest.core.errors import BadQuery


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a catalogue; `kind` is ``int``, ``float`` or ``str``; `unit` is an astropy unit or empty."""

    name: str
    kind: str
    unit: str
    description: str

    @property
    def only(self) -> tuple[str, ...]:
        """Names of the detectors that have it."""
        return tuple(d.name for d in DETECTORS.values() if self.name not in d.lacks)

    def unit_for(self, detector: Detector) -> str:
        """Return the unit that the column has for one detector: an astropy unit, or empty."""
        return detector.flux_unit if self.name == "psf_flux" else self.unit


COLUMNS = {
    c.name: c
    for c in (
        Column("id", "int", "", "unique key of the source"),
        Column("rootname", "str", "", "exposure (ipppssoot)"),
        Column("filter", "str", "", "filter"),
        Column("filter_1", "str", "", "filter"),
        Column("filter_2", "str", "", "second filter of a pair, where one was used"),
        Column("aperture", "str", "", "aperture of the observation"),
        Column("chip", "str", "", "chip: 1, 2 on UVIS; 1 (PC) to 4 on WFPC2"),
        Column("exptime", "float", "s", "exposure time"),
        Column("psf_x_center", "float", "pix", "x of the centre on the full frame, 1-based"),
        Column("psf_y_center", "float", "pix", "y of the centre on the full frame, 1-based"),
        Column("psf_flux", "float", "", "flux: electrons on UVIS and WFPC2, electrons per second on IR"),
        Column("sky", "float", "", "sky per pixel"),
        Column("pixc", "float", "", "value of the central pixel"),
        Column("qfit", "float", "", "quality of the fit: 0 best; exactly 0 for saturated sources"),
        Column("iso_index", "int", "", "isolation index"),
        Column("n_sat_pixels", "int", "", "number of saturated pixels"),
        Column("subarray", "int", "", "0 for a full frame"),
        Column("mtflag", "str", "", "moving-target flag"),
        Column("focus", "float", "um", "focus model, where there is one"),
        Column("midexp", "float", "d", "middle of the exposure (MJD)"),
        Column("mjd", "float", "d", "date of the exposure (MJD)"),
        Column("date", "str", "", "date of the exposure"),
        Column("proptype", "str", "", "proposal type"),
        Column("x_raw", "float", "pix", "x of the centre in the raw extension, 0-based"),
        Column("y_raw", "float", "pix", "y of the centre in the raw extension, 0-based"),
        Column("x_cal", "float", "pix", "x of the centre in the calibrated extension, 0-based"),
        Column("y_cal", "float", "pix", "y of the centre in the calibrated extension, 0-based"),
    )
}


SOURCE_KEY = (
    "id", "rootname", "x_cal", "y_cal", "x_raw", "y_raw", "psf_x_center", "psf_y_center", "chip", "filter",
    "filter_1",
)  # fmt: skip
"""What tells two sources apart, as far as it came: an id may be unique within its image only."""


def known_names(detector: Detector) -> tuple[str, ...]:
    """Return the names of the columns that `detector` is known to have."""
    return tuple(name for name in COLUMNS if name not in detector.lacks)


def needed(detector: Detector) -> tuple[str, ...]:
    """Return the columns without which no dataURI can be built."""
    return (
        "id", "rootname", detector.filter_column, "chip", "subarray", "qfit", "x_cal", "y_cal", "x_raw", "y_raw",
    )  # fmt: skip


def near_matches(name: str, detector: Detector, cutoff: float = 0.6) -> list[str]:
    """Return known columns of `detector` whose names are like `name`, the nearest first."""
    return difflib.get_close_matches(name.lower(), known_names(detector), n=3, cutoff=cutoff)


def resolve(name: str, detector: Detector) -> str:
    """
    Return the column's name as `detector` has it; ``filter`` means ``filter_1`` on WFPC2.

    Raises
    ------
    BadQuery
        When the detector is known to lack the column, or the name is a known one misspelt.
    """
    if name == "filter":
        return detector.filter_column
    column = COLUMNS.get(name)
    if column is None:
        near = near_matches(name, detector, cutoff=0.8)
        if near or not name.isidentifier():
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            known = ", ".join(known_names(detector))
            raise BadQuery(f"unknown column {name!r}: {hint}{detector.name} has: {known}", field=name)
        return name
    if name in detector.lacks:
        instead = f"; use {detector.filter_column}" if name.startswith("filter") else ""
        raise BadQuery(
            f"column {name!r} does not exist for {detector.name}, only for {' and '.join(column.only)}{instead}",
            field=name,
        )
    return name


def resolve_all(names: Iterable[str], detector: Detector) -> tuple[str, ...]:
    """Return the columns' names as `detector` has them, each once, in order."""
    return tuple(dict.fromkeys(resolve(name, detector) for name in names))
