"""The plan of a harvest in parts: read where the folder has one, else made by counts of a query, or from a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from psfharvest.cluster.order import Order, list_place
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, FolderRefused, SinkError
from psfharvest.run import list_parts, uri_lists
from psfharvest.run.rows import query_target
from psfharvest.run.targets import What, targets_of
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import refuse_dangling
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget

CountParts = Callable[[Sequence[PlannedTarget]], AsyncIterator[PlannedPart]]
"""Cuts queries into parts, by counts of the archive."""


async def planned_targets(what: What | Path, suffixes: Sequence[str], **sizes: int) -> list[PlannedTarget]:
    """
    Return what is harvested as a plan records it.

    Raises
    ------
    BadInput
        For what cannot be harvested in parts.
    """
    found = []
    for one, chosen in targets_of(what, suffixes):
        if isinstance(one, Query):
            target = query_target(one, chosen, n_sources=0, **sizes)
            found.append(PlannedTarget("query", target.identity, target.spec))
        elif isinstance(one, Path) and await anyio.to_thread.run_sync(one.is_file):
            if suffixes:
                raise BadInput("suffixes go with a query; a dataURI names its product itself")
            identity = await anyio.to_thread.run_sync(uri_lists.identity, one)
            found.append(PlannedTarget("file", identity, {"path": str(one.absolute())}))
        else:
            raise BadInput(
                "a cluster harvests a query, or the Path of a file of dataURIs; write the list to a file"
            )
    return found


async def plan_of(
    order: Order, targets: list[PlannedTarget], what: What | Path, count_parts: CountParts
) -> Plan | None:
    """
    Return the plan of a folder, made now where it has none; None where there is nothing to harvest.

    Raises
    ------
    FolderRefused
        When the folder has a plan of something else, or for another sink.
    SinkError
        When the plan cannot be written.
    """
    known = await anyio.to_thread.run_sync(in_parts.read_plan, order.folder)
    if known is not None:
        if [target.identity for target in known.targets] != [target.identity for target in targets]:
            raise FolderRefused(f"{order.folder} holds another harvest in parts; choose another folder")
        if order.settings.sink not in (None, known.sink):
            raise FolderRefused(f"{order.folder} is kept with sink {known.sink!r}; leave sink=… away")
        return known
    if isinstance(what, Path):
        place = lambda number: list_place(order.folder, number)  # noqa: E731
        sizes = await anyio.to_thread.run_sync(list_parts.cut, what, order.part_rows, place)
        parts = [PlannedPart(0, n, n, size) for n, size in enumerate(sizes)]
    else:
        parts = [part async for part in count_parts(targets)]
    if not parts:
        return None
    plan = Plan(targets, order.settings.sink or "shards", parts, order.settings.shard_bytes)
    return await anyio.to_thread.run_sync(_written, plan, order.folder)


def _written(plan: Plan, folder: Path) -> Plan | None:
    """Write a plan, unless another head has written one; return the folder's."""
    refuse_dangling(folder)
    try:
        (folder / PARTS_NAME).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: {error.strerror}; choose a folder that can be made") from error
    if in_parts.read_plan(folder) is None:
        plan.write(folder)
    return in_parts.read_plan(folder)
