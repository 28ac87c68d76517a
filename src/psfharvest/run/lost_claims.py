"""Claims whose bytes are gone from the folder become pending again, beside the rest of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio

from psfharvest.core.errors import LocalError
from psfharvest.run.disk import Disk
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.recover import mend, presence


async def find_lost(
    folder: Path,
    manifest: Manifest,
    disk: Disk,
    *,
    note: Callable[[str], object],
    on_taken_back: Callable[[Sequence[int]], Awaitable[None]],
) -> None:
    """
    Compare the folder with its manifest, and make what is gone pending again.

    Parameters
    ----------
    folder, manifest, disk
        The harvest, and the way to what it writes.
    note
        Called with what the user should know of it.
    on_taken_back
        Called with the numbers of cutouts that are pending again, some at a time.
    """
    own_disk = Disk()  # a look at a million files must not hold up the storing
    n_lost = 0
    example = ""
    reader: Manifest | None = None
    try:
        reader = await own_disk.do(Manifest.read, folder)
        pages = await own_disk.do(presence.lost, folder, reader)
        while (page := await own_disk.do(next, pages, None)) is not None:
            if page.numbers:
                paths = [page.path] if page.path else []
                numbers = await disk.do(mend.take_back, folder, manifest, page.numbers, paths)
                n_lost, example = n_lost + len(numbers), example or page.path
                await on_taken_back(numbers)
    except LocalError as error:
        note(f"the folder could not be compared with its manifest: {error}")
    finally:
        if reader is not None:
            with anyio.CancelScope(shield=True):
                await own_disk.do(reader.close)
        if n_lost:
            note(lost_words(n_lost, example))


def mend_tail(folder: Path, manifest: Manifest) -> list[str]:
    """Mend the file that the sink goes on in, where it was cut or removed; return what to say of it."""
    path = presence.cut_tail(folder, manifest)
    if not path:
        return []
    return [lost_words(len(mend.take_back(folder, manifest, (), [path])), path)]


def lost_words(n: int, path: str) -> str:
    """Return the note of a run that found stored cutouts gone."""
    where = f" ({path})" if path else ""
    return f"{n:,} stored cutouts were gone or cut short{where}, and were asked for again"
