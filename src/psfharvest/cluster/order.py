"""What is harvested on a cluster, and one part of it as a task takes it: plain values that pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psfharvest.core.catalog.plan import ListPart, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Limits, RetryPolicy
from psfharvest.store import parts as in_parts
from psfharvest.store.folder import Settings
from psfharvest.store.parts import Plan


@dataclass(frozen=True, slots=True)
class Order:
    """
    A harvest in parts.

    Attributes
    ----------
    folder
        As head and workers see it: on a file system that they share.
    settings, via
        How cutouts are stored, and how they travel.
    base
        The archive's base URL; None for the public archive.
    limits, retry
        For all workers together, and for each request.
    accept
        Names of deviations of cutouts that pass.
    part_rows
        Sources of a part, at most; about as many lines of a list.
    """

    folder: Path
    settings: Settings
    via: str
    base: str | None
    limits: Limits
    retry: RetryPolicy | None
    part_rows: int
    accept: frozenset[str] = frozenset()

    @property
    def prefix(self) -> str:
        """How the names of all its parts begin."""
        return f"{self.folder}#"

    def check(self) -> None:
        """
        Make sure that parts can be stored so.

        Raises
        ------
        BadInput
            When they cannot.
        """
        if self.settings.sink == "files":
            raise BadInput(
                "sink 'files' does not go with a cluster: merging would rename every file; "
                "choose sink='shards' or sink='parquet'"
            )
        if self.settings.manifest is not None:
            raise BadInput("manifest=… does not go with a cluster: each part keeps a manifest of its own")


@dataclass(frozen=True, slots=True)
class PartTask:
    """One part, by its number in the plan."""

    order: Order
    number: int
    name: str
    what: Query | Path
    part: Part | ListPart
    suffixes: tuple[str, ...] = ()
    unsat_size_px: int = 51
    sat_size_px: int = 101

    @property
    def folder(self) -> Path:
        """Where it is harvested."""
        return in_parts.folder_of(self.order.folder, self.number)


def list_place(folder: Path, number: int) -> Path:
    """Return where the list of a part of a list is kept."""
    return in_parts.folder_of(folder, number).with_suffix(".txt")


def task_of(order: Order, plan: Plan, number: int) -> PartTask:
    """Return the task of a part."""
    planned = plan.parts[number]
    target = plan.targets[planned.target]
    name = f"{order.prefix}{number}"
    if target.kind == "file":
        part = ListPart(planned.low, len(plan.parts), target.identity, target.spec["path"])
        return PartTask(order, number, name, list_place(order.folder, number), part)
    spec = target.spec
    return PartTask(
        order,
        number,
        name,
        Query.from_dict(spec["query"]),
        planned.part,
        tuple(spec["suffixes"]),
        spec["unsat_size_px"],
        spec["sat_size_px"],
    )
