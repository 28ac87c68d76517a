"""A harvest in parts: by the values of columns, by ranges of a number, by regions of the detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog.detectors import DETECTORS, UVIS
from psfharvest.core.errors import BadInput

if TYPE_CHECKING:
    from psfharvest.store.read.harvest import Harvest

REGION = "region"


class Group(NamedTuple):
    """One part: which cutouts, by position, and the value of each key that they share."""

    positions: NDArray[np.int64]
    key: dict[str, Any]


def groups(harvest: Harvest, columns: Sequence[str], bins: Mapping[str, Any]) -> Iterator[Group]:
    """Yield the parts of a harvest in the order of their keys; see `Harvest.groups`."""
    if not columns and not bins:
        raise BadInput("groups of what? Name columns, or bins such as focus=4")
    codes: list[NDArray[np.int64]] = []
    labels: list[list[Any]] = []
    for name in columns:
        code, label = _by_value(harvest, name)
        codes.append(code)
        labels.append(label)
    for name, wanted in bins.items():
        code, label = _by_region(harvest, wanted) if name == REGION else _by_range(harvest, name, wanted)
        codes.append(code)
        labels.append(label)
    names = [*columns, *bins]
    if not len(harvest):
        return
    keys, inverse = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    for n, key in enumerate(keys):
        shared = {name: label[at] for name, label, at in zip(names, labels, key, strict=True)}
        yield Group(np.flatnonzero(inverse.reshape(-1) == n), shared)


def grid_centers(shape: tuple[int, int], detector: str) -> dict[tuple[int, int], tuple[float, float]]:
    """Return the middle ``(x, y)`` of each cell ``(column, row)`` of a grid over a detector, 0-based pixels."""
    side = DETECTORS[detector].full_frame_px
    return {
        (i, j): ((i + 0.5) * side / shape[0] - 0.5, (j + 0.5) * side / shape[1] - 0.5)
        for j in range(shape[1])
        for i in range(shape[0])
    }


def grid_shape(wanted: Any) -> tuple[int, int]:
    """
    Return columns and rows of a grid that is given as one number or a pair.

    Raises
    ------
    BadInput
        When it is neither.
    """
    pair = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted) if isinstance(wanted, Sequence) else ()
    if len(pair) != 2 or not all(type(n) is int and 1 <= n <= 100 for n in pair):
        raise BadInput(f"region is {wanted!r}: a number of cells or (columns, rows), 1 to 100 each, is allowed")
    return pair[0], pair[1]


def _by_value(harvest: Harvest, name: str) -> tuple[NDArray[np.int64], list[Any]]:
    values = _column(harvest, name)
    found = sorted({value for value in values if value is not None}, key=lambda v: (str(type(v)), v))
    places = {value: n for n, value in enumerate([*found, None])}
    return np.array([places[value] for value in values], np.int64), [*found, None]


def _by_range(harvest: Harvest, name: str, wanted: Any) -> tuple[NDArray[np.int64], list[Any]]:
    values = np.array([math.nan if v is None else v for v in _column(harvest, name)], np.float64)
    edges = _edges(name, wanted, values)
    code = np.searchsorted(edges, values, side="right") - 1
    code[values == edges[-1]] = len(edges) - 2  # the last range includes its end
    outside = ~np.isfinite(values) | (values < edges[0]) | (values > edges[-1])
    code[outside] = len(edges) - 1
    return code.astype(np.int64), [*((float(a), float(b)) for a, b in pairwise(edges)), None]


def _edges(name: str, wanted: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    if type(wanted) is int and wanted >= 1:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        return np.linspace(low, high if high > low else low + 1.0, wanted + 1)
    try:
        edges = np.array(wanted, np.float64)
    except (TypeError, ValueError):
        edges = np.zeros(0)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise BadInput(f"{name} is {wanted!r}: a number of ranges, or their edges in ascending order, is allowed")
    return edges


def _by_region(harvest: Harvest, wanted: Any) -> tuple[NDArray[np.int64], list[Any]]:
    columns, rows = grid_shape(wanted)
    side = np.array([_side_px(name) for name in _column(harvest, "detector")], np.float64)
    cells = []
    for name, n in (("psf_x_center", columns), ("psf_y_center", rows)):
        values = np.array([math.nan if v is None else v for v in _column(harvest, name)], np.float64)
        with np.errstate(invalid="ignore"):
            cell = np.clip(np.floor((values - 0.5) / side * n), 0, n - 1)
        cells.append(np.where(np.isnan(values), -1, cell).astype(np.int64))
    code = np.where((cells[0] < 0) | (cells[1] < 0), columns * rows, cells[1] * columns + cells[0])
    return code, [*((i, j) for j in range(rows) for i in range(columns)), None]


def _column(harvest: Harvest, name: str) -> list[Any]:
    """Return a column's values, None where null; ``filter`` is ``filter_1`` on WFPC2."""
    also = "filter_1" if name == "filter" else None
    values = [
        found.ours[name] if name in found.ours else found.source.get(name, found.source.get(also or name))
        for found in harvest.rows()
    ]
    if values and all(value is None for value in values):
        harvest[:0].table([name])  # an unknown name is refused there, with those that are there
    return [None if value is None or value != value else value for value in values]  # noqa: PLR0124 - NaN


def _side_px(name: str | None) -> int:
    """Return the side of the field on which centres are counted; of one chip on WFPC2."""
    return DETECTORS.get(name or "", UVIS).full_frame_px
