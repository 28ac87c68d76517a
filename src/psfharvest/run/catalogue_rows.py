"""
Catalogue rows for cutouts that were asked for, or adopted, by their dataURIs alone: what a query would have given.

A dataURI names a source's id and exposure; the archive is asked for the rows of some hundred ids at a time, and
what it gives is kept in one transaction. What has a row is not asked for again, so that the same call goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.concurrency.thread_work import in_any_case
from psfharvest.core.catalog.detectors import OF_INSTRUMENT, Detector, holder
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.core.model import WantedURI
from psfharvest.run.disk import Disk
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest import sources
from psfharvest.store.manifest.manifest import Manifest

if TYPE_CHECKING:
    from astropy.table import Table

BATCH_SIZE = 500
"""Cutouts whose rows are asked for in one query."""
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float"}


class Filled(NamedTuple):
    """How many cutouts have got a row, and how many have none that fits."""

    n_found: int
    n_unknown: int


async def fill(
    folder: Path, query: Callable[[Query], Awaitable[Table]], watch: Callable[[Filled], None] | None = None
) -> Filled:
    """
    Give each cutout of a folder that has no catalogue row its row.

    Raises
    ------
    FolderRefused
        When the folder is in use, or is none.
    ArchiveDown
        When the archive stays out of reach; what it has given is kept.
    LocalError
        When the manifest cannot be written.
    """
    disk = Disk()
    filled, after = Filled(0, 0), 0
    with folder_lock(folder):
        manifest = await disk.do(Manifest.open, folder)
        try:
            while batch := await disk.do(_lacking, manifest, after):
                after = batch[-1][0]
                n_found = 0
                for detector, parts in _by_detector(uri for _, uri in batch).items():
                    ids = sorted({uri.source_id for uri in parts})
                    table = await query(Query(detector, id=ids))
                    n_found += await disk.do(_keep, manifest, detector, table, parts)
                filled = Filled(filled.n_found + n_found, filled.n_unknown + len(batch) - n_found)
                if watch is not None:
                    watch(filled)
        finally:
            await in_any_case(manifest.close)
    return filled


def _lacking(manifest: Manifest, after: int) -> list[tuple[int, CutoutURI]]:
    with manifest.connection() as db:
        return sources.lacking(db, after, BATCH_SIZE)


def _by_detector(uris: Iterable[CutoutURI]) -> dict[Detector, list[CutoutURI]]:
    """Return the dataURIs by the databases that may have their sources: one, or where the filter is null all."""
    found: dict[Detector, list[CutoutURI]] = {}
    for uri in uris:
        alike = OF_INSTRUMENT[uri.instrument]
        name = holder(uri.instrument, uri.filter)
        for detector in alike:
            if name in (None, detector.name):
                found.setdefault(detector, []).append(uri)
    return found


def _keep(manifest: Manifest, detector: Detector, table: Table, uris: Iterable[CutoutURI]) -> int:
    """Keep the rows that belong to cutouts, each once, and return how many cutouts have got one."""
    rows = _rows_of(table)
    of_source: dict[tuple[int, str], list[int]] = {}
    for at, row in enumerate(rows):
        of_source.setdefault((row["id"], str(row["rootname"]).strip()), []).append(at)
    matched = [
        (uri, place)
        for uri in uris
        if (place := _place_of(uri, of_source.get((uri.source_id, uri.rootname), []), rows, detector)) is not None
    ]
    places = sorted({place for _, place in matched})
    values = [tuple(rows[place].values()) for place in places]
    kinds = {name: _KINDS.get(table[name].dtype.kind, "str") for name in table.colnames}
    with manifest.transaction():
        numbers = manifest.sources(detector.name, table.colnames, values, kinds)
        number_of = dict(zip(places, numbers, strict=True))
        manifest.add([WantedURI(str(uri), number_of[place], uri) for uri, place in matched])
    return len(matched)


def _place_of(uri: CutoutURI, places: list[int], rows: list[dict[str, Any]], detector: Detector) -> int | None:
    """Return which of the rows with a dataURI's id and exposure is its own: of several, the one that gives it."""
    if len(places) < 2:
        return places[0] if places else None
    return next((place for place in places if _gives(rows[place], uri, detector)), None)


def _gives(row: Mapping[str, Any], uri: CutoutURI, detector: Detector) -> bool:
    try:
        return uri == datauri.build(row, detector, uri.suffix, unsat_size_px=uri.size_px, sat_size_px=uri.size_px)
    except BadURI:
        return False


def _rows_of(table: Table) -> list[dict[str, Any]]:
    """Return a table's rows with plain values; None is null."""
    columns = [table[name].tolist() for name in table.colnames]
    return [dict(zip(table.colnames, values, strict=True)) for values in zip(*columns, strict=True)]
