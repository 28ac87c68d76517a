"""
Zarr v3: a group a size, its pixels as one sharded array ``(n, ny, nx)``, each column of metadata as one beside it.

Texts are variable-length UTF-8. Null integers are the ``_FillValue`` of their attributes (CF, so that xarray masks
them), null floats NaN; a text or boolean column with nulls has a second array, ``NAME_mask``, True where null.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
import zarr.core.sync
from numpy.typing import NDArray

from psfharvest.export.content import BATCH_SIZE, FILL_INT, MASK, Content, ExportBatch
from psfharvest.export.names import exported_names
from psfharvest.store.column_types import about as column_about

IMAGES_A_CHUNK = 16
SHARD_BYTES = 32 * 10**6
"""What is held in memory while a shard is gathered: a shard is written whole."""
VALUES_A_CHUNK = 16 * 1024
HEADERS_A_CHUNK = 4 * BATCH_SIZE
DIMENSIONS = ("cutout", "y_px", "x_px")
"""A column of such a name, as ``x`` and ``y`` are, xarray would take for coordinates along the axis."""
SETTLE_S = 5.0
"""How long what zarr still writes is waited for after an interrupt."""
_DTYPES = {"str": "string", "int": "int64", "float": "float64", "bool": "bool"}


def write(content: Content, out: Path) -> None:
    """Write all cutouts."""
    try:
        _write(content, out)
    except BaseException:
        zarr.core.sync.sync(_others_end())  # what its thread writes after this, would nobody remove
        raise


async def _others_end() -> None:
    """Wait, in zarr's event loop, for the writes that an interrupt has left alone there."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=SETTLE_S)


def _write(content: Content, out: Path) -> None:
    root = zarr.open_group(
        out, mode="w", zarr_format=3, attributes={"sizes": list(content.counts), "provenance": content.provenance}
    )
    for size, n in content.counts.items():
        group = root.create_group(str(size))
        kinds = content.kinds(size)
        axes = _Axes(group, n, tuple(exported_names(DIMENSIONS, kinds).values()))
        columns = {"images": _Column(_images(axes, size), images_a_shard(size))}
        for name, kind in kinds.items():
            columns[name] = _Column(_values(axes, name, kind, content.has_null(size, name)), VALUES_A_CHUNK)
            if content.has_mask(size, name):
                columns[name + MASK] = _Column(_mask(axes, name), VALUES_A_CHUNK)
        columns["header"] = _Column(_texts(axes), HEADERS_A_CHUNK)
        for batch in content.batches(size):
            for name, column in columns.items():
                column.add(_part(batch, name, kinds))
        for column in columns.values():
            column.flush()


def images_a_shard(size: int) -> int:
    """Return how many images of one size stand in one shard: a multiple of a chunk's."""
    return max(1, SHARD_BYTES // (4 * size * size * IMAGES_A_CHUNK)) * IMAGES_A_CHUNK


class _Axes(NamedTuple):
    """The group of a size, how many cutouts it has, and the names of its dimensions."""

    group: Any
    n: int
    names: tuple[str, ...]


class _Column:
    """An array that is filled from its start, a whole shard or chunk at a time."""

    def __init__(self, array: Any, at_once: int) -> None:
        self._array = array
        self._at_once = at_once
        self._buffer: NDArray[Any] | None = None
        self._n = 0
        self._start = 0

    def add(self, part: NDArray[Any]) -> None:
        if self._buffer is None:
            self._buffer = np.empty((self._at_once, *part.shape[1:]), part.dtype)
        while len(part):
            some, part = np.split(part, [self._at_once - self._n])
            self._buffer[self._n : self._n + len(some)] = some
            self._n += len(some)
            if self._n == self._at_once:
                self.flush()

    def flush(self) -> None:
        if self._n and self._buffer is not None:
            self._put(self._buffer[: self._n])
            self._n = 0

    def _put(self, values: Any) -> None:
        self._array[self._start : self._start + len(values)] = values
        self._start += len(values)


def _part(batch: ExportBatch, name: str, kinds: dict[str, str]) -> Any:
    if name == "images":
        return batch.images
    if name == "header":
        return np.array(batch.headers, dtype=object)
    if name not in kinds:
        column = name.removesuffix(MASK)
        return batch.column(column, kinds[column])[1]
    values, _ = batch.column(name, kinds[name])
    return values.astype(object) if kinds[name] == "str" else values


def _images(axes: _Axes, size: int) -> Any:
    return axes.group.create_array(
        "images",
        shape=(axes.n, size, size),
        chunks=(IMAGES_A_CHUNK, size, size),
        shards=(images_a_shard(size), size, size),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=axes.names,
    )


def _values(axes: _Axes, name: str, kind: str, has_null: bool) -> Any:
    unit, description = column_about(name)
    about: dict[str, Any] = {"description": description, "unit": unit, "units": unit} if description else {}
    if kind == "int" and has_null:
        about["_FillValue"] = FILL_INT
    return _array(axes, name, _DTYPES[kind], about)


def _mask(axes: _Axes, name: str) -> Any:
    return _array(axes, name + MASK, "bool", {"description": f"True where {name} is null"})


def _array(axes: _Axes, name: str, dtype: str, about: dict[str, Any]) -> Any:
    return axes.group.create_array(
        name,
        shape=(axes.n,),
        chunks=(VALUES_A_CHUNK,),
        dtype=dtype,
        attributes=about,
        dimension_names=axes.names[:1],
    )


def _texts(axes: _Axes) -> Any:
    return axes.group.create_array(
        "header", shape=(axes.n,), chunks=(HEADERS_A_CHUNK,), dtype="string", dimension_names=axes.names[:1]
    )
