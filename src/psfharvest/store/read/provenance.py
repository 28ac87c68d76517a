"""Where a harvest comes from: what was asked of which archive, when, by which version; accepted deviations."""

from __future__ import annotations

import json
from pathlib import Path

from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.version import __version__

UNKNOWN = "unknown"


def origin(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return what of the provenance does not change from run to run but the last one's time; see `provenance`."""
    runs = manifest.runs()
    asked = "; ".join(targets.describe(target) for target in targets.read_targets(manifest))
    return {
        "folder": str(folder),
        "query": asked or UNKNOWN,
        "archive": str(manifest.setting("archive", UNKNOWN)),
        "version": f"psfharvest {__version__}",
        "started": runs[0]["started_at"] if runs else UNKNOWN,
        "changed": runs[-1]["started_at"] if runs else UNKNOWN,
    }


def provenance(folder: Path, manifest: Manifest) -> dict[str, str]:
    """
    Return the provenance as texts, under names that FITS headers hold.

    Returns
    -------
    dict
        ``folder``; ``query``: what was asked for, as the command line has it; ``archive``: its base URL;
        ``version``: of this program; ``started``, ``changed``: when the first and the last run began (UTC);
        ``cutouts``: the account; ``quirks``: how often each stands on a stored cutout; both JSON objects.
    """
    tally = manifest.tally()
    states = {"done": tally.done, "missing": tally.missing, "failed": tally.failed, "pending": tally.pending}
    return {
        **origin(folder, manifest),
        "cutouts": json.dumps(states),
        "quirks": json.dumps(dict(tally.quirks)),
    }
