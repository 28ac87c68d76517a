"""The checks, as a table: name, function, databases that it is about, and whether a quick visit makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from psfharvest.core.catalog.detectors import DETECTORS
from psfharvest.doctor import bundle_checks, catalogue_checks, cutout_checks
from psfharvest.doctor.check import Finding
from psfharvest.doctor.visit import Visit

UVIS, IR, WFPC2 = (DETECTORS[name] for name in ("UVIS", "IR", "WFPC2"))


class Entry(NamedTuple):
    """One check of the table."""

    name: str
    check: Callable[[Visit], Awaitable[Finding]]
    is_quick: bool = False
    only: str = ""
    """The database without which the check has no object."""


FIRST = (
    Entry("count", catalogue_checks.count, True),
    Entry("columns UVIS", partial(catalogue_checks.columns, detector=UVIS), True, "UVIS"),
    Entry("columns IR", partial(catalogue_checks.columns, detector=IR), True, "IR"),
    Entry("columns WFPC2", partial(catalogue_checks.columns, detector=WFPC2), True, "WFPC2"),
    Entry("six rows", catalogue_checks.six_rows, True),
)
"""Made one after the other: the others use what they give."""
QUERIES = (
    Entry("id criterion", catalogue_checks.id_criterion),
    Entry("range ends", catalogue_checks.range_ends, True),
    Entry("open ends", catalogue_checks.open_ends),
    Entry("halves", catalogue_checks.halves, True),
    Entry("large page", catalogue_checks.large_page),
    Entry("unique ids", catalogue_checks.unique_ids),
)
CUTOUTS = (
    Entry("flt", partial(cutout_checks.by_file, detector=UVIS, suffix="flt"), True, "UVIS"),
    Entry("IR flt", partial(cutout_checks.by_file, detector=IR, suffix="flt"), True, "IR"),
    Entry("WFPC2 c0m", partial(cutout_checks.by_file, detector=WFPC2, suffix="c0m"), True, "WFPC2"),
    Entry("dataURL", cutout_checks.data_url, True),
    Entry("off the detector", cutout_checks.off_detector, True),
    Entry("made-up rootname", cutout_checks.made_up, True),
    Entry("bundle of 6", bundle_checks.small_bundle, True),
    Entry("raw", partial(cutout_checks.by_file, detector=UVIS, suffix="raw"), False, "UVIS"),
    Entry("flc", partial(cutout_checks.by_file, detector=UVIS, suffix="flc"), False, "UVIS"),
    Entry("near an edge", cutout_checks.near_edge),
    Entry("chip 1", cutout_checks.chip_1, False, "UVIS"),
    Entry("no such product", cutout_checks.no_product, False, "IR"),
    Entry("same bytes twice", cutout_checks.twice),
    Entry("bundle of 100", bundle_checks.large_bundle),
)
TABLE = (*FIRST, *QUERIES, *CUTOUTS)
