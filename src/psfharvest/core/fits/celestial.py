"""
The celestial WCS of a cutout's header, without the look-up distortions whose tables a cutout lacks.

A WFC3/UVIS header names its distortion tables (``CPDIS1 = 'LOOKUP'``, ``DP1``, ``D2IMDIS1``, …); the archive's
cutout program copies these cards, but not the extensions that hold the tables, and `astropy.wcs.WCS` then raises.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

_LOOKUP = re.compile(
    r"(CPDIS|CPERR|CQDIS|CQERR|D2IMDIS|D2IMERR|DP|DQ|D2IM)\d(\..*)?$|D2IMEXT$|NPOLEXT$|AXISCORR$|WCSDVARR$"
)


def wcs(header: Header) -> WCS:
    """
    Return the celestial WCS.

    Raises
    ------
    ValueError
        When the header has none.
    """
    from astropy.wcs import WCS, FITSFixedWarning  # noqa: PLC0415 - heavy

    kept = header.copy()
    for keyword in {keyword for keyword in header if _LOOKUP.match(keyword)}:
        kept.remove(keyword, ignore_missing=True, remove_all=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        found = WCS(kept)
    if not found.has_celestial:
        raise ValueError("the header has no celestial coordinates (CTYPE1, CTYPE2)")
    return found.celestial
