"""An interrupt of a harvest in one sentence, and without the frames of what was under way."""

from __future__ import annotations

from pathlib import Path

import anyio

from psfharvest.core.errors import PsfharvestError
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest


def words(folder: Path) -> str:
    """Return how much of a folder is stored, for somebody who interrupted its harvest."""
    try:
        if not is_harvest(folder):
            return "interrupted: nothing was begun"
        with Manifest.read(folder) as manifest:
            tally = manifest.tally()
            expected = sum(ask.expected or 0 for ask in targets.read_asks(manifest))
    except PsfharvestError:
        return "interrupted; run the same again to go on"
    return f"interrupted: {tally.done:,} of {max(expected, tally.total):,} stored; run the same again to go on"


def is_native(error: BaseException) -> bool:
    """Return True for a cancellation by asyncio itself that carries no message: anyio's carry their scope's."""
    cancelled = anyio.get_cancelled_exc_class()
    if not isinstance(error, cancelled) or type(error).__module__.partition(".")[0] != "asyncio":
        return False
    found: BaseException | None = error
    while isinstance(found, cancelled):
        if found.args:
            return False
        found = found.__context__
    return True
