"""
Grammar of dataURIs: build, read, normalise, and map to dataURL and file name.

::

    mast:{WFC3|WFPC2}PSF/url/cgi-bin/fitscut.cgi?red={root}_{sfx}[{ext}]&size={n}&x={x}&y={y}
        &format=fits/{root}_{id}_{filt}_{sfx}_cutout.fits          (one line)

Byte-identical to what the published notebook builds. Coordinates stay the texts they were, so that reading and
writing a dataURI is lossless. The archive splits the file name off at the last ``/``; so does `file_name`.

Texts from outside go through `read`, which returns the one canonical spelling: two spellings of a cutout
(``[1]`` and ``%5B1%5D``, ``&`` and ``&amp;``) are one cutout. A text that names the cutout service and fails the
grammar is refused: the archive would answer it with an error text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from psfharvest.core.catalog import detectors, source
from psfharvest.core.catalog.detectors import RAW_SUFFIXES, SUFFIXES_OF, Detector
from psfharvest.core.errors import BadURI

PUBLIC_DATA_URL = "https://archive.stsci.edu"
MAX_LENGTH = 2000
"""A longer text is no dataURI: the grammar gives about 140 characters."""

_NUMBER = r"(?=[^&]{1,40}&)([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_GRAMMAR = re.compile(
    rf"mast:({'|'.join(SUFFIXES_OF)})PSF/url/cgi-bin/fitscut\.cgi\?red=([A-Za-z0-9]{{1,40}})"
    rf"_({'|'.join(detectors.SUFFIX_MEANING)})\[(0|[1-9][0-9]{{0,2}})\]"
    rf"&size=([1-9][0-9]{{0,4}})&x={_NUMBER}&y={_NUMBER}&format=fits/"
    r"\2_(0|[1-9][0-9]{0,17})_((?:(?!%[0-9A-Fa-f]{2}|&amp;)[!-~]){1,40})_\3_cutout\.fits"
)
_ANY = re.compile(r"mast:[^\s\x00-\x1f\x7f-\x9f]+")
_CUTOUT_SERVICE = re.compile(rf"fitscut\.cgi|(?:{'|'.join(detectors.FOLDERS)})/+url", re.IGNORECASE)
_PARAMETERS = ("red", "size", "x", "y", "format")
_AMPERSAND = re.compile(r"&(?:amp|#38|#x26);", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class CutoutURI(NamedTuple):
    """
    The parts of a cutout's dataURI; a NamedTuple because one is made for every cutout asked for.

    `size_px` is the side of the square; `x` and `y` are 0-based pixel coordinates in the extension, as texts.
    """

    instrument: str
    rootname: str
    suffix: str
    extension: int
    size_px: int
    x: str
    y: str
    source_id: int
    filter: str

    def __str__(self) -> str:
        red = f"red={self.rootname}_{self.suffix}[{self.extension}]&size={self.size_px}&x={self.x}&y={self.y}"
        return f"mast:{self.instrument}PSF/url/cgi-bin/fitscut.cgi?{red}&format=fits/{self.file_name}"

    @property
    def file_name(self) -> str:
        """The name that the archive gives to the file."""
        return f"{self.rootname}_{self.source_id}_{self.filter}_{self.suffix}_cutout.fits"

    @property
    def center(self) -> tuple[float, float] | None:
        """
        The star's place ``(x, y)`` within the cutout, 0-based, in pixels; None where they are no numbers.

        fitscut's lower corner is ``floor(x - size // 2 + 0.5)``: the pixel nearest to the star is the middle.
        """
        try:
            x, y = float(self.x), float(self.y)
        except ValueError:
            return None
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        half = self.size_px // 2
        return x - math.floor(x - half + 0.5), y - math.floor(y - half + 0.5)


class Reading(NamedTuple):
    """A dataURI in its canonical spelling, and its parts where it is a cutout's."""

    uri: str
    parts: CutoutURI | None


def read(text: str) -> Reading:
    """
    Return the dataURI that a text from outside spells.

    Raises
    ------
    BadURI
        When `text` is no ``mast:`` URI, or names the cutout service and fails its grammar.
    """
    if "%" in text or ";" in text:
        text = canonical(text)
    return Reading(text, parse(text))


def parse(uri: str) -> CutoutURI | None:
    """
    Return the parts of a cutout's canonical dataURI, or None for any other ``mast:`` URI.

    Raises
    ------
    BadURI
        When `uri` is no ``mast:`` URI, or names the cutout service and fails its grammar.
    """
    parts = parts_of(uri)
    if parts is None:
        _check(uri)
    return parts


def parts_of(uri: str) -> CutoutURI | None:
    """Return the parts of a cutout's canonical dataURI, or None for any other text."""
    found = _GRAMMAR.fullmatch(uri)
    if found is None:
        return None
    instrument, root, suffix, extension, size, x, y, source_id, name = found.groups()
    if suffix not in SUFFIXES_OF[instrument]:
        return None
    return CutoutURI(instrument, root, suffix, int(extension), int(size), x, y, int(source_id), name)


def canonical(text: str) -> str:
    """
    Return the canonical spelling of a dataURI; of any other text, one that is no more of a dataURI than it was.

    A cutout's has no escapes. In another file's, escapes stay where the character could mean something else
    (RFC 3986, 6.2.2): unreserved characters are written plainly, the others with capital letters.
    """
    if len(text) > MAX_LENGTH:
        return text
    plain = _unescaped(text)
    if _CUTOUT_SERVICE.search(plain):
        return plain
    if text[:5].lower() != "mast:" and plain.startswith("mast:"):
        text = unquote(text)  # quoted as a whole, as in a form
    return _ESCAPE.sub(_normal_escape, _AMPERSAND.sub("&", text))


def _unescaped(text: str) -> str:
    """Return `text` without percent escapes and escaped ampersands, however often it was escaped."""
    while (plain := unquote(_AMPERSAND.sub("&", text))) != text:
        text = plain
    return text


def _normal_escape(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else found[0].upper()


def _check(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise BadURI(text, f"longer than {MAX_LENGTH} characters")
    if not text.startswith("mast:"):
        raise BadURI(text, "a dataURI begins with 'mast:'")
    if _CUTOUT_SERVICE.search(_unescaped(text)):
        raise BadURI(text, _why_no_cutout(text))
    if _ANY.fullmatch(text) is None:
        raise BadURI(text, "spaces and control characters are not allowed, and a path must follow 'mast:'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadURI(text, "not valid Unicode") from None


def _why_no_cutout(text: str) -> str:
    """Return what keeps a text that names the cutout service from being a cutout's dataURI."""
    absent = [name for name in _PARAMETERS if not re.search(rf"[?&]{name}=", text)]
    if absent:
        return (
            f"a cutout's dataURI gives {', '.join(_PARAMETERS)}; {' and '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} absent (cut off? in a shell, put it in single quotes)"
        )
    end = text.find("_cutout.fits") + len("_cutout.fits")
    found = _GRAMMAR.fullmatch(text[:end])
    if found is not None and parts_of(text[:end]) is None:
        having = "; ".join(f"{name}PSF: {', '.join(suffixes)}" for name, suffixes in SUFFIXES_OF.items())
        return f"{found[1]}PSF has no {found[3]} ({having})"
    if found is not None:
        return f"{text[end:][:40]!r} stands behind the file name; give the dataURI alone"
    return (
        "a cutout's dataURI has the form mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ROOTNAME_SUFFIX[EXTENSION]"
        "&size=N&x=X&y=Y&format=fits/ROOTNAME_ID_FILTER_SUFFIX_cutout.fits"
    )


def build(
    row: Mapping[str, Any],
    detector: Detector,
    suffix: str,
    *,
    unsat_size_px: int = 51,
    sat_size_px: int = 101,
) -> CutoutURI:
    """
    Build the dataURI of one catalogue row.

    Parameters
    ----------
    row
        A row with the columns of `psfharvest.core.catalog.columns.needed`; see `psfharvest.core.catalog.source` for
        the forms that it may have.
    detector, suffix
        The suffix must be one of the detector's.
    unsat_size_px, sat_size_px
        Side of the cutout for unsaturated (``qfit > 0``) and saturated (``qfit`` 0 or null) sources.

    Returns
    -------
    CutoutURI
        With extension 4 for chip 1 of a UVIS full frame, 1 for the rest of UVIS, the chip elsewhere.

    Raises
    ------
    BadURI
        When the row lacks or garbles what is needed; it names the column.
    """
    frame = "raw" if suffix in RAW_SUFFIXES else "cal"
    return CutoutURI(
        detector.instrument,
        source.rootname(row),
        suffix,
        source.extension(row, detector),
        sat_size_px if source.is_saturated(row) else unsat_size_px,
        str(source.finite(row, f"x_{frame}")),
        str(source.finite(row, f"y_{frame}")),
        source.whole(row, "id"),
        source.filter_name(row, detector),
    )


def build_checked(row: Mapping[str, Any], detector: Detector, suffix: str, **sizes: int) -> CutoutURI:
    """Build like `build`, and refuse a row whose texts would not survive the grammar (a name with spaces, say)."""
    uri = build(row, detector, suffix, **sizes)
    if parts_of(str(uri)) != uri:
        wrong = [column for column, value, right in _texts(uri, detector) if re.fullmatch(right, value) is None]
        raise BadURI(str(uri), f"the row's {' and '.join(wrong) or 'columns'} cannot stand in a dataURI")
    return uri


def _texts(uri: CutoutURI, detector: Detector) -> tuple[tuple[str, str, str], ...]:
    return (
        ("rootname", uri.rootname, r"[A-Za-z0-9]{1,40}"),
        ("chip", str(uri.extension), r"[0-9]{1,3}"),
        ("id", str(uri.source_id), r"[0-9]{1,18}"),
        (detector.filter_column, uri.filter, r"(?:(?!%[0-9A-Fa-f]{2}|&amp;)[!-~]){1,40}"),
    )


def file_name(uri: str) -> str:
    """Return the name that the archive gives to the file: all behind the last ``/``."""
    return uri.rpartition("/")[2]


def data_url(uri: str, base: str = PUBLIC_DATA_URL) -> str:
    """
    Return the dataURL of a cutout: the same pixels straight from fitscut.

    Raises
    ------
    BadURI
        When `uri` is no cutout's dataURI: other files have no dataURL.
    """
    uri = canonical(uri)
    parts = uri.split("/")
    if parts_of(uri) is None or len(parts) != 5:
        raise BadURI(uri, "only a cutout's dataURI has a dataURL")
    return f"{base.rstrip('/')}/cgi-bin/hla/{parts[3]}&imagename={parts[4]}"


def from_data_url(url: str) -> tuple[str, str]:
    """
    Return the base and the canonical dataURI of a dataURL: what `data_url` was given.

    Raises
    ------
    BadURI
        When `url` is no dataURL of a cutout.
    """
    base, found, rest = url.partition("/cgi-bin/hla/fitscut.cgi?")
    order, named, name = _unescaped(rest[:MAX_LENGTH]).partition("&imagename=")
    suffix = order.partition("[")[0].rpartition("_")[2]
    instrument = detectors.instrument_of(suffix, order.partition("red=")[2])
    uri = f"mast:{instrument}PSF/url/cgi-bin/fitscut.cgi?{order}/{name}"
    if not (found and named) or "/" in name or parts_of(uri) is None:
        raise BadURI(url, "nor the dataURL of a cutout: https://…/cgi-bin/hla/fitscut.cgi?red=…&imagename=…")
    return base, uri
