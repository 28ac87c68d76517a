"""``plot``: a picture of cutouts, from files or harvest folders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psfharvest.cli.options import json_option
from psfharvest.cli.output import result_json, say
from psfharvest.core.errors import BadInput
from psfharvest.filesystem.atomic import require_parent

if TYPE_CHECKING:
    from psfharvest.show.plot import Panel

PANELS = 100


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT",
    help="The picture: .png, .pdf or .svg.",
)
@click.option(
    "--count", "n", type=click.IntRange(1, 400), default=PANELS, show_default=True, metavar="N", help="At most."
)
@click.option("--stretch", type=click.Choice(["log", "asinh", "linear"]), default="log", show_default=True)
@click.option("--size", type=int, metavar="PX", help="From harvest folders, only cutouts of this side.")
@json_option
def plot(paths: tuple[Path, ...], output: Path, n: int, stretch: str, size: int | None, as_json: bool) -> None:
    """
    Draw cutouts: FITS files, harvest folders, or folders of FITS files; one alone gets a colour bar.

    \b
    psfharvest plot stars -o stars.png
    psfharvest plot stars --size 101 --stretch asinh -o saturated.png
    psfharvest plot ibc302ioq_8184981_F814W_flt_cutout.fits -o star.png

    Each has its own range, from its 5th percentile to its brightest pixel; blue grey is no number.
    """
    from psfharvest.show.plot import contact_sheet  # noqa: PLC0415 - heavy

    require_parent(output)
    panels = _panels(paths, size)
    drawn = list(islice(panels, n))
    more = next(panels, None) is not None
    if not drawn:
        raise BadInput(f"{' '.join(map(str, paths))}: no cutout to draw")
    contact_sheet(drawn, output, stretch=stretch, max_panels=n)
    only = f", the first {n}; --count draws more" if more else ""
    say(f"drew {len(drawn)} cutouts in {output}{only}")
    if as_json:
        result_json({"file": str(output), "cutouts": len(drawn), "is_all": not more})


def _panels(paths: tuple[Path, ...], size: int | None) -> Iterator[Panel]:
    from psfharvest.store.folder import is_harvest  # noqa: PLC0415

    for path in paths:
        if path.is_dir() and is_harvest(path):
            yield from _of_harvest(path, size)
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*.fits") if p.is_file())
            if not found:
                raise BadInput(f"{path} is no harvest folder and has no .fits files")
            yield from map(_of_file, found)
        else:
            yield _of_file(path)


def _of_harvest(folder: Path, size: int | None) -> Iterator[Panel]:
    from psfharvest.core.fits import datauri, pixels  # noqa: PLC0415
    from psfharvest.show.plot import Panel, short_title  # noqa: PLC0415 - heavy
    from psfharvest.store.read.harvest import Harvest  # noqa: PLC0415

    with Harvest(folder) as stars:
        for cutout in stars if size is None else stars.select(size_px=size):
            image = pixels.image(cutout.raw, datauri.parts_of(cutout.uri))
            if image is not None:
                yield Panel(image, short_title(cutout.file_name), cutout.center)


def _of_file(path: Path) -> Panel:
    from psfharvest.core.fits import fitscheck, pixels, quirks  # noqa: PLC0415
    from psfharvest.show.plot import Panel, short_title  # noqa: PLC0415 - heavy

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    flaw = fitscheck.flaw(raw, None)
    if flaw is not None and quirks.mended(raw) is None:
        raise BadInput(f"{path} is no whole FITS file: {flaw.reason} ({flaw.detail[:60]})")
    image = pixels.image(raw)
    if image is None or image.ndim != 2:
        raise BadInput(f"{path} holds no image")
    return Panel(image, short_title(path.name))
