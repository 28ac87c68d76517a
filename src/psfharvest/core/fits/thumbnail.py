"""
A small picture of an image as a PNG, made with nothing but numpy and zlib: for notebooks, at once.

The stretch is asinh from the 5th percentile to the brightest pixel; what is not a number is drawn in blue grey,
which is neither black nor the page's white.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

BLANK_RGB = (113, 128, 150)
"""The shade of pixels that are not a number."""
MAX_PX = 512
_BLANK = 255
_SOFTEN = 0.02
"""Share of the range below which asinh is linear."""


def png(image: NDArray[float32]) -> bytes:
    """
    Return `image`, shape ``(ny, nx)``, as a PNG with one pixel a pixel and its first row at the bottom.

    Parameters
    ----------
    image
        Any values; negative, zero and NaN are allowed. Sides longer than `MAX_PX` are thinned out.
    """
    import numpy as np  # noqa: PLC0415 - heavy

    step = max(1, -(-max(image.shape, default=1) // MAX_PX))
    values = image[::step, ::step][::-1].astype(np.float64)
    is_finite = np.isfinite(values)
    finite = values[is_finite]
    low, high = (np.percentile(finite, 5), finite.max()) if finite.size else (0.0, 1.0)
    share = np.clip((np.where(is_finite, values, low) - low) / ((high - low) or 1.0), 0, 1)
    grey = np.arcsinh(share / _SOFTEN) / np.arcsinh(1 / _SOFTEN) * (_BLANK - 1)
    index = np.where(is_finite, grey.round(), _BLANK).astype(np.uint8)
    ny, nx = index.shape
    rows = np.hstack([np.zeros((ny, 1), np.uint8), index]).tobytes()  # each row says first: no filter
    palette = bytes(g for g in range(_BLANK) for _ in range(3)) + bytes(BLANK_RGB)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">2I5B", nx, ny, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(rows, 6)),
            _chunk(b"IEND", b""),
        )
    )


def img(image: NDArray[float32], *, width_px: int) -> str:
    """Return an HTML ``img`` that shows `image` as wide as asked, its pixels kept square and sharp."""
    data = b64encode(png(image)).decode()
    style = f"width:{width_px}px;image-rendering:pixelated"
    return f'<img style="{style}" src="data:image/png;base64,{data}">'


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
