"""Who harvests into a folder now, how fast, and how long it will take: read from its lock and manifest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from psfharvest.store.lock import holder
from psfharvest.store.manifest.manifest import Manifest

LIVE = "live"
"""Name of the manifest's setting that a run keeps up to date."""


@dataclass(frozen=True, slots=True)
class Running:
    """
    A run under way.

    `per_second` counts settled cutouts over the last half minute; `left_s` is None during an outage, or where the
    number to come or the rate is not known. Times are ISO texts.
    """

    pid: int
    host: str
    since: str
    per_second: float | None = None
    left_s: float | None = None
    connections: int = 0
    in_flight: int = 0
    outage: str = ""
    outage_since: str = ""
    gives_up_at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


def running(folder: Path) -> Running | None:
    """Return the run of the process that holds the folder, or None when no process does."""
    if holder(folder) is None:
        return None
    with Manifest.read(folder) as manifest:
        return running_of(manifest)


def running_of(manifest: Manifest) -> Running | None:
    """Return the run of the process that holds the folder of an open manifest, or None when no process does."""
    who = holder(manifest.folder)
    if who is None:
        return None
    try:
        live = json.loads(manifest.setting(LIVE, "{}"))
    except (TypeError, ValueError):
        live = {}
    if live.pop("pid", None) != who["pid"]:
        live = {}
    return Running(**who, **live)
