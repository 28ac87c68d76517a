"""
The celestial WCS of a cutout's header, without what a cutout lacks: look-up tables, and axes beyond its two.

A WFC3/UVIS header names its distortion tables (``CPDIS1 = 'LOOKUP'``, ``DP1``, ``D2IMDIS1``, …); the archive's
cutout program copies these cards, but not the extensions that hold the tables, and `astropy.wcs.WCS` then raises.
So it does for cards of a third axis, and for one SIP polynomial without the other, which are left out, too.
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
_FURTHER_AXIS = re.compile(
    r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CNAME|CRDER|CSYER)[3-9]$|(CD|PC|PV|PS)[3-9]_\d+$|(CD|PC)\d_[3-9]$"
)
_SIP = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)$")
SIP_ORDERS = frozenset({"A_ORDER", "B_ORDER"})
"""Both polynomials are there, or none counts."""
_N_AXES = 2


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
    has_sip = SIP_ORDERS.issubset(header)
    for keyword in {keyword for keyword in header if _is_left_out(keyword, has_sip=has_sip)}:
        kept.remove(keyword, ignore_missing=True, remove_all=True)
    if kept.get("WCSAXES", _N_AXES) != _N_AXES:
        kept["WCSAXES"] = _N_AXES
    for keyword in ("CTYPE1", "CTYPE2") if has_sip else ():
        if str(kept.get(keyword, "")).rstrip().endswith("-TAN"):
            kept[keyword] = (
                f"{kept[keyword].rstrip()}-SIP"  # it counts without that, too, but with a message each time
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        found = WCS(kept)
    if not found.has_celestial:
        raise ValueError("the header has no celestial coordinates (CTYPE1, CTYPE2)")
    return found.celestial


def _is_left_out(keyword: str, *, has_sip: bool) -> bool:
    is_half_sip = not has_sip and _SIP.match(keyword) is not None
    return is_half_sip or _LOOKUP.match(keyword) is not None or _FURTHER_AXIS.match(keyword) is not None
