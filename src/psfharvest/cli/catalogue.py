"""``count`` and ``query``: the catalogue, without its cutouts."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli import complete, loop, unmatched
from psfharvest.cli.early import speaking
from psfharvest.cli.options import (
    CRITERIA_HELP,
    SHORT_PATIENCE_S,
    archive_options,
    json_option,
    make_archive,
    page_rows_option,
    parse_queries,
    parse_query,
    patience_option,
)
from psfharvest.cli.output import result, result_json, say
from psfharvest.filesystem import extras
from psfharvest.filesystem.atomic import require_ending, require_parent, written_whole
from psfharvest.show.tables import fitting_table, json_lines, write_lines

if TYPE_CHECKING:
    from astropy.table import Table

ROWS_SHOWN = 20
SHOWN = (
    "id", "rootname", "filter", "filter_1", "chip", "psf_x_center", "psf_y_center", "psf_flux", "qfit",
    "n_sat_pixels",
)  # fmt: skip
"""Columns of a table on the terminal, where none are asked for."""
FORMATS = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits", ".parquet": "parquet"}


@click.command(
    help=f"""Print the number of sources.
    {CRITERIA_HELP}
    \b
    psfharvest count UVIS filter=F606W,F814W n_sat_pixels=0
    psfharvest count WFPC2 chip=3 psf_flux=1e4..
    """
)
@click.argument("detector", shell_complete=complete.detectors)
@click.argument("criteria", nargs=-1, metavar="[CRITERION]...", shell_complete=complete.criteria)
@archive_options
@patience_option(SHORT_PATIENCE_S)
@json_option
def count(detector: str, criteria: tuple[str, ...], as_json: bool, **options: Any) -> None:
    queries = parse_queries((detector, *criteria), None, None)
    archive = make_archive(**options)

    async def counts() -> dict[str, int]:
        return {query.detector.name: await archive.count(query) for query in queries}

    async def work() -> tuple[dict[str, int], list[str]]:
        async with archive:
            counted = await speaking(archive, counts, options["patience_s"])
            absent = [query for query in queries if not counted[query.detector.name]]
            return counted, [reason for query in absent for reason in await unmatched.explain(archive, query)]

    counted, reasons = loop.run(work)
    for reason in reasons:
        say(reason)
    each = counted if len(counted) > 1 else {}
    if as_json:
        result(json.dumps({"count": sum(counted.values()), **each}))
        return
    for name, n in each.items():
        say(f"{name} {n:,}")
    result(sum(counted.values()))


@click.command(
    help=f"""Get metadata as a table: on the terminal, or in a file by its ending (.ecsv .csv .fits .parquet).
    {CRITERIA_HELP}
    \b
    psfharvest query IR filter=F160W --columns id,rootname,psf_flux --limit 10
    psfharvest query UVIS psf_x_center=100..102 psf_y_center=100..102 n_sat_pixels=0 -o stars.ecsv
    psfharvest query WFPC2 chip=3 --json                   all rows and columns as JSON, a line each
    """
)
@click.argument("detector", shell_complete=complete.detectors)
@click.argument("criteria", nargs=-1, metavar="[CRITERION]...", shell_complete=complete.criteria)
@click.option(
    "--columns",
    metavar="A,B",
    shell_complete=complete.columns,
    help="Exactly these columns, in this order.  [default: all]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"The N sources with the lowest ids.  [default: none with -o, else {ROWS_SHOWN}]",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@archive_options
@page_rows_option
@patience_option(SHORT_PATIENCE_S)
@click.option(
    "--json", "as_json", is_flag=True, help="Rows as JSON objects, a line each; with -o, one object at the end."
)
def query(
    detector: str,
    criteria: tuple[str, ...],
    columns: str | None,
    limit: int | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    is_short = limit is None and output is None and not as_json
    asked = parse_query((detector, *criteria), columns, ROWS_SHOWN + 1 if is_short else limit)
    if output is not None:
        _check_output(output)
    archive = make_archive(**options)

    async def work() -> tuple[Table, list[str]]:
        async with archive:
            table = await speaking(archive, lambda: archive.query(asked), options["patience_s"])
            return table, [] if len(table) else await unmatched.explain(archive, asked)

    table, reasons = loop.run(work)
    if output is not None:
        _write(table, output, as_json=as_json)
    elif as_json:
        for line in json_lines(table):
            result(line)
    else:
        _show(table, is_short=is_short, is_chosen=columns is not None)
    for note in (*reasons, *table.meta.get("notes", ())):
        say(f"{note}")
    if table.meta.get("lacking"):
        raise SystemExit(3)


def _show(table: Table, *, is_short: bool, is_chosen: bool) -> None:
    """Print a table that fits the terminal: the columns asked for, else a few, as many as there is room for."""
    if not len(table):
        return
    rows = table[:ROWS_SHOWN] if is_short else table
    few = [name for name in SHOWN if name in table.colnames]
    lines, n_columns = fitting_table(rows if is_chosen or not few else rows[few], _width())
    for line in lines:
        result(line)
    hidden = len(table.colnames) - n_columns
    if hidden:
        say(f"{hidden} more columns: --columns A,B chooses, -o FILE or --json has all")
    if is_short and len(table) > ROWS_SHOWN:
        say(f"the first {ROWS_SHOWN} rows; --limit N shows more, -o FILE keeps all")


def _width() -> int | None:
    """Return the terminal's width; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _check_output(output: Path) -> None:
    require_ending(output, FORMATS)
    require_parent(output)
    if output.suffix.lower() == ".parquet":
        extras.require("a .parquet file", "parquet", "pyarrow")


def _write(table: Table, output: Path, *, as_json: bool) -> None:
    with written_whole(output) as partial:
        file_format = FORMATS[output.suffix.lower()]
        if file_format.startswith("ascii."):
            write_lines(table, partial, file_format)
        else:
            table.write(partial, format=file_format, overwrite=True)
    say(f"{len(table):,} rows in {output}")
    if as_json:
        result_json({"rows": len(table), "columns": table.colnames, "file": str(output)})
