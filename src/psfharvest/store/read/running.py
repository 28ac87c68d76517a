"""Who harvests into a folder now, how fast, and how long it will take: read from its lock and manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psfharvest.store.lock import holder
from psfharvest.store.manifest.history import last_pulse
from psfharvest.store.manifest.manifest import Manifest


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
    pulse = last_pulse(manifest)
    if pulse is None or pulse.pid != who["pid"]:
        return Running(**who)
    return Running(
        **who,
        per_second=pulse.per_second,
        left_s=pulse.left_s,
        connections=pulse.connections,
        in_flight=pulse.in_flight,
        outage=pulse.outage,
        outage_since=_iso(pulse.outage_since),
        gives_up_at=_iso(pulse.gives_up_at),
    )


def _iso(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
