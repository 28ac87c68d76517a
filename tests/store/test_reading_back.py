"""Reading back: files, shards and Parquet alike, in the order of asking, without the network."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest import Archive, BadInput, BadQuery, Cutout, FolderRefused, Harvest, LocalError, Query, blocking
from psfharvest.core.fits import datauri
from psfharvest.core.fits.noise import border_median
from psfharvest.simulator import Fault, Settings, Simulator, fwhm_px
from psfharvest.store.read import stack as stacking
from psfharvest.store.read.intervals import IntervalSet
from psfharvest.store.read.stars import good_pixels

N = 120
SINKS = ["files", "shards", "parquet"]


@pytest.fixture(scope="module")
def harvests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One query in each sink, its archive gone."""
    import anyio

    home = tmp_path_factory.mktemp("harvests")

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            for sink in SINKS:
                await archive.harvest(Query("UVIS", limit=N // 2), home / sink, suffixes=["flt", "raw"], sink=sink)

    with Simulator(Settings(sources=4000, seed=5)) as simulator:
        anyio.run(work, simulator.url)
    return {sink: home / sink for sink in SINKS}


@pytest.fixture(params=SINKS)
def stars(harvests: dict[str, Path], request: pytest.FixtureRequest) -> Harvest:
    return Harvest(harvests[request.param])


def uris(folder: Path) -> list[str]:
    """What was asked for, in order, read without our own code."""
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        found = [uri for (uri,) in db.execute("SELECT uri FROM cutout ORDER BY n")]
    db.close()
    return found


@pytest.mark.sample(1)
def test_a_sequence_of_cutouts(stars: Harvest) -> None:
    """Length, iteration, indexes from both ends and slices agree with the manifest."""
    wanted = uris(stars.folder)

    assert N == len(stars) == len(wanted)
    assert wanted == [cutout.uri for cutout in stars]
    assert [wanted[0], wanted[-1], wanted[57]] == [stars[0].uri, stars[-1].uri, stars[57].uri]
    assert wanted[10:50:7] == [cutout.uri for cutout in stars[10:50:7]]
    assert wanted[-3:] == [cutout.uri for cutout in stars[100:][-3:]]
    assert stars[3] in stars
    for index in (N, -N - 1):
        with pytest.raises(IndexError):
            stars[index]


def test_all_sinks_give_the_same_cutouts(harvests: dict[str, Path]) -> None:
    """Bytes, pixels and sources do not depend on how they are stored."""
    for one, two, three in zip(*(Harvest(folder) for folder in harvests.values()), strict=True):
        assert one.raw == two.raw == three.raw
        assert one.source == two.source == three.source
        np.testing.assert_array_equal(one.data, three.data)
        assert {"id", "filter", "psf_flux", "qfit"} <= set(one.source)


def test_the_table_joins_catalogue_state_and_place(stars: Harvest) -> None:
    """Each cutout asked for is a row; types and units are the catalogue's; places lead to the bytes."""
    table = stars.table()

    assert uris(stars.folder) == list(table["uri"])
    assert {"done"} == set(table["state"])
    assert ("i", "f", "U") == (table["id"].dtype.kind, table["qfit"].dtype.kind, table["filter"].dtype.kind)
    assert "pix" == table["psf_x_center"].unit.to_string()
    assert all(table["location"])
    for row, cutout in zip(table, stars, strict=True):
        assert (row["id"], row["rootname"]) == (cutout.source["id"], cutout.source["rootname"])
        parts = datauri.parse(cutout.uri)
        assert (float(parts.x), parts.suffix, parts.size_px) == (row["x"], row["suffix"], row["size_px"])
    assert ["uri", "id"] == stars.table(["uri", "id"]).colnames
    with pytest.raises(BadQuery, match="it has id"):
        stars.table(["nope"])


def test_select_follows_the_querys_grammar(stars: Harvest) -> None:
    """Values, lists, closed and open ranges choose as a plain comparison of the table's rows does."""
    table = stars.table()
    name = table["filter"][0]
    cases = {
        "value": ({"filter": name}, table["filter"] == name),
        "list": ({"chip": ["2", "7"]}, table["chip"] == "2"),
        "number for a text": ({"chip": 2}, table["chip"] == "2"),
        "whole for a float": ({"qfit": 0}, table["qfit"] == 0),
        "range": ({"qfit": (0.01, 0.1)}, (table["qfit"] >= 0.01) & (table["qfit"] <= 0.1)),
        "open range": ({"psf_flux": (5e4, None)}, table["psf_flux"] >= 5e4),
        "ours": ({"suffix": "raw", "size": 51}, (table["suffix"] == "raw") & (table["size_px"] == 51)),
        "of either frame": ({"x_raw": (1000, None)}, table["x_raw"] >= 1000),
        "state": ({"state": ["failed", "missing"]}, table["state"] == "failed"),
        "nullable": ({"focus": (-10, 10)}, np.abs(table["focus"]) <= 10),
    }
    for words, (criteria, wanted) in cases.items():
        chosen = stars.select(**criteria)
        assert list(table["uri"][wanted]) == [c.uri for c in chosen], words
        assert list(table["uri"][wanted]) == list(chosen.table()["uri"]), words
    twice = stars.select(suffix="flt").select(qfit=(0.01, 0.1))
    assert [c.uri for c in stars.select(suffix="flt", qfit=(0.01, 0.1))] == [c.uri for c in twice]
    assert [c.uri for c in twice][5:9] == [c.uri for c in twice[5:9]]


def test_an_unknown_column_is_refused_with_the_known_ones(stars: Harvest) -> None:
    """The message names what is meant, and what there is."""
    with pytest.raises(BadQuery, match=r"did you mean qfit.*it has id"):
        stars.select(qfitt=1)
    with pytest.raises(BadQuery, match="lower end comes first"):
        stars.select(qfit=(1, 0))
    with pytest.raises(BadQuery, match="qfit='low': a number is allowed"):
        stars.select(qfit=["low"])[:1]
    with pytest.raises(BadQuery, match="state='gone': one of pending, done"):
        stars.select(state="gone")[:1]


def test_stack_lines_up_with_the_table(stars: Harvest) -> None:
    """Each size is one array, saturated and unsaturated apart, row for row the table's."""
    assert {51, 101} == set(stars.sizes())
    for size, n in stars.sizes().items():
        array = stars.stack(size)
        table = stars.select(size_px=size, state="done").table()
        assert (n, size, size) == array.shape
        assert (np.float32, n) == (array.dtype, len(table))
        by_uri = {cutout.uri: cutout.data for cutout in stars}
        np.testing.assert_array_equal(np.stack([by_uri[uri] for uri in table["uri"]]), array)
    with pytest.raises(BadInput, match=r"33 pixels a side; there are: 51 \(\d+\), 101 \(\d+\)"):
        stars.stack(33)
    assert (0, 33, 33) == stars.select(id=-1).stack(33).shape


def test_stack_into_a_file_is_memory_mapped(stars: Harvest, tmp_path: Path) -> None:
    """With `out` the array stands in a .npy file, which numpy reads; nothing is left of a failed try."""
    array = stars.stack(51, out=tmp_path / "stars.npy")

    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(stars.stack(51), np.load(tmp_path / "stars.npy"))
    assert ["stars.npy"] == [p.name for p in tmp_path.iterdir()]
    for wrong in ("stars.dat", "no/stars.npy"):
        with pytest.raises(BadInput):
            stars.stack(51, out=tmp_path / wrong)


def test_a_large_stack_is_memory_mapped(stars: Harvest) -> None:
    """Past what is kept in memory the array is mapped from a file without a name, and is the caller's to change."""
    array = stacking.stack(stars, 51, in_memory_bytes=100_000)

    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(stars.stack(51), array)
    array[0] = 7
    assert 7 == array[0, 3, 3]


@pytest.mark.campaign
def test_an_epsf_of_the_simulators_stars_has_the_simulators_width(tmp_path: Path) -> None:
    """photutils builds an ePSF from `epsf_stars` whose FWHM is the simulator's within 5 %."""
    import anyio
    from photutils.psf import EPSFBuilder

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            query = Query("UVIS", filter="F814W", n_sat_pixels=0, psf_flux=(3e4, None), limit=40)
            await archive.harvest(query, tmp_path / "d", suffixes=["flt"], sink="shards")

    with Simulator(Settings(sources=20_000, seed=3)) as simulator:
        anyio.run(work, simulator.url)
    found = Harvest(tmp_path / "d").epsf_stars(51)
    builder = EPSFBuilder(oversampling=4, maxiters=3, fit_shape=11, progress_bar=False)
    epsf = builder(found)[0]

    assert 40 == len(found)
    assert abs(width_px(epsf.data) / 4 / fwhm_px("F814W", "UVIS") - 1) < 0.05


def width_px(image: np.ndarray) -> float:
    """FWHM: the mean distance between the half-maximum crossings along row and column."""
    middle = image.shape[0] // 2
    widths = []
    for cut in (image[middle], image[:, middle]):
        right = np.interp(-image.max() / 2, -cut[middle : middle + 12], np.arange(12))
        left = np.interp(-image.max() / 2, -cut[middle : middle - 12 : -1], np.arange(12))
        widths.append(left + right)
    return float(np.mean(widths))


@pytest.mark.sample(1)
def test_epsf_stars_weigh_bad_pixels_nothing(stars: Harvest) -> None:
    """NaN and saturated pixels have weight 0, and the centre is the catalogue's, to a fraction of a pixel."""
    bright = stars.select(size=101, suffix="flt")[:4]
    for star, cutout in zip(bright.epsf_stars(101, min_good=0), bright, strict=True):
        assert 0 == star.weights[~np.isfinite(cutout.data)].sum()
        assert int(cutout.source["n_sat_pixels"]) <= (star.weights == 0).sum()
        assert 0 == star.weights[cutout.data >= 0.99 * np.nanmax(cutout.data)].sum()
        x, y = float(datauri.parse(cutout.uri).x), float(datauri.parse(cutout.uri).y)
        assert (x % 1, y % 1) == pytest.approx(tuple(star.cutout_center % 1), abs=1e-6)
        assert np.all(np.abs(star.cutout_center - 50) <= 0.5)
        assert star.data.shape == (101, 101)
    with pytest.raises(BadInput, match="min_good=0"):
        bright.epsf_stars(101)
    level = stars[:40].epsf_stars(51, saturation=100.0, min_good=0)
    assert all((star.data[star.weights > 0] < 100).all() for star in level)


def test_fluxes_are_the_catalogues(tmp_path: Path) -> None:
    """At an edge of the detector, where photutils would extrapolate, and on saturated stars, too."""
    import anyio

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            for n, criteria in enumerate(({"psf_x_center": (None, 22)}, {"n_sat_pixels": (1, None), "limit": 30})):
                query = Query("UVIS", psf_flux=(2e4, None), **criteria)
                await archive.harvest(query, tmp_path / "d", suffixes=["flc"], extend=n > 0)

    with Simulator(Settings(sources=20_000, seed=1)) as simulator:
        anyio.run(work, simulator.url)
    stars = Harvest(tmp_path / "d")
    fluxes = {cutout.source["id"]: cutout.source["psf_flux"] for cutout in stars}

    for size in (51, 101):
        found = stars.epsf_stars(size, min_good=0).all_stars
        assert found
        assert [fluxes[star.id_label] for star in found] == [star.flux for star in found]


def test_a_mask_or_positions_pick_cutouts(stars: Harvest) -> None:
    """Like the rows of its table: in the order of asking, each once; a mask of another length is refused."""
    table = stars.select(state="done").table()
    mask = np.asarray(table["qfit"]) < 0.05
    uris = np.asarray(table["uri"])

    assert list(uris[mask]) == [cutout.uri for cutout in stars[mask]]
    assert list(uris[[0, 5]]) == [cutout.uri for cutout in stars[[5, 0, 5, -len(stars)]]]
    assert 0 == len(stars[[]]) == len(stars[np.zeros(len(stars), bool)])
    assert uris[3] == stars[np.int64(3)].uri
    with pytest.raises(IndexError, match="a mask of 3 entries"):
        stars[[True, False, True]]
    with pytest.raises(IndexError, match="out of range"):
        stars[[len(stars)]]
    with pytest.raises(IndexError, match=f"a mask of {len(stars)} x 1 entries"):
        stars[mask[:, None]]
    with pytest.raises(IndexError, match="a position is masked"):
        stars[np.ma.masked_equal([5, 0], 0)]
    assert 1 == len(
        stars[np.ma.array([True, *[False] * (len(stars) - 2), True], mask=[True, *[False] * (len(stars) - 1)])]
    )
    for odd in (1.5, [0.5], np.zeros((2, 2), int), "id"):
        with pytest.raises(IndexError, match="an index is a position, a slice"):
            stars[odd]


def test_good_pixels_and_sky_of_odd_images() -> None:
    """Stars without a catalogue row lose only NaN; an image of NaN has no sky and no good pixel."""
    image = np.arange(25, dtype=np.float32).reshape(5, 5)
    image[0, 0] = np.nan

    assert 24 == good_pixels(image, {}).sum()
    assert 22 == good_pixels(image, {"n_sat_pixels": 2}).sum()
    assert 0 == good_pixels(image, {"n_sat_pixels": 99}).sum()
    assert 9 == good_pixels(image, {}, saturation=10).sum()
    assert 0.0 == border_median(np.full((5, 5), np.nan, np.float32))


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", SINKS)
async def test_an_unfinished_harvest_counts_what_is_done(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """Missing ones are in the table with their reason, and neither in the length nor in the stack."""
    simulator.faults = [Fault.parse("status:404,service=file,every=3")]
    async with Archive(simulator.url) as archive:
        report = await archive.harvest(Query("IR", limit=60), tmp_path / "d", suffixes=["flt"], sink=sink)
    stars = Harvest(tmp_path / "d")
    table = stars.table(state=None)
    failures = stars.failures()

    assert [c.uri for c in stars] == list(stars.table()["uri"])
    assert list(table["uri"][table["state"] == "missing"]) == list(failures["uri"])
    assert ["uri", "state", "reason", "detail", "attempts"] == failures.colnames
    assert failures["detail"][0]
    assert report.total == stars.status().total == 60
    assert (report.done, 0) == ((found := stars.verify()).checked, found.broken)
    with pytest.raises(BadQuery, match="done, missing"):
        stars.table(state="lost")
    assert 0 < report.missing < 60
    assert (report.done, 60) == (len(stars), len(table))
    assert list(table["uri"][table["state"] == "done"]) == [c.uri for c in stars]
    assert {"not_found"} == set(stars.select(state="missing").table()["reason"])
    assert 0 == len(stars.select(state="missing"))
    assert report.done == sum(len(stars.stack(size)) for size in stars.sizes())
    assert [c.uri for c in stars][4:9] == [stars[k].uri for k in range(4, 9)]
    assert f"{report.done} cutouts of 60 asked for" in repr(stars)


async def test_a_list_tells_what_its_uris_tell(
    simulator: Simulator, harvests: dict[str, Path], tmp_path: Path
) -> None:
    """Without a catalogue row, id, rootname, filter, place and size come from the dataURI."""
    wanted = [str(datauri.CutoutURI("WFC3", "ibe802npq", "flc", 1, 51, "1977.875", "675.3514", 27404778, "F606W"))]
    async with Archive(simulator.url) as archive:
        await archive.harvest(wanted, tmp_path / "d", sink="parquet")
    stars = Harvest(tmp_path / "d")

    assert {
        "id": 27404778, "rootname": "ibe802npq", "filter": "F606W", "x_cal": 1977.875, "y_cal": 675.3514,
    } == stars[0].source  # fmt: skip
    assert (25 - 0.125, 25 + 0.3514) == pytest.approx(stars[0].center)
    row = stars.table()[0]
    assert (27404778, "F606W", "flc", 51) == (row["id"], row["filter"], row["suffix"], row["size_px"])
    assert 1 == len(stars.select(filter="F606W", x_cal=(1977, 1978), id=27404778))
    assert 0 == len(stars.select(x_raw=(None, 1e9)))


def test_two_queries_of_two_detectors_in_one_folder(tmp_path: Path) -> None:
    """``filter`` finds WFPC2's filter_1; columns that one catalogue lacks are masked there."""
    import anyio

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", limit=10), tmp_path / "d", suffixes=["flt"])
            more = Query("WFPC2", limit=10, columns=["id", "filter_1"])
            await archive.harvest(more, tmp_path / "d", suffixes=["c0m"], extend=True)

    with Simulator(Settings(sources=2000)) as simulator:
        anyio.run(work, simulator.url)
    stars = Harvest(tmp_path / "d")
    table = stars.table()

    assert ["UVIS"] * 10 + ["WFPC2"] * 10 == list(table["detector"])
    assert [False] * 10 + [True] * 10 == list(table["filter"].mask)
    name = table["filter_1"][10]
    assert stars[10].uri in [c.uri for c in stars.select(filter=name)]
    assert 10 == len(stars.select(detector="WFPC2"))


def test_bytes_that_went_missing_are_told(simulator: Simulator, tmp_path: Path) -> None:
    """A lost or shortened file is a local failure that names it and the way out."""
    import anyio

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", limit=3), tmp_path / "d", suffixes=["flt"])

    anyio.run(work, simulator.url)
    stars = Harvest(tmp_path / "d")
    first, second = (tmp_path / "d" / str(place) for place in stars.table()["location"][:2])
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])

    for index in (0, 1):
        with pytest.raises(LocalError, match=r"verify\(repair=True\)"):
            stars[index]
    with pytest.raises(LocalError, match=r"verify\(repair=True\)"):
        stars.stack(int(stars.table()["size_px"][0]))
    assert stars[2].data.size


@pytest.mark.sample(3)
@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("left", [0, 1, 100, 5000])
@pytest.mark.parametrize("filler", [b"", b"x" * 10**6])
def test_a_file_that_is_cut_or_something_else_is_told(
    harvests: dict[str, Path], tmp_path: Path, sink: str, left: int, filler: bytes
) -> None:
    """Whatever the sink, what cannot be read is a local failure that names the way out, in no library's words."""
    shutil.copytree(harvests[sink], tmp_path / "d")
    for path in (tmp_path / "d").rglob("[!.]*.*"):
        if path.suffix in (".fits", ".tar", ".parquet"):
            path.write_bytes(path.read_bytes()[:left] + filler)
    stars = Harvest(tmp_path / "d")
    if not filler:
        with pytest.raises(LocalError, match=r"verify\(repair=True\)"):
            stars[-1]
    elif sink == "parquet":
        with pytest.raises(LocalError, match=r"verify\(repair=True\)"):
            list(stars)


def test_a_folder_with_all_work_pending_has_columns_of_the_same_types(simulator: Simulator, tmp_path: Path) -> None:
    """Ours are what they are also where none has a value yet."""
    with blocking.Archive(simulator.url) as archive:
        kinds = []
        for limit_bytes in (0, None):
            archive.harvest(Query("UVIS", limit=3), tmp_path / "d", suffixes=["flt"], max_bytes=limit_bytes)
            table = Harvest(tmp_path / "d").table(state=None)
            kinds.append({name: table[name].dtype.kind for name in table.colnames})

    assert kinds[0] == kinds[1]


def test_no_harvest_is_refused(tmp_path: Path) -> None:
    """A folder without a manifest is refused, and nothing appears in it."""
    with pytest.raises(FolderRefused, match="no harvest folder"):
        Harvest(tmp_path)
    assert [] == list(tmp_path.iterdir())


def _length_and_first(stars: Harvest) -> tuple[int, str]:
    return len(stars), stars[0].uri


@pytest.mark.sample(1)
def test_a_view_travels_to_another_process(stars: Harvest) -> None:
    """It pickles and survives a fork, as loaders of training data need; files are opened anew."""
    view = stars.select(suffix="flt")
    wanted = (len(view), view[0].uri)

    assert wanted == _length_and_first(pickle.loads(pickle.dumps(view)))
    code = "import pickle, sys; v = pickle.load(sys.stdin.buffer); print(len(v), v[0].uri)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(view), capture_output=True, check=True)

    assert f"{wanted[0]} {wanted[1]}\n" == done.stdout.decode()


def test_notebooks_show_pictures(stars: Harvest) -> None:
    """A cutout shows its picture and facts, a harvest its first ones; what the archive sent cannot be markup."""
    shown = stars[0]._repr_html_()
    assert "data:image/png;base64," in shown
    assert str(stars[0].source["id"]) in shown
    assert 12 == stars._repr_html_().count("<img")
    evil = Cutout(stars[0].uri, stars[0].raw, {"filter": "<script>"})
    assert "<script>" not in evil._repr_html_()
    assert "no image" in Cutout("mast:X/readme.txt", b"text")._repr_html_()


@given(
    numbers=st.sets(st.integers(1, 60)),
    asked=st.lists(st.integers(-5, 70)),
    cut=st.tuples(*[st.none() | st.integers(-70, 70)] * 2, st.none() | st.integers(-5, 5).filter(bool)),
    size=st.integers(1, 9),
)
def test_runs_are_a_sorted_list(numbers: set[int], asked: list[int], cut: tuple, size: int) -> None:
    """Positions, slices, pieces and membership are those of the plain list."""
    plain = sorted(numbers)
    runs = IntervalSet.of(np.array(plain[k : k + size], np.int64) for k in range(0, len(plain), size))

    assert len(plain) == len(runs)
    assert plain == runs.numbers(0, len(plain)).tolist()
    assert sorted(plain[slice(*cut)]) == runs.sliced(slice(*cut)).numbers(0, len(plain[slice(*cut)])).tolist()
    assert plain == [n for piece in runs.pieces(size) for n in piece.tolist()]
    assert [n in numbers for n in asked] == runs.contains(np.array(asked, np.int64)).tolist()
    assert list(range(3, 8)) == IntervalSet.between(3, 7).numbers(0, 5).tolist()
    assert 0 == len(IntervalSet.between(1, 0))


@given(
    size=st.integers(1, 101),
    x=st.floats(-200, 5000),
    y=st.floats(-200, 5000),
)
def test_the_star_is_in_the_middle_pixel(size: int, x: float, y: float) -> None:
    """Whatever the coordinates, the centre lies within half a pixel of the middle, at the same fraction."""
    uri = datauri.CutoutURI("WFC3", "ibc302ioq", "flt", 1, size, repr(x), repr(y), 1, "F606W")
    assert uri.center is not None
    for place, given_place in zip(uri.center, (x, y), strict=True):
        assert abs(place - size // 2) <= 0.5 + 1e-9
        assert abs((given_place - place) - round(given_place - place)) < 1e-9
    assert uri._replace(x="nan").center is None
