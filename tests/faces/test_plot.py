"""Pictures: whatever pixels hold, they are drawn, and nothing is warned about."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.image import imread

from harness import command
from psfharvest import Archive, BadInput, Cutout, Harvest, Query, SinkError
from psfharvest.core.fits.thumbnail import BLANK_RGB, png
from psfharvest.show.plot import BLANK, MARK, Panel, contact_sheet, short_title
from psfharvest.simulator import Settings, Simulator
from sampling import examples

FITS_NAME = "ibc302ioq_8184981_F814W_flt_cutout.fits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest of 60 cutouts, saturated ones and ones at the edge among them."""
    home = tmp_path_factory.mktemp("plotted") / "stars"

    async def work(url: str) -> None:
        async with Archive(url) as archive:
            await archive.harvest(Query("UVIS", filter="F606W", limit=60), home, suffixes=["flt"])

    with Simulator(Settings(sources=8000)) as simulator:
        anyio.run(work, simulator.url)
    return home


def colours(path: Path) -> set[tuple[int, ...]]:
    """The colours of a picture's pixels."""
    image = np.rint(imread(path)[..., :3] * 255).astype(int)
    packed = np.unique(image @ np.array([65536, 256, 1]))
    return {(c >> 16, c >> 8 & 255, c & 255) for c in packed.tolist()}


@pytest.mark.sample(1)
@pytest.mark.parametrize("n", [6, 1, 2, 24, 60])
@pytest.mark.parametrize("stretch", ["log", "asinh", "linear"])
def test_sheets_of_a_harvest(folder: Path, tmp_path: Path, n: int, stretch: str) -> None:
    """A sheet grows with its cutouts, and has neither empty rows nor a warning."""
    figure = contact_sheet(Harvest(folder)[:n], tmp_path / "out.png", stretch=stretch)

    height, width = imread(tmp_path / "out.png").shape[:2]
    assert 200 < height < 2500
    assert 200 < width < 2500
    (axes, *bar) = figure.axes
    assert (1 if n == 1 else 0) == len(bar)
    assert n == len(axes.images)
    assert n == sum(line.get_marker() != "None" for line in axes.lines)


def test_a_single_cutout_has_a_bar_with_its_values(folder: Path) -> None:
    """The bar's ends are the range drawn: the 5th percentile, and the brightest pixel."""
    cutout = Harvest(folder)[0]
    figure = contact_sheet(cutout)
    image = cutout.data
    ticks = figure.axes[1].get_yticks()

    assert pytest.approx(np.nanpercentile(image, 5), rel=1e-3) == ticks[0]
    assert pytest.approx(np.nanmax(image), rel=1e-3) == ticks[-1]
    assert cutout.file_name.split("_")[0] in figure.axes[0].get_title()


@pytest.mark.sample(1)
@pytest.mark.parametrize("shape", [(51, 51), (101, 101), (1, 1), (3, 40)])
def test_what_is_no_number_has_its_own_shade(tmp_path: Path, shape: tuple[int, int]) -> None:
    """NaN is blue grey, which no other pixel is, neither page nor black; alone and on a sheet."""
    image = np.full(shape, np.nan)
    contact_sheet(image, tmp_path / "one.png")
    contact_sheet([image, image, np.zeros(shape)], tmp_path / "three.png")

    assert BLANK in colours(tmp_path / "one.png")
    assert BLANK in colours(tmp_path / "three.png")
    assert BLANK == BLANK_RGB
    assert 3 == len(set(BLANK))


@settings(max_examples=examples(25))
@given(
    image=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    stretch=st.sampled_from(["log", "asinh", "linear"]),
)
def test_any_pixels_are_drawn_without_warnings(image: np.ndarray, stretch: str) -> None:
    """Negative, zero, huge, infinite and missing values all come to a picture (a warning is an error here)."""
    buffer = io.BytesIO()
    contact_sheet([image, image], stretch=stretch).savefig(buffer, dpi=40)

    assert png(image).startswith(b"\x89PNG")


def test_arrays_panels_and_cutouts_are_taken(folder: Path) -> None:
    """A stack, one image, a list of them, panels and cutouts can be drawn; titles may be given."""
    stars = Harvest(folder)
    for what, n in (
        (stars.stack(51)[:4], 4),
        (stars[0].data, 1),
        ([stars[0], stars[1].data], 2),
        (iter(stars), 60),
    ):
        figure = contact_sheet(what, titles=["my own"])
        assert n == len(figure.axes[0].images)
        texts = [figure.axes[0].get_title()] if n == 1 else [t.get_text() for t in figure.axes[0].texts]
        assert "my own" in texts
    assert 1 == len(contact_sheet(Panel(np.zeros((5, 5)))).axes[0].images)
    assert 3 == len(contact_sheet(stars, max_panels=3).axes[0].images)


@pytest.mark.parametrize("what", [[], 7, np.zeros(5), [np.zeros(5)], np.zeros((0, 51, 51)), [np.zeros((0, 0))]])
def test_what_cannot_be_drawn_is_refused(what: object, tmp_path: Path) -> None:
    """Nothing, or what has not two axes, is bad input, and no file appears."""
    with pytest.raises(BadInput):
        contact_sheet(what, tmp_path / "out.png")
    assert [] == list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """An unknown ending is bad input, a missing folder a local failure."""
    with pytest.raises(BadInput, match=r"\.png"):
        contact_sheet(np.zeros((5, 5)), tmp_path / "out.xyz")
    with pytest.raises(SinkError, match=r"no.out\.png"):
        contact_sheet(np.zeros((5, 5)), tmp_path / "no" / "out.png")


@given(st.text())
def test_titles_stay_short(name: str) -> None:
    """Whatever a file is called, its title has at most two lines that fit."""
    lines = short_title(name).split("\n") if "\n" not in name else [""]

    assert len(lines) <= 2
    assert all(len(line) <= 24 for line in lines)


def test_titles_say_what_matters() -> None:
    """Exposure and id above filter and product; the mark has a colour that no grey is."""
    assert "ibc302ioq 8184981\nF814W flt" == short_title(FITS_NAME)
    assert re.fullmatch("#[0-9a-f]{6}", MARK)


def test_a_figure_shows_itself(folder: Path) -> None:
    """A notebook asks a cell's last value for its PNG, whether or not a backend of matplotlib is set."""
    from IPython.core.formatters import PNGFormatter

    png = PNGFormatter()(contact_sheet(Harvest(folder)[:4]))

    assert b"\x89PNG" == png[:4]


def test_the_thumbnail_is_the_image(tmp_path: Path) -> None:
    """The small picture has a pixel a pixel, the first row at the bottom, and shades that rise with the values."""
    image = np.arange(12, dtype=np.float32).reshape(3, 4) ** 2
    image[2, 3] = np.nan
    (tmp_path / "small.png").write_bytes(png(image))
    drawn = np.rint(imread(tmp_path / "small.png")[..., :3] * 255).astype(int)[::-1]

    assert (3, 4, 3) == drawn.shape
    assert BLANK_RGB == tuple(drawn[2, 3])
    grey = drawn[..., 0].ravel()[:-1]
    assert sorted(grey) == grey.tolist()
    assert (0, 255 - 1) == (grey[0], grey[-1])
    assert max(imread(io.BytesIO(png(np.zeros((3000, 10), np.float32)))).shape[:2]) <= 512


@pytest.mark.campaign
def test_the_command_draws_folders_and_files(psfharvest, folder: Path, tmp_path: Path) -> None:
    """A harvest, a folder of files and files alone; what was drawn is said on standard error."""
    first = Harvest(folder)[0]
    (tmp_path / FITS_NAME).write_bytes(first.raw)
    run = psfharvest("plot", folder, "-o", "sheet.png", "--count", "20", "--json")

    assert (0, {"file": "sheet.png", "cutouts": 20, "is_all": False}) == (run.status, run.account)
    assert "the first 20; --count draws more" in run.err
    assert 0 == psfharvest("plot", folder, "-o", "sat.pdf", "--size", "101", "--stretch", "asinh").status
    assert "drew 9" in psfharvest("plot", folder / "WFC3PSF", "-o", "files.png", "--count", "9").err
    assert "drew 3" in psfharvest("plot", FITS_NAME, FITS_NAME, FITS_NAME, "-o", "three.png").err
    assert "drew 1" in psfharvest("plot", FITS_NAME, "-o", "one.svg").err
    for name in ("sheet.png", "files.png", "three.png"):
        assert colours(tmp_path / name)
    assert (tmp_path / "sat.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"$\\frac$", b"a\tb\nc", b"%s {} <&>"])
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_file_with_any_name_is_drawn(folder: Path, tmp_path: Path, name: bytes, ending: str) -> None:
    """A name that is no text, or a formula's, does for a title, too."""
    file = tmp_path / os.fsdecode(name + b".fits")
    shutil.copyfile(next(folder.rglob("*.fits")), file)
    sheet = [Panel(Harvest(folder)[0].data, short_title(file.name))] * 2
    contact_sheet(sheet, tmp_path / f"out.{ending}")
    done = subprocess.run(command("plot", file, "-o", tmp_path / f"one.{ending}"), capture_output=True, check=False)

    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["absent.fits"], "absent.fits: No such file"),
        (["page.fits"], "no whole FITS file: html_page"),
        (["cut.fits"], "no whole FITS file: truncated"),
        (["."], "has no .fits files"),
        (["whole.fits", "-o", "out.xyz"], ".png, .pdf, .svg"),
        (["whole.fits", "-o", "no/out.png"], "make it first"),
    ],
)
def test_the_command_refuses_what_is_no_picture(psfharvest, folder: Path, tmp_path: Path, words, hint) -> None:
    """Status 2, the file's name and what is wrong with it; no picture appears."""
    raw = Harvest(folder)[0].raw
    if words != ["."]:
        (tmp_path / "page.fits").write_text("<html>busy</html>")
        (tmp_path / "cut.fits").write_bytes(raw[:-1])
        (tmp_path / "whole.fits").write_bytes(raw)
    run = psfharvest("plot", *words, *([] if "-o" in words else ["-o", "out.png"]))

    assert 2 == run.status
    assert hint in run.err
    assert [] == [p for p in tmp_path.iterdir() if p.suffix != ".fits"]


def test_a_harvest_without_a_done_cutout_is_refused(psfharvest, folder: Path) -> None:
    """Nothing of that size: status 2, and no picture."""
    run = psfharvest("plot", folder, "--size", "33", "-o", "out.png")

    assert 2 == run.status
    assert "no cutout to draw" in run.err
    assert isinstance(Harvest(folder)[0], Cutout)
