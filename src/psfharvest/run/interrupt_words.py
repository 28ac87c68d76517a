"""An interrupt of a harvest in one sentence, and without the frames of what was under way."""

from __future__ import annotations

from pathlib import Path

import anyio

from psfharvest.core.errors import PsfharvestError
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest

_OF_A_SCOPE = ("Cancelled via cancel scope", "Cancelled by cancel scope")


def words(folder: Path) -> str:
    """Return how much of a folder is stored, for somebody who interrupted its harvest."""
    try:
        if not is_harvest(folder):
            return "interrupted: nothing was begun"
        with Manifest.read(folder) as manifest:
            tally = manifest.tally()
            expected = sum(target.expected or 0 for target in targets.read_targets(manifest))
    except PsfharvestError:
        return "interrupted; run the same again to go on"
    if not (expected or tally.total):
        return "interrupted: nothing was asked for yet; run the same again to go on"
    return f"interrupted: {tally.done:,} of {max(expected, tally.total):,} stored; run the same again to go on"


def is_native(error: BaseException) -> bool:
    """
    Return True for a cancellation by asyncio itself that carries no message of its own.

    Call it in the caller's own context: a cancelled scope of anyio's around it owns the cancellation. One of ours
    whose deadline passed at the same moment may have left its message.
    """
    is_of_asyncio = type(error).__module__.partition(".")[0] == "asyncio"
    if not is_of_asyncio or not isinstance(error, anyio.get_cancelled_exc_class()):
        return False
    if anyio.current_effective_deadline() == float("-inf"):
        return False
    return not error.args or str(error.args[0]).startswith(_OF_A_SCOPE)
