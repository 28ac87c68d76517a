"""``adopt``: a folder of cutouts without a manifest gets one."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli import loop
from psfharvest.cli.early import speaking
from psfharvest.cli.options import (
    FOLDER,
    SHORT_PATIENCE_S,
    accept_option,
    archive_options,
    json_option,
    make_archive,
    patience_option,
    split_all,
)
from psfharvest.cli.output import result_json, say
from psfharvest.cli.paced import BarOrLines, PacedLines
from psfharvest.core.errors import BadInput

if TYPE_CHECKING:
    from psfharvest.run.catalogue_rows import Filled
    from psfharvest.store.recover.adopt import Adopted, AdoptProgress, UriList

LINES_SHOWN = 20


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--uris",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The dataURIs that DIR is to hold, one a line; files need it, unless the notebook's module or a bundle "
    "left a list in DIR.",
)
@click.option(
    "--catalogue",
    is_flag=True,
    help="Ask the archive for the catalogue rows (flux, qfit, ...) of cutouts that have none; also in a folder "
    "with a sound manifest, such as a list's harvest.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@accept_option
@archive_options
@patience_option(SHORT_PATIENCE_S)
@json_option
def adopt(
    folder: Path,
    uris: Path | None,
    catalogue: bool,
    accept: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """
    Make DIR's manifest anew from the cutouts in it; no cutout is touched, and without --catalogue nothing is asked.

    For a folder whose manifest was lost or damaged, and for cutouts that the notebook's module or an extracted
    bundle left. What is whole becomes done; what is broken or absent becomes pending: the next harvest fetches it.

    \b
    psfharvest adopt stars                                 shards and Parquet hold their dataURIs themselves
    psfharvest adopt stars --uris uris.txt                 files do not: x and y are nowhere in a FITS file
    psfharvest adopt MAST_2026-11-22T1015                  as the notebook left it (the folder above WFC3PSF)
    psfharvest adopt stars --uris uris.txt --catalogue     asks the archive for what a list does not tell
    psfharvest resume stars                                goes on

    The same 'harvest' command continues, too; a query is added to an adopted list with --extend, and what is done
    counts once. FITS files are checked in their structure; a changed pixel is found in Parquet only.

    \b
    Exit status: 0 nothing was broken; 3 something was; 2 nothing to adopt, or in use; 74 local storage failed;
    75 with --catalogue, the archive stayed out of reach.
    After an interrupt the same command continues.
    """
    from psfharvest.store.recover.adopt import adopt as adopted  # noqa: PLC0415

    found = None
    if not (catalogue and _is_sound(folder)):
        with ExitStack() as stack:
            watch = functools.partial(_watch, stack.enter_context(BarOrLines(is_quiet=quiet)))
            found = adopted(folder, _listed(folder, uris, stack), accept=split_all(accept), watch=watch)
        _show_result(found, folder)
    filled = _ask_rows(folder, options, is_quiet=quiet) if catalogue else None
    if as_json:
        result_json(_account(folder, found, filled))
    return 3 if found is not None and found.broken else 0


def _is_sound(folder: Path) -> bool:
    """Return True for a folder whose manifest needs no adoption."""
    from psfharvest.store.folder import is_harvest  # noqa: PLC0415
    from psfharvest.store.manifest.damage import is_damaged  # noqa: PLC0415

    return is_harvest(folder) and not is_damaged(folder)


def _ask_rows(folder: Path, options: dict[str, Any], *, is_quiet: bool) -> Filled:
    """Ask the archive for the catalogue rows that the folder's cutouts lack, and say what came of it."""
    from psfharvest.run.catalogue_rows import fill  # noqa: PLC0415

    archive = make_archive(**options)
    lines = PacedLines(is_quiet=is_quiet)

    def show(filled: Filled) -> None:
        lines.say(f"{filled.n_found:,} catalogue rows so far")

    async def work() -> Filled:
        async with archive:
            return await speaking(archive, lambda: fill(folder, archive.query, show), options["patience_s"])

    try:
        filled = loop.run(work)
    except loop.Interrupted:
        say("interrupted: the same command continues")
        raise
    if filled == (0, 0):
        say("every cutout has its catalogue row")
        return filled
    unknown = f"; the archive has none that fits {filled.n_unknown:,}" if filled.n_unknown else ""
    say(f"{filled.n_found:,} cutouts have got their catalogue rows{unknown}")
    return filled


def _account(folder: Path, found: Adopted | None, filled: Filled | None) -> dict[str, Any]:
    from psfharvest.store.read.account import account  # noqa: PLC0415

    result: dict[str, Any] = (account(folder) if found is None else found.report).to_dict()
    if found is not None:
        broken_uris = [example.uri for example in found.examples if example.uri]
        result |= {"broken": found.broken, "problems": dict(found.problems), "uris": broken_uris}
        result |= {"strays": found.strays}
    if filled is not None:
        result |= {"rows": filled.n_found, "rows_unknown": filled.n_unknown}
    return result


def _listed(folder: Path, uris: Path | None, stack: ExitStack) -> UriList | None:
    """Return the list that the user gives, or one that was left in the folder."""
    from psfharvest.core import bundle_page  # noqa: PLC0415
    from psfharvest.notebook.dated import LIST_NAME  # noqa: PLC0415
    from psfharvest.run import uri_lists  # noqa: PLC0415
    from psfharvest.run.line_stream import is_read_once  # noqa: PLC0415
    from psfharvest.store.manifest.targets import Target  # noqa: PLC0415
    from psfharvest.store.recover import page_list  # noqa: PLC0415
    from psfharvest.store.recover.adopt import UriList  # noqa: PLC0415

    if uris is None and (folder / LIST_NAME).is_file():
        uris = folder / LIST_NAME
    if uris is not None:
        copy = stack.enter_context(_copy_of(uris)) if is_read_once(uris) else uris
        identity = uri_lists.identity(copy)
        target = Target("file", identity, {"path": str(uris.absolute())})
        return UriList(identity, functools.partial(uri_lists.from_file, copy), target)
    page = folder / bundle_page.NAME
    if page.is_file():
        return UriList(page_list.identity(page), functools.partial(page_list.read, page))
    return None


@contextmanager
def _copy_of(pipe: Path) -> Iterator[Path]:
    """Keep what a pipe gives in a file for the time of the context: it is read twice, and a pipe is read once."""
    with tempfile.TemporaryDirectory(prefix="psfharvest-") as folder:
        copy = Path(folder) / "list"
        try:
            with pipe.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise BadInput(f"--uris {pipe}: {error.strerror or error}") from error
        yield copy


def _watch(shown: BarOrLines, looked: AdoptProgress) -> None:
    total, broken = "" if looked.total is None else f" of {looked.total:,}", f"{looked.n_broken:,} broken"
    shown.show(looked.n_read, looked.total or 0, f"{looked.n_read:,}{total} cutouts read, {broken}", broken)


def _show_result(found: Adopted, folder: Path) -> None:
    report = found.report
    for problem, location, uri in found.examples[:LINES_SHOWN]:
        say(f"{problem}: {location}{f' ({uri})' if uri else ''}")
    if found.set_aside:
        say(f"what was left of the old manifest is {folder / found.set_aside} now")
    words = f"{report.done:,} of {report.total:,} cutouts in {folder} adopted, {found.broken:,} broken"
    say(f"{words} ({found.kind.words}, {report.bytes / 1e6:,.1f} MB)")
    if found.strays:
        say(f"{found.strays:,} files that belong to none were left as they are")
    if report.pending:
        say(f"{report.pending:,} are pending: psfharvest resume {folder} fetches them")
    if not found.is_asked:
        say("what the folder was asked for is not known any more: run the same 'harvest' command to record it")
