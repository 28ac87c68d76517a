"""Cutouts together with the blocks that hold their catalogue rows: what reads a column of many cutouts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from psfharvest.store.manifest import spans
from psfharvest.store.manifest.block import Block, Column
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.sources import Layout
from psfharvest.store.read.intervals import Numbers

AT_ONCE = 16_384
"""Cutouts of one page."""


class Piece(NamedTuple):
    """Some cutouts of a page whose catalogue rows stand in one block; or those that have none."""

    manifest: Manifest
    places: Numbers
    """Positions in the page."""
    layout: Layout | None
    block: Block | None
    rows: Numbers
    """The block's row of each."""

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
        with self.manifest.rows():
            return self.block.column(self.layout.columns.index(name))


def of(manifest: Manifest, numbers: Numbers) -> list[Piece]:
    """Return the pieces of a page of cutouts, whose numbers come ascending; those without a catalogue row last."""
    made: list[Piece] = []
    with manifest.look() as db, manifest.rows() as reader:
        sources = spans.sources_of(db, numbers)
        is_ascending = bool(np.all(sources[1:] >= sources[:-1]))
        order = np.arange(len(sources)) if is_ascending else np.argsort(sources, kind="stable")
        ascending = sources if is_ascending else sources[order]
        n_without = int(np.searchsorted(ascending, 1))
        found = [order[:n_without]]
        at = n_without
        for rows, part in reader.of(db, ascending[n_without:]):
            start, stop = part.start + n_without, part.stop + n_without
            found.append(order[at:start])  # rows that are lost
            at = stop
            made.append(
                Piece(manifest, order[start:stop], rows.layout, rows.block, ascending[start:stop] - rows.first)
            )
        without = np.concatenate([*found, order[at:]])
    if len(without):
        made.append(Piece(manifest, np.sort(without), None, None, np.zeros(0, np.int64)))
    return made
