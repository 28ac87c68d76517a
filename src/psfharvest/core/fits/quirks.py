"""
Bodies that deviate from the FITS standard, but from which astropy reads the asked star's pixels.

`fitscheck` decides about a plain body in microseconds. Only what it refuses comes here: the rule is whether astropy
gives the asked pixels from exactly these bytes, as a file. What passes is stored as it came and bears the name of
its quirk; every reader gets at its pixels through `mended`.

===================  =====================================================================================
degenerate_axes      axes of length 1 beside the two of the image
nul_padding          the header is padded with NUL where blanks belong
unpadded             the file ends with its last pixel, without padding to a block
extra_blocks         zero blocks behind the end
trailing_bytes       less than a block of text behind the end: a newline, a remark in a tag
tile_compressed      the image is in the cells of a table (fpack)
gzip_body            the file is compressed by gzip
edge_crop            the image is smaller than asked, since the detector ends there
===================  =====================================================================================

What a caller accepts beyond these (`psfharvest.core.fits.accepted_deviations`) passes where astropy reads an image
from it.
"""

from __future__ import annotations

import io
import math
import warnings
import zlib
from collections.abc import Collection
from typing import Any, NamedTuple

from psfharvest.core.catalog.detectors import AXIS_LENGTHS
from psfharvest.core.fits import accepted_deviations, datauri, fitscheck
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.core.fits.fitscheck import BLOCK, CARD, Hdu, Rejection
from psfharvest.core.model import Item, Reason
from psfharvest.core.reasons import MAY_BE_QUIRK

MAX_EXTRA_BLOCKS = 4
MAX_UNPACKED_PX = 4096
"""The side of the largest image that is taken out of a table."""
MAX_INFLATED_BYTES = 64 * 2**20
DEGENERATE_AXES = "degenerate_axes"
EDGE_CROP = "edge_crop"

GZIP_MAGIC = b"\x1f\x8b"
_MENDABLE = (b"SIMPLE", GZIP_MAGIC)


class Mended(NamedTuple):
    """The quirk of a body, and an equal body without it."""

    quirk: str
    body: bytes


class Verdict(NamedTuple):
    """What is wrong with a body, or which quirk it has; neither for a plain one."""

    flaw: Rejection | None
    quirk: str = ""


PLAIN = Verdict(None)


def verdict(item: Item, body: bytes, accepted: Collection[str] = ()) -> Verdict:
    """
    Return whether `body` is the cutout that an item asks for.

    Parameters
    ----------
    item, body
        What was asked for, and what came.
    accepted
        Names of deviations that pass; see `psfharvest.core.fits.accepted_deviations`.
    """
    plain = plain_verdict(item, body, accepted)
    if isinstance(plain, Verdict):
        return plain
    found = _deviating(item, body, plain, accepted)
    if found.flaw is not None and accepted_deviations.name_of(found.flaw, accepted):
        return _read_by_astropy(item, body, found.flaw, accepted)
    return found


def plain_verdict(item: Item, body: bytes, accepted: Collection[str] = ()) -> Verdict | Rejection:
    """
    Return the verdict of a body that is right, or that nothing can mend; else what is wrong with it so far.

    It takes some 10 us. What remains may inflate the body, or take an image from a table with astropy's help: 1 to
    50 ms.
    """
    flaw = fitscheck.flaw(body, item.size_px, item.rootname)
    if flaw is None:
        return PLAIN
    if flaw.reason is Reason.WRONG_SOURCE:
        again = fitscheck.flaw(body, item.size_px, item.rootname, accepted) if accepted else flaw
        return Verdict(None, accepted_deviations.name_of(flaw, accepted)) if again is None else Verdict(again)
    if flaw.reason not in MAY_BE_QUIRK or item.size_px is None or not body.startswith(_MENDABLE):
        return Verdict(flaw)
    return flaw


def _deviating(item: Item, body: bytes, flaw: Rejection, accepted: Collection[str]) -> Verdict:
    """Return the verdict of a body that fails the plain check, as far as it can be mended."""
    found = mended(body) or Mended("", body)
    units = fitscheck.walk(found.body) if found.body.startswith(b"SIMPLE  =") else flaw
    image = None if isinstance(units, Rejection) else image_of(units)
    if isinstance(units, Rejection) or image is None or item.size_px is None:
        return Verdict(flaw)
    quirk = found.quirk or ("" if fitscheck.first_image(units) else DEGENERATE_AXES)
    if image.shape != (item.size_px, item.size_px):
        parts = datauri.parts_of(item.uri)
        if parts is None or offset(image, parts) is None:
            shape = _wrong_shape(image, item.size_px)
            name = accepted_deviations.name_of(shape, accepted)
            return _of_units(units, image, item, quirk, accepted, name) if name else Verdict(shape)
        quirk = quirk or EDGE_CROP
    return _of_units(units, image, item, quirk, accepted)


def _of_units(
    units: list[Hdu], image: Hdu, item: Item, quirk: str, accepted: Collection[str], name: str = ""
) -> Verdict:
    flaw = fitscheck.flaw_of_units(units, image, item.rootname)
    if flaw is None:
        return Verdict(None, name or quirk)
    again = fitscheck.flaw_of_units(units, image, item.rootname, accepted) if accepted else flaw
    return Verdict(again) if again else Verdict(None, name or accepted_deviations.name_of(flaw, accepted) or quirk)


def _wrong_shape(image: Hdu, size_px: int) -> Rejection:
    shape = "x".join(str(n) for n in reversed(image.shape))
    return Rejection(Reason.WRONG_SHAPE, f"{shape} instead of {size_px}x{size_px}")


def _read_by_astropy(item: Item, body: bytes, flaw: Rejection, accepted: Collection[str]) -> Verdict:
    """Return the verdict of a body with an accepted flaw: it passes where astropy reads an image from it."""
    inner = mended(body)
    read = reread(inner.body if inner else body)
    units = None if read is None else fitscheck.walk(read)
    image = image_of(units) if isinstance(units, list) else None
    if not isinstance(units, list) or image is None or item.size_px is None:
        return Verdict(flaw)
    name = accepted_deviations.name_of(flaw, accepted)
    if image.shape != (item.size_px, item.size_px):
        shape = _wrong_shape(image, item.size_px)
        if not (name := accepted_deviations.name_of(shape, accepted)):
            return Verdict(shape)
    return _of_units(units, image, item, "", accepted, name)


def mended(raw: bytes) -> Mended | None:
    """Return a body's quirk, with an equal body that `fitscheck` can walk; None where nothing can be mended."""
    if raw.startswith(GZIP_MAGIC):
        return _inflated(raw)
    if not raw.startswith(b"SIMPLE  =") or raw[29:30] != b"T":
        return None
    blank = _with_blanks(raw)
    found = _padded(blank, "nul_padding" if blank != raw else "")
    units = None if found is None else fitscheck.walk(found.body)
    if found is None or not isinstance(units, list):
        return None
    if image_of(units) is None and any(b"ZIMAGE  =" in unit.header for unit in units):
        return _unpacked(*found)
    return found if found.quirk else None


def image_of(units: list[Hdu]) -> Hdu | None:
    """Return the image of a file: the first with two axes, besides those of length 1; with these left out."""
    found = fitscheck.first_image(units)
    if found is not None:
        return found
    for unit in units:
        axes = [n for n in unit.shape if n != 1]
        if unit.data_size and len(unit.shape) > 2 and len(axes) == 2 and unit.header.startswith(fitscheck.IMAGES):
            return unit._replace(shape=(axes[0], axes[1]))
    return None


def offset(image: Hdu, parts: CutoutURI) -> tuple[int, int] | None:
    """
    Return the place ``(x, y)`` of a crop's first pixel in the full frame that was asked for, or None for no crop.

    A crop is what of the frame lies on the detector. Where it begins follows from the star's coordinates, by the
    rule that fitscut shifts CRPIX by; where it ends short of the frame, the detector must end.
    """
    lengths = [n for n in (_card(image.header, f"SIZAXIS{axis}") for axis in (1, 2)) if n is not None]
    edges = AXIS_LENGTHS.get(parts.instrument, frozenset()) | frozenset(lengths)
    x = _offset(parts.x, image.shape[1], parts.size_px, edges)
    y = _offset(parts.y, image.shape[0], parts.size_px, edges)
    return None if x is None or y is None else (x, y)


def _offset(center: str, n: int, size: int, edges: frozenset[int]) -> int | None:
    try:
        place = float(center)
        first = math.floor(place - size // 2 + 0.5)
    except (ValueError, OverflowError):
        return None
    start = max(first, 0)
    is_at_low_edge = first < 0 and n == size + first
    is_at_high_edge = n < size and start + n in edges and n <= size - (start - first)
    if not (n == size or is_at_low_edge or is_at_high_edge) or (n < size and not start <= round(place) < start + n):
        return None
    return 0 if n == size else start - first


def _card(header: bytes, keyword: str) -> int | None:
    return fitscheck.integer(header, f"{keyword:<8s}".encode())


def _with_blanks(raw: bytes) -> bytes:
    """Return a body whose headers end in blanks where they end in NUL."""
    start = 0
    while raw.startswith((b"SIMPLE  =", b"XTENSION"), start):
        at = start
        while (card := raw[at : at + CARD]).strip(b" \0") != b"END":
            if not card or at > start + fitscheck.MAX_HEADER_BLOCKS * BLOCK:
                return raw
            at += CARD
        end = start + -(-(at + CARD - start) // BLOCK) * BLOCK
        if b"\0" in raw[at:end]:
            raw = raw[:at] + b"END".ljust(end - at) + raw[end:]
        unit = fitscheck.unit(raw, start, is_primary=not start)
        if isinstance(unit, Rejection):
            return raw
        start = unit.end
    return raw


def _padded(raw: bytes, quirk: str) -> Mended | None:
    """Return a body cut off, or filled up, to the block in which its file ends."""
    end = _end_of_file(raw)
    if end is None:
        return None
    if end > len(raw):
        return Mended(quirk or "unpadded", raw + bytes(end - len(raw)))
    return Mended(quirk or (_name_of_tail(raw[end:]) if end < len(raw) else ""), raw[:end])


def _end_of_file(raw: bytes) -> int | None:
    """
    Return where a file ends that is whole but for its last padding, or that has something small behind it.

    What is behind it is nothing of the file only where the padding before it is in its place: bytes that were put
    into the pixels, such as a CR before each LF, shift the rest.
    """
    start, is_in_place = 0, True
    while start < len(raw):
        unit = None
        if not start or raw.startswith(b"XTENSION", start):
            unit = fitscheck.unit(raw, start, is_primary=not start)
        if unit is None or isinstance(unit, Rejection):
            return start if start and is_in_place and _is_small(raw[start:]) else None
        is_in_place &= not raw[unit.data_start + unit.data_size : unit.end].strip(b"\0 ")
        is_bare = unit.data_size and unit.data_start + unit.data_size == len(raw)
        if unit.end > len(raw) and not is_bare:
            return None
        start = unit.end
    return start


def _is_small(tail: bytes) -> bool:
    rest = tail.lstrip(b"\0")
    if len(tail) - len(rest) > MAX_EXTRA_BLOCKS * BLOCK or len(rest) >= BLOCK:
        return False
    return rest[:1] in b"\r\n\t <" and all(32 <= byte < 127 or byte in b"\0\r\n\t" for byte in rest)


def _name_of_tail(tail: bytes) -> str:
    return "trailing_bytes" if tail.strip(b"\0") or len(tail) % BLOCK else "extra_blocks"


def _inflated(raw: bytes) -> Mended | None:
    member = zlib.decompressobj(31)
    try:
        body = member.decompress(raw, MAX_INFLATED_BYTES)
    except zlib.error:
        return None
    if not member.eof or len(member.unused_data) >= BLOCK or body.startswith(GZIP_MAGIC):
        return None
    inner = mended(body)
    return Mended("gzip_body", inner.body if inner else body)


def _packed_axes(raw: bytes) -> list[int]:
    units = fitscheck.walk(raw)
    if isinstance(units, Rejection):
        return [0]
    return [_card(u.header, f"ZNAXIS{axis}") or 0 for u in units if b"ZIMAGE  =" in u.header for axis in (1, 2)]


def reread(raw: bytes) -> bytes | None:
    """Return the image that astropy reads from a file against the standard, as a file of its own; or None."""
    if not raw.startswith(b"SIMPLE") or len(raw) > MAX_INFLATED_BYTES:
        return None
    return _image_by_astropy(raw, is_packed=False)


def _unpacked(quirk: str, raw: bytes) -> Mended | None:
    """Return the image that a table holds in its cells as a file of its own."""
    if not all(0 < n <= MAX_UNPACKED_PX for n in _packed_axes(raw)):
        return None
    body = _image_by_astropy(raw, is_packed=True)
    return None if body is None else Mended(quirk or "tile_compressed", body)


def _image_by_astropy(raw: bytes, *, is_packed: bool) -> bytes | None:
    from astropy.io import fits  # noqa: PLC0415 - heavy, and rare

    kind = fits.CompImageHDU if is_packed else (fits.PrimaryHDU, fits.ImageHDU)
    out = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(raw), memmap=False, disable_image_compression=not is_packed) as units:
                found = next((u for u in units if isinstance(u, kind) and _n_axes(u) == 2), None)
                if found is None:
                    return None
                header = found.header.copy()
                for name in ("XTENSION", "PCOUNT", "GCOUNT", "GROUPS"):
                    header.remove(name, ignore_missing=True)
                header["SIMPLE"] = True
                names = {k: v for k, v in units[0].header.items() if k in ("ROOTNAME", "EXPNAME")}
                header.update({k: v for k, v in names.items() if k not in header})
                data = found.data if is_packed else found.data.squeeze()
                fits.PrimaryHDU(data, header).writeto(out, output_verify="silentfix+ignore")
    except Exception:  # noqa: BLE001 - whatever astropy says of it: it does not give the pixels
        return None
    return out.getvalue()


def _n_axes(unit: Any) -> int:
    """Return how many axes longer than 1 a unit's pixels have; 0 without pixels."""
    return 0 if unit.data is None else sum(n > 1 for n in unit.data.shape)
