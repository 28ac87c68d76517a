"""``export``: a harvest for other programs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from psfharvest.cli.options import json_option
from psfharvest.cli.output import result_json, say
from psfharvest.cli.paced import PacedLines


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--size", "sizes", type=int, multiple=True, metavar="PX", help="Only cutouts of this side; repeatable."
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def export(folders: tuple[Path, ...], out: Path, sizes: tuple[int, ...], quiet: bool, as_json: bool) -> None:
    """
    Write what DIR, or several, have stored to OUT: pixels and metadata together, as the ending says.

    \b
    psfharvest export stars stars.parquet             one row a cutout; pandas, polars, datasets read it
    psfharvest export stars stars.zarr                Zarr v3, sharded: 51/images, 51/id, ...
    psfharvest export stars stars.npz --size 51       numpy.load("stars.npz")["images"]
    psfharvest export stars stars.fits                a cube and a binary table for each size
    psfharvest export uvis ir wfpc2 all.h5            HDF5, of three harvests: 51/images, 51/id, ...

    It grows under another name and is renamed when it is whole; what stood at OUT is replaced.
    """
    from psfharvest import export as exporting  # noqa: PLC0415 - heavy
    from psfharvest.store.read.harvest import Harvest  # noqa: PLC0415 - heavy

    exporting.check(out)
    lines = PacedLines(is_quiet=quiet)

    def show(n: int, total: int) -> None:
        lines.say(f"{n:,} of {total:,} cutouts ({100 * n / total:.0f} %)")

    with ExitStack() as stack:
        stars = [stack.enter_context(Harvest(folder)) for folder in folders]
        done = exporting.export(stars, out, sizes=sizes, progress=show)
    if not quiet:
        words = " and ".join(f"{n:,} of {size} x {size} px" for size, n in done["sizes"].items())
        say(f"{words} in {out}")
        if done["left_out"]:
            say(f"{done['left_out']:,} files that are no cutouts were left out")
    if as_json:
        result_json(done)
