"""
Cutouts as Arrow tables: one row a cutout, metadata as columns, pixels as a fixed-size list.

The shape ``[ny, nx]`` stands in the pixel column's field metadata (``shape``) and in the schema's (``psfharvest``,
a JSON object: column to shape). pyarrow is imported when a schema is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.filesystem import extras, libraries
from psfharvest.store import column_types as types

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy import float32
    from numpy.typing import NDArray

MASK = ".mask"
"""Ending of the boolean column that says where a text column is null, for astropy's reader."""
ROWS_A_GROUP = 512
"""Rows of one row group: what is in memory at once, and what one random access decodes."""
GROUP_BYTES = 16 * 2**20
"""Bytes in memory of one row group of a file that is read as a whole, or more: 1,600 cutouts of 51 by 51 pixels."""
FOOTER_BYTES = 2000
"""What a writer holds for the footer of one column of one row group: 0.9 kB, and 1 kB more when it is closed."""
HEADER = "header"
_ARROW = {"str": "string", "int": "int64", "float": "float64", "bool": "bool_"}


def require_pyarrow() -> None:
    """Raise `BadInput` when pyarrow is not installed."""
    extras.require("Parquet", "parquet", "pyarrow")


def load_pyarrow() -> None:
    """Import what is needed later, when an interrupted run is to end at once; raise as `require_pyarrow` does."""
    require_pyarrow()
    libraries.read_ahead("pyarrow")
    import pyarrow.parquet  # noqa: F401, PLC0415 - an extra, and heavy


class Text(NamedTuple):
    """What astropy's reader needs of a text column: the longest value, in characters, and whether one is null."""

    width: int
    has_null: bool


def schema(
    kinds: Mapping[str, str],
    images: Mapping[str, int],
    *,
    with_bytes: bool = False,
    texts: Mapping[str, Text] | None = None,
    provenance: Sequence[Mapping[str, str]] = (),
) -> pa.Schema:
    """
    Return the schema of cutouts.

    Parameters
    ----------
    kinds
        Metadata columns: name to ``str``, ``int``, ``float`` or ``bool``.
    images
        Pixel columns: name to the side of their images, in pixels.
    with_bytes
        Whether there is a column ``fits`` for files that header and pixels do not give back byte by byte.
    texts
        Of all text columns, the header included: given, ``astropy.table.Table.read`` gets units, descriptions and
        null texts. For the last, each text column with nulls has a boolean column ``NAME.mask`` beside it, as
        astropy writes them itself.
    provenance
        Where the cutouts come from, for the schema's metadata.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    fields = [pa.field(name, getattr(pa, _ARROW[kind])(), metadata=_about(name)) for name, kind in kinds.items()]
    fields.append(pa.field(HEADER, pa.string()))
    shapes = {name: [size, size] for name, size in images.items()}
    for name, size in images.items():
        pixels = pa.list_(pa.field("element", pa.float32()), size * size)
        fields.append(pa.field(name, pixels, metadata={"shape": json.dumps(shapes[name])}))
    if with_bytes:
        fields.append(pa.field("fits", pa.binary()))
    extra = {"provenance": list(provenance)} if provenance else {}
    about = {"psfharvest": json.dumps({"images": shapes, **extra})}
    if texts is not None:
        about |= {f"table::len::{name}": str(text.width) for name, text in texts.items()}
        about["table_meta_yaml"] = _astropy_header([field.name for field in fields], texts)
        fields += [pa.field(name + MASK, pa.bool_()) for name, text in texts.items() if text.has_null]
    return pa.schema(fields, metadata=about)


def _astropy_header(names: Iterable[str], texts: Mapping[str, Text]) -> str:
    """
    Return the header that astropy's reader looks for under ``table_meta_yaml`` (``astropy.io.misc.parquet``).

    It is made by astropy from a row of a table with such columns: a null text has its mask in a column of its own.
    """
    from astropy.table import Column, MaskedColumn, Table, meta, serialize  # noqa: PLC0415 - heavy
    from astropy.utils.data_info import serialize_context_as  # noqa: PLC0415

    row = Table()
    for name in names:
        unit, description = types.about(name)
        about = {"unit": unit or None, "description": description or None}
        has_null = name in texts and texts[name].has_null
        row[name] = MaskedColumn([""], mask=[True], **about) if has_null else Column([0], **about)
    with serialize_context_as("parquet"):
        columns = serialize.represent_mixins_as_columns(row)
    return "\n".join(meta.get_yaml_from_table(columns))


def table(
    schema: pa.Schema,
    rows: Sequence[Mapping[str, Any]],
    images: Mapping[str, Sequence[NDArray[float32] | None] | NDArray[float32]],
) -> pa.Table:
    """
    Return rows as a table of that schema.

    Parameters
    ----------
    rows
        Metadata, header and bytes by column name; what is absent becomes null.
    images
        Pixels by column name, one entry a row, shape ``(ny, nx)`` each; None becomes null.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    arrays = []
    for field in schema:
        if field.name in images:
            arrays.append(_lists(field.type, images[field.name]))
        else:
            kind = next((k for k, name in _ARROW.items() if getattr(pa, name)() == field.type), None)
            values = [row.get(field.name) for row in rows] if kind is None else types.column(rows, field.name, kind)
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def table_of_columns(
    schema: pa.Schema,
    columns: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]],
    headers: Sequence[str],
    images: Mapping[str, NDArray[float32]],
) -> pa.Table:
    """
    Return columns as a table of that schema.

    Parameters
    ----------
    columns
        Metadata by name: values, and which of them are null.
    headers
        The header texts.
    images
        Pixels by column name, shape ``(n, ny, nx)``.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    arrays = []
    for field in schema:
        if field.name in images:
            arrays.append(_lists(field.type, images[field.name]))
        elif field.name == HEADER:
            arrays.append(pa.array(headers, field.type))
        elif field.name in columns:
            values, nulls = columns[field.name]
            if values.dtype.kind == "U":
                values = values.astype(object)  # pyarrow ends numpy's texts at their first NUL
            arrays.append(pa.array(values, field.type, mask=nulls))
        else:
            arrays.append(pa.array(columns[field.name.removesuffix(MASK)][1], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that compresses well: pixels by the bytes of their floats, the rest by dictionaries."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra, and heavy

    pixels = [f.name for f in schema if f.metadata and b"shape" in f.metadata]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[f.name for f in schema if f.name not in (*pixels, HEADER, "fits")],
        use_byte_stream_split=[f"{name}.list.element" for name in pixels],
        write_statistics=[f.name for f in schema if f.name not in (*pixels, HEADER, "fits")],
    )


@contextmanager
def group_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """
    Give a function that writes tables to a file, gathered into row groups of `GROUP_BYTES` or more.

    A Parquet writer holds what the footer says of each column of each row group in memory until the file's end. A
    row group is therefore never smaller than the footer of those before it: memory then grows with the square root
    of the number of cutouts, and by little up to some millions.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    waiting: list[pa.Table] = []
    waiting_bytes = footer_bytes = 0
    with writer(path, schema) as opened:

        def flush() -> None:
            nonlocal waiting_bytes, footer_bytes
            if waiting:
                opened.write_table(pa.concat_tables(waiting), sum(map(len, waiting)))
                footer_bytes += len(schema) * FOOTER_BYTES
                waiting.clear()
                waiting_bytes = 0

        def write(table: pa.Table) -> None:
            nonlocal waiting_bytes
            waiting.append(table)
            waiting_bytes += table.nbytes
            if waiting_bytes >= max(GROUP_BYTES, footer_bytes):
                flush()

        yield write
        flush()


class ParquetDamaged(ValueError):
    """Raised where a file, or a part of it, cannot be read as Parquet."""


@contextmanager
def _judged() -> Iterator[None]:
    """Raise `ParquetDamaged` for what pyarrow refuses; the system's own errors, which have a number, pass."""
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise ParquetDamaged(str(error)) from error
    except (pa.ArrowException, ValueError, IndexError, KeyError) as error:
        raise ParquetDamaged(str(error)) from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """
    Return a Parquet file, open.

    Raises
    ------
    ParquetDamaged
        When it is none, or its footer cannot be read.
    OSError
        When the system cannot read it.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra, and heavy

    with _judged():
        if path.exists() and not path.is_file():  # nobody may ever write to a pipe in its place
            raise ParquetDamaged(f"{path} is no file")
        return pq.ParquetFile(path)


def read_group(file: pq.ParquetFile, number: int) -> pa.Table:
    """Return a row group; raises as `open_parquet` does."""
    with _judged():
        group = file.read_row_group(number)
        group.validate(full=True)
        return group


def without_rows(file: pq.ParquetFile, number: int, dead: Collection[int]) -> pa.Table:
    """
    Return a row group with nulls in place of some rows, or of all where it cannot be read.

    Parameters
    ----------
    file, number
        The file, and which of its row groups.
    dead
        Rows, counted from the group's first.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    n_rows = file.metadata.row_group(number).num_rows
    try:
        group = read_group(file, number)
    except ParquetDamaged:
        nothing = [pa.nulls(n_rows, field.type) for field in file.schema_arrow]
        return pa.Table.from_arrays(nothing, schema=file.schema_arrow)
    return group.take(pa.array([None if row in dead else row for row in range(n_rows)], pa.int64()))


def _lists(kind: pa.DataType, images: Sequence[NDArray[float32] | None] | NDArray[float32]) -> pa.Array:
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

    flat = np.zeros((len(images), kind.list_size), np.float32)
    mask = np.zeros(len(images), np.bool_)
    for n, image in enumerate(images):
        if image is None:
            mask[n] = True
        else:
            flat[n] = image.reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind, mask=pa.array(mask))


def _about(name: str) -> dict[str, str] | None:
    unit, description = types.about(name)
    return {name: text for name, text in (("description", description), ("unit", unit)) if text} or None
