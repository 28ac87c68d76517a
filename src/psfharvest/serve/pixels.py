"""The pixels of many cutouts as one body: u32 number, u16 ny, u16 nx, then ny * nx float32, little-endian, each."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from psfharvest.core.fits import datauri, pixels
from psfharvest.serve.folder import Stored

SIDE_MAX_PX = 1024
"""Larger images are not sent: a page draws cutouts."""
BODY_BYTES_MAX = 4 * SIDE_MAX_PX**2 + 10**6
TILES_MAX = 200


def packed(numbers: Sequence[int], stored: Sequence[Stored]) -> bytes:
    """Return the pixels of each number, in that order; ny = nx = 0 where there is nothing to draw."""
    bodies = {one.number: one for one in stored}
    return b"".join(_record(number, bodies.get(number)) for number in numbers)


def _record(number: int, stored: Stored | None) -> bytes:
    image = None if stored is None else pixels.image(stored.raw, datauri.parts_of(stored.uri))
    if image is None or image.ndim != 2 or max(image.shape) > SIDE_MAX_PX:
        return struct.pack("<IHH", number, 0, 0)
    ny, nx = image.shape
    return struct.pack("<IHH", number, ny, nx) + np.ascontiguousarray(image, "<f4").tobytes()
