"""Exports: equal to the harvest when numpy, pandas, polars, pyarrow, datasets and zarr read them as users do."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import anyio
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import command, sampled
from psfharvest import Archive, BadInput, Harvest, Query
from psfharvest.export import NEEDS, export
from psfharvest.export.zarr_folder import _Column, images_a_shard
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.column_types import ColumnTypes

SIZES = (51, 101)
N = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest with both sizes, more than a batch of one."""
    home = tmp_path_factory.mktemp("exported") / "stars"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", limit=N), home, suffixes=["flt"], sink="shards")

    with Simulator(Settings(sources=3000, seed=9)) as simulator:
        anyio.run(work, simulator.url)
    return home


@pytest.fixture(scope="module")
def stars(folder: Path) -> Harvest:
    return Harvest(folder)


@pytest.fixture(scope="module")
def parquet(stars: Harvest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parquet") / "stars.parquet"
    export(stars, out)
    return out


def in_order(stars: Harvest) -> list[str]:
    """The dataURIs in the order of an export: the smaller images first."""
    return [c.uri for size in SIZES for c in stars.select(size_px=size)]


def test_parquet_is_one_row_a_cutout(stars: Harvest, parquet: Path) -> None:
    """All metadata with types and nulls, headers, and pixels as fixed-size lists whose shape the schema tells."""
    table = pq.read_table(parquet)
    schema = table.schema

    assert N == len(table) == len(stars)
    assert in_order(stars) == table["uri"].to_pylist()
    assert {"image_51": [51, 51], "image_101": [101, 101]} == json.loads(schema.metadata[b"psfharvest"])["images"]
    start = 0
    for size in SIZES:
        stack = stars.stack(size)
        column = table[f"image_{size}"]
        field = schema.field(f"image_{size}")
        assert (size * size, "float", [size, size]) == (
            field.type.list_size, str(field.type.value_type), json.loads(field.metadata[b"shape"])
        )  # fmt: skip
        others = [*range(start), *range(start + len(stack), len(table))]
        assert np.isnan(column.take(others).combine_chunks().flatten().to_numpy()).all()
        read = column.slice(start, len(stack)).combine_chunks().flatten().to_numpy().reshape(stack.shape)
        np.testing.assert_array_equal(stack, read)
        start += len(stack)
    by_uri = {c.uri: c for c in stars}
    for row in table.select(["uri", "header", "id", "focus", "qfit", "chip", "size_px"]).to_pylist():
        cutout = by_uri[row["uri"]]
        assert cutout.header.tostring(endcard=False, padding=False) == row["header"]
        assert [cutout.source[c] for c in ("id", "focus", "qfit", "chip")] == [
            row[c] for c in ("id", "focus", "qfit", "chip")
        ]
    assert None in table["focus"].to_pylist()
    assert b"pix" == schema.field("x_cal").metadata[b"unit"]


def test_pandas_reads_it(stars: Harvest, parquet: Path) -> None:
    """A row's image is an array that takes its shape."""
    import pandas as pd

    frame = pd.read_parquet(parquet)
    bright = frame[frame["size_px"] == 101]
    images = np.stack(bright["image_101"]).reshape(-1, 101, 101)

    np.testing.assert_array_equal(stars.stack(101), images)
    assert ("int64", "float64") == (str(frame["id"].dtype), str(frame["qfit"].dtype))
    assert stars.select(qfit=(0.01, 0.05))[0].uri in set(frame.query("0.01 <= qfit <= 0.05")["uri"])


def test_polars_reads_it(stars: Harvest, parquet: Path) -> None:
    """A lazy scan picks rows and columns; images come as one array."""
    import polars as pl

    frame = pl.scan_parquet(parquet).filter(pl.col("size_px") == 51).select("id", "image_51").collect()

    np.testing.assert_array_equal(stars.stack(51), frame["image_51"].to_numpy().reshape(-1, 51, 51))
    assert stars.select(size_px=51).table()["id"].tolist() == frame["id"].to_list()


@pytest.mark.campaign
def test_datasets_reads_it(stars: Harvest, tmp_path: Path) -> None:
    """Hugging Face datasets load it and give batches of arrays."""
    export(stars, tmp_path / "small.parquet", sizes=[51])
    code = (
        "import sys, datasets, numpy as np\n"
        "d = datasets.load_dataset('parquet', data_files=sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "np.save(sys.argv[3], d.with_format('numpy')[:]['image'].reshape(-1, 51, 51))\n"
    )
    words = [str(tmp_path / name) for name in ("small.parquet", "cache", "read.npy")]
    subprocess.run([*command()[:1], "-c", code, *words], check=True, capture_output=True, env=offline())

    np.testing.assert_array_equal(stars.stack(51), np.load(tmp_path / "read.npy"))


def offline() -> dict[str, str]:
    import os

    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def test_zarr_is_sharded_and_equal(stars: Harvest, tmp_path: Path) -> None:
    """Zarr v3: a group a size; pixels in shards of chunks, metadata in arrays beside them."""
    import zarr

    export(stars, tmp_path / "stars.zarr")
    root = zarr.open_group(tmp_path / "stars.zarr", mode="r")

    assert 3 == root.metadata.zarr_format
    assert [51, 101] == root.attrs["sizes"]
    for size in SIZES:
        group, table = root[str(size)], stars.select(size_px=size, state="done").table()
        np.testing.assert_array_equal(stars.stack(size), group["images"][:])
        assert (images_a_shard(size), size, size) == group["images"].shards
        assert (16, size, size) == group["images"].chunks
        assert list(table["uri"]) == list(group["uri"][:])
        np.testing.assert_array_equal(table["qfit"].filled(), group["qfit"][:])
        assert stars.select(size_px=size)[2].header.tostring(endcard=False, padding=False) == group["header"][2]
    assert "pix" == root["51/x_cal"].attrs["unit"]


def test_npz_is_plain_numpy(stars: Harvest, tmp_path: Path) -> None:
    """Arrays by name, sizes apart; with one size, without its prefix."""
    export(stars, tmp_path / "both.npz")
    export(stars, tmp_path / "one.npz", sizes=[101])
    table = stars.select(size_px=101, state="done").table()

    with np.load(tmp_path / "both.npz") as both, np.load(tmp_path / "one.npz") as one:
        np.testing.assert_array_equal(stars.stack(51), both["51/images"])
        np.testing.assert_array_equal(stars.stack(101), both["101/images"])
        np.testing.assert_array_equal(stars.stack(101), one["images"])
        for name in ("id", "uri", "qfit", "chip", "filter"):
            np.testing.assert_array_equal(np.asarray(table[name]), one[name])
        np.testing.assert_array_equal(np.isnan(np.asarray(table["focus"])), np.isnan(one["focus"]))
        header = stars.select(size_px=101)[1].header.tostring(endcard=False, padding=False)
        assert header == one["header"][1].decode()


def test_hdf5_packs_headers(stars: Harvest, tmp_path: Path) -> None:
    """The header of each cutout, in a fraction of its length: most cards are alike in all of them."""
    import h5py

    export(stars, tmp_path / "stars.h5")
    some = stars.select(size_px=51)
    with h5py.File(tmp_path / "stars.h5") as file:
        header = file["51/header"]
        texts = [text.decode() for text in header[:]]
        stored_bytes = header.id.get_storage_size()

    assert [c.header.tostring(endcard=False, padding=False) for c in some] == texts
    assert stored_bytes < sum(map(len, texts)) / 4


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".parquet", ".zarr", ".npz"])
def test_an_export_takes_the_place_of_the_last(stars: Harvest, tmp_path: Path, ending: str) -> None:
    """What stood there before is replaced, and nothing else is left; a selection is exported alone."""
    out = tmp_path / f"stars{ending}"
    assert N == export(stars, out)["cutouts"]
    few = export(stars.select(size_px=101)[:3], out)

    assert {"file": str(out), "cutouts": 3, "sizes": {"101": 3}, "left_out": 0} == few
    assert [out] == list(tmp_path.iterdir())


REFUSED = {
    "ending": ("stars.xls", ".parquet, .zarr, .npz"),
    "no folder": ("no/stars.npz", "make it first"),
    "a folder in its place": ("taken.npz", "something else"),
    "another's folder": ("taken.zarr", "something else"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(psfharvest, folder: Path, tmp_path: Path, name: str) -> None:
    """Status 2, the way out in words, and nothing is changed."""
    for taken in ("taken.npz", "taken.zarr"):
        (tmp_path / taken).mkdir()
        (tmp_path / taken / "mine.txt").write_text("mine")
    out, hint = REFUSED[name]
    run = psfharvest("export", folder, out)

    assert 2 == run.status
    assert hint in run.err
    assert ["mine.txt", "mine.txt", "taken.npz", "taken.zarr"] == sorted(p.name for p in tmp_path.rglob("*"))


def test_nothing_to_export_is_refused(psfharvest, stars: Harvest, folder: Path, tmp_path: Path) -> None:
    """No harvest, or no cutout of that size: status 2 with what there is."""
    run = psfharvest("export", ".", "out.npz")
    assert (2, True) == (run.status, "no harvest folder" in run.err)
    run = psfharvest("export", folder, "out.npz", "--size", "33")
    assert (2, True) == (run.status, "of 51 px" in run.err)
    with pytest.raises(BadInput, match="none is done, or the selection has none"):
        export(stars.select(id=-1), tmp_path / "out.npz")
    assert [] == list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(psfharvest, folder: Path, tmp_path: Path) -> None:
    """JSON on standard output, words on standard error."""
    run = psfharvest("export", folder, "stars.parquet", "--json")

    assert 0 == run.status
    assert (N, set(map(str, SIZES))) == (run.account["cutouts"], set(run.account["sizes"]))
    assert "of 51 x 51 px and " in run.err
    assert "" == psfharvest("export", folder, "stars.npz", "--quiet").err


@pytest.mark.parametrize("ending", sampled(NEEDS, [".h5"]))
def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, tmp_path: Path, ending: str) -> None:
    """Status 74, and neither a half export nor a leftover; the one before is still there."""
    old = tmp_path / f"stars{ending}"
    if ending == ".zarr":
        export(Harvest(folder)[:2], old)
    else:
        old.write_bytes(b"old")

    def small_files_only() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        command("export", folder, old), preexec_fn=small_files_only, capture_output=True, text=True, check=False
    )

    assert 74 == done.returncode, done.stderr
    assert (1, True) == (done.stderr.count("\n"), f"cannot write {old}: " in done.stderr), done.stderr
    assert [old] == list(tmp_path.iterdir())
    assert ending == ".zarr" or b"old" == old.read_bytes()


@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.none() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=3) | st.booleans(),
        )
    )
)
def test_a_columns_kind_holds_all_its_values(rows: list[dict]) -> None:
    """Every value can be cast to the kind found; texts fit the width."""
    kinds = ColumnTypes()
    for row in rows:
        kinds.add(row)

    assert set(kinds.all()) == {name for row in rows for name in row}
    for name, kind in kinds.all().items():
        values = [row[name] for row in rows if row.get(name) is not None]
        cast = {"str": str, "int": int, "float": float, "bool": bool}[kind]
        assert kind == "str" or all(cast(value) == value for value in values)
        assert kind != "str" or all(len(str(value)) <= kinds.width(name) for value in values)


@given(parts=st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=9), at_once=st.integers(1, 5))
def test_columns_are_written_whole_stretches_at_a_time(parts: list[list[int]], at_once: int) -> None:
    """Whatever pieces come, the array gets all of them in order, in stretches that end where shards do."""
    flat = [n for part in parts for n in part]
    target = np.full(len(flat), -1)
    column = _Column(target, at_once)
    for part in parts:
        column.add(np.array(part, int))
        assert column._start % at_once == 0
    column.flush()

    assert flat == target.tolist()
