"""Rows, points and facets of one folder, for a selection: plain functions over an open manifest."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.core.errors import BadQuery
from psfharvest.serve.orders import AnyNumbers, IsLeft, Orders, Selection
from psfharvest.store.column_types import about
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import found_cutouts, known_columns
from psfharvest.store.read.intervals import IntervalSet, Numbers

ROWS_MAX = 500
POINTS_MAX = 20_000
BINS = 40
COUNTED_MAX = 24
"""Different values of a column that are counted one by one; more make a histogram, or the most frequent."""
FLOAT32_MAX = float(np.finfo(np.float32).max)
_MEANINGS = {
    "detector": "UVIS, IR or WFPC2",
    "suffix": "product of the exposure",
    "extension": "number of the image in the exposure's file",
    "uri": "dataURI",
    "state": "done, missing, failed or pending",
    "location": "where the bytes are, below the folder",
    "size_bytes": "size of the stored file",
    "sha256": "checksum of the stored file",
    "attempts": "requests that it took",
    "reason": "why it is missing or failed",
    "detail": "the archive's words",
    "quirk": "accepted deviation from the standard",
}


def numbers_at(members: AnyNumbers | IntervalSet, at: int, count: int) -> Numbers:
    """Return the numbers at positions `at` to ``at + count``, as far as there are any."""
    stop = min(at + count, len(members))
    if at >= stop:
        return np.zeros(0, np.int64)
    return members.numbers(at, stop) if isinstance(members, IntervalSet) else members[at:stop].astype(np.int64)


def one(number: int) -> Numbers:
    """Return one number as the others here want them."""
    return np.array([number], np.int64)


def rows(manifest: Manifest, numbers: Numbers, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Return what is known of cutouts, in the order of `numbers`, as values that JSON has.

    Raises
    ------
    BadQuery
        When one of `columns` is not there.
    """
    if columns is not None:
        there = known_columns.columns(manifest)
        for name in columns:
            if name not in there:
                words = f"column {name[:60]!r} is not in this harvest: it has {', '.join(there)}"
                raise BadQuery(words, field=name)
    ascending = np.sort(numbers)
    found = {one.number: plain(one) for one in found_cutouts.rows(manifest, ascending, columns)}
    all_rows = [{"n": int(n), **found[int(n)]} for n in numbers if int(n) in found]
    if columns is None:
        return all_rows
    return [{"n": row["n"], **{name: row.get(name) for name in columns}} for row in all_rows]


def plain(found: found_cutouts.FoundCutout) -> dict[str, Any]:
    """Return catalogue row and manifest row of a cutout; what is no finite number is None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in {**found.source, **found.ours}.items()
    }


def column_list(manifest: Manifest) -> list[dict[str, str]]:
    """Return name, unit, meaning and kind of all columns."""
    texts = {"uri", "state", "location", "sha256", "reason", "detail", "quirk", "suffix", "detector"}
    found = []
    for name in known_columns.columns(manifest):
        known = COLUMNS.get(name)
        kind = known.kind if known is not None else "str" if name in texts else "float"
        unit, meaning = about(name)
        found.append({"name": name, "unit": unit, "meaning": _MEANINGS.get(name, meaning), "kind": kind})
    return found


def facet(orders: Orders, manifest: Manifest, name: str, selection: Selection, is_left: IsLeft) -> dict[str, Any]:
    """Return how the values of one column are distributed over the selection."""
    column = orders.column(manifest, name, is_left)
    values = _of_selection(orders, manifest, column.values, selection, is_left)
    known = values[~np.isnan(values)]
    facts: dict[str, Any] = {"column": name, "total": len(values), "without": len(values) - len(known)}
    different, counts = np.unique(known, return_counts=True)
    if column.words:
        order = np.argsort(-counts, kind="stable")[:COUNTED_MAX]
        top = [[column.words[int(different[i])], int(counts[i])] for i in order]
        return {**facts, "kind": "text", "different": len(different), "values": top}
    facts |= {"kind": "number", "different": len(different)}
    finite = known[np.isfinite(known)]
    if len(finite):
        facts |= {"min": float(finite.min()), "max": float(finite.max()), "median": float(np.median(finite))}
    if len(different) <= COUNTED_MAX:
        pairs = zip(different.tolist(), counts.tolist(), strict=True)
        return {**facts, "values": [[value, n] for value, n in pairs if math.isfinite(value)]}
    heights, edges = np.histogram(finite, BINS)
    return {**facts, "bins": {"edges": edges.tolist(), "counts": heights.tolist()}}


def points(
    orders: Orders, manifest: Manifest, names: tuple[str, str], selection: Selection, is_left: IsLeft
) -> bytes:
    """Return u32 total, u32 n, then n u32 numbers, n float32 x, n float32 y: a regular sample of the selection."""
    x, y = (orders.column(manifest, name, is_left) for name in names)
    for name, column in zip(names, (x, y), strict=True):
        if column.words:
            raise BadQuery(f"{name} holds texts; a plot needs two columns of numbers", field=name)
    runs = orders.matching(manifest, selection.criteria, is_left)
    numbers = runs.numbers(0, len(runs))
    numbers = numbers[numbers <= min(len(x.values), len(y.values))]
    both = np.abs(x.values[numbers - 1]) <= FLOAT32_MAX
    both &= np.abs(y.values[numbers - 1]) <= FLOAT32_MAX
    numbers = numbers[both]
    shown = numbers[:: max(1, -(-len(numbers) // POINTS_MAX))]
    parts = [shown.astype("<u4"), x.values[shown - 1].astype("<f4"), y.values[shown - 1].astype("<f4")]
    return struct.pack("<II", len(numbers), len(shown)) + b"".join(part.tobytes() for part in parts)


def _of_selection(
    orders: Orders, manifest: Manifest, values: np.ndarray[Any, Any], selection: Selection, is_left: IsLeft
) -> np.ndarray[Any, Any]:
    if not selection.criteria:
        return values
    runs = orders.matching(manifest, selection.criteria, is_left)
    numbers = runs.numbers(0, len(runs))
    return values[numbers[numbers <= len(values)] - 1]
