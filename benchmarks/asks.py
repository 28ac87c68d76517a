"""
What is asked for: dataURIs of sources that no catalogue has, each different, in the archive's grammar.

The law: the n-th dataURI is always the same, so that every client of a run asks for the same cutouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from psfharvest.core.fits.datauri import CutoutURI, file_name

SIZE_PX = 51
PER_EXPOSURE = 300
"""Sources in one exposure, about what the real catalogue has: it decides how full a folder gets."""
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def uris(n: int, start: int = 0) -> Iterator[str]:
    """
    Yield dataURIs.

    Parameters
    ----------
    n
        How many.
    start
        Number of the first one.

    Yields
    ------
    str
    """
    for number in range(start, start + n):
        exposure, place = divmod(number, PER_EXPOSURE)
        x, y = 60.25 + 13.5 * (place % 20), 61.75 + 101.125 * (place // 20)
        root = f"i{_base36(exposure, 7)}q"
        yield str(CutoutURI("WFC3", root, "flt", 1, SIZE_PX, str(x), str(y), 10_000_000 + number, "F606W"))


def file_url(base: str, uri: str) -> str:
    """
    Return where a dataURI is downloaded from.

    Parameters
    ----------
    base
        The archive's base URL.
    uri
        A dataURI.
    """
    return f"{base}/api/v0.1/Download/file?uri={quoted(uri)}"


def quoted(uri: str) -> str:
    """
    Return a dataURI as it stands in a query or a form.

    Parameters
    ----------
    uri
        A dataURI.
    """
    return quote(uri, safe="")


def write_uris(path: Path, n: int, start: int = 0) -> None:
    """
    Write dataURIs to a file, one a line.

    Parameters
    ----------
    path
        The file.
    n, start
        As in `uris`.
    """
    with path.open("w") as file:
        file.writelines(f"{uri}\n" for uri in uris(n, start))


def targets(base: str, n: int) -> Iterator[tuple[str, str]]:
    """
    Yield URLs and the names under which a client is to store them.

    Parameters
    ----------
    base
        The archive's base URL.
    n
        How many.

    Yields
    ------
    tuple of str
        URL and file name.
    """
    return ((file_url(base, uri), file_name(uri)) for uri in uris(n))


def _base36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = _LETTERS[digit] + digits
    return digits
