"""The three databases: what each is called on the wire, which suffixes and columns it has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from psfharvest.core.errors import BadQuery

SUFFIX_MEANING = {
    "raw": "raw WFC3 data",
    "flt": "calibrated WFC3 data",
    "flc": "calibrated, CTE-corrected WFC3/UVIS data",
    "d0m": "raw WFPC2 data",
    "c0m": "calibrated WFPC2 data",
}
AXIS_LENGTHS = {
    "WFC3": frozenset(
        {64, 74, 128, 138, 256, 266, 512, 513, 522, 1014, 1024, 1025, 1026, 2047, 2048, 2050, 2051, 2070, 4096,
         4206}
    ),
    "WFPC2": frozenset({800}),
}  # fmt: skip
"""Where images end: full frames, calibrated and raw, and usual subarrays (WFC3 Instrument Handbook, 6.4, 7.4)."""
RAW_SUFFIXES = frozenset({"raw", "d0m"})
"""Suffixes whose pixel coordinates are ``x_raw, y_raw``; the others use ``x_cal, y_cal``."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One database of sources."""

    name: str
    instrument: str
    """``WFC3`` or ``WFPC2``; with ``PSF`` appended it names the folder, at the archive and here."""
    service: str
    """The Mashup service that answers queries (PROTOCOL: ``*.Filtered``)."""
    suffixes: tuple[str, ...]
    filter_column: str
    full_frame_extensions: Mapping[int, int] | None = field(default=None, hash=False)
    """The extension of a chip's image in a full frame's file; a subarray's, and any other chip's, is 1. None: the
    extension bears the chip's number."""
    chip_names: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Chips that may be named without their number; the empty name is a chip that is null or no column."""

    def check_suffixes(self, suffixes: tuple[str, ...] | list[str]) -> tuple[str, ...]:
        """
        Return the suffixes, each once, in the order given.

        Raises
        ------
        BadQuery
            When one is unknown or does not fit this detector; the message names those that do.
        """
        right = ", ".join(f"{s} ({SUFFIX_MEANING[s]})" for s in self.suffixes)
        if not suffixes:
            raise BadQuery(f"no suffix given; {self.name} has: {right}", field="suffix")
        for suffix in suffixes:
            if suffix not in SUFFIX_MEANING:
                raise BadQuery(f"unknown suffix {suffix!r}; {self.name} has: {right}", field="suffix")
            if suffix not in self.suffixes:
                raise BadQuery(
                    f"suffix {suffix!r} is {SUFFIX_MEANING[suffix]}, which {self.name} does not have; "
                    f"{self.name} has: {right}",
                    field="suffix",
                )
        return tuple(dict.fromkeys(suffixes))


UVIS = Detector(
    "UVIS",
    "WFC3",
    "Mast.Catalogs.Filtered.Wfc3Psf.Uvis",
    ("raw", "flt", "flc"),
    "filter",
    full_frame_extensions={1: 4, 2: 1},
)
IR = Detector(
    "IR", "WFC3", "Mast.Catalogs.Filtered.Wfc3Psf.Ir", ("raw", "flt"), "filter", chip_names={"": 1, "IR": 1}
)
WFPC2 = Detector(
    "WFPC2", "WFPC2", "Mast.Catalogs.Filtered.Wfpc2Psf.Uvis", ("d0m", "c0m"), "filter_1", chip_names={"PC": 1}
)
DETECTORS = {d.name: d for d in (UVIS, IR, WFPC2)}
_INSTRUMENTS = {"WFC3": "UVIS or IR", "WFC": "UVIS or IR", "WFC3/UVIS": "UVIS", "WFC3/IR": "IR", "PC": "WFPC2"}


_IR_FILTER = re.compile(r"F(?:098|1[0-9]{2})[A-Z]+|G(?:102|141)")
"""WFC3's infrared filters (WFC3 Instrument Handbook, table 7.2); those of UVIS have no such numbers."""


def holder(instrument: str, filter_name: str) -> str | None:
    """Return the name of the detector behind a dataURI; None where its filter is null, which WFC3's two may be."""
    if instrument == WFPC2.instrument:
        return WFPC2.name
    if not filter_name[:1].isalpha():
        return None
    return IR.name if _IR_FILTER.fullmatch(filter_name.upper()) else UVIS.name


def detector(name: str) -> Detector:
    """
    Return the detector of that name, in any case.

    Raises
    ------
    BadQuery
        When there is none; the message names the three and the nearest.
    """
    if not isinstance(name, str):
        raise BadQuery(f"a detector is a word, not {type(name).__name__}; one of UVIS, IR, WFPC2", field="detector")
    found = DETECTORS.get(name.strip().upper())
    if found is None:
        if "=" in name:
            raise BadQuery(
                f"{name!r} is a criterion; a detector comes before it, one of UVIS, IR, WFPC2", field="detector"
            )
        if name.strip().upper() in _INSTRUMENTS:
            raise BadQuery(
                f"unknown detector {name!r}: write {_INSTRUMENTS[name.strip().upper()]} (one of UVIS, IR, WFPC2)",
                field="detector",
            )
        near = difflib.get_close_matches(name.upper(), DETECTORS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadQuery(f"unknown detector {name!r}: one of UVIS, IR, WFPC2{hint}", field="detector")
    return found


def detectors(words: str) -> tuple[Detector, ...]:
    """
    Return the detectors that a list with commas names, each once; ``all`` is all three.

    Raises
    ------
    BadQuery
        When one does not exist.
    """
    if words.strip().lower() == "all":
        return tuple(DETECTORS.values())
    names = [word for word in words.split(",") if word.strip()]
    if "=" in words or not names:
        return (detector(words),)
    return tuple(dict.fromkeys(detector(name) for name in names))
