"""
Where a cutout's star is on the sky, from the WCS of its header; the header is read without astropy.

The gnomonic projection (``RA---TAN``, ``DEC--TAN``) with SIP polynomials, which all three instruments have, is
evaluated here, some 50 microseconds a cutout; any other header goes through `astropy.wcs`. Both leave out the
look-up distortions, whose tables a cutout lacks (see `Cutout.wcs`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from psfharvest.core.fits import celestial, datauri, pixels

if TYPE_CHECKING:
    from psfharvest.core.fits.cutout import Cutout

ORDER = 29
"""Of `healpix`: the deepest that fits 64 bits, as HATS has it; a cell is 0.4 milliarcseconds wide."""
NAME = f"_healpix_{ORDER}"
COLUMNS = ("ra", "dec", NAME)
_WANTED = re.compile(
    r"CRPIX[12]|CRVAL[12]|CD[12]_[12]|PC[12]_[12]|CDELT[12]|CTYPE[12]|CUNIT[12]|RADESYS|LONPOLE|LATPOLE|EQUINOX"
    r"|[AB]_ORDER|[AB]_\d_\d"
)
_ODD = re.compile(r"(PV\d+_|CROTA|PROJP|WCSDIM|PC0|CD0)")
_ODD_USE = "?"
_D_EXPONENT = str.maketrans("D", "E")
"""FITS allows an exponent of double precision: standard 4.0, section 4.2.4."""


class Place(NamedTuple):
    """A place on the sky, ICRS, in degrees."""

    ra: float
    dec: float


def place(cutout: Cutout) -> Place | None:
    """Return where a cutout's star is; None where the header has no celestial WCS, or the dataURI no place."""
    center = cutout.center
    image = None if center is None else pixels.find_image(cutout.raw)
    if image is None or center is None:
        return None
    cards = _cards(image.header.decode("latin-1"))
    if cards is None or not cards.keys() >= {"CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"}:
        return None if cards is not None else _by_astropy(cutout, center)
    if not _is_plain(cards):
        return _by_astropy(cutout, center)
    asked = datauri.parts_of(cutout.uri)
    first_x, first_y = (asked and pixels.crop_offset(image, asked)) or (0, 0)
    try:
        found = _tan_sip(cards, center[0] - first_x + 1.0, center[1] - first_y + 1.0)
    except (ValueError, OverflowError):
        return _by_astropy(cutout, center)
    return found if math.isfinite(found.ra) and math.isfinite(found.dec) else None


def separation_deg(one: Place, other: Place) -> float:
    """Return the angle between two places, in degrees."""
    d1, d2, dra = math.radians(one.dec), math.radians(other.dec), math.radians(one.ra - other.ra)
    half = math.sin((d1 - d2) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin(dra / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half))))


def healpix(at: Place) -> int:
    """
    Return the HEALPix cell of a place, in the nested scheme of order `ORDER` (Gorski et al. 2005, section 4).

    Near the poles the distance from the pole is had from the declination's cosine, which keeps its digits there.
    """
    n_side = 1 << ORDER
    dec = math.radians(at.dec)
    z, quarter = math.sin(dec), at.ra % 360.0 % 360.0 / 90.0
    if abs(z) <= 2 / 3:
        high, low = n_side * (0.5 + quarter), n_side * z * 0.75
        up, down = int(high - low), int(high + low)
        face_up, face_down = up >> ORDER, down >> ORDER
        if face_up == face_down:
            face = (face_up & 3) + 4
        else:
            face = face_up & 3 if face_up < face_down else (face_down & 3) + 8
        x, y = down & (n_side - 1), n_side - 1 - (up & (n_side - 1))
    else:
        number = min(3, int(quarter))
        inside = quarter - number
        distance = n_side * math.cos(dec) / math.sqrt((1.0 + abs(z)) / 3.0)
        up, down = min(n_side - 1, int(inside * distance)), min(n_side - 1, int((1.0 - inside) * distance))
        face, x, y = (number, n_side - 1 - down, n_side - 1 - up) if z > 0 else (number + 8, up, down)
    return (face << (2 * ORDER)) | _spread(x) | _spread(y) << 1


def _spread(bits: int) -> int:
    """Return a number with a zero before each of its bits."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):  # fmt: skip
        bits = (bits | bits << shift) & mask
    return bits


def _cards(header: str) -> dict[str, str] | None:
    """Return the cards of the WCS, values as text; None where there is one that `_tan_sip` knows nothing of."""
    found: dict[str, str] = {}
    names = [header[start : start + 8] for start in range(0, len(header), 80)]
    for at, use in enumerate(map(_use_of, names)):
        if use == _ODD_USE:
            return None
        if use is None or header[80 * at + 8] != "=":
            continue
        value = header[80 * at + 10 : 80 * at + 80]
        found[use] = value.split("'")[1].rstrip() if "'" in value else value.partition("/")[0].strip()
    return found


@functools.lru_cache(maxsize=4096)
def _use_of(keyword: str) -> str | None:
    """Return a keyword of the WCS without its blanks, `_ODD_USE` for one that changes it, None for any other."""
    name = keyword.rstrip()
    if _ODD.match(name):
        return _ODD_USE
    return name if _WANTED.fullmatch(name) else None


def _is_plain(cards: Mapping[str, str]) -> bool:
    kinds = cards["CTYPE1"].removesuffix("-SIP"), cards["CTYPE2"].removesuffix("-SIP")
    return (
        kinds == ("RA---TAN", "DEC--TAN")
        and cards.get("RADESYS", "" if "EQUINOX" in cards else "ICRS") == "ICRS"
        and all(cards.get(f"CUNIT{axis}", "deg") == "deg" for axis in (1, 2))
        and float(cards.get("LONPOLE", 180.0)) == 180.0
        and ("CD1_1" in cards or "CDELT1" in cards)
    )


def _tan_sip(cards: Mapping[str, str], x: float, y: float) -> Place:
    """Return the place of a pixel, 1-based: SIP (Shupe et al. 2005), then TAN (Calabretta & Greisen 2002)."""

    def value(name: str, absent: float) -> float:
        return float(cards[name].translate(_D_EXPONENT)) if name in cards else absent

    u, v = x - value("CRPIX1", 0.0), y - value("CRPIX2", 0.0)
    if cards.keys() >= celestial.SIP_ORDERS:
        given = tuple((name, text) for name, text in cards.items() if name[1] == "_")
        shifts = [math.fsum(factor * u**p * v**q for p, q, factor in terms) for terms in _sip_terms(given)]
        u, v = u + shifts[0], v + shifts[1]
    xi, eta = (
        math.radians(
            value(f"CD{i}_1", 0.0) * u + value(f"CD{i}_2", 0.0) * v
            if "CD1_1" in cards
            else value(f"CDELT{i}", 1.0) * (value(f"PC{i}_1", i == 1) * u + value(f"PC{i}_2", i == 2) * v)
        )
        for i in (1, 2)
    )
    ra, dec = math.radians(value("CRVAL1", 0.0)), math.radians(value("CRVAL2", 0.0))
    below = math.cos(dec) - eta * math.sin(dec)
    at_dec = math.atan2(math.sin(dec) + eta * math.cos(dec), math.hypot(xi, below))
    return Place(math.degrees(ra + math.atan2(xi, below)) % 360.0, math.degrees(at_dec))


@functools.lru_cache(maxsize=64)
def _sip_terms(cards: tuple[tuple[str, str], ...]) -> tuple[list[tuple[int, int, float]], ...]:
    """Return the terms of both polynomials, powers and factor; an exposure's cutouts have the same."""
    numbers = {name: float(text.translate(_D_EXPONENT)) for name, text in cards}
    terms: dict[str, list[tuple[int, int, float]]] = {}
    for letter in "AB":
        order = int(numbers.get(f"{letter}_ORDER", 0))
        terms[letter] = [
            (p, q, factor)
            for p in range(order + 1)
            for q in range(order + 1 - p)
            if (factor := numbers.get(f"{letter}_{p}_{q}", 0.0))
        ]
    return terms["A"], terms["B"]


def _by_astropy(cutout: Cutout, center: tuple[float, float]) -> Place | None:
    from astropy.coordinates import SkyCoord  # noqa: PLC0415 - heavy

    try:
        sky = celestial.wcs(cutout.header).pixel_to_world(*center)
    except (ValueError, TypeError, MemoryError):
        return None
    if not isinstance(sky, SkyCoord):
        return None
    ra, dec = float(sky.icrs.ra.deg), float(sky.icrs.dec.deg)
    return Place(ra, dec) if math.isfinite(ra) and math.isfinite(dec) else None
