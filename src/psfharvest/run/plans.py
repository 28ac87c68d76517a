"""Harvests in parts: what is asked for as a plan records it, cut into parts, and the harvest of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.core.catalog.plan import ListPart
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, SinkError
from psfharvest.core.model import Report
from psfharvest.run import list_parts, parts
from psfharvest.run.job import Job
from psfharvest.run.rows import query_target
from psfharvest.run.targets import What, check_columns, file_target, targets_of
from psfharvest.store import parts as in_parts
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget


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
            target = await file_target(one, suffixes)
            found.append(PlannedTarget("file", target.identity, target.spec))
        else:
            raise BadInput(
                "a cluster harvests a query, or the Path of a file of dataURIs; write the list to a file"
            )
    return found


async def cut_queries(mashup: Mashup, targets: Sequence[PlannedTarget], part_rows: int) -> list[PlannedPart]:
    """Return the parts of queries, by counts alone; a query with parts is one whose columns the archive has."""
    found: list[PlannedPart] = []
    for n, target in enumerate(targets):
        query = Query.from_dict(target.spec["query"])
        own = [PlannedPart(n, part.low, part.high, part.n) async for part in parts.plan(mashup, query, part_rows)]
        if own:
            await check_columns(mashup, query)
        found += own
    return found


def cut_list(folder: Path, target: PlannedTarget, part_rows: int) -> list[PlannedPart]:
    """Write the list of each part of a list into the folder; return the parts."""
    sizes = list_parts.cut(Path(target.spec["path"]), part_rows, lambda number: in_parts.list_of(folder, number))
    return [PlannedPart(0, n, n, size) for n, size in enumerate(sizes)]


def write_plan(folder: Path, plan: Plan) -> None:
    """
    Write a plan, unless another process has, or there is nothing to harvest.

    Raises
    ------
    SinkError
        When it cannot be written.
    """
    if not plan.parts:
        return
    try:
        (folder / PARTS_NAME).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: {error.strerror}; choose a folder that can be made") from error
    if in_parts.read_plan(folder) is None:
        plan.write(folder)


async def harvest_part(job: Job, plan: Plan, number: int) -> Report:
    """Harvest a part of a plan in the folder of a job, or go on with it."""
    planned = plan.parts[number]
    target = plan.targets[planned.target]
    spec = target.spec
    if target.kind == "file":
        its_list = job.folder.with_suffix(in_parts.LIST_SUFFIX)
        of_list = ListPart(planned.low, len(plan.parts), target.identity, spec["path"])
        return await job.harvest(its_list, (), extend=False, part=of_list, unsat_size_px=51, sat_size_px=101)
    sizes = {name: spec[name] for name in ("unsat_size_px", "sat_size_px")}
    query = Query.from_dict(spec["query"])
    return await job.harvest(query, spec["suffixes"], extend=False, part=planned.part, **sizes)
