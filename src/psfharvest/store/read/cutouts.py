"""Cutouts of a folder by state, read from its manifest page by page: memory stays flat, a harvest may go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psfharvest.core.model import State
from psfharvest.store.manifest.manifest import Manifest

TROUBLE = (State.MISSING, State.FAILED)
_SELECT = "SELECT n, uri, state, reason, detail, attempts FROM cutout WHERE "
_IN_INDEX = (
    "n IN (SELECT n FROM outcome WHERE state IN ('missing', 'failed') AND n > ? ORDER BY n LIMIT ?) ORDER BY n"
)
_AFTER = "n > ? ORDER BY n LIMIT ?"


class CutoutRow(NamedTuple):
    """What the manifest says of one cutout."""

    uri: str
    state: str
    reason: str | None
    detail: str | None
    attempts: int


def cutouts(manifest: Manifest, states: Sequence[State]) -> Iterator[CutoutRow]:
    """Yield the cutouts that are in one of the states, in the order of asking."""
    # what is missing or failed is few among many, and found by its index
    statement = _SELECT + (_IN_INDEX if set(states) <= set(TROUBLE) else _AFTER)
    for page in manifest.pages(statement):
        for row in page:
            found = CutoutRow(*row[1:])
            if found.state in states:
                yield found
