"""
The columns of the three databases: their names, types, units, and which of them may be null.

Rule: what a query may name, what an answer's ``fields`` say and what ``columnsconfig`` tells all come
from here.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

DETECTORS: Final = ("UVIS", "IR", "WFPC2")

SERVICES: Final = {
    "Mast.Catalogs.Filtered.Wfc3Psf.Uvis": "UVIS",
    "Mast.Catalogs.Filtered.Wfc3Psf.Ir": "IR",
    "Mast.Catalogs.Filtered.Wfpc2Psf.Uvis": "WFPC2",
}
"""Mashup service to detector."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a database."""

    name: str
    kind: Literal["int", "float", "string"]
    """Its type, as an answer's ``fields`` name it."""
    unit: str
    text: str


_COMMON_HEAD: Final = (
    Column("id", "int", "", "Unique key of the source"),
    Column("rootname", "string", "", "Name of the exposure (ipppssoot)"),
)
_WFC3_FILTER: Final = (Column("filter", "string", "", "Filter"),)
_WFPC2_FILTERS: Final = (
    Column("filter_1", "string", "", "Filter"),
    Column("filter_2", "string", "", "Second filter"),
)
_COMMON: Final = (
    Column("aperture", "string", "", "Aperture of the observation"),
    Column("chip", "string", "", "Detector chip"),
    Column("exptime", "float", "s", "Exposure time"),
    Column("psf_x_center", "float", "pix", "Centre in x, 1-based, full frame"),
    Column("psf_y_center", "float", "pix", "Centre in y, 1-based, full frame"),
    Column("psf_flux", "float", "electron", "Flux of the fitted PSF"),
    Column("pixc", "float", "electron", "Value of the central pixel"),
    Column("sky", "float", "electron", "Local sky per pixel"),
    Column("qfit", "float", "", "Quality of the fit; 0 for a saturated source"),
    Column("iso_index", "int", "", "Isolation index"),
    Column("n_sat_pixels", "int", "", "Number of saturated pixels"),
    Column("subarray", "int", "", "1 for a subarray"),
    Column("mtflag", "string", "", "1 for a moving target"),
    Column("focus", "float", "um", "Focus of the telescope"),
    Column("midexp", "float", "d", "Middle of the exposure (MJD)"),
    Column("mjd", "float", "d", "Start of the exposure (MJD)"),
    Column("date", "string", "", "Date of the exposure"),
    Column("x_raw", "float", "pix", "x in the raw extension, 0-based"),
    Column("y_raw", "float", "pix", "y in the raw extension, 0-based"),
    Column("x_cal", "float", "pix", "x in the calibrated extension, 0-based"),
    Column("y_cal", "float", "pix", "y in the calibrated extension, 0-based"),
)
_WFC3_TAIL: Final = (Column("proptype", "string", "", "Type of the proposal"),)

COLUMNS: Final[dict[str, dict[str, Column]]] = {
    detector: {
        column.name: column
        for column in (
            *_COMMON_HEAD,
            *(_WFPC2_FILTERS if detector == "WFPC2" else _WFC3_FILTER),
            *_COMMON,
            *(() if detector == "WFPC2" else _WFC3_TAIL),
        )
    }
    for detector in DETECTORS
}
"""Detector to its columns by name, in the archive's order."""

_VOTABLE_TYPE: Final = {"int": "long", "float": "double", "string": "char"}


def columns_config(detector: str) -> dict[str, dict[str, Any]]:
    """Describe a database as the portal's ``columnsconfig`` does."""
    config: dict[str, dict[str, Any]] = {
        "_selected_": {"text": "selected", "add": True, "type": "boolean", "hidden": True}
    }
    for order, column in enumerate(COLUMNS[detector].values()):
        entry: dict[str, Any] = {
            "text": column.name,
            "order": order,
            "vot.datatype": _VOTABLE_TYPE[column.kind],
            "vot.description": column.text,
        }
        if column.unit:
            entry["vot.unit"] = column.unit
        if column.kind == "string":
            entry["vot.arraysize"] = "*"
        config[column.name] = entry
    return config
