"""What a harvest will take, before it is begun: sizes of cutouts, requests and time, from a few measured ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

BLOCK_BYTES = 2880
"""FITS files come in blocks of this size."""
PIXEL_BYTES = 4
HEADER_BYTES = {"raw": 11_520, "flt": 14_400, "flc": 14_400, "d0m": 11_520, "c0m": 14_400}
"""Where nothing was measured."""
OTHER_BYTES = 1_000_000
"""Of a file that is no cutout, where nothing was measured."""
PUBLISHED_S = 0.3
"""A single cutout of the public archive, as the published notebooks' runs show it."""
BUNDLE_CUTOUTS = 1000
"""Cutouts in a bundle, about."""


def image_bytes(side_px: int) -> int:
    """Return the size of a cutout's pixels in a FITS file."""
    return math.ceil(PIXEL_BYTES * side_px**2 / BLOCK_BYTES) * BLOCK_BYTES


@dataclass(frozen=True, slots=True, order=True)
class SizeClass:
    """Cutouts of one size in bytes: one suffix and side; side 0 is a file that is no cutout."""

    suffix: str
    side_px: int

    def __str__(self) -> str:
        return f"{self.suffix} {self.side_px}" if self.side_px else "other files"

    def size_bytes(self, header_bytes: Mapping[str, int]) -> int:
        """Return the size of one, from the measured size of headers by suffix, or else the usual one."""
        if not self.side_px:
            return header_bytes.get("", OTHER_BYTES)
        header = header_bytes.get(self.suffix, HEADER_BYTES.get(self.suffix, BLOCK_BYTES))
        return header + image_bytes(self.side_px)


def count_requests(n_cutouts: int, n_sources: int, page_rows: int, *, is_bundled: bool) -> int:
    """Return the number of requests: a count and an answer for each page of a query, then the cutouts."""
    queries = 1 + math.ceil(n_sources / page_rows) if n_sources else 0
    return queries + (math.ceil(n_cutouts / BUNDLE_CUTOUTS) if is_bundled else n_cutouts)


def duration_s(n_cutouts: int, connections: int, single_s: float, max_per_second: float | None) -> float:
    """Return how long it takes to fetch cutouts one by one over all connections."""
    per_second = connections / max(single_s, 1e-3)
    return n_cutouts / (per_second if max_per_second is None else min(per_second, max_per_second))
