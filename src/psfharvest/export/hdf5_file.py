"""
HDF5: a group a size: ``images`` of shape ``(n, ny, nx)``, a data set for each column; one size at the root, too.

Nulls are as in Zarr: integers have the attribute ``_FillValue``, floats are NaN, and a text or boolean column with
nulls has ``NAME_mask``, True where null. The file's attribute ``provenance`` is a JSON text. A NUL, which texts of
HDF5 end at, is U+FFFD. Headers are texts of one length, since HDF5 compresses no others.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from psfharvest.export.content import FILL_INT, MASK, Content, ExportBatch
from psfharvest.store.column_types import about

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IMAGES_A_CHUNK = 16
VALUES_A_CHUNK = 4096
HEADERS_A_CHUNK = 64
_DTYPES = {"str": h5py.string_dtype(), "int": np.int64, "float": np.float64, "bool": np.bool_}


def write(content: Content, out: Path) -> None:
    """Write all cutouts."""
    with _HeldFile(out) as target:
        with h5py.File(target, "w") as file:
            _write(content, file, target)
        target.check()


def _write(content: Content, file: Any, target: _HeldFile) -> None:
    file.attrs["provenance"] = json.dumps(content.provenance)
    file.attrs["sizes"] = list(content.counts)
    for size, n in content.counts.items():
        group = file.create_group(str(size))
        _make(group, content, size, n)
        start = 0
        for batch in content.batches(size):
            _fill(group, content.kinds(size), batch, start)
            start += len(batch)
            target.check()
    if len(content.counts) == 1:
        for name in group:
            file[name] = group[name]  # a second name, no second copy


class _HeldFile(io.FileIO):
    """
    A file that HDF5 can always close.

    Where a write failed, HDF5 tries it again at its end, for each of its objects, and then ends the process. So it
    gets the answer that all is written; `check` raises what happened.
    """

    _error: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all, unless an earlier write has failed."""
        view = memoryview(data).cast("B")
        n_written = 0
        try:
            while n_written < len(view) and self._error is None:
                n_written += super().write(view[n_written:]) or 0
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, unless an earlier write has failed."""
        try:
            return super().truncate(size) if self._error is None else 0
        except OSError as error:
            self._error = error
            return 0

    def check(self) -> None:
        """
        Raise what writing has met.

        Raises
        ------
        OSError
            When the file is not whole.
        """
        if self._error is not None:
            raise self._error


def _make(group: Any, content: Content, size: int, n: int) -> None:
    images = group.create_dataset(
        "images",
        (n, size, size),
        np.float32,
        chunks=(min(n, IMAGES_A_CHUNK), size, size),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    for axis, label in enumerate(("cutout", "y_px", "x_px")):
        images.dims[axis].label = label
    for name, kind in content.kinds(size).items():
        column = _column(group, name, n, _DTYPES[kind])
        unit, description = about(name)
        column.attrs.update({k: v for k, v in (("units", unit), ("description", description)) if v})
        if kind == "int" and content.has_null(size, name):
            column.attrs["_FillValue"] = np.int64(FILL_INT)
        if content.has_mask(size, name):
            _column(group, name + MASK, n, np.bool_)
    header = np.dtype(f"S{content.header_bytes(size)}")
    _column(group, "header", n, header, HEADERS_A_CHUNK)


def _column(group: Any, name: str, n: int, dtype: Any, at_once: int = VALUES_A_CHUNK) -> Any:
    column = group.create_dataset(
        name, (n,), dtype, chunks=(min(n, at_once),), compression="gzip", compression_opts=1
    )
    column.dims[0].label = "cutout"
    return column


def _fill(group: Any, kinds: dict[str, str], batch: ExportBatch, start: int) -> None:
    rows = slice(start, start + len(batch))
    group["images"][rows] = batch.images
    header = group["header"]
    header[rows] = np.array([text.encode("latin-1") for text in batch.headers], header.dtype)
    for name, kind in kinds.items():
        values, is_null = batch.column(name, kind)
        group[name][rows] = [text.replace("\0", "\ufffd") for text in values.tolist()] if kind == "str" else values
        if name + MASK in group:
            group[name + MASK][rows] = is_null
