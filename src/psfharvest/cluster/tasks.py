"""The two tasks of a harvest on a cluster, the plan and a part: what each does once the board lets it work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from psfharvest.archive.session import LONG_PATIENCE_S, Session
from psfharvest.cluster.order import Order
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Progress, Report
from psfharvest.run import Job
from psfharvest.run.plans import cut_queries, harvest_part, write_plan
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest.manifest import now_text
from psfharvest.store.parts import PlannedTarget, Planning
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
        with session.share() as share:
            mashup = session.mashup(share, LONG_PATIENCE_S)
            parts = await cut_queries(mashup, self.targets, self.order.part_rows)
        took = Planning(started_at, time.monotonic() - began_s, session.limiter.requests)
        guard()
        await anyio.to_thread.run_sync(write_plan, self.folder, self.order.plan(self.targets, parts, took))
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
        return in_parts.n_final(self.folder)

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
        settings = replace(order.settings, sink=plan.sink, is_part=True)
        job = Job(session, self.folder, settings, order.via, (), watch, accept=order.accept, guard=guard)
        return await harvest_part(job, plan, self.number)
