"""A query's rows become dataURIs: for each row, each suffix, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from psfharvest.archive.catalog.listing import PartRows
from psfharvest.archive.catalog.rows import Rows
from psfharvest.core import ranges
from psfharvest.core.catalog.columns import SOURCE_KEY
from psfharvest.core.catalog.partition import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.model import BadLine, WantedURI
from psfharvest.store.manifest.targets import Target

ROWS_AT_ONCE = 1000
"""Rows asked for in one transaction: short, so that an interrupt never waits long."""


def query_target(
    query: Query, suffixes: Sequence[str], *, unsat_size_px: int, sat_size_px: int, n_sources: int
) -> Target:
    """Return the target of a query's cutouts."""
    chosen = query.detector.check_suffixes([suffixes] if isinstance(suffixes, str) else list(suffixes))
    for name, size in (("unsat_size", unsat_size_px), ("sat_size", sat_size_px)):
        ranges.SIDE_PX.check(name, size)
    n = n_sources if query.limit is None else min(n_sources, query.limit)
    spec = {
        "query": query.to_dict(),
        "suffixes": list(chosen),
        "unsat_size_px": unsat_size_px,
        "sat_size_px": sat_size_px,
    }
    identity = json.dumps([query.identity, sorted(chosen), unsat_size_px, sat_size_px])
    return Target("query", identity, spec, expected=n * len(chosen))


def uris_of(row: dict[str, Any], query: Query, spec: Any, number: int) -> Iterator[WantedURI | BadLine]:
    """Yield what a catalogue row asks for: for each suffix a dataURI, or why there is none."""
    sizes = {"unsat_size_px": spec["unsat_size_px"], "sat_size_px": spec["sat_size_px"]}
    for suffix in spec["suffixes"]:
        try:
            parts = datauri.build_checked(row, query.detector, suffix, **sizes)
        except BadURI as error:
            key = " ".join(f"{name}={row[name]}" for name in SOURCE_KEY if name in row)
            yield BadLine(f"{query.detector.name} {key} suffix={suffix}", error.why)
        else:
            yield WantedURI(str(parts), number, parts)


def pieces(part: PartRows) -> Iterator[PartRows]:
    """Cut a part into pieces that are finished parts themselves: never between sources that share an id."""
    rows, ids = part.rows, part.rows.ids()
    low, start = part.part.low if part.part else 0, 0
    while start < len(rows) or not start:
        end = min(start + ROWS_AT_ONCE, len(rows))
        while end < len(rows) and ids[end] == ids[end - 1]:
            end += 1
        piece = Rows(rows.columns, rows.kinds, rows.values[start:end])
        if part.part is None:
            yield part._replace(rows=piece)
        else:
            last = ids[end - 1] if end < len(rows) else None
            high = part.part.high if last is None else last
            yield part._replace(part=Part(low, high), rows=piece)
            low = high + 1
        start = max(end, 1)
