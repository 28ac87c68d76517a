"""Cutouts together with the blocks that hold their catalogue rows: what reads a column of many cutouts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.store.manifest import spans
from psfharvest.store.manifest.block_arrays import BlockArrays, ColumnArrays
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.sources import Layout, Rows
from psfharvest.store.read.intervals import Numbers

AT_ONCE = 16_384
"""Cutouts of one page."""


class Span(NamedTuple):
    """A column of some cutouts that follow on each other in a piece."""

    column: ColumnArrays
    within: slice
    """Positions in the piece."""
    rows: Numbers | slice
    """The column's row of each."""


class Piece(NamedTuple):
    """Some cutouts of a page whose catalogue rows are of one layout; or those that have none."""

    manifest: Manifest
    n: int
    places: Numbers | slice
    """Positions in the page, ascending."""
    layout: Layout | None
    blocks: BlockArrays | None
    rows: Numbers | slice
    """The blocks' row of each, ascending."""

    def places_where(self, mask: NDArray[np.bool_]) -> Numbers:
        """Return the positions in the page of some of them."""
        chosen: Numbers = np.flatnonzero(mask)
        return chosen + self.places.start if isinstance(self.places, slice) else self.places[chosen]

    def places_of(self, span: Span) -> Numbers | slice:
        """Return the positions in the page of a span's cutouts."""
        if isinstance(self.places, slice):
            return slice(self.places.start + span.within.start, self.places.start + span.within.stop)
        return self.places[span.within]

    def spans(self, name: str) -> list[Span]:
        """
        Return a column of the blocks; nothing where these cutouts have no such column.

        Raises
        ------
        ManifestError
            When it is damaged.
        """
        if self.layout is None or self.blocks is None or name not in self.layout.columns:
            return []
        return self._spans_at(self.blocks, self.layout.columns.index(name))

    def columns(self, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[Span]]]:
        """
        Yield all columns of the blocks in their order; nothing of those that are not wanted.

        Raises
        ------
        ManifestError
            When one is damaged.
        """
        if self.layout is not None and self.blocks is not None:
            for index, name in enumerate(self.layout.columns):
                yield name, self._spans_at(self.blocks, index) if is_wanted(name) else []

    def _spans_at(self, blocks: BlockArrays, index: int) -> list[Span]:
        with self.manifest.rows():
            parts = blocks.column(index)
        if len(parts) == 1:
            return [Span(parts[0], slice(0, self.n), self.rows)]
        found: list[Span] = []
        first = at = 0
        for part in parts:
            end = first + part.n_rows
            if isinstance(self.rows, slice):
                stop = min(max(end - self.rows.start, at), self.n)
                rows: Numbers | slice = slice(self.rows.start + at - first, self.rows.start + stop - first)
            else:
                stop = int(self.rows.searchsorted(end))
                rows = self.rows[at:stop] - first
            if stop > at:
                found.append(Span(part, slice(at, stop), rows))
            first, at = end, stop
        return found


def of(manifest: Manifest, numbers: Numbers) -> list[Piece]:
    """Return the pieces of a page of cutouts, whose numbers come ascending; those without a catalogue row last."""
    with manifest.connection() as db, manifest.rows() as reader:
        owners = spans.sources_of(db, numbers)
        is_ascending = bool((np.diff(owners) >= 0).all())
        order = np.arange(len(owners)) if is_ascending else np.argsort(owners, kind="stable")
        ascending = owners if is_ascending else owners[order]
        n_without = int(np.searchsorted(ascending, 1))
        lost = [order[:n_without]]
        groups: list[list[tuple[Rows, int, int]]] = []
        at = n_without
        for rows, part in reader.of(db, ascending[n_without:]):
            start, stop = part.start + n_without, part.stop + n_without
            lost.append(order[at:start])
            if not groups or start > at or rows.layout is not groups[-1][0][0].layout:
                groups.append([])
            groups[-1].append((rows, start, stop))
            at = stop
        lost.append(order[at:])
    without = np.sort(np.concatenate(lost))
    made = [_piece(manifest, group, ascending, None if is_ascending else order) for group in groups]
    if len(without):
        made.append(Piece(manifest, len(without), without, None, None, slice(0, 0)))
    return made


def _piece(
    manifest: Manifest, group: Sequence[tuple[Rows, int, int]], ascending: Numbers, order: Numbers | None
) -> Piece:
    """
    Return a piece of blocks that follow on each other.

    Parameters
    ----------
    manifest
        Where they are from.
    group
        The blocks, each with the part of `ascending` that it holds.
    ascending
        Numbers of catalogue rows.
    order
        Position in the page of each; None where both count alike.
    """
    start, stop = group[0][1], group[-1][2]
    n_before = [0, *itertools.accumulate(rows.block.n_rows for rows, _, _ in group)]
    chosen = np.concatenate(
        [ascending[low:high] + (n - rows.first) for n, (rows, low, high) in zip(n_before, group, strict=False)]
    )
    first, last = int(chosen[0]), int(chosen[-1])
    is_regular = last - first == len(chosen) - 1 and bool((np.diff(chosen) == 1).all())
    return Piece(
        manifest,
        stop - start,
        slice(start, stop) if order is None else order[start:stop],
        group[0][0].layout,
        BlockArrays([rows.block for rows, _, _ in group]),
        slice(first, last + 1) if is_regular else chosen,
    )


def lacking(piece: Piece, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Return which cutouts of a piece have no value in a column of their blocks."""
    found = np.ones(piece.n, np.bool_)
    for span in spans:
        nulls = span.column.nulls()
        found[span.within] = False if nulls is None else nulls[span.rows]
    return found
