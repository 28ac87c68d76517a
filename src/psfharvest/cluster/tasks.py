"""The two tasks of a harvest on a cluster, the plan and a part: what each does once the board lets it work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from psfharvest.archive.session import LONG_PATIENCE_S, Session
from psfharvest.cluster.order import Order
from psfharvest.core.catalog.plan import ListPart
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput, PsfharvestError, SinkError
from psfharvest.core.model import Progress, Report
from psfharvest.run import Job, list_parts, uri_lists
from psfharvest.run.parts import plan as parts_of
from psfharvest.run.rows import query_target
from psfharvest.run.targets import What, targets_of
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest.manifest import now_text
from psfharvest.store.manifest.place import PARTS_NAME
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget, Planning
from psfharvest.store.read.account import account

NOTHING = Report(0, 0, 0, 0, 0, 0, 0.0, 0)
"""The account of a task that found its work done."""

Watch = Callable[[Progress], None]
Guard = Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class PlanTask:
    """Cuts queries into parts by counts, and writes the plan; a folder that has one keeps it."""

    order: Order
    targets: Sequence[PlannedTarget]
    wanted: int = 1

    @property
    def name(self) -> str:
        """What it holds on the board."""
        return f"{self.order.prefix}plan"

    @property
    def folder(self) -> Path:
        """Where the plan is written."""
        return self.order.folder

    def n_final(self) -> int:
        """Return how far it has come: it begins anew each time."""
        return 0

    def found(self) -> Report | None:
        """Return an account where there is a plan already."""
        is_planned = is_harvest(self.order.folder) or in_parts.read_plan(self.order.folder) is not None
        return NOTHING if is_planned else None

    async def run(self, session: Session, watch: Watch, guard: Guard) -> Report:
        """Count until no part is too large."""
        del watch
        started_at, began_s = now_text(), time.monotonic()
        parts: list[PlannedPart] = []
        with session.share() as share:
            mashup = session.mashup(share, LONG_PATIENCE_S)
            for n, target in enumerate(self.targets):
                found = parts_of(mashup, Query.from_dict(target.spec["query"]), self.order.part_rows)
                parts += [PlannedPart(n, part.low, part.high, part.n) async for part in found]
        took = Planning(started_at, time.monotonic() - began_s, session.limiter.requests)
        guard()
        await anyio.to_thread.run_sync(write_plan, self.order, self.targets, parts, took)
        return replace(NOTHING, requests=took.requests)


@dataclass(frozen=True, slots=True, eq=False)
class PartTask:
    """Harvests a part of the plan that the folder has, by its number."""

    order: Order
    number: int
    wanted: int = 2**31

    @property
    def name(self) -> str:
        """What it holds on the board."""
        return f"{self.order.prefix}{self.number}"

    @property
    def folder(self) -> Path:
        """Where it is harvested."""
        return in_parts.folder_of(self.order.folder, self.number)

    def n_final(self) -> int:
        """Return how many cutouts have a final state."""
        try:
            report = account(self.folder)
        except PsfharvestError:  # not begun yet, or merged by another head
            return 0
        return report.done + report.missing + report.failed

    def found(self) -> Report | None:
        """Return the account of a part that is finished, or merged already by another head; None for all others."""
        if is_harvest(self.order.folder):
            return NOTHING
        if in_parts.is_finished(self.folder):
            return replace(account(self.folder), requests=0, elapsed_s=0.0, stopped="")
        return None

    async def run(self, session: Session, watch: Watch, guard: Guard) -> Report:
        """Harvest it, or go on with it."""
        order = self.order
        plan = await anyio.to_thread.run_sync(in_parts.read_plan, order.folder)
        if plan is None:
            raise BadInput(f"{order.folder} has no plan of its parts any more")
        planned = plan.parts[self.number]
        target = plan.targets[planned.target]
        settings = replace(order.settings, sink=plan.sink, is_part=True)
        job = Job(session, self.folder, settings, order.via, (), watch, accept=order.accept, guard=guard)
        if target.kind == "file":
            its_list = list_place(order.folder, self.number)
            of_list = ListPart(planned.low, len(plan.parts), target.identity, target.spec["path"])
            return await job.harvest(its_list, (), extend=False, part=of_list, unsat_size_px=51, sat_size_px=101)
        spec = target.spec
        sizes = {name: spec[name] for name in ("unsat_size_px", "sat_size_px")}
        query = Query.from_dict(spec["query"])
        return await job.harvest(query, spec["suffixes"], extend=False, part=planned.part, **sizes)


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


def list_place(folder: Path, number: int) -> Path:
    """Return where the list of a part of a list is kept."""
    return in_parts.folder_of(folder, number).with_suffix(".txt")


def plan_list(order: Order, target: PlannedTarget) -> None:
    """Cut a list, which the head alone may see, into parts that the workers see, and write the plan."""
    place = lambda number: list_place(order.folder, number)  # noqa: E731
    sizes = list_parts.cut(Path(target.spec["path"]), order.part_rows, place)
    write_plan(order, [target], [PlannedPart(0, n, n, size) for n, size in enumerate(sizes)])


def write_plan(
    order: Order, targets: Sequence[PlannedTarget], parts: Sequence[PlannedPart], took: Planning | None = None
) -> None:
    """
    Write a plan, unless another head has, or there is nothing to harvest.

    Raises
    ------
    SinkError
        When it cannot be written.
    """
    if not parts:
        return
    try:
        (order.folder / PARTS_NAME).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{order.folder}: {error.strerror}; choose a folder that can be made") from error
    if in_parts.read_plan(order.folder) is None:
        sink = order.settings.sink or "shards"
        Plan(targets, sink, parts, order.settings.shard_bytes, took).write(order.folder)
