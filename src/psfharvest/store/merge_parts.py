"""
Merge the parts of a harvest within its own folder: afterwards it is an ordinary harvest folder.

The one commit point is the rename of the merged manifest. Killed before it, the folder is as it was, and the same
call goes on; killed after it, the same call removes what is left of the parts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from psfharvest.core.errors import BadInput, FolderRefused
from psfharvest.filesystem.failures import refused_as_sink_error
from psfharvest.store import folder as folders
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import Settings, is_harvest
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.merge import NAME, Merging, Step
from psfharvest.store.moves import Moves
from psfharvest.store.parts import Plan
from psfharvest.store.sink_kinds import numbered_files


def merge_parts(folder: Path, *, is_partial: bool = False) -> Iterator[Step]:
    """
    Merge a folder's parts into the folder; iterate to do the work.

    Parameters
    ----------
    folder
        With its plan and its parts; one that is merged already only loses what is left of them.
    is_partial
        Whether parts with pending work, or that have not begun, are no hindrance; that is pending afterwards.

    Raises
    ------
    BadInput
        When that cannot be done; nothing was changed.
    LocalError
        When disk or manifest fail; the same call goes on.
    """
    plan = in_parts.read_plan(folder)
    if plan is None:
        raise BadInput(
            f"{folder} holds no harvest in parts; to merge harvest folders, name the target last: DIR... INTO"
        )
    if is_harvest(folder):
        return _ended(folder)
    numbers = in_parts.begun(folder, plan)
    sources = [in_parts.folder_of(folder, n) for n in numbers]
    if not sources:
        raise FolderRefused(f"no part of {folder} has begun: run the same 'harvest' command again")
    if not is_partial:
        _refuse_unfinished(folder, plan, sources)
    return _merged(folder, plan, sources)


def _refuse_unfinished(folder: Path, plan: Plan, sources: list[Path]) -> None:
    n_absent = len(plan.parts) - len(sources)
    unfinished = next((source for source in sources if not in_parts.is_finished(source)), None)
    if unfinished is not None or n_absent:
        words = f"{n_absent} of its {len(plan.parts)} parts have not begun"
        raise FolderRefused(
            f"{folder}: {words if unfinished is None else f'{unfinished} has pending work'}; finish it with the "
            "same 'harvest' command, or merge what is there with --partial"
        )


def _merged(folder: Path, plan: Plan, sources: list[Path]) -> Iterator[Step]:
    moves = Moves(folder)
    for source in sources:
        _end_last_file(source)
    merging = Merging(sources, folder, plan.sink, None, True, moves, plan.is_disjoint, plan.planning)
    yield from merging.run()
    yield from _ended(folder)


def _end_last_file(source: Path) -> None:
    """End a part's last shard with its last claim, and make its journals Parquet: a killed run did neither."""
    with refused_as_sink_error(), folder_lock(source), Manifest.open(source) as manifest:
        shard, end = manifest.mark
        numbered = numbered_files(manifest.sink)
        last = None if numbered is None else numbered.last(source, shard)
        if end and last is not None and last.exists():
            folders.open_sink(source, manifest, Settings()).close()


def _ended(folder: Path) -> Iterator[Step]:
    """Remove the parts of a folder that is merged."""
    left = [path for path in (folder / NAME, folder / PARTS_NAME) if path.exists()]
    if left:
        with refused_as_sink_error(), folder_lock(folder):
            for path in left:
                shutil.rmtree(path)
    yield Step(folder, 0, 0)
