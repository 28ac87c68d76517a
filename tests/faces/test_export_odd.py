"""Exports of rows that no catalogue has yet: odd names of columns, values at the ends of their types, odd texts."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from psfharvest import Harvest
from psfharvest.core.catalog.query import Query
from psfharvest.core.model import Outcome, State
from psfharvest.export import export
from psfharvest.run.rows import uris_of
from psfharvest.simulator import Settings as SimulatorSettings
from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.sky.fitscut import Fitscut
from psfharvest.store import folder as folders
from psfharvest.store.folder import Settings

N, SIZE_PX = 12, 25
VALUES: dict[str, list[Any]] = {
    "flag": [True, False, None, True],
    "words": ["é漢😀", "", None, "two words"],
    "controls": ["a\0b", "x\n'y", "tab\t", None],
    "long": ["z" * 5000, None, "", "y"],
    "written": ["None", "nan", "null", "-999"],
    "above_doubles": [2**53 + 1, -(2**53) - 1, None, 5],
    "above_64_bits": [2**64, -(2**70), None, 1],
    "ends": [-(2**63), 2**63 - 1, None, -999],
    "mixed": [1, "two", None, 3.5],
    "numbers": [1, 2.5, None, -0.0],
    "not_finite": [math.nan, math.inf, -math.inf, None],
    "nothing": [None],
}
NAMES: dict[str, str] = {
    "cutout": "cutout", "y_px": "y_px", "x_px": "x_px", "51": "51", "id_": "id_", "NAXIS": "NAXIS",
    "images": "images_", "image": "image_", "header": "header_", "provenance": "provenance_", "25": "25_",
    "flag_mask": "flag_mask_", "words.mask": "words.mask_", "a/b": "a_b", "": "_", ".": "._", "ü b%": "ü b%",
    "UPPER": "UPPER", "upper": "upper",
}  # fmt: skip
"""Columns of one number a row, and what they are called in exports."""


def make(folder: Path, sink: str, n: int = N) -> Harvest:
    """A folder of `n` cutouts whose rows have all these columns."""
    simulator = SimulatorSettings(sources=100)
    catalogue = Catalogue(simulator).rows("UVIS")
    body = bytes(Fitscut(Catalogue(simulator), simulator).static(SIZE_PX, SIZE_PX))
    columns = {name: [None if v != v else v for v in column[:n].tolist()] for name, column in catalogue.items()}  # noqa: PLR0124
    for name, values in {**VALUES, **{name: [k, None] for k, name in enumerate(NAMES)}}.items():
        columns[name] = [values[k % len(values)] for k in range(n)]
    rows = [*zip(*columns.values(), strict=True)]
    settings = Settings(sink=sink)
    folder.mkdir(parents=True)
    with folders.new_folder(folder, settings) as manifest, manifest.transaction():
        spec = {"suffixes": ["flt"], "unsat_size_px": SIZE_PX, "sat_size_px": SIZE_PX}
        for number, row in zip(manifest.sources("UVIS", [*columns], rows), rows, strict=True):
            manifest.add([*uris_of(dict(zip(columns, row, strict=True)), Query("UVIS"), spec, number)])
    with folders.old_folder(folder, settings) as manifest:
        stored_in = folders.open_sink(folder, manifest, settings)
        items = manifest.pending(0, n, with_source=True)
        digest = hashlib.sha256(body).digest()
        stored = stored_in.store([Outcome(item, State.DONE, 1, body, digest) for item in items])
        with manifest.transaction():
            manifest.record(stored)
            manifest.set(**stored_in.checkpoint())
        stored_in.close()
    return Harvest(folder)


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    return make(tmp_path_factory.mktemp("odd") / "stars", "shards")


def plain(value: Any) -> Any:
    """A value of Python's; NaN is None, as null is."""
    value = value.item() if isinstance(value, np.generic) else value
    value = value.decode() if isinstance(value, bytes) else value
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN


def masked(values: Any, mask: Any) -> list[Any]:
    return [None if is_null else plain(value) for value, is_null in zip(values, mask, strict=True)]


def of_arrays(group: Any, names: set[str]) -> dict[str, list[Any]]:
    """Columns of a group of arrays: of NPZ, Zarr or HDF5."""
    found = {}
    for name in names:
        values = group[name][:]
        if f"{name}_mask" in names:
            found[name] = masked(values, group[f"{name}_mask"][:])
        else:
            fill = getattr(group[name], "attrs", {}).get("_FillValue", math.nan)
            found[name] = masked(values, [value == fill for value in values])
    return found


def read(path: Path) -> dict[str, list[Any]]:
    """What the reader of a format finds, by column."""
    match path.suffix:
        case ".parquet":
            import pyarrow.parquet as pq

            return {name: [*map(plain, values)] for name, values in pq.read_table(path).to_pydict().items()}
        case ".npz":
            arrays = np.load(path)
            return of_arrays(arrays, {name for name in arrays.files if arrays[name].ndim == 1})
        case ".zarr":
            import zarr

            group = zarr.open_group(path, mode="r")[str(SIZE_PX)]
            return of_arrays(group, {*group.array_keys()} - {"images"})
        case ".h5":
            import h5py

            with h5py.File(path) as file:
                return of_arrays(file[str(SIZE_PX)], {*file[str(SIZE_PX)]} - {"images"})
        case _:
            table = Table.read(path, hdu=2, mask_invalid=False)  # which masks empty texts, too
            masks = {
                name: np.ma.getmaskarray(table[name])
                | (table[f"{name}_mask"].data if f"{name}_mask" in table.colnames else False)
                for name in table.colnames
            }
            return {name: masked(table[name], masks[name]) for name in table.colnames}


FITS_NAMES = {"words.mask_": "words_mask_", "._": "__", "ü b%": "__b_", "upper": "upper_"}


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".zarr", ".h5", ".fits"])
def test_every_value_is_in_every_export(stars: Harvest, tmp_path: Path, ending: str) -> None:
    """Values, nulls, and a column of its own for each name, without a warning; FITS escapes what is not ASCII."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(stars, tmp_path / f"stars{ending}")
        found = read(tmp_path / f"stars{ending}")
    table = stars.table()

    for name in (*VALUES, *NAMES):
        wanted = (
            masked(table[name], np.ma.getmaskarray(table[name]))
            if name
            else [[*NAMES].index(name), None] * (N // 2)
        )
        exported = NAMES.get(name, name)
        if ending == ".fits":
            exported = FITS_NAMES.get(exported, exported)
            odd = name in ("words", "controls")
            wanted = [t.encode("unicode_escape").decode() if t and odd and not _is_plain(t) else t for t in wanted]
        if ending == ".h5" and name == "controls":
            wanted = [None if text is None else text.replace("\0", "\ufffd") for text in wanted]
        assert wanted == found[exported], name


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def test_a_table_has_every_value(stars: Harvest) -> None:
    """A column whose integers 64 bits do not hold, or whose values are of several types, is one of texts."""
    table = stars.table()

    for name, values in VALUES.items():
        wanted = [values[k % len(values)] for k in range(N)]
        if name in ("above_64_bits", "ends", "mixed"):
            wanted = [None if value is None else str(value) for value in wanted]
        assert [*map(plain, wanted)] == masked(table[name], np.ma.getmaskarray(table[name])), name


def test_xarray_plots_whatever_the_columns_are_called(stars: Harvest, tmp_path: Path) -> None:
    """No dimension has the name of a column."""
    import xarray

    export(stars, tmp_path / "stars.zarr")
    data = xarray.open_zarr(tmp_path / "stars.zarr", group=str(SIZE_PX), consolidated=False)

    assert not set(data.images.dims) & {*data.data_vars, *data.coords}
    row, column = data.images.dims[1:]
    np.testing.assert_array_equal(stars.stack(SIZE_PX)[0, 3, 4], data.images[0].sel({row: 3, column: 4}))


def test_parquet_files_of_a_folder_hold_them(tmp_path: Path) -> None:
    """Columns of the sink and of the archive do not hide each other; ``other_values`` has what has no place."""
    import pyarrow.parquet as pq

    harvest = make(tmp_path / "stars", "parquet")
    read_back = pq.read_table(tmp_path / "stars" / "parquet" / str(SIZE_PX)).to_pylist()

    assert [c.uri for c in harvest] == [row["uri"] for row in read_back]
    for k, row in enumerate(read_back):
        beside = json.loads(row["other_values"] or "{}")
        for at, name in enumerate(NAMES):
            assert (None if k % 2 else at) == (beside.get(name) if name in ("image", "header") else row[name]), name


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".zarr", ".h5", ".fits"])
def test_one_cutout_makes_an_export(tmp_path: Path, ending: str) -> None:
    """One row is read as one row."""
    harvest = make(tmp_path / "one", "shards", n=1)
    out = tmp_path / f"one{ending}"
    export(harvest, out)
    n = 101 if ending == ".fits" else 2
    export([harvest] * n, tmp_path / f"many{ending}")  # as many provenances, and a column of the folders

    assert [harvest[0].source["id"]] == read(out)["id"]
    assert [str(harvest.folder)] * n == read(tmp_path / f"many{ending}")["harvest"]
    if ending == ".fits":
        header = fits.getheader(tmp_path / "many.fits")
        assert {harvest.provenance["query"]} == {header["QUERY2"], header["QUERY101"]}
