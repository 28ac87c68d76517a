"""
The table of outputs, readers and cases: each reader that users have gives what `Harvest` itself gives.

A cell of the table is one test: rows, columns, values, nulls, units and pixels are compared, units only where the
reader has any.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import anyio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from psfharvest import Archive, Harvest, Query
from psfharvest.export import export
from psfharvest.simulator import Settings, Simulator

SETTINGS = Settings(sources=6000, seed=1)
ODD_SETTINGS = {"crops": dataclasses.replace(SETTINGS, oddities=("edge_crop",))}
"""Archives of their own: one whose images end where the detector does."""
NOT_EXPORTED = {"state", "location", "attempts", "reason", "detail", "quirk"}
CASES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "one catalogue": [("UVIS", "flc", {"n_sat_pixels": 0, "limit": 25})],
    "three catalogues": [
        ("UVIS", "flc", {"n_sat_pixels": 0, "limit": 12}), ("IR", "flt", {"n_sat_pixels": 0, "limit": 12}),
        ("WFPC2", "c0m", {"n_sat_pixels": 0, "limit": 12}),
    ],
    "list and query": [
        ("list", "flc", {"n_sat_pixels": 0, "filter": "F814W", "limit": 10}),
        ("UVIS", "flc", {"filter": "F606W", "limit": 12}),
    ],
    "nulls": [
        ("UVIS", "flc", {"n_sat_pixels": 0, "limit": 12}), ("WFPC2", "d0m", {"n_sat_pixels": 0, "limit": 40}),
    ],
    "two sizes": [
        ("UVIS", "flt", {"n_sat_pixels": 0, "limit": 10}), ("UVIS", "flt", {"n_sat_pixels": (1, None), "limit": 7}),
    ],
    "borders": [("UVIS", "flc", {"n_sat_pixels": 0, "psf_x_center": (None, 22), "limit": 10})],
    "crops": [("UVIS", "flc", {"n_sat_pixels": 0, "psf_x_center": (None, 22), "limit": 10})],
}  # fmt: skip
"""What is harvested: detector (or a list of dataURIs of UVIS), suffix, criteria."""


class Read(NamedTuple):
    """What a reader gave: for each side, columns with None for null, and pixels; units where it has any."""

    columns: dict[int, dict[str, list[Any]]]
    images: dict[int, np.ndarray]
    units: dict[str, str] | None = None


class Case(NamedTuple):
    """One case: the same cutouts in each kind of folder, and exports made when they are asked for."""

    folders: dict[str, Harvest]
    home: Path

    def export(self, ending: str) -> Path:
        out = self.home / f"export.{ending}"
        if not out.exists():
            export(self.folders["parquet"], out)
        return out


class Cases:
    """The cases by name, each harvested when it is first asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made: dict[str, Case] = {}

    def __getitem__(self, name: str) -> Case:
        if name not in self._made:
            home = self._home / name
            with Simulator(ODD_SETTINGS.get(name, SETTINGS)) as simulator:
                anyio.run(harvest_case, simulator.url, home, name)
            self._made[name] = Case({sink: Harvest(home / sink) for sink in ("parquet", "shards")}, home)
        return self._made[name]


async def harvest_case(url: str, home: Path, name: str) -> None:
    """Harvest what the case has, into a folder of each sink."""
    async with Archive(url) as archive:
        for sink in ("parquet", "shards"):
            for detector, suffix, criteria in CASES[name]:
                query: Any = Query("UVIS" if detector == "list" else detector, **criteria)
                suffixes = [suffix]
                if detector == "list":
                    async with archive.stream(query, suffixes=suffixes) as cutouts:
                        query, suffixes = [cutout.uri async for cutout in cutouts], []
                await archive.harvest(query, home / sink, suffixes=suffixes, sink=sink, extend=True)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("readers"))


def plain(value: Any) -> Any:
    """A value without its reader's own type; NaN and null are None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes) and not value.startswith(b"SIMPLE"):
        value = value.decode()
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN


def of_arrow(tables: dict[int, Any]) -> Read:
    columns = {size: {n: [*map(plain, t[n].to_pylist())] for n in t.column_names} for size, t in tables.items()}
    return Read(columns, {size: pixels_of(c, size) for size, c in columns.items()})


def pixels_of(columns: dict[str, list[Any]], size: int) -> np.ndarray:
    name = next(n for n in ("image", f"image_{size}") if n in columns)
    return np.array([np.asarray(image, np.float32).reshape(size, size) for image in columns[name]])


def by_size(table: Any) -> dict[int, Any]:
    """The rows of an exported Parquet file, sizes apart."""
    import pyarrow.compute as pc

    return {s: table.filter(pc.field("size_px") == s) for s in sorted(set(table["size_px"].to_pylist()))}


def sizes_in(harvest: Harvest) -> list[int]:
    return [int(path.name) for path in sorted((harvest.folder / "parquet").iterdir())]


# -- readers of the Parquet sink's folders


def sink_pyarrow(case: Case) -> Read:
    import pyarrow.parquet as pq

    folder = case.folders["parquet"]
    tables = {size: pq.read_table(folder.folder / f"parquet/{size}") for size in sizes_in(folder)}
    schema = next(iter(tables.values())).schema
    units = {f.name: f.metadata[b"unit"].decode() for f in schema if f.metadata and b"unit" in f.metadata}
    return of_arrow(tables)._replace(units=units)


def sink_polars(case: Case) -> Read:
    import polars as pl

    folder = case.folders["parquet"]
    return of_arrow(
        {s: pl.read_parquet(folder.folder / f"parquet/{s}/*.parquet").to_arrow() for s in sizes_in(folder)}
    )


def sink_duckdb(case: Case) -> Read:
    import duckdb

    folder = case.folders["parquet"]
    return of_arrow(
        {s: duckdb.sql(f"from '{folder.folder}/parquet/{s}/*.parquet'").to_arrow_table() for s in sizes_in(folder)}
    )


def sink_pandas(case: Case) -> Read:
    import pandas as pd

    folder = case.folders["parquet"]
    frames = {s: pd.read_parquet(folder.folder / f"parquet/{s}") for s in sizes_in(folder)}
    columns = {s: {n: [plain(v) if np.ndim(v) == 0 else v for v in f[n]] for n in f} for s, f in frames.items()}
    return Read(columns, {s: pixels_of(c, s) for s, c in columns.items()})


def sink_datasets(case: Case) -> Read:
    from datasets import load_dataset

    folder = case.folders["parquet"]
    tables = {
        s: load_dataset(
            "parquet", data_dir=f"{folder.folder}/parquet/{s}", split="train", cache_dir=str(case.home / "hf")
        )
        for s in sizes_in(folder)
    }
    return of_arrow({s: t.data.table for s, t in tables.items()})


# -- readers of shards


def of_notes(notes: list[tuple[dict[str, Any], bytes | np.ndarray]]) -> Read:
    columns: dict[int, dict[str, list[Any]]] = {}
    images: dict[int, list[np.ndarray]] = {}
    for note, body in notes:
        nulls = note["nulls"].split(",")
        to = columns.setdefault(note["size_px"], {name: [] for name in note})
        for name, value in note.items():
            to[name].append(None if name in nulls else plain(value))
        image = fits.HDUList.fromstring(body)[0].data if isinstance(body, bytes) else body
        images.setdefault(note["size_px"], []).append(in_frame(image, note))
    return Read(columns, {size: np.array(found, np.float32) for size, found in images.items()})


def in_frame(image: np.ndarray, note: dict[str, Any]) -> np.ndarray:
    """A crop at its place in the frame of the size asked for; beyond the detector is NaN."""
    size = int(note["size_px"])
    if image.shape == (size, size):
        return image
    frame = np.full((size, size), np.nan, np.float32)
    asked = parse_qs(urlsplit(note["uri"]).query)
    x, y = (max(0, -math.floor(float(asked[name][0]) - size // 2 + 0.5)) for name in "xy")
    frame[y : y + image.shape[0], x : x + image.shape[1]] = image
    return frame


def shards_of(case: Case) -> list[str]:
    return sorted(map(str, (case.folders["shards"].folder / "shards").glob("*.tar")))


def shards_tarfile(case: Case) -> Read:
    found: dict[str, dict[str, bytes]] = {}
    for path in shards_of(case):
        with tarfile.open(path) as tar:
            for member in tar:
                stem, _, ending = member.name.rpartition(".")
                found.setdefault(stem, {})[ending] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return of_notes([(json.loads(one["json"]), one["fits"]) for one in found.values()])


def shards_webdataset(case: Case) -> Read:
    import webdataset

    samples = webdataset.WebDataset(shards_of(case), shardshuffle=False).decode()
    return of_notes([(sample["json"], sample["fits"]) for sample in samples])


def shards_fitsio(case: Case) -> Read:
    """As CFITSIO reads the images; the rest is JSON."""
    import fitsio

    notes, images = [], {}
    for path in shards_of(case):
        with tarfile.open(path) as tar:
            for member in tar:
                stem, _, ending = member.name.rpartition(".")
                if ending == "json":
                    note = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    notes.append((note, images[stem]))
                elif ending == "fits":
                    image = case.home / "image.fits"
                    image.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
                    images[stem] = fitsio.read(image)
    return of_notes(notes)


def shards_datasets(case: Case) -> Read:
    from datasets import Image, load_dataset

    rows = load_dataset("webdataset", data_files=shards_of(case), split="train", cache_dir=str(case.home / "hf"))
    bodies = rows.cast_column("fits", Image(decode=False))  # it takes FITS for a picture, which Pillow opens
    return of_notes([(row["json"], row["fits"]["bytes"]) for row in bodies])


# -- readers of exports


def parquet_pyarrow(case: Case) -> Read:
    import pyarrow.parquet as pq

    table = pq.read_table(case.export("parquet"))
    units = {f.name: f.metadata[b"unit"].decode() for f in table.schema if f.metadata and b"unit" in f.metadata}
    return of_arrow(by_size(table))._replace(units=units)


def parquet_polars(case: Case) -> Read:
    import polars as pl

    return of_arrow(by_size(pl.read_parquet(case.export("parquet")).to_arrow()))


def parquet_duckdb(case: Case) -> Read:
    import duckdb

    return of_arrow(by_size(duckdb.sql(f"from '{case.export('parquet')}'").to_arrow_table()))


def parquet_pandas(case: Case) -> Read:
    import pandas as pd

    frame = pd.read_parquet(case.export("parquet"))
    columns = {
        s: {n: [plain(v) if np.ndim(v) == 0 else v for v in part[n]] for n in part}
        for s, part in frame.groupby("size_px")
    }
    return Read(columns, {s: pixels_of(c, s) for s, c in columns.items()})


def of_astropy(tables: dict[int, Table], images: dict[int, np.ndarray]) -> Read:
    columns: dict[int, dict[str, list[Any]]] = {}
    for size, table in tables.items():
        columns[size] = {}
        for name in table.colnames:
            if table[name].ndim == 1:
                mask = np.zeros(len(table), bool) | np.ma.getmaskarray(table[name])
                if f"{name}_mask" in table.colnames:
                    mask |= np.asarray(table[f"{name}_mask"])
                columns[size][name] = [None if m else plain(v) for v, m in zip(table[name], mask, strict=True)]
    units = {n: str(table[n].unit) for table in tables.values() for n in table.colnames if table[n].unit}
    return Read(columns, images, units)


def parquet_astropy(case: Case) -> Read:
    table = Table.read(case.export("parquet"))
    sizes = sorted({int(size) for size in table["size_px"]})
    parts = {size: table[table["size_px"] == size] for size in sizes}
    images = {
        size: np.array([*part["image" if len(sizes) == 1 else f"image_{size}"]], np.float32).reshape(-1, size, size)
        for size, part in parts.items()
    }
    return of_astropy(parts, images)


def fits_astropy(case: Case) -> Read:
    path = case.export("fits")
    with fits.open(path) as file:
        file.verify("exception")
        images = {
            int(hdu.name.rpartition("_")[2]): hdu.data.astype(np.float32)
            for hdu in file
            if hdu.name.startswith("IMAGES_")
        }
    return of_astropy({size: Table.read(path, hdu=f"STARS_{size}") for size in images}, images)


def fits_fitsio(case: Case) -> Read:
    import fitsio

    columns: dict[int, dict[str, list[Any]]] = {}
    images, units = {}, {}
    with fitsio.FITS(case.export("fits")) as file:
        sizes = [int(name[7:]) for hdu in file if (name := hdu.get_extname()).startswith("IMAGES_")]
        for size in sizes:
            images[size] = file[f"IMAGES_{size}"].read()
            table = file[f"STARS_{size}"]
            header, rows = table.read_header(), table.read()
            columns[size] = of_arrays({name: rows[name] for name in rows.dtype.names})
            for number, name in enumerate(rows.dtype.names, 1):
                null, unit = header.get(f"TNULL{number}"), header.get(f"TUNIT{number}")
                if null is not None:
                    columns[size][name] = with_fill(rows[name], null)
                if unit:
                    units[name] = unit
    return Read(columns, images, units)


def of_arrays(arrays: dict[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for name, values in arrays.items():
        if name.endswith("_mask") or np.ndim(values) != 1:
            continue
        mask = arrays.get(f"{name}_mask", np.zeros(len(values), bool))
        found[name] = [None if m else plain(v) for v, m in zip(values, mask, strict=True)]
    return found


def npz_numpy(case: Case) -> Read:
    arrays = np.load(case.export("npz"))
    sizes = case.folders["parquet"].sizes()
    groups = {
        s: {n.removeprefix(f"{s}/"): arrays[n] for n in arrays.files if len(sizes) == 1 or n.startswith(f"{s}/")}
        for s in sizes
    }
    return Read({s: of_arrays(g) for s, g in groups.items()}, {s: g["images"] for s, g in groups.items()})  # type: ignore[misc]


def with_fill(values: np.ndarray, fill: Any) -> list[Any]:
    return [None if fill is not None and value == fill else plain(value) for value in values]


def zarr_zarr(case: Case) -> Read:
    import zarr

    root = zarr.open_group(case.export("zarr"), mode="r")
    columns: dict[int, dict[str, list[Any]]] = {}
    images, units = {}, {}
    for size in map(int, root.group_keys()):
        group = root[str(size)]
        images[size] = group["images"][:]
        arrays = {n: group[n][:] for n in group.array_keys()}
        columns[size] = of_arrays(arrays)
        for name in columns[size]:
            fill = group[name].attrs.get("_FillValue")
            if fill is not None:
                columns[size][name] = with_fill(arrays[name], fill)
            if group[name].attrs.get("unit"):
                units[name] = group[name].attrs["unit"]
    return Read(columns, images, units)


def zarr_xarray(case: Case) -> Read:
    import xarray

    columns, images, units = {}, {}, {}
    for size in case.folders["parquet"].sizes():
        data = xarray.open_zarr(case.export("zarr"), group=str(size), consolidated=False)
        arrays = {str(n): data[n].to_numpy() for n in data.variables}
        columns[size] = of_arrays(arrays)
        images[size] = arrays["images"]
        units |= {str(n): data[n].attrs["units"] for n in data.variables if data[n].attrs.get("units")}
    return Read(columns, images, units)  # type: ignore[arg-type]


def h5_h5py(case: Case) -> Read:
    import h5py

    columns: dict[int, dict[str, list[Any]]] = {}
    images, units = {}, {}
    with h5py.File(case.export("h5")) as file:
        sizes = [int(size) for size in file.attrs["sizes"]]
        for size in sizes:
            group = file[str(size)]
            images[size] = group["images"][:]
            arrays = {name: group[name][:] for name in group}
            columns[size] = of_arrays(arrays)
            for name in columns[size]:
                fill = group[name].attrs.get("_FillValue")
                if fill is not None:
                    columns[size][name] = with_fill(arrays[name], fill)
                if "units" in group[name].attrs:
                    units[name] = group[name].attrs["units"]
        if len(sizes) == 1:
            np.testing.assert_array_equal(images[sizes[0]], file["images"][:])
    return Read(columns, images, units)


READERS: list[Callable[[Case], Read]] = [
    sink_pyarrow, sink_polars, sink_duckdb, sink_pandas, sink_datasets,
    shards_tarfile, shards_webdataset, shards_fitsio, shards_datasets,
    parquet_pyarrow, parquet_polars, parquet_duckdb, parquet_pandas, parquet_astropy,
    fits_astropy, fits_fitsio, npz_numpy, zarr_zarr, zarr_xarray, h5_h5py,
]  # fmt: skip


@pytest.mark.sample(2)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_reader_gives_what_the_harvest_gives(
    cases: Cases, reader: Callable[[Case], Read], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, columns, values, nulls, units and pixels are those of `Harvest.table` and `Harvest.stack`."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    one = cases[case]
    harvest = one.folders["shards" if reader.__name__.startswith("shards") else "parquet"]
    read = reader(one)

    assert set(harvest.sizes()) == set(read.columns) == set(read.images)
    for size, columns in read.columns.items():
        chosen = harvest.select(size_px=size)
        table, images = chosen.table(), chosen.stack(size)
        places = {uri: n for n, uri in enumerate(columns["uri"])}
        order = [places[uri] for uri in table["uri"]]
        assert len(table) == len(places) == len(columns["uri"])
        np.testing.assert_array_equal(images, read.images[size][order])
        left_out = {"size_bytes", "sha256"} if reader.__name__.startswith("shards") else set()
        for name in set(table.colnames) - NOT_EXPORTED - left_out:
            mask = np.ma.getmaskarray(table[name])
            wanted = [None if m else plain(v) for v, m in zip(table[name], mask, strict=True)]
            found = [columns[name][n] for n in order] if name in columns else [None] * len(order)
            assert wanted == found, name
        if read.units is not None:
            for name in table.colnames:
                if table[name].unit is not None and name in read.units:
                    assert table[name].unit == _unit(read.units[name]), name
            assert {"psf_x_center", "exptime"} - {*read.units} <= {*()} or case == "list and query"


def _unit(text: str) -> Any:
    from astropy.units import Unit

    return Unit(text)


def test_several_harvests_go_into_one_export(cases: Cases, tmp_path: Path) -> None:
    """Their cutouts follow each other, each row with its folder; each provenance is there."""
    import h5py
    import zarr

    some = [cases["one catalogue"].folders["parquet"], cases["two sizes"].folders["shards"]]
    for ending in ("parquet", "zarr", "npz", "fits", "h5"):
        done = export(some, tmp_path / f"all.{ending}")
        assert sum(map(len, some)) == done["cutouts"]
    arrays = np.load(tmp_path / "all.npz")
    provenance = json.loads(str(arrays["provenance"]))

    np.testing.assert_array_equal(np.concatenate([one.stack(51) for one in some]), arrays["51/images"])
    assert {str(one.folder) for one in some} == set(arrays["51/harvest"])
    assert [one.provenance for one in some] == provenance
    with h5py.File(tmp_path / "all.h5") as file:
        assert provenance == json.loads(file.attrs["provenance"])
    assert provenance == zarr.open_group(tmp_path / "all.zarr", mode="r").attrs["provenance"]
    import pyarrow.parquet as pq

    assert provenance == json.loads(pq.read_schema(tmp_path / "all.parquet").metadata[b"psfharvest"])["provenance"]
    header = fits.getheader(tmp_path / "all.fits")
    assert (provenance[0]["query"], provenance[1]["archive"]) == (header["QUERY"], header["ARCHIV2"])


def test_parquet_files_of_a_folder_say_where_they_come_from(cases: Cases) -> None:
    """Each file of the sink has the query, the archive, the version and the times."""
    import pyarrow.parquet as pq

    harvest = cases["two sizes"].folders["parquet"]
    files = [*(harvest.folder / "parquet").glob("*/*.parquet")]
    assert len(files) >= 2
    for path in files:
        [about] = json.loads(pq.read_schema(path).metadata[b"psfharvest"])["provenance"]
        assert about["query"].startswith("UVIS n_sat_pixels=0")
        assert {
            name: harvest.provenance[name] for name in ("archive", "version", "started")
        }.items() <= about.items()


def test_a_table_says_where_it_comes_from(cases: Cases, tmp_path: Path) -> None:
    """Query, archive, version, times, account and quirks, in the table and in the files it is written to."""
    harvest = cases["three catalogues"].folders["parquet"]
    table = harvest.table()

    assert harvest.provenance == table.meta
    assert table.meta["query"].count("n_sat_pixels=0") == 3
    assert table.meta["archive"].startswith("http://127.0.0.1")
    assert {"done": 36, "missing": 0, "failed": 0, "pending": 0} == json.loads(table.meta["cutouts"])
    table.write(tmp_path / "t.ecsv")
    table.write(tmp_path / "t.fits")
    assert table.meta["query"] == Table.read(tmp_path / "t.ecsv").meta["query"]
    assert table.meta["query"] == Table.read(tmp_path / "t.fits").meta["QUERY"]
