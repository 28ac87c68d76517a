"""
The grammar of dataURIs: build, read, and where each leads.

::

    mast:{WFC3|WFPC2}PSF/url/cgi-bin/fitscut.cgi?red={root}_{sfx}[{ext}]&size={n}&x={x}&y={y}
        &format=fits/{root}_{id}_{filt}_{sfx}_cutout.fits          (one line)

Byte-identical to what the published notebook builds. Coordinates stay the texts they were, so that reading and
writing a dataURI is lossless. The archive splits the file name off at the last ``/``; so does `file_name`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from psfharvest.core.catalog.detectors import RAW_SUFFIXES, Detector
from psfharvest.core.errors import BadURI

PUBLIC_DATA_URL = "https://archive.stsci.edu"
MAX_LENGTH = 2000
"""A longer text is no dataURI: the grammar gives about 140 characters."""

_GRAMMAR = re.compile(
    r"mast:(WFC3|WFPC2)PSF/url/cgi-bin/fitscut\.cgi\?red=([A-Za-z0-9]{1,40})_(raw|flt|flc|d0m|c0m)\[(0|[1-9][0-9]{0,2})\]"
    r"&size=([1-9][0-9]{0,4})&x=([!-%'-.0-~]{1,40})&y=([!-%'-.0-~]{1,40})&format=fits/"
    r"\2_(0|[1-9][0-9]{0,17})_([!-~]{1,40})_\3_cutout\.fits"
)
_ANY = re.compile(r"mast:[^\s\x00-\x1f\x7f-\x9f]+")


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


def parse(text: str) -> CutoutURI | None:
    """
    Return the parts of a cutout's dataURI, or None for any other ``mast:`` URI.

    Raises
    ------
    BadURI
        When `text` is no ``mast:`` URI at all.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        check(text)
        return None
    instrument, root, suffix, extension, size, x, y, source_id, name = found.groups()
    return CutoutURI(instrument, root, suffix, int(extension), int(size), x, y, int(source_id), name)


def check(text: str) -> str:
    """
    Return `text` when it is a ``mast:`` URI.

    Raises
    ------
    BadURI
        When it is not; the message says why.
    """
    if len(text) > MAX_LENGTH:
        raise BadURI(text, f"longer than {MAX_LENGTH} characters")
    if not text.startswith("mast:"):
        raise BadURI(text, "a dataURI begins with 'mast:'")
    if _ANY.fullmatch(text) is None:
        raise BadURI(text, "spaces and control characters are not allowed, and a path must follow 'mast:'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadURI(text, "not valid Unicode") from None
    return text


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
        A row with at least the columns of `psfharvest.core.catalog.columns.needed`; numbers may be texts.
    detector, suffix
        The suffix must be one of the detector's.
    unsat_size_px, sat_size_px
        Side of the cutout for unsaturated (``qfit > 0``) and saturated (``qfit == 0``) sources.

    Returns
    -------
    CutoutURI
        With extension 4 for chip 1 of a UVIS full frame, 1 for the rest of UVIS, the chip elsewhere.

    Raises
    ------
    BadURI
        When the row has no finite coordinates, or lacks or garbles what is needed.
    """
    try:
        frame = "raw" if suffix in RAW_SUFFIXES else "cal"
        return CutoutURI(
            detector.instrument,
            str(row["rootname"]),
            suffix,
            _extension(row, detector),
            unsat_size_px if _number(row, "qfit") > 0 else sat_size_px,
            _coordinate(row, f"x_{frame}"),
            _coordinate(row, f"y_{frame}"),
            _whole(row, "id"),
            str(row[detector.filter_column]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadURI):
            raise
        what = f"column {error.args[0]!r} is absent" if isinstance(error, KeyError) else str(error)
        raise BadURI(_name(row), f"the row gives no dataURI: {what}") from None


def build_checked(row: Mapping[str, Any], detector: Detector, suffix: str, **sizes: int) -> CutoutURI:
    """Build like `build`, and refuse a row whose texts would not survive the grammar (a name with spaces, say)."""
    uri = build(row, detector, suffix, **sizes)
    if parse(str(uri)) != uri:
        raise BadURI(str(uri), "the row's rootname, filter or id does not fit the grammar")
    return uri


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
    parts = uri.split("/")
    if parse(uri) is None or len(parts) != 5:
        raise BadURI(uri, "only a cutout's dataURI has a dataURL")
    return f"{base.rstrip('/')}/cgi-bin/hla/{parts[3]}&imagename={parts[4]}"


def from_data_url(url: str) -> tuple[str, str]:
    """
    Return the base and the dataURI of a dataURL: what `data_url` was given.

    Raises
    ------
    BadURI
        When `url` is no dataURL of a cutout.
    """
    base, found, rest = url.partition("/cgi-bin/hla/fitscut.cgi?")
    order, named, name = rest.partition("&imagename=")
    suffix = order.partition("[")[0].rpartition("_")[2]
    instrument = "WFPC2" if suffix in ("d0m", "c0m") else "WFC3"
    uri = f"mast:{instrument}PSF/url/cgi-bin/fitscut.cgi?{order}/{name}"
    if not (found and named) or _GRAMMAR.fullmatch(uri) is None or data_url(uri, base) != url:
        raise BadURI(url, "nor the dataURL of a cutout: https://…/cgi-bin/hla/fitscut.cgi?red=…&imagename=…")
    return base, uri


def _extension(row: Mapping[str, Any], detector: Detector) -> int:
    chip = _whole(row, "chip")
    if detector.name == "UVIS":
        return 4 if chip == 1 and _whole(row, "subarray") == 0 else 1
    return chip


def _number(row: Mapping[str, Any], column: str) -> float:
    value = row[column]
    is_masked = not isinstance(value, (float, int)) and str(value) == "--"  # as astropy prints it
    number = math.nan if is_masked else float(value)
    if not math.isfinite(number):
        raise BadURI(_name(row), f"{column} is {value!r}, not a finite number")
    return number


def _whole(row: Mapping[str, Any], column: str) -> int:
    value = row[column]
    if isinstance(value, str):
        return int(value)
    number = _number(row, column)
    if number != int(number):
        raise BadURI(_name(row), f"{column} is {value!r}, not a whole number")
    return int(value)


def _coordinate(row: Mapping[str, Any], column: str) -> str:
    return str(_number(row, column))


def _name(row: Mapping[str, Any]) -> str:
    return f"source {row.get('id', '?')} of {row.get('rootname', '?')}" if hasattr(row, "get") else "row"
