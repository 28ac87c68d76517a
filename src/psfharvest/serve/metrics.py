"""The account of all folders in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STATES = ("done", "missing", "failed", "pending")
SINGLE = (
    ("stored_bytes", "bytes", "gauge", "Size of all stored cutouts."),
    ("requests_total", "requests", "counter", "Requests of all runs."),
    ("running", "is_running", "gauge", "Whether a run is under way."),
    ("settled_per_second", "per_second", "gauge", "Cutouts settled per second, of late."),
)
"""Metric, key of the account, kind and meaning."""
KIND = "text/plain; version=0.0.4; charset=utf-8"


def exposition(accounts: Sequence[tuple[str, Mapping[str, Any] | None]]) -> str:
    """
    Return the metrics.

    Parameters
    ----------
    accounts
        Name of each harvest, and what `Live.now` gave; None where its manifest could not be read.
    """
    lines = ["# HELP psfharvest_up Whether the manifest can be read.", "# TYPE psfharvest_up gauge"]
    lines += [f"psfharvest_up{{{_label(name)}}} {int(now is not None)}" for name, now in accounts]
    read = [(name, now) for name, now in accounts if now is not None]
    lines += ["# HELP psfharvest_cutouts Cutouts by state.", "# TYPE psfharvest_cutouts gauge"]
    for name, now in read:
        lines += [f'psfharvest_cutouts{{{_label(name)},state="{state}"}} {now[state]}' for state in STATES]
    lines += ["# HELP psfharvest_unavailable Missing and failed cutouts by reason.",
              "# TYPE psfharvest_unavailable gauge"]  # fmt: skip
    for name, now in read:
        own = _label(name)
        for reason, n in now["reasons"].items():
            lines.append(f"psfharvest_unavailable{{{own},{_label(reason, 'reason')}}} {n}")
    for metric, key, kind, words in SINGLE:
        lines += [f"# HELP psfharvest_{metric} {words}", f"# TYPE psfharvest_{metric} {kind}"]
        lines += [f"psfharvest_{metric}{{{_label(name)}}} {float(now[key]):.15g}" for name, now in read]
    return "\n".join(lines) + "\n"


def _label(value: str, name: str = "harvest") -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'
