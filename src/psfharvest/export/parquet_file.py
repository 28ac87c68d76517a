"""Parquet: one row a cutout, one file; with several sizes, a pixel column for each, NaN in the others' rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from psfharvest.export.content import Content
from psfharvest.store.column_types import wider
from psfharvest.store.sinks import arrow


def write(content: Content, out: Path) -> None:
    """Write all cutouts, the smaller images first."""
    sizes = list(content.counts)
    names = {size: "image" if len(sizes) == 1 else f"image_{size}" for size in sizes}
    kinds: dict[str, str] = {}
    for size in sizes:
        for name, kind in content.kinds(size).items():
            kinds[name] = wider(kinds.get(name, kind), kind)
    texts = {
        name: arrow.Text(
            max(content.width(size, name) for size in sizes if name in content.kinds(size)),
            any(name not in content.kinds(size) or content.has_null(size, name) for size in sizes),
        )
        for name, kind in kinds.items()
        if kind == "str"
    }
    texts[arrow.HEADER] = arrow.Text(max(map(content.header_bytes, sizes)), False)
    schema = arrow.schema(
        kinds, {name: size for size, name in names.items()}, texts=texts, provenance=content.provenance
    )
    with arrow.group_writer(out, schema) as write_table:
        for size in sizes:
            for batch in content.batches(size):
                columns = {name: batch.column(name, kind) for name, kind in kinds.items()}
                images = {
                    name: batch.images if s == size else np.full((len(batch), s, s), np.nan, np.float32)
                    for s, name in names.items()
                }
                write_table(arrow.table_of_columns(schema, columns, batch.headers, images))
