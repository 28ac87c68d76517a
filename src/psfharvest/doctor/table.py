"""The checks, as a table: name, function, databases that it is about, and whether a quick visit makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from psfharvest.core.catalog.detectors import DETECTORS
from psfharvest.doctor import bundle_checks, catalogue_checks, cutout_checks
from psfharvest.doctor.check import CheckResult
from psfharvest.doctor.visit import Visit

UVIS, IR, WFPC2 = (DETECTORS[name] for name in ("UVIS", "IR", "WFPC2"))


class CheckEntry(NamedTuple):
    """One check of the table."""

    name: str
    check: Callable[[Visit], Awaitable[CheckResult]]
    is_quick: bool = False
    only: str = ""
    """The database without which the check has no object."""


FIRST = (
    CheckEntry("count", catalogue_checks.count, True),
    *(
        CheckEntry(f"columns {name}", partial(catalogue_checks.columns, detector=detector), True, name)
        for name, detector in DETECTORS.items()
    ),
    CheckEntry("six rows", catalogue_checks.six_rows, True),
)
"""Made one after the other: the others use what they give."""
QUERIES = (
    CheckEntry("id criterion", catalogue_checks.id_criterion),
    CheckEntry("range ends", catalogue_checks.range_ends, True),
    CheckEntry("open ends", catalogue_checks.open_ends),
    CheckEntry("halves", catalogue_checks.halves, True),
    CheckEntry("large page", catalogue_checks.large_page),
    CheckEntry("unique ids", catalogue_checks.unique_ids),
)
CUTOUTS = (
    CheckEntry("flt", partial(cutout_checks.by_file, detector=UVIS, suffix="flt"), True, "UVIS"),
    CheckEntry("IR flt", partial(cutout_checks.by_file, detector=IR, suffix="flt"), True, "IR"),
    CheckEntry("WFPC2 c0m", partial(cutout_checks.by_file, detector=WFPC2, suffix="c0m"), True, "WFPC2"),
    CheckEntry("dataURL", cutout_checks.data_url, True),
    CheckEntry("off the detector", cutout_checks.off_detector, True),
    CheckEntry("made-up rootname", cutout_checks.made_up, True),
    CheckEntry("bundle of 6", bundle_checks.small_bundle, True),
    CheckEntry("raw", partial(cutout_checks.by_file, detector=UVIS, suffix="raw"), False, "UVIS"),
    CheckEntry("flc", partial(cutout_checks.by_file, detector=UVIS, suffix="flc"), False, "UVIS"),
    CheckEntry("near an edge", cutout_checks.near_edge),
    CheckEntry("chip 1", cutout_checks.chip_1, False, "UVIS"),
    CheckEntry("no such product", cutout_checks.no_product, False, "IR"),
    CheckEntry("same bytes twice", cutout_checks.twice),
    CheckEntry("bundle of 100", bundle_checks.large_bundle),
)
TABLE = (*FIRST, *QUERIES, *CUTOUTS)
