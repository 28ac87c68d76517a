"""The columns of cutouts that SQL can say without their catalogue rows, and the statements' parts for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from psfharvest.core.catalog import detectors
from psfharvest.core.errors import BadQuery
from psfharvest.store.manifest import items
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import known_columns
from psfharvest.store.read.intervals import Numbers


def _whens() -> Iterator[str]:
    """Yield SQL that gives a cutout's detector from its dataURI, as `detectors.holder` does."""
    for instrument, alike in detectors.OF_INSTRUMENT.items():
        for place in sorted(alike, key=lambda d: not d.own_filters):
            patterns = place.own_filters or (("[A-Z]*",) if len(alike) > 1 else ("*",))
            named = " OR ".join(f"upper(i.filter) GLOB '{pattern}'" for pattern in patterns)
            yield f"WHEN i.instrument = '{instrument}' AND ({named}) THEN '{place.name}'"


SQL_OF = {
    "id": "i.id", "rootname": "i.rootname", "filter": "i.filter", "filter_1": "i.filter",
    "suffix": "i.suffix", "extension": "i.extension", "size_px": "i.size_px", "size": "i.size_px",
    "x": "CAST(i.x AS REAL)", "y": "CAST(i.y AS REAL)",
    "uri": "c.uri", "state": "coalesce(o.state, 'pending')", "reason": "o.reason", "location": "c.location",
    "detail": "o.detail", "quirk": "o.quirk",
    "size_bytes": "o.size_bytes", "attempts": "coalesce(o.attempts, 0)", "sha256": "c.sha256",
}  # fmt: skip
"""What can be asked for without looking into catalogue rows."""
_NEEDS_VIEW = frozenset({"uri", "location", "sha256"})
SQL_OF_URI = {
    "detector": f"CASE {' '.join(_whens())} END",
    **{
        f"{axis}_{frame}": f"CASE WHEN i.suffix {is_in} ('raw', 'd0m') THEN CAST(i.{axis} AS REAL) END"
        for axis in "xy"
        for frame, is_in in (("raw", "IN"), ("cal", "NOT IN"))
    },
}
"""SQL for columns of a dataURI, used where the catalogue row lacks them or is not there."""


def tables_of(names: Sequence[str]) -> str:
    """Return the tables that it takes to look into these columns."""
    tables = "item i LEFT JOIN outcome o ON o.n = i.n"
    if any(name in _NEEDS_VIEW for name in names):
        tables += " JOIN cutout c ON c.n = i.n"
    return tables


def among(wanted: Numbers, number: str = "c.n") -> tuple[str, list[Any]]:
    """Return SQL that chooses cutouts by their numbers, ascending, and its parameters."""
    if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
        return f"{number} BETWEEN ? AND ?", [int(wanted[0]), int(wanted[-1])]
    return f"{number} {items.AMONG}", [items.among(wanted.tolist())]


def values_from_uris(manifest: Manifest, wanted: Numbers, name: str) -> list[Any]:
    """Return a column of cutouts from their dataURIs."""
    where, values = among(wanted, "i.n")
    with manifest.connection() as db:
        sql = f"SELECT {SQL_OF_URI[name]} FROM item i WHERE {where} ORDER BY i.n"  # noqa: S608 - no value in it
        return [value for (value,) in db.execute(sql, values).fetchall()]


def check_known(column: str, manifest: Manifest) -> None:
    """Raise `BadQuery` when a folder knows no such column."""
    if column in SQL_OF or column in SQL_OF_URI:
        return
    there = dict.fromkeys([*known_columns.catalogue_columns(manifest), *SQL_OF, "detector"])
    if column in there:
        return
    near = difflib.get_close_matches(column.lower(), there, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    words = f"column {column!r} is not in this harvest: {hint}it has {', '.join(there)}"
    raise BadQuery(words, field=column)
