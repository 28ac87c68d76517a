"""What a boolean mask or a list of positions picks of the cutouts of a harvest."""

from __future__ import annotations

from typing import Any

import numpy as np

from psfharvest.store.read.intervals import Numbers

ALLOWED = "an index is a position, a slice, a boolean mask, or a list of positions"


def picked(index: Any, n: int) -> Numbers:
    """
    Return the positions that a mask or an array of positions picks of `n`, ascending, each once.

    Raises
    ------
    IndexError
        When a position is out of range, or a mask has another length.
    """
    picked = np.ma.filled(np.ma.asarray(index), False) if np.ma.isMaskedArray(index) else np.asarray(index)
    if picked.dtype == bool:
        if picked.shape != (n,):
            entries = " x ".join(f"{side:,}" for side in picked.shape)
            raise IndexError(f"a mask of {entries} entries for {n:,} cutouts")
        return np.flatnonzero(picked)
    if picked.size == 0:
        return np.zeros(0, np.int64)
    if picked.dtype.kind not in "iu" or picked.ndim != 1:
        raise IndexError(ALLOWED)
    if np.ma.is_masked(index):
        raise IndexError("a position is masked; pick those that are known, as with index.compressed()")
    if picked.min() < -n or picked.max() >= n:
        raise IndexError(f"position out of range: there are {n:,} cutouts")
    return np.unique(np.where(picked < 0, picked + n, picked))
