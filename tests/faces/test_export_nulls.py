"""Exports of rows with nulls, read by the readers that users have: no null reads as a value, no unit is lost."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
from astropy.table import Table

from psfharvest import Archive, Harvest, Query
from psfharvest.export import export
from psfharvest.simulator import Settings, Simulator

N_LISTED, N_ASKED = 20, 60


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """Cutouts of a list, which have no catalogue rows, of UVIS and of WFPC2: each column is null somewhere."""
    home = tmp_path_factory.mktemp("nulls") / "stars"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            listed = Query("UVIS", filter="F814W", n_sat_pixels=0, limit=N_LISTED)
            async with archive.stream(listed, suffixes=["flc"]) as cutouts:
                uris = [cutout.uri async for cutout in cutouts]
            await archive.harvest(uris, home)
            for detector, suffix in (("UVIS", "flc"), ("WFPC2", "c0m")):
                query = Query(detector, filter="F606W", n_sat_pixels=0, limit=N_ASKED)
                await archive.harvest(query, home, suffixes=[suffix], extend=True)

    with Simulator(Settings(sources=6000, seed=1)) as simulator:
        anyio.run(work, simulator.url)
    return Harvest(home)


@pytest.fixture(scope="module")
def table(stars: Harvest) -> Table:
    """What the harvest itself says of what is exported."""
    return stars.select(size_px=51, state="done").table()


INTEGERS = ("n_sat_pixels", "iso_index")
TEXTS = ("filter_1", "proptype", "aperture")
FLOATS = ("psf_flux", "focus")


def test_the_rows_have_nulls(table: Table) -> None:
    """The test tests something: in each column some values are null, and some are not."""
    for name in (*INTEGERS, *TEXTS):
        assert 0 < table[name].mask.sum() < len(table)


def test_npz_has_masks(stars: Harvest, table: Table, tmp_path: Path) -> None:
    """``NAME_mask`` says where a value is null; what is not null is equal."""
    export(stars, tmp_path / "stars.npz")
    arrays = np.load(tmp_path / "stars.npz")

    for name in (*INTEGERS, *TEXTS):
        mask = arrays[f"{name}_mask"]
        np.testing.assert_array_equal(table[name].mask, mask)
        np.testing.assert_array_equal(table[name].filled()[~mask], arrays[name][~mask])
    for name in FLOATS:
        np.testing.assert_array_equal(table[name].filled(), arrays[name])
    assert "uri_mask" not in arrays.files


@pytest.mark.campaign
def test_xarray_reads_zarr(stars: Harvest, table: Table, tmp_path: Path) -> None:
    """Null integers are masked on reading; axes are named as no column is, so that images plot and interpolate."""
    import matplotlib as mpl
    import xarray

    mpl.use("Agg")
    export(stars, tmp_path / "stars.zarr")
    data = xarray.open_zarr(tmp_path / "stars.zarr", group="51", consolidated=False)

    for name in INTEGERS:
        np.testing.assert_array_equal(table[name].filled(0).astype(float), data[name].fillna(0).to_numpy())
        np.testing.assert_array_equal(table[name].mask, np.isnan(data[name].to_numpy()))
    for name in TEXTS:
        np.testing.assert_array_equal(table[name].mask, data[f"{name}_mask"].to_numpy())
        np.testing.assert_array_equal(table[name].filled(""), [*data[name].to_numpy()])
    for name in FLOATS:
        np.testing.assert_array_equal(table[name].filled(), data[name].to_numpy())
    assert not set(data.images.dims) & {*data.data_vars, *data.coords}
    image = data.images[0]
    image.plot()
    row, column = image.dims
    np.testing.assert_array_equal(stars.stack(51)[0, 25, 25], image.sel({row: 25, column: 25}))
    assert np.isfinite(float(image.interp({row: 24.5, column: 25.2})))
    assert "pix" == data["psf_x_center"].attrs["units"]


def test_astropy_reads_parquet(
    stars: Harvest, table: Table, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The whole file reads without a warning: units, descriptions, null texts masked, null integers NaN."""
    export(stars, tmp_path / "stars.parquet")
    read = Table.read(tmp_path / "stars.parquet")

    assert not recwarn
    assert len(table) == len(read)
    for name in TEXTS:
        np.testing.assert_array_equal(table[name].mask, read[name].mask)
        np.testing.assert_array_equal(table[name].filled(""), read[name].filled(""))
    for name in INTEGERS:
        np.testing.assert_array_equal(table[name].mask, np.isnan(read[name]))
    for name in table.colnames:
        if name in read.colnames and name in ("psf_x_center", "exptime", "focus", "mjd"):
            assert table[name].unit == read[name].unit
            assert table[name].description == read[name].description
    np.testing.assert_array_equal(stars.stack(51).reshape(len(read), -1), read["image"])


def test_pyarrow_and_duckdb_read_parquet(stars: Harvest, table: Table, tmp_path: Path) -> None:
    """Nulls are nulls."""
    import duckdb
    import pyarrow.parquet as pq

    export(stars, tmp_path / "stars.parquet")
    read = pq.read_table(tmp_path / "stars.parquet")

    for name in (*INTEGERS, *TEXTS):
        assert table[name].mask.sum() == read[name].null_count
        [(n,)] = duckdb.sql(f"select count({name}) from '{tmp_path / 'stars.parquet'}'").fetchall()
        assert len(table) - table[name].mask.sum() == n
