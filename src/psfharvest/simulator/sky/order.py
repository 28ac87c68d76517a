"""
What a client asks of fitscut: the grammar of dataURIs and of the CGI's own parameters.

Rule: both spellings of one cutout parse to the same `Order`, so both get the same bytes.
"""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_plus

FitscutProblem = Literal["bad_request", "missing", "no_overlap"]

DATASET_REQUIRED: Final = "dataset parameter is required"
NO_OVERLAP: Final = "Some image dimensions are negative for all planes"

_URI: Final = re.compile(r"mast:(WFC3PSF|WFPC2PSF)/url/cgi-bin/fitscut\.cgi\?(.*)", re.DOTALL)
_RED: Final = re.compile(r"([0-9a-z]{9})_([0-9a-z]{3})(?:\.fits)?(?:\[(?:sci,)?(\d{1,2})\])?", re.IGNORECASE)
_SIZE: Final = re.compile(r"([+-]?\d{1,9})(?:,([+-]?\d{1,9}))?")
_SOURCE_ID: Final = re.compile(r"[0-9a-z]{9}_(\d{1,18})_")


class FitscutError(Exception):
    """Raised when there is no cutout to serve."""

    def __init__(self, problem: FitscutProblem, text: str) -> None:
        super().__init__(text)
        self.problem: FitscutProblem = problem
        self.text = text


@dataclass(frozen=True, slots=True)
class Order:
    """One cutout, as asked for."""

    rootname: str
    suffix: str
    extension: int
    nx: int
    ny: int
    x: float
    y: float
    file_name: str
    instrument: str | None
    """The archive folder of the URI, ``WFC3PSF`` or ``WFPC2PSF``; the CGI does not get it."""

    @property
    def source_id(self) -> int | None:
        """The source that the file name tells."""
        found = _SOURCE_ID.match(self.file_name)
        return int(found[1]) if found else None

    @property
    def key(self) -> bytes:
        """Text that decides the noise; equal for both spellings of a cutout."""
        return (
            f"{self.rootname}_{self.suffix}[{self.extension}] {self.nx} {self.ny} {self.x!r} {self.y!r} "
            f"{self.file_name}"
        ).encode()


def parse_uri(uri: str) -> Order:
    """
    Read a dataURI.

    Parameters
    ----------
    uri
        ``mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=...&size=..&x=..&y=..&format=fits/NAME``.

    Raises
    ------
    FitscutError
        Where a part is missing or absurd.
    """
    matched = _URI.fullmatch(uri)
    if matched is None:
        raise FitscutError("missing", f"File not found: {uri}")
    instrument, query = matched.groups()
    parameters = _parameters(query)
    image_format, _, file_name = parameters.get("format", "").rpartition("/")
    if not image_format or not file_name:
        raise FitscutError("bad_request", DATASET_REQUIRED)
    return _order(parameters, image_format, file_name, instrument)


def parse_query(query: str) -> Order:
    """
    Read the query string of a dataURL.

    Parameters
    ----------
    query
        ``red=...&size=..&x=..&y=..&format=fits&imagename=NAME``, percent-encoded or not.

    Raises
    ------
    FitscutError
        Where a part is missing or absurd.
    """
    parameters = {name: unquote_plus(value) for name, value in _parameters(query).items()}
    return _order(parameters, parameters.get("format", "jpg"), parameters.get("imagename", ""), None)


def _parameters(query: str) -> dict[str, str]:
    """Split a query string; names are case-insensitive and the first of a name wins."""
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        parameters.setdefault(name.lower(), value)
    return parameters


def _order(parameters: dict[str, str], image_format: str, file_name: str, instrument: str | None) -> Order:
    red = parameters.get("red", "")
    if not red:
        raise FitscutError("bad_request", DATASET_REQUIRED)
    if image_format.lower() != "fits":
        raise FitscutError("bad_request", f"Format '{image_format}' is not simulated: only fits")
    dataset = _RED.fullmatch(red)
    if dataset is None:
        raise FitscutError("missing", f"{red}: No such file or directory")
    nx, ny = _sides(parameters.get("size", "512"))
    return Order(
        rootname=dataset[1].lower(),
        suffix=dataset[2].lower(),
        extension=int(dataset[3] or 1),
        nx=nx,
        ny=ny,
        x=_coordinate("x", parameters.get("x", "500")),
        y=_coordinate("y", parameters.get("y", "500")),
        file_name=file_name,
        instrument=instrument,
    )


def _sides(text: str) -> tuple[int, int]:
    matched = _SIZE.fullmatch(text)
    if matched is None:
        raise FitscutError("bad_request", f"Invalid value for size: '{text}'")
    nx = int(matched[1])
    return nx, int(matched[2] or nx)


def _coordinate(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FitscutError("bad_request", f"Invalid value for {name}: '{text}'")
    return value
