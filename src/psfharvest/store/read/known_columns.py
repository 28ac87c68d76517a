"""The catalogue's columns of a folder, whichever of its cutouts are looked at, and also before any has come."""

from __future__ import annotations

from psfharvest.core.catalog.columns import COLUMNS, known_names
from psfharvest.core.catalog.query import Query
from psfharvest.store.manifest import sources, targets
from psfharvest.store.manifest.manifest import Manifest


def catalogue_columns(manifest: Manifest) -> dict[str, str]:
    """
    Return the columns of all catalogue rows, each with its kind; of no rows, those of the catalogues asked.

    Raises
    ------
    ManifestError
        When the manifest cannot be read.
    """
    with manifest.connection() as db, manifest.rows():
        layouts = sources.layouts(db).values()
    kinds = manifest.columns()
    names = dict.fromkeys(name for layout in layouts for name in layout.columns)
    if not layouts:
        for target in targets.read_targets(manifest):
            if target.kind == "query":
                names |= dict.fromkeys(known_names(Query.from_dict(target.spec["query"]).detector))
    return {name: kinds.get(name) or (COLUMNS[name].kind if name in COLUMNS else "str") for name in names}
