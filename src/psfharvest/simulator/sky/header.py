"""
The header of a cutout: cards that fitscut copies from an HST extension, and those that it writes itself.

Rules: 80 bytes a card, 2,880 a block, one primary HDU; ``CRPIX`` is shifted to the cutout; the date is a
function of the cutout's key, so the same cutout always has the same header. A header is one template, filled
in by one ``%``.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import Final

CARD: Final = 80
BLOCK: Final = 2_880
_SCALE_DEG: Final = {"UVIS": 1.1e-5, "IR": 3.5625e-5, "WFPC2": 2.767e-5}
_CENTRE: Final = {"UVIS": (2048.0, 1026.0), "IR": (507.0, 507.0), "WFPC2": (400.0, 400.0)}
_POWERS: Final = (
    (0, 2),
    (1, 1),
    (2, 0),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
    (0, 4),
    (1, 3),
    (2, 2),
    (3, 1),
    (4, 0),
)
_FIRST_DAY: Final = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a header says of the cutout that it heads."""

    detector: str
    rootname: str
    chip: int
    is_raw: bool
    nx: int
    ny: int
    x0: int
    y0: int
    key: int
    is_named: bool
    """Whether ROOTNAME and EXPNAME are among the cards."""


def _card(name: str, value: str, comment: str = "") -> str:
    text = f"{name:<8}= {value}"
    if comment:
        text = f"{text} / {comment}"
    return text


def _text(value: str) -> str:
    return f"'{value:<8}'"


def _number(value: float) -> str:
    return f"{value:>20.12G}"


def _distortion(detector: str) -> list[str]:
    """Give polynomial coefficients as an HST header has them: small, smooth, different for each camera."""
    strength = _SCALE_DEG[detector]
    cards = [_card("A_ORDER", f"{4:>20}"), _card("B_ORDER", f"{4:>20}")]
    for letter, sign in (("A", 1), ("B", -1)):
        for p, q in _POWERS:
            value = sign * strength * 10.0 ** -(4 * (p + q - 1)) * (1 + 0.37 * p - 0.21 * q)
            cards.append(_card(f"{letter}_{p}_{q}", _number(value), "distortion coefficient"))
    return cards


def _lookup_tables() -> list[str]:
    """Give the cards that name distortion tables, which stay in the exposure's file: fitscut copies cards only."""
    cards = []
    for axis in (1, 2):
        cards += [
            _card(f"CPERR{axis}", _number(0.0246), "Maximum error of NPOL correction"),
            _card(f"CPDIS{axis}", "'LOOKUP  '          ", "Prior distortion function type"),
            _card(f"DP{axis}", f"'EXTVER: {axis}.0'       ", "Version number of WCSDVARR extension"),
            _card(f"DP{axis}", "'NAXES: 2.0'        ", "Number of independent variables"),
            _card(f"DP{axis}", f"'AXIS.{axis}: {axis}.0'       ", "Axis number of the variable"),
            _card(f"D2IMDIS{axis}", "'LOOKUP  '          ", "Detector to image correction type"),
            _card(f"D2IM{axis}", f"'EXTVER: {axis + 2}.0'       ", "Version number of WCSDVARR extension"),
            _card(f"D2IM{axis}", "'NAXES: 2.0'        ", "Number of independent variables"),
            _card(f"D2IMERR{axis}", _number(0.0017), "Maximum error of D2IM correction"),
        ]
    return cards


def _copied(detector: str, is_raw: bool, is_named: bool) -> list[str]:
    """Give the cards that come from the extension, with ``%`` fields where cutouts differ."""
    scale = _SCALE_DEG[detector]
    unit = "COUNTS" if is_raw or detector == "WFPC2" else "ELECTRONS/S" if detector == "IR" else "ELECTRONS"
    names = [
        _card("ROOTNAME", "'%-9b                         '", "rootname of the observation set"),
        _card("EXPNAME", "'%-9b                '", "exposure identifier"),
    ]
    return [
        *(names if is_named else []),
        _card("BUNIT", f"{_text(unit):<20}", "brightness units"),
        _card("WCSAXES", f"{2:>20}", "number of World Coordinate System axes"),
        _card("CRPIX1", "%20.6f", "Reference pixel shifted for cutout"),
        _card("CRPIX2", "%20.6f", "Reference pixel shifted for cutout"),
        _card("CRVAL1", "%20.9f", "first axis value at reference pixel"),
        _card("CRVAL2", "%20.9f", "second axis value at reference pixel"),
        _card("CTYPE1", "'RA---TAN-SIP'      ", "the coordinate type for the first axis"),
        _card("CTYPE2", "'DEC--TAN-SIP'      ", "the coordinate type for the second axis"),
        _card("CD1_1", _number(-0.83 * scale), "partial of first axis coordinate w.r.t. x"),
        _card("CD1_2", _number(0.56 * scale), "partial of first axis coordinate w.r.t. y"),
        _card("CD2_1", _number(0.56 * scale), "partial of second axis coordinate w.r.t. x"),
        _card("CD2_2", _number(0.83 * scale), "partial of second axis coordinate w.r.t. y"),
        _card("LTV1", f"{0.0:>20.1f}", "offset in X to subsection start"),
        _card("LTV2", f"{0.0:>20.1f}", "offset in Y to subsection start"),
        _card("LTM1_1", f"{1.0:>20.1f}", "reciprocal of sampling rate in X"),
        _card("LTM2_2", f"{1.0:>20.1f}", "reciprocal of sampling rate in Y"),
        _card("PA_APER", "%20.6f", "Position Angle of reference aperture center (deg"),
        _card("ORIENTAT", "%20.6f", "position angle of image y axis (deg. e of n)"),
        _card("RA_APER", "%20.9f", "RA of aperture reference position"),
        _card("DEC_APER", "%20.9f", "Declination of aperture reference position"),
        _card("VAFACTOR", f"{1.00003451:>20.8f}", "velocity aberration plate scale factor"),
        _card("CCDCHIP", "%20d", "CCD chip (1 or 2)" if detector == "UVIS" else "detector chip"),
        _card("NCOMBINE", f"{1:>20}", "number of image sets combined during CR rejecti"),
        _card("WCSNAME", "'IDC_2731450pi'     ", "Coordinate system title"),
        _card("MDRIZSKY", f"{0.0:>20.1f}", "Sky value computed by AstroDrizzle"),
        *_distortion(detector),
        *(_lookup_tables() if detector == "UVIS" and not is_raw else []),
        _card("IDCSCALE", _number(3600 * scale), "default plate scale (arcsec)"),
        _card("IDCTHETA", _number(45.0), "rotation of y axis"),
        _card("IDCXREF", _number(_CENTRE[detector][0]), "reference pixel of the distortion in x"),
        _card("IDCYREF", _number(_CENTRE[detector][1]), "reference pixel of the distortion in y"),
        _card("IDCV2REF", _number(-27.4596), "V2 of the reference pixel (arcsec)"),
        _card("IDCV3REF", _number(-33.2604), "V3 of the reference pixel (arcsec)"),
        _card("OCX10", _number(0.1123 * scale), "original distortion term"),
        _card("OCX11", _number(3600 * scale), "original distortion term"),
        _card("OCY10", _number(3500 * scale), "original distortion term"),
        _card("OCY11", _number(0.0983 * scale), "original distortion term"),
        _card("PODPSFF", f"{'F':>20}", "podps fill present (T/F)"),
        _card("STDCFFF", f"{'F':>20}", "ST DDF fill present (T/F)"),
        _card("NGOODPIX", f"{4_190_000:>20}", "number of good pixels"),
        _card("GOODMIN", _number(-120.4), "minimum value of good pixels"),
        _card("GOODMAX", _number(68_000.2), "maximum value of good pixels"),
        _card("GOODMEAN", _number(41.7), "mean value of good pixels"),
        _card("SNRMIN", _number(-3.1), "minimum signal to noise of good pixels"),
        _card("SNRMAX", _number(255.4), "maximum signal to noise of good pixels"),
        _card("SNRMEAN", _number(4.2), "mean value of signal to noise of good pixels"),
        _card("SOFTERRS", f"{0:>20}", "number of soft error pixels (DQF=1)"),
        _card("MEANDARK", _number(2.9), "average of the dark values subtracted"),
        _card("MEANBLEV", _number(2_512.6), "average of all bias levels subtracted"),
        _card("RADESYS", _text("ICRS")),
    ]


@cache
def _template(detector: str, is_raw: bool, is_named: bool) -> bytes:
    cards = [
        _card("SIMPLE", f"{'T':>20}", "file does conform to FITS standard"),
        _card("BITPIX", f"{-32:>20}", "number of bits per data pixel"),
        _card("NAXIS", f"{2:>20}", "number of data axes"),
        _card("NAXIS1", "%20d", "length of data axis 1"),
        _card("NAXIS2", "%20d", "length of data axis 2"),
        *_copied(detector, is_raw, is_named),
        _card("DATE", "'%19b'", "file creation date (YYYY-MM-DDThh:mm:ss UT)"),
        "HISTORY Created by fitscut 1.4.4 (William Jon McCann)",
        "END",
    ]
    widened = b"".join(_padded(card) for card in cards)
    # The block's padding depends on the width of the fields once filled, so it is measured on one filling
    size = len(widened % _values(_SAMPLE, is_named))
    return widened + b" " * (-size % BLOCK)


def _padded(card: str) -> bytes:
    """Pad a card so that it has 80 bytes once its field is filled."""
    width = {"%20d": 20, "%20.6f": 20, "%20.9f": 20, "%-9b": 9, "%19b": 19}
    grows = sum(filled - len(field) for field, filled in width.items() if field in card)
    return card[: CARD - grows].ljust(CARD - grows).encode("ascii")


def _values(labels: Labels, is_named: bool) -> tuple[object, ...]:
    centre_x, centre_y = _CENTRE[labels.detector]
    spot = sum(labels.rootname.encode()) * 7_919 % 36_000 / 100  # an exposure's place on the sky
    name = labels.rootname.encode()
    date = _FIRST_DAY + dt.timedelta(seconds=labels.key % 31_536_000)
    return (
        labels.nx,
        labels.ny,
        *((name, name) if is_named else ()),
        centre_x - labels.x0,
        centre_y - labels.y0,
        spot,
        spot / 2 - 90,
        spot,
        (spot + 180) % 360 - 180,
        spot,
        spot / 2 - 90,
        labels.chip,
        date.isoformat()[:19].encode(),
    )


_SAMPLE: Final = Labels("UVIS", "ibc302ioq", 1, False, 51, 51, 0, 0, 0, True)


def header(labels: Labels) -> bytes:
    """Write the header of one cutout, in whole blocks."""
    template = _template(labels.detector, labels.is_raw, labels.is_named)
    return template % _values(labels, labels.is_named)
