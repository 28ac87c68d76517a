"""Parquet: one row a cutout, one file; with several sizes, a pixel column for each, empty in the others' rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psfharvest.export.content import Content
from psfharvest.store.sinks import arrow


def write(content: Content, out: Path) -> None:
    """
    Write all cutouts, the smaller images first.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    sizes = list(content.counts)
    names = {size: "image" if len(sizes) == 1 else f"image_{size}" for size in sizes}
    kinds: dict[str, str] = {}
    for size in sizes:
        for name, kind in content.kinds(size).items():
            kinds[name] = kind if kinds.get(name, kind) == kind else _wider(kinds[name], kind)
    schema = arrow.schema(kinds, {name: size for size, name in names.items()})
    with arrow.writer(out, schema) as writer:
        for size in sizes:
            for batch in content.batches(size):
                rows = [{**row, "header": header} for row, header in zip(batch.rows, batch.headers, strict=True)]
                empty: list[NDArray[np.float32] | None] = [None] * len(rows)
                images = {name: batch.images if s == size else empty for s, name in names.items()}
                writer.write_table(arrow.table(schema, rows, images))


def _wider(kind: str, other: str) -> str:
    return "float" if {kind, other} <= {"int", "float", "bool"} else "str"
