"""
A FITS image taken apart into header text and pixels, and put together again to the same bytes.

A plain body is not opened by astropy: these functions run once a cutout, and it chokes on cards that are none of
ours. Bodies with a quirk are read by way of `psfharvest.core.fits.quirks.mended`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psfharvest.core.fits import fitscheck, quirks

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from psfharvest.core.fits.datauri import CutoutURI

BLOCK = fitscheck.BLOCK


def find_image(raw: bytes) -> fitscheck.Hdu | None:
    """Return the first two-dimensional image of a FITS file, or None when there is none."""
    found = _found(raw)
    return None if found is None else found[1]


def image(raw: bytes, asked: CutoutURI | None = None) -> NDArray[float32] | None:
    """
    Return the pixels of the first image, shape ``(ny, nx)``, native float32, or None when there is no image.

    The array is the caller's own. Where `asked` is given, a crop at the detector's edge stands at its place in the
    frame that was asked for, which is NaN beyond.
    """
    return parts(raw, asked)[1]


def parts(raw: bytes, asked: CutoutURI | None = None) -> tuple[str, NDArray[float32] | None]:
    """Return the first image's header, its text before END, and its pixels as `image` does."""
    found = _found(raw)
    if found is None:
        return "", None
    body, unit = found
    pixels = _pixels(body, unit)
    at = None if asked is None else crop_offset(unit, asked)
    if at is not None and asked is not None:
        pixels = _placed(pixels, asked.size_px, at)
    return unit.header.decode("latin-1"), pixels


def plain_parts(raw: bytes, size_px: int) -> tuple[str, NDArray[float32]] | None:
    """Return what `parts` does for a file without any quirk and of the side that was asked for, or None."""
    unit = fitscheck.plain_image(raw, size_px)
    return None if unit is None else (unit.header.decode("latin-1"), _pixels(raw, unit))


def crop_offset(unit: fitscheck.Hdu, asked: CutoutURI) -> tuple[int, int] | None:
    """Return where ``(x, y)`` in the frame that was asked for a crop's first pixel stands, or None for no crop."""
    if unit.shape == (asked.size_px, asked.size_px):
        return None
    return quirks.offset(unit, asked)


def framed(image: NDArray[float32], size_px: int) -> NDArray[float32]:
    """
    Return an image with the side that was asked for, NaN beyond it.

    One of another shape is about the same star: the pixel that fitscut centres stays in the middle.
    """
    if image.shape == (size_px, size_px):
        return image
    ny, nx = image.shape
    return _placed(image, size_px, (size_px // 2 - nx // 2, size_px // 2 - ny // 2))


def _found(raw: bytes) -> tuple[bytes, fitscheck.Hdu] | None:
    """Return the image of a file, and the bytes that hold it: the file's own, or those of its mended equal."""
    units = fitscheck.walk(raw) if raw.startswith(b"SIMPLE  =") else None
    unit = fitscheck.first_image(units) if isinstance(units, list) else None
    if unit is not None:
        return raw, unit
    mended = quirks.mended(raw)
    found = _image_in(raw if mended is None else mended.body)
    if found is not None:
        return found
    read = quirks.reread(raw)
    return None if read is None else _image_in(read)


def _image_in(body: bytes) -> tuple[bytes, fitscheck.Hdu] | None:
    units = fitscheck.walk(body) if body.startswith(b"SIMPLE  =") else None
    unit = quirks.image_of(units) if isinstance(units, list) else None
    return None if unit is None else (body, unit)


def _placed(pixels: NDArray[float32], size_px: int, at: tuple[int, int]) -> NDArray[float32]:
    import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays

    frame = np.full((size_px, size_px), np.nan, np.float32)
    pixels = pixels[max(0, -at[1]) :, max(0, -at[0]) :]
    x, y = max(0, at[0]), max(0, at[1])
    inside = frame[y : y + pixels.shape[0], x : x + pixels.shape[1]]
    inside[:] = pixels[: inside.shape[0], : inside.shape[1]]
    return frame


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
    units = None if size_px is None else fitscheck.walk(raw)
    unit = fitscheck.first_image(units) if isinstance(units, list) else None
    if unit is None or unit.shape != (size_px, size_px) or unit.bitpix != -32:
        return None
    header, pixels = raw[: unit.data_start].decode("latin-1"), _pixels(raw, unit)
    return (header, pixels) if put_together(header, pixels) == raw else None


def put_together(header: str, pixels: NDArray[float32]) -> bytes:
    """Return the FITS file of one float32 image; `header` is all text before the data, padding included."""
    data = pixels.astype(">f4").tobytes()
    return header.encode("latin-1") + data + bytes(-len(data) % BLOCK)


def _pixels(raw: bytes, unit: fitscheck.Hdu) -> NDArray[float32]:
    import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays

    kind = "i" if unit.bitpix > 8 else "u" if unit.bitpix > 0 else "f"
    dtype = np.dtype(f">{kind}{abs(unit.bitpix) // 8}")
    stored: Any = np.frombuffer(raw, dtype, count=unit.shape[0] * unit.shape[1], offset=unit.data_start)
    by, plus = fitscheck.scale(unit.header) or (1.0, 0.0)
    if unit.bitpix == 64 and (by, plus) == (1.0, 2.0**63):
        values = stored.view(">u8") ^ np.uint64(2**63)  # unsigned whole numbers: a float has not their digits
    else:
        values = stored if (by, plus) == (1.0, 0.0) else stored * by + plus
    result: NDArray[float32] = values.astype(np.float32)
    if unit.bitpix > 0 and (blank := fitscheck.integer(unit.header, b"BLANK   ")) is not None:
        result[stored == blank] = np.nan
    return result.reshape(unit.shape)
