"""``merge`` and ``convert``: several harvest folders become one, or one gets another sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psfharvest.cli.conclusion import conclude
from psfharvest.cli.options import FOLDER, json_option
from psfharvest.cli.output import fail, say
from psfharvest.cli.paced import BarOrLines
from psfharvest.core.errors import BadInput, LocalError
from psfharvest.store.sink_kinds import SINK_KINDS

if TYPE_CHECKING:
    from psfharvest.store.merge import Step


@click.command(name="merge")
@click.argument("folders", metavar="DIR... [INTO]", nargs=-1, type=FOLDER)
@click.option("--partial", is_flag=True, help="Take folders with pending work, too; it is pending in INTO then.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def merge(folders: tuple[Path, ...], partial: bool, quiet: bool, as_json: bool) -> int:
    """
    Merge harvest folders of one sink into INTO: cutouts, catalogue, account and history; nothing is downloaded.

    DIR alone is a harvest in parts (--workers, --dask): its parts become one ordinary harvest folder.
    INTO is made, or is a harvest folder itself. The other folders stay as they are. What several have counts once,
    in the best of its states: done, missing, failed, pending. On one file system files are hard-linked and take
    no more room; else they are copied, and verified. Until the end INTO is what it was.

    \b
    psfharvest merge laptop cluster stars                  a new folder of two
    psfharvest merge /media/disk/stars stars               adds the first to the second
    psfharvest merge stars                                 merges the parts within it
    psfharvest harvest stars UVIS ... --suffix flc         what either folder was asked for is known

    \b
    Exit status: 0 all done; 3 some missing or failed; 2 bad input, nothing changed; 74 local storage failed;
    75 work is pending. After an interrupt or 74 the same command continues.
    """
    if not folders:
        raise BadInput("merge what into what? Give harvest folders, then INTO; or one folder with parts")
    from psfharvest.store.merge import merge as merged  # noqa: PLC0415
    from psfharvest.store.merge_parts import merge_parts  # noqa: PLC0415

    into = folders[-1]
    if len(folders) == 1:
        steps = merge_parts(into, is_partial=partial)
        return _work(steps, into, is_quiet=quiet, as_json=as_json)
    return _work(merged(folders[:-1], into, is_partial=partial), into, is_quiet=quiet, as_json=as_json)


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("out", metavar="OUT", type=FOLDER)
@click.option("--sink", type=click.Choice(list(SINK_KINDS)), required=True, help="How OUT stores.")
@click.option("--layout", type=click.Choice(["tree", "flat"]), help="Of --sink files.  [default: tree]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def convert(folder: Path, out: Path, sink: str, layout: str | None, quiet: bool, as_json: bool) -> int:
    """
    Store DIR's cutouts in a new folder OUT with another sink; catalogue, states and history are kept.

    Every cutout is held against its sha256 on the way; one that is not as recorded becomes pending in OUT. DIR
    stays as it is. Nothing is asked of the archive.

    \b
    psfharvest convert stars stars-shards --sink shards

    \b
    Exit status: 0 all done; 3 some missing or failed; 2 bad input, nothing changed; 74 local storage failed;
    75 work is pending. After an interrupt or 74 the same command continues.
    """
    from psfharvest.store.merge import convert as converted  # noqa: PLC0415

    return _work(converted(folder, out, sink, layout), out, is_quiet=quiet, as_json=as_json)


def _work(steps: Iterator[Step], into: Path, *, is_quiet: bool, as_json: bool) -> int:
    """Do the work, and return its exit status."""
    from psfharvest.store.merge import result  # noqa: PLC0415
    from psfharvest.store.read.account import last_run  # noqa: PLC0415

    try:
        n_broken = _show(steps, is_quiet=is_quiet)
        report = result(into)
    except LocalError as error:
        fail(error)
        n_broken, report = 0, last_run(into, "local_error")
    status = conclude(report, into, is_quiet=is_quiet, as_json=as_json)
    if n_broken:
        words = f"psfharvest resume {into} fetches what is pending" if report.pending else "others had them whole"
        say(f"{n_broken:,} cutouts were not as recorded where they came from: {words}")
    return status


def _show(steps: Iterator[Step], *, is_quiet: bool) -> int:
    """Go through the steps and show how far they have come; return how many cutouts were broken."""
    n_broken = n_done = 0
    with BarOrLines(is_quiet=is_quiet) as shown:
        for step in steps:
            n_broken += step.n_broken
            n_done += step.n
            shown.show(n_done, n_done + step.n_left, f"{step.folder}: {step.n_left:,} cutouts left")
    return n_broken
