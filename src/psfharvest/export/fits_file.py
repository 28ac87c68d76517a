"""
FITS: for each size a cube ``IMAGES_51`` of shape ``(n, ny, nx)`` and a binary table ``STARS_51`` of its columns.

It is written as it comes, so that no cube has to be in memory: rows wait in a temporary file. Null integers are the
column's ``TNULL``, null floats NaN; a text or boolean column with nulls has ``NAME_mask`` beside it, True where
null. FITS has ASCII only: a text with anything else is as Python's codec ``unicode_escape`` writes it, and in names
of columns there is ``_`` for what is no letter or digit. The first header has the provenance, in the keywords of
`Harvest.provenance`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits

from psfharvest.export import plain_text
from psfharvest.export.content import FILL_INT, MASK, Content
from psfharvest.store.column_types import about

BLOCK = 2880
KEYWORD_LETTERS = 8
COPY_BYTES = 2**22
_DTYPES = {"int": ">i8", "float": ">f8", "bool": "?"}
_LOGICAL = np.array([ord("F"), ord("T")], np.uint8)


def write(content: Content, out: Path) -> None:
    """Write all cutouts."""
    with out.open("wb") as file:
        file.write(_first(content.provenance))
        for size, n in content.counts.items():
            with tempfile.TemporaryFile(dir=out.parent, prefix=f"{out.name}.") as rows:
                _write_images(file, rows, content, size, n)
                dtype = _row(content, size)
                file.write(_table_header(content, size, n, dtype))
                rows.seek(0)
                shutil.copyfileobj(rows, file, COPY_BYTES)
                _pad(file, n * dtype.itemsize)


def _first(provenance: Sequence[Mapping[str, str]]) -> bytes:
    """Return the first header: keywords of the first harvest, with a number behind them for the others."""
    header = fits.PrimaryHDU().header
    for number, about_one in enumerate(provenance):
        for name, text in about_one.items():
            place = str(number + 1) if number else ""
            header[name.upper()[: KEYWORD_LETTERS - max(2 * bool(place), len(place))] + place] = plain_text.escaped(
                text.replace("\n", "; ")
            )
    return _block(header)


def _write_images(file: IO[bytes], rows: IO[bytes], content: Content, size: int, n: int) -> None:
    header = fits.ImageHDU(np.zeros((1, size, size), ">f4"), name=f"IMAGES_{size}").header
    header["NAXIS3"] = n
    header["CTYPE3"] = ("CUTOUT", f"row of the table STARS_{size}")
    file.write(_block(header))
    dtype, kinds, names = _row(content, size), content.kinds(size), _names(content, size)
    for batch in content.batches(size):
        file.write(batch.images.astype(">f4").tobytes())
        records = np.zeros(len(batch), _stored(dtype))
        for column, kind in kinds.items():
            name = names[column]
            values, mask = batch.column(column, kind)
            if kind == "str":
                records[name] = [plain_text.escaped(text).encode("ascii") for text in values.tolist()]
            elif kind == "bool":
                records[name] = _LOGICAL[values.astype(np.int64)]
            else:
                records[name] = values
            if name + MASK in (dtype.names or ()):
                records[name + MASK] = _LOGICAL[mask.astype(np.int64)]
        records["header"] = [text.encode("ascii", "replace") for text in batch.headers]
        rows.write(records.tobytes())
    _pad(file, 4 * n * size * size)


def _names(content: Content, size: int) -> dict[str, str]:
    """Return the name in the table for each column; FITS does not tell upper case from lower."""
    return plain_text.names_of(content.kinds(size), ["header"], MASK)


def _row(content: Content, size: int) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = []
    names = _names(content, size)
    for name, kind in content.kinds(size).items():
        fields.append((names[name], _DTYPES.get(kind, f"S{content.width(size, name)}")))
        if content.has_mask(size, name):
            fields.append((names[name] + MASK, "?"))
    return np.dtype([*fields, ("header", f"S{content.header_bytes(size)}")])


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of rows as they stand in the file: a logical value is a letter."""
    return np.dtype([(name, "u1" if dtype[name].kind == "b" else dtype[name]) for name in dtype.names or ()])


def _table_header(content: Content, size: int, n: int, dtype: np.dtype[Any]) -> bytes:
    header = fits.BinTableHDU(np.zeros(0, dtype), name=f"STARS_{size}").header
    header["NAXIS2"] = n
    kinds = content.kinds(size)
    columns = {written: name for name, written in _names(content, size).items()}
    for number, written in enumerate(dtype.names or (), 1):
        name = columns.get(written, written)
        unit, description = about(name)
        if unit:
            header[f"TUNIT{number}"] = unit
        if description:
            header[f"TCOMM{number}"] = description
        if kinds.get(name) == "int" and content.has_null(size, name):
            header[f"TNULL{number}"] = FILL_INT
    return _block(header)


def _block(header: Any) -> bytes:
    text: str = header.tostring(padding=True)
    return text.encode("ascii")


def _pad(file: IO[bytes], n_bytes: int) -> None:
    file.write(bytes(-n_bytes % BLOCK))
