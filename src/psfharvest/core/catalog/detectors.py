"""
Detectors: all that the package knows of each, in one entry of `DETECTORS`.

What depends on a detector elsewhere (the grammar of dataURIs, the places in a harvest folder, units, noise, hints)
is derived from these entries: a new detector is one more entry, and its suffixes where they are new. Type checkers
read the names in `psfharvest.core.names`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from psfharvest.core.errors import BadQuery

SUFFIX_MEANING = {
    "raw": "raw WFC3 data",
    "flt": "calibrated WFC3 data",
    "flc": "calibrated, CTE-corrected WFC3/UVIS data",
    "d0m": "raw WFPC2 data",
    "c0m": "calibrated WFPC2 data",
}
RAW_SUFFIXES = frozenset({"raw", "d0m"})
"""Suffixes whose pixel coordinates are ``x_raw, y_raw``; the others use ``x_cal, y_cal``."""


@dataclass(frozen=True, slots=True)
class Electronics:
    """Read noise in electrons and gain in electrons per DN."""

    read_noise: float
    gain: float


@dataclass(repr=False, frozen=True, slots=True, kw_only=True)
class Detector:
    """One database of sources, and the detector that its images are of."""

    name: str
    instrument: str
    """``WFC3`` or ``WFPC2``; with ``PSF`` appended it names the folder, at the archive and here."""
    service: str
    """The Mashup service that answers queries (its name ends in ``.Filtered``)."""
    suffixes: tuple[str, ...]
    filter_column: str
    lacks: frozenset[str] = frozenset()
    """Columns of `psfharvest.core.catalog.columns.COLUMNS` that its database does not have."""
    full_frame_extensions: Mapping[int, int] | None = field(default=None, hash=False)
    """The extension of a chip's image in a full frame's file; a subarray's, and any other chip's, is 1. None: the
    extension bears the chip's number."""
    chip_names: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Chips that may be named without their number; the empty name is a chip that is null or no column."""
    also_called: tuple[str, ...] = ()
    """Names by which people ask for it; they are answered with the right one."""
    rootname_initial: str = ""
    """The first letter of its exposures' names."""
    own_filters: tuple[str, ...] = ()
    """Patterns (of SQLite's GLOB) of the filters that only this one of its instrument's detectors has."""
    filters: str = ""
    """Names, with blanks between."""
    chips: tuple[str, ...] = ()
    full_frame_px: int
    """The longest axis of a calibrated full frame."""
    axis_lengths: frozenset[int] = frozenset()
    """Where images end, in pixels: full frames, calibrated and raw, and usual subarrays."""
    calibrated_unit: str
    """Of calibrated pixels without BUNIT: ``electron``, ``electron / s`` or ``adu``."""
    flux_unit: str
    """Of the column ``psf_flux``."""
    electronics: Electronics

    def __repr__(self) -> str:
        return f"<Detector {self.name}>"

    @property
    def chip_rows_px(self) -> int:
        """Rows of one chip's calibrated image; chips that share a full frame lie one above the other."""
        return self.full_frame_px // len(self.full_frame_extensions or (1,))

    @property
    def calibrated_suffix(self) -> str:
        """The first suffix that is not raw, where there is one."""
        return self.suffixes[min(1, len(self.suffixes) - 1)]

    @property
    def absent_rootname(self) -> str:
        """A name of the right form that no exposure has."""
        return f"{self.rootname_initial}zzz00zzq"

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


_WFPC2_ONLY = frozenset({"filter_1", "filter_2"})
UVIS = Detector(
    name="UVIS",
    instrument="WFC3",
    service="Mast.Catalogs.Filtered.Wfc3Psf.Uvis",
    suffixes=("raw", "flt", "flc"),
    filter_column="filter",
    lacks=_WFPC2_ONLY,
    full_frame_extensions={1: 4, 2: 1},
    also_called=("WFC",),
    rootname_initial="i",
    filters=(
        "F200LP F218W F225W F275W F280N F300X F336W F343N F350LP F373N F390M F390W F395N F410M F438W F467M F469N "
        "F475W F475X F487N F502N F547M F555W F600LP F606W F621M F625W F631N F645N F656N F657N F658N F665N F673N "
        "F680N F689M F763M F775W F814W F845M F850LP F953N FQ232N FQ243N FQ378N FQ387N FQ422M FQ436N FQ437N FQ492N "
        "FQ508N FQ575N FQ619N FQ634N FQ672N FQ674N FQ727N FQ750N FQ889N FQ906N FQ924N FQ937N"
    ),
    chips=("1", "2"),
    full_frame_px=4096,
    axis_lengths=frozenset({512, 513, 1024, 1025, 1026, 2047, 2048, 2050, 2051, 2070, 4096, 4206}),
    calibrated_unit="electron",
    flux_unit="electron",
    electronics=Electronics(read_noise=3.1, gain=1.5),
)
"""Filters and frames: WFC3 Instrument Handbook, tables 6.2 and 6.1, section 6.4; electronics: section 5."""
IR = Detector(
    name="IR",
    instrument="WFC3",
    service="Mast.Catalogs.Filtered.Wfc3Psf.Ir",
    suffixes=("raw", "flt"),
    filter_column="filter",
    lacks=_WFPC2_ONLY,
    chip_names={"": 1, "IR": 1},
    also_called=("WFC",),
    rootname_initial="i",
    own_filters=("F098[A-Z]*", "F1[0-9][0-9][A-Z]*", "G102", "G141"),
    filters="F098M F105W F110W F125W F126N F127M F128N F130N F132N F139M F140W F153M F160W F164N F167N",
    chips=("1",),
    full_frame_px=1014,
    axis_lengths=frozenset({64, 74, 128, 138, 256, 266, 512, 522, 1014}),
    calibrated_unit="electron / s",
    flux_unit="electron / s",
    electronics=Electronics(read_noise=12.0, gain=2.5),
)
"""WFC3 Instrument Handbook, table 7.2 and section 7.4; effective read noise of 16 reads: section 5."""
WFPC2 = Detector(
    name="WFPC2",
    instrument="WFPC2",
    service="Mast.Catalogs.Filtered.Wfpc2Psf.Uvis",
    suffixes=("d0m", "c0m"),
    filter_column="filter_1",
    lacks=frozenset({"filter", "proptype"}),
    chip_names={"PC": 1},
    also_called=("PC",),
    rootname_initial="u",
    filters=(
        "F122M F130LP F157W F160BW F165LP F170W F185W F218W F255W F300W F336W F343N F375N F380W F390N F410M F437N "
        "F439W F450W F467M F469N F487N F502N F547M F555W F569W F588N F606W F622W F631N F656N F658N F673N F675W "
        "F702W F785LP F791W F814W F850LP F953N F1042M"
    ),
    chips=("1", "2", "3", "4"),
    full_frame_px=800,
    axis_lengths=frozenset({800}),
    calibrated_unit="adu",
    flux_unit="electron",
    electronics=Electronics(read_noise=5.3, gain=7.1),
)
"""WFPC2 Instrument Handbook; electronics: table 4.4, the mean of the four chips at the usual gain."""

DETECTORS = {d.name: d for d in (UVIS, IR, WFPC2)}
NAMES = ", ".join(DETECTORS)
OF_INSTRUMENT: dict[str, tuple[Detector, ...]] = {
    instrument: tuple(d for d in DETECTORS.values() if d.instrument == instrument)
    for instrument in dict.fromkeys(d.instrument for d in DETECTORS.values())
}
SUFFIXES_OF = {
    instrument: tuple(dict.fromkeys(suffix for d in alike for suffix in d.suffixes))
    for instrument, alike in OF_INSTRUMENT.items()
}
AXIS_LENGTHS = {name: frozenset().union(*(d.axis_lengths for d in alike)) for name, alike in OF_INSTRUMENT.items()}
FOLDERS = tuple(f"{instrument}PSF" for instrument in OF_INSTRUMENT)
"""The folders of cutouts, at the archive and in a harvest folder."""


@lru_cache(maxsize=4096)
def holder(instrument: str, filter_name: str) -> str | None:
    """Return the name of the detector behind a dataURI; None where its filter is null, which WFC3's two may be."""
    alike = OF_INSTRUMENT.get(instrument, ())
    if len(alike) < 2:
        return alike[0].name if alike else None
    if not filter_name[:1].isalpha():
        return None
    plain = filter_name.upper()
    own = (d.name for d in alike if any(fnmatchcase(plain, pattern) for pattern in d.own_filters))
    return next(own, None) or next(d.name for d in alike if not d.own_filters)


def of_cutout(instrument: str, filter_name: str) -> Detector:
    """Return the detector behind a dataURI; the instrument's first where its filter does not say."""
    name = holder(instrument, filter_name)
    return DETECTORS[name] if name is not None else OF_INSTRUMENT[instrument][0]


def instrument_of(suffix: str, rootname: str) -> str:
    """Return the instrument that a file is of, by its suffix, or else by its name; empty where none fits."""
    having = [name for name, suffixes in SUFFIXES_OF.items() if suffix in suffixes]
    named = [n for n in having if OF_INSTRUMENT[n][0].rootname_initial == rootname[:1].lower()]
    return next(iter(named or having), "") if len(having) > 1 else "".join(having)


def _meant(name: str) -> str:
    """Return the detectors that are meant by an instrument's name or a common one, in words; empty for others."""
    found = [
        d.name
        for d in DETECTORS.values()
        if name in (*d.also_called, f"{d.instrument}/{d.name}") or (name == d.instrument and d.name != name)
    ]
    return " or ".join(found)


def detector(name: str) -> Detector:
    """
    Return the detector of that name, in any case.

    Raises
    ------
    BadQuery
        When there is none; the message names the three and the nearest.
    """
    if not isinstance(name, str):
        raise BadQuery(f"a detector is a word, not {type(name).__name__}; one of {NAMES}", field="detector")
    found = DETECTORS.get(name.strip().upper())
    if found is None:
        if "=" in name:
            raise BadQuery(f"{name!r} is a criterion; a detector comes before it, one of {NAMES}", field="detector")
        if meant := _meant(name.strip().upper()):
            raise BadQuery(f"unknown detector {name!r}: write {meant} (one of {NAMES})", field="detector")
        near = difflib.get_close_matches(name.upper(), DETECTORS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadQuery(f"unknown detector {name!r}: one of {NAMES}{hint}", field="detector")
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
