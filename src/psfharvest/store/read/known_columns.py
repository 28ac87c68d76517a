"""The columns of a folder, whichever of its cutouts are looked at, and also before any has come."""

from __future__ import annotations

from psfharvest.core.catalog.columns import COLUMNS, known_names
from psfharvest.core.catalog.query import Query
from psfharvest.store.manifest import sources, targets
from psfharvest.store.manifest.manifest import Manifest

OURS = ("detector", "suffix", "extension", "size_px", "x", "y", "uri", "state", "location", "size_bytes", "sha256",
        "attempts", "reason", "detail", "quirk")  # fmt: skip
"""Columns that every cutout has, beside those of its catalogue row."""


def catalogue_columns(manifest: Manifest) -> dict[str, str]:
    """
    Return the columns of all catalogue rows, each with its kind; of no rows, those of the catalogues asked.

    Raises
    ------
    ManifestError
        When the manifest cannot be read.
    """
    kept = layouts(manifest).values()
    kinds = manifest.columns()
    names = dict.fromkeys(name for layout in kept for name in layout.columns)
    if not kept:
        for target in targets.read_targets(manifest):
            if target.kind == "query":
                names |= dict.fromkeys(known_names(Query.from_dict(target.spec["query"]).detector))
    return {name: kinds.get(name) or (COLUMNS[name].kind if name in COLUMNS else "str") for name in names}


def columns(manifest: Manifest) -> list[str]:
    """Return the names of all columns that can be asked for: the catalogue's, then those that every cutout has."""
    kept = layouts(manifest)
    return list(dict.fromkeys([*(name for layout in kept.values() for name in layout.columns), *OURS]))


def layouts(manifest: Manifest) -> dict[int, sources.Layout]:
    """Return for each layout of catalogue rows its detector and columns."""
    with manifest.connection() as db, manifest.rows():
        return sources.layouts(db)
