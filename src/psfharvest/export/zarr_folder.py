"""
Zarr v3: a group a size, its pixels as one sharded array ``(n, ny, nx)``, each column of metadata as one beside it.

Texts are variable-length UTF-8. Null integers are -999, null texts empty, null floats NaN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.export.content import AT_ONCE, Batch, Content

IMAGES_A_CHUNK = 16
SHARD_BYTES = 32 * 10**6
"""What is held in memory while a shard is gathered: a shard is written whole."""
VALUES_A_CHUNK = 16 * 1024
HEADERS_A_CHUNK = 4 * AT_ONCE
_DTYPES = {"str": "string", "int": "int64", "float": "float64", "bool": "bool"}


def write(content: Content, out: Path) -> None:
    """
    Write all cutouts.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    root = zarr.open_group(out, mode="w", zarr_format=3, attributes={"sizes": list(content.counts)})
    for size, n in content.counts.items():
        group = root.create_group(str(size))
        columns = {"images": _Column(_images(group, n, size), images_a_shard(size))}
        for name, kind in content.kinds(size).items():
            columns[name] = _Column(_values(group, name, n, _DTYPES[kind]), VALUES_A_CHUNK)
        columns["header"] = _Column(_texts(group, n), HEADERS_A_CHUNK)
        for batch in content.batches(size):
            for name, column in columns.items():
                column.add(_part(batch, name, content.kinds(size)))
        for column in columns.values():
            column.flush()


def images_a_shard(size: int) -> int:
    """Return how many images of one size stand in one shard: a multiple of a chunk's."""
    return max(1, SHARD_BYTES // (4 * size * size * IMAGES_A_CHUNK)) * IMAGES_A_CHUNK


class _Column:
    """An array that is filled from its start, a whole shard or chunk at a time."""

    def __init__(self, array: Any, at_once: int) -> None:
        self._array = array
        self._at_once = at_once
        self._parts: list[Any] = []
        self._n = 0
        self._start = 0

    def add(self, part: Any) -> None:
        self._parts.append(part)
        self._n += len(part)
        while self._n >= self._at_once:
            whole = np.concatenate(self._parts)
            self._put(whole[: self._at_once])
            self._parts, self._n = [whole[self._at_once :]], self._n - self._at_once

    def flush(self) -> None:
        if self._n:
            self._put(np.concatenate(self._parts))

    def _put(self, values: Any) -> None:
        self._array[self._start : self._start + len(values)] = values
        self._start += len(values)


def _part(batch: Batch, name: str, kinds: dict[str, str]) -> Any:
    if name == "images":
        return batch.images
    if name == "header":
        return np.array(batch.headers, dtype=object)
    values = batch.column(name, kinds[name])
    return np.array(values, dtype=object if kinds[name] == "str" else _DTYPES[kinds[name]])


def _images(group: Any, n: int, size: int) -> Any:
    return group.create_array(
        "images",
        shape=(n, size, size),
        chunks=(IMAGES_A_CHUNK, size, size),
        shards=(images_a_shard(size), size, size),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=("cutout", "y", "x"),
    )


def _values(group: Any, name: str, n: int, dtype: str) -> Any:
    known = COLUMNS.get(name)
    about = {"description": known.description, "unit": known.unit} if known else {}
    return group.create_array(
        name, shape=(n,), chunks=(VALUES_A_CHUNK,), dtype=dtype, attributes=about, dimension_names=("cutout",)
    )


def _texts(group: Any, n: int) -> Any:
    return group.create_array(
        "header", shape=(n,), chunks=(HEADERS_A_CHUNK,), dtype="string", dimension_names=("cutout",)
    )
