"""
NPZ: plain numpy arrays in one zip, written member by member, so that no array has to be in memory.

A zip takes one member after the other, while rows come whole: metadata are kept in a temporary file meanwhile. A
column with nulls has a second array, ``NAME_mask``, True where the value is null; the value there is a filler (-999
for integers, an empty text, False, NaN for floats). ``provenance`` is a JSON text. Headers are bytes, and the
only compressed member.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.catalog.table_column import FILLERS
from psfharvest.export.content import MASK, Content

COPY_BYTES = 2**22
_DTYPES = {"int": "<i8", "float": "<f8", "bool": "?"}


def write(content: Content, out: Path) -> None:
    """Write all cutouts."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True, compresslevel=1) as archive:
        about = np.array(json.dumps(content.provenance))
        with _member(archive, "provenance", about.dtype, ()) as member:
            member.write(about.tobytes())
        for size, n in content.counts.items():
            prefix = f"{size}/" if len(content.counts) > 1 else ""
            with _waiting(out) as rows, _waiting(out) as headers:
                _write(archive, prefix, content, size, rows, headers)
                row, text = _row(content, size), np.dtype(f"S{content.header_bytes(size)}")
                for name in row.names or ():
                    with _member(archive, f"{prefix}{name}", row[name], (n,)) as member:
                        for part in _stretches(rows, row):
                            member.write(np.ascontiguousarray(part[name]).tobytes())
                with _member(archive, f"{prefix}header", text, (n,), is_packed=True) as member:
                    for part in _stretches(headers, text):
                        member.write(part.tobytes())


def _write(
    archive: zipfile.ZipFile, prefix: str, content: Content, size: int, rows: IO[bytes], headers: IO[bytes]
) -> None:
    kinds, row, text = content.kinds(size), _row(content, size), f"S{content.header_bytes(size)}"
    with _member(archive, f"{prefix}images", np.dtype("<f4"), (content.counts[size], size, size)) as member:
        for batch in content.batches(size):
            member.write(batch.images.astype("<f4", copy=False).tobytes())
            records = np.zeros(len(batch), row)
            for name, kind in kinds.items():
                records[name], is_null = batch.column(name, kind, FILLERS["int"])
                if content.has_null(size, name):
                    records[name + MASK] = is_null
            rows.write(records.tobytes())
            headers.write(np.array([header.encode("latin-1") for header in batch.headers], text).tobytes())


def _row(content: Content, size: int) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = []
    for name, kind in content.kinds(size).items():
        fields.append((name, _DTYPES.get(kind, f"<U{content.width(size, name)}")))
        if content.has_null(size, name):
            fields.append((name + MASK, "?"))
    return np.dtype(fields)


def _waiting(out: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=out.parent, prefix=f"{out.name}.")


def _stretches(waiting: IO[bytes], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    waiting.seek(0)
    while piece := waiting.read(dtype.itemsize * max(1, COPY_BYTES // dtype.itemsize)):
        yield np.frombuffer(piece, dtype)


def _member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, is_packed: bool = False
) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    member = archive.open(info, "w", force_zip64=True)
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(member, described)
    return member
