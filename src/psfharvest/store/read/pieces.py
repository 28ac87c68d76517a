"""Cutouts together with the blocks that hold their catalogue rows: what reads a column of many cutouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.store.manifest import sources, spans
from psfharvest.store.manifest.block import Block
from psfharvest.store.manifest.block_column import Column
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.sources import Layout
from psfharvest.store.read.intervals import Numbers

AT_ONCE = 16_384
"""Cutouts of one page."""


class Piece(NamedTuple):
    """Some cutouts of a page whose catalogue rows stand in one block; or those that have none."""

    manifest: Manifest
    n: int
    places: Numbers | slice
    """Positions in the page, ascending."""
    layout: Layout | None
    block: Block | None
    rows: Numbers | slice
    """The block's row of each."""

    def places_where(self, mask: NDArray[np.bool_]) -> Numbers:
        """Return the positions in the page of some of them."""
        chosen: Numbers = np.flatnonzero(mask)
        return chosen + self.places.start if isinstance(self.places, slice) else self.places[chosen]

    def column(self, name: str) -> Column | None:
        """
        Return a column of the block, of all its rows; None where these cutouts have no such column.

        Raises
        ------
        ManifestError
            When it is damaged.
        """
        if self.layout is None or self.block is None or name not in self.layout.columns:
            return None
        return self._column_at(self.block, self.layout.columns.index(name))

    def columns(self, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Column | None]]:
        """
        Yield all columns of the block in their order, each of all its rows; None for those that are not wanted.

        Raises
        ------
        ManifestError
            When one is damaged.
        """
        if self.layout is not None and self.block is not None:
            for index, name in enumerate(self.layout.columns):
                yield name, self._column_at(self.block, index) if is_wanted(name) else None

    def _column_at(self, block: Block, index: int) -> Column:
        try:
            return block.column(index)
        except sources.UNREADABLE as error:
            raise self.manifest.damaged(f"a catalogue row cannot be read: {error}") from error


def of(manifest: Manifest, numbers: Numbers) -> list[Piece]:
    """Return the pieces of a page of cutouts, whose numbers come ascending; those without a catalogue row last."""
    made: list[Piece] = []
    with manifest.connection() as db, manifest.rows() as reader:
        owners = spans.sources_of(db, numbers)
        steps = np.diff(owners)
        is_ascending = bool((steps >= 0).all())
        order = np.arange(len(owners)) if is_ascending else np.argsort(owners, kind="stable")
        ascending = owners if is_ascending else owners[order]
        is_regular = bool((steps == 1).all())  # one after the other, as a query of one suffix gives them
        n_without = int(np.searchsorted(ascending, 1))
        found = [order[:n_without]]
        at = n_without
        for rows, part in reader.of(db, ascending[n_without:]):
            start, stop = part.start + n_without, part.stop + n_without
            found.append(order[at:start])  # rows that are lost
            at = stop
            low = int(ascending[start]) - rows.first
            made.append(
                Piece(
                    manifest,
                    stop - start,
                    slice(start, stop) if is_ascending else order[start:stop],
                    rows.layout,
                    rows.block,
                    slice(low, low + stop - start) if is_regular else ascending[start:stop] - rows.first,
                )
            )
        without = np.concatenate([*found, order[at:]])
    if len(without):
        made.append(Piece(manifest, len(without), np.sort(without), None, None, slice(0, 0)))
    return made
