"""
What is known of chosen cutouts: the manifest's own columns, joined with those of their catalogue rows.

Where a cutout came without a catalogue row (a list of dataURIs), what its dataURI tells stands in for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psfharvest.core.catalog import detectors
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.store import row_schema
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.conditions import number_of
from psfharvest.store.read.intervals import Numbers
from psfharvest.store.read.known_columns import OURS
from psfharvest.store.read.sql_columns import SQL_OF, among, tables_of


@dataclass(frozen=True, slots=True)
class FoundCutout:
    """
    One cutout that was asked for.

    `source` is its catalogue row, or what its dataURI tells of it; `ours` has the columns of `OURS`.
    """

    number: int
    source: Mapping[str, Any]
    ours: Mapping[str, Any]


def places(manifest: Manifest, wanted: Numbers) -> list[tuple[int, str, str, int]]:
    """Return number, dataURI, location and size in bytes of stored cutouts, ascending by number."""
    where, values = among(wanted)
    with manifest.connection() as db:
        return db.execute(
            f"SELECT n, uri, location, size_bytes FROM cutout c WHERE {where} AND state = 'done' ORDER BY n",  # noqa: S608
            values,
        ).fetchall()


def rows(manifest: Manifest, wanted: Numbers, names: Collection[str] | None = None) -> list[FoundCutout]:
    """
    Return what is known of these cutouts, ascending by number.

    Parameters
    ----------
    names
        Columns of the catalogue that are wanted; others may be left out. None is all.
    """
    where, values = among(wanted)
    with manifest.connection() as db:
        found = db.execute(
            "SELECT c.n, c.uri, c.state, c.location, c.size_bytes, c.sha256, c.attempts, c.reason, c.detail, "  # noqa: S608
            "c.quirk, i.instrument, "
            "i.rootname, i.suffix, i.extension, i.size_px, i.x, i.y, i.id, i.filter, c.source "
            "FROM cutout c JOIN item i ON i.n = c.n "
            f"WHERE {where} ORDER BY c.n",
            values,
        ).fetchall()
        with manifest.rows() as reader:
            kept = reader.dicts(db, [row[-1] for row in found if row[-1] is not None], names)
    return [_found(row[:-1], kept.get(row[-1])) for row in found]


def ours(manifest: Manifest, wanted: Numbers, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return columns of `OURS`, but for ``detector``: for each a tuple with the values of these cutouts."""
    where, values = among(wanted, "i.n")
    as_text = {"x": "i.x", "y": "i.y"}
    chosen = ", ".join(as_text.get(name, SQL_OF[name]) for name in names)
    with manifest.connection() as db:
        found = db.execute(
            f"SELECT {chosen} FROM {tables_of(names)} WHERE {where} ORDER BY i.n",  # noqa: S608 - no value in it
            values,
        ).fetchall()
    return list(zip(*found, strict=True)) if found else [() for _ in names]


def _found(row: Sequence[Any], kept: tuple[str, dict[str, Any]] | None) -> FoundCutout:
    n, uri, state, location, size_bytes, sha256, attempts, reason, detail, quirk, *parts = row
    asked = None if parts[1] is None else CutoutURI(*parts)
    _, _, suffix, extension, size_px, x, y, *_ = parts
    named = None if asked is None else detectors.holder(asked.instrument, asked.filter)
    detector, source = (named, {}) if kept is None else kept
    place = (detector, suffix, extension, size_px, number_of(x), number_of(y))
    kept_here = (uri, state, location, size_bytes, sha256, attempts, reason, detail, quirk)
    ours = dict(zip(OURS, (*place, *kept_here), strict=True))
    if asked is not None:
        for name, value in row_schema.of_uri(asked).items():
            source.setdefault(name, value)
    return FoundCutout(n, source, ours)
