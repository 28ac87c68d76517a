"""What is harvested on a cluster: plain values that pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psfharvest.core.errors import BadInput
from psfharvest.core.model import Limits, RetryPolicy
from psfharvest.store.folder import Settings, refuse_dangling
from psfharvest.store.parts import Plan, PlannedPart, PlannedTarget, Planning
from psfharvest.store.sink_kinds import SINK_KINDS


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
        """How the names of all its tasks begin."""
        return f"{self.folder}#"

    def plan(
        self, targets: Sequence[PlannedTarget], parts: Sequence[PlannedPart], took: Planning | None = None
    ) -> Plan:
        """Return its plan: shards, where no sink is named."""
        return Plan(targets, self.settings.sink or "shards", parts, self.settings.shard_bytes, took)

    def check(self) -> None:
        """
        Make sure that parts can be stored so.

        Raises
        ------
        BadInput
            When they cannot.
        """
        refuse_dangling(self.folder)
        _refuse_no_text(self.folder)
        if self.settings.sink == "files":
            raise BadInput(
                "sink 'files' does not go with a cluster: merging would rename every file; "
                "choose sink='shards' or sink='parquet'"
            )
        if self.settings.sink is not None and SINK_KINDS[self.settings.sink].open_merged is None:
            raise BadInput(f"sink {self.settings.sink!r} cannot be merged, so it does not go with a cluster")
        if self.settings.layout is not None:
            raise BadInput("layout goes with sink 'files', and that not with a cluster: leave it away")
        if self.settings.shard_bytes is not None and self.settings.sink not in (None, "shards"):
            raise BadInput(f"shard_bytes goes with sink 'shards', not with {self.settings.sink!r}: leave it away")
        if self.settings.manifest is not None:
            raise BadInput("manifest=… does not go with a cluster: each part keeps a manifest of its own")


def _refuse_no_text(folder: Path) -> None:
    """Refuse a folder whose name is no UTF-8: the board's messages hold it, and no other texts."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{folder}: a cluster takes no folder whose name is not UTF-8; choose another") from None
