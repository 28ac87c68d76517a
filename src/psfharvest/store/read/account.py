"""The account of a folder, read from its manifest alone: no network, no lock, also while a harvest goes on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from psfharvest.core.errors import ManifestError
from psfharvest.core.model import Report
from psfharvest.store.folder import is_harvest
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest


def account(folder: Path) -> Report:
    """
    Return the account over all runs of a folder.

    Raises
    ------
    FolderRefused
        When the folder holds no harvest.
    ManifestError
        When its manifest cannot be read.
    """
    with Manifest.read(folder) as manifest:
        return account_of(manifest)


def account_of(manifest: Manifest) -> Report:
    """
    Return the account over all runs, of an open manifest.

    Raises
    ------
    ManifestError
        When it cannot be read.
    """
    runs = manifest.runs()
    stopped = runs[-1]["stopped"] if runs else ""
    return _report(manifest, runs, "" if stopped == "unfinished" else stopped)


def last_run(folder: Path, stopped: str) -> Report:
    """Return the account with the figures of the last run, for a run that ended before it could tell."""
    nothing = Report(0, 0, 0, 0, 0, 0, 0.0, 0, stopped=stopped, is_fully_asked=False)
    try:
        if not is_harvest(folder):
            return nothing
        with Manifest.read(folder) as manifest:
            return _report(manifest, manifest.runs()[-1:], stopped)
    except (ManifestError, OSError):  # whatever kept the run from working may keep it from being read, too
        return nothing


def _report(manifest: Manifest, runs: list[dict[str, Any]], stopped: str) -> Report:
    everything = targets.read_targets(manifest)
    retried: Counter[str] = Counter()
    for run in runs:
        retried.update(json.loads(run["retried"]))
    return Report.of(
        manifest.tally(),
        elapsed_s=sum(run["elapsed_s"] for run in runs),
        requests=sum(run["requests"] for run in runs),
        retried=dict(retried),
        stopped=stopped,
        is_fully_asked=all(target.is_complete for target in everything),
        lacking=sum(targets.n_lacking(manifest, target) for target in everything),
        notes=tuple(filter(None, [manifest.note])),
    )
