"""
A FITS image taken apart into header text and pixels, and put together again to the same bytes.

Nothing is opened by astropy: these functions run once a cutout, and it chokes on cards that are none of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psfharvest.core.fits import fitscheck

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

BLOCK = fitscheck.BLOCK


def find_image(raw: bytes) -> fitscheck.Unit | None:
    """Return the first two-dimensional image of a whole FITS file, or None when there is none."""
    units = fitscheck.walk(raw)
    return None if isinstance(units, fitscheck.Flaw) else fitscheck.first_image(units)


def image(raw: bytes) -> NDArray[float32] | None:
    """
    Return the pixels of the first image, shape ``(ny, nx)``, native float32, or None when there is no image.

    The array is the caller's own.
    """
    return parts(raw)[1]


def parts(raw: bytes) -> tuple[str, NDArray[float32] | None]:
    """Return the first image's header, its text before END, and its pixels as `image` does."""
    unit = find_image(raw)
    return ("", None) if unit is None else (unit.header.decode("latin-1"), _pixels(raw, unit))


def take_apart(raw: bytes, size_px: int | None) -> tuple[str, NDArray[float32]] | None:
    """
    Return header text and pixels of a cutout, when `put_together` gives the same bytes from them; else None.

    Parameters
    ----------
    raw
        A whole FITS file.
    size_px
        The side of the image; None is no image at all.
    """
    unit = None if size_px is None else find_image(raw)
    if unit is None or unit.shape != (size_px, size_px) or unit.bitpix != -32:
        return None
    header, pixels = raw[: unit.data_start].decode("latin-1"), _pixels(raw, unit)
    return (header, pixels) if put_together(header, pixels) == raw else None


def put_together(header: str, pixels: NDArray[float32]) -> bytes:
    """Return the FITS file of one float32 image; `header` is all text before the data, padding included."""
    data = pixels.astype(">f4").tobytes()
    return header.encode("latin-1") + data + bytes(-len(data) % BLOCK)


def _pixels(raw: bytes, unit: fitscheck.Unit) -> NDArray[float32]:
    import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays

    kind = "i" if unit.bitpix > 8 else "u" if unit.bitpix > 0 else "f"
    dtype = np.dtype(f">{kind}{abs(unit.bitpix) // 8}")
    pixels: Any = np.frombuffer(raw, dtype, count=unit.shape[0] * unit.shape[1], offset=unit.data_start)
    by, plus = fitscheck.scale(unit.header) or (1.0, 0.0)
    if (by, plus) != (1.0, 0.0):
        pixels = pixels * by + plus
    result: NDArray[float32] = pixels.astype(np.float32).reshape(unit.shape)
    return result
