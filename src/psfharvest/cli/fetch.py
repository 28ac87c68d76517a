"""``fetch``: one cutout."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli import loop
from psfharvest.cli.early import speaking
from psfharvest.cli.options import (
    SHORT_PATIENCE_S,
    accept_option,
    archive_options,
    json_option,
    make_archive,
    patience_option,
    split_all,
)
from psfharvest.cli.output import result, result_bytes, result_json
from psfharvest.filesystem.atomic import require_parent, written_whole

if TYPE_CHECKING:
    from psfharvest.core.fits.cutout import Cutout


@click.command()
@click.argument("uri")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Where to; - is standard output.  [default: the archive's name for it, here]",
)
@accept_option
@archive_options
@patience_option(SHORT_PATIENCE_S)
@json_option
def fetch(uri: str, output: Path | None, accept: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """
    Download one cutout and print the file's name.

    Quote the URI: it holds characters that the shell would read.

    \b
    psfharvest fetch 'mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514&format=fits/ibe802npq_27404778_F606W_flc_cutout.fits'
    """  # noqa: E501 - a URI cannot be broken
    from psfharvest.core.fits import datauri, keys  # noqa: PLC0415

    uri, parts = datauri.read(uri)
    target = output or Path(keys.key_of(uri, parts).rpartition("/")[2])
    if str(target) != "-":
        require_parent(target)
    archive = make_archive(**options)
    accepted = split_all(accept)

    async def work() -> Cutout:
        async with archive:
            get = functools.partial(archive.fetch, uri, accept=accepted)
            return await speaking(archive, get, options["patience_s"])

    cutout = loop.run(work)
    _write(cutout.raw, target)
    if as_json:
        result_json({"uri": uri, "file": str(target), "size_bytes": len(cutout.raw)})
    elif str(target) != "-":
        result(target)


def _write(raw: bytes, target: Path) -> None:
    if str(target) == "-":
        result_bytes(raw)
        return
    with written_whole(target) as partial:
        partial.write_bytes(raw)
