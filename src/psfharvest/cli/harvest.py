"""``harvest`` and ``resume``: the main job."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli import complete, loop, unmatched
from psfharvest.cli.cluster import Cluster, cluster_options
from psfharvest.cli.conclusion import account_without_run, conclude
from psfharvest.cli.early import speaking
from psfharvest.cli.logs import log_options, logs
from psfharvest.cli.metrics import metrics_served, to_each, with_metrics
from psfharvest.cli.options import (
    ARCHIVE_OPTIONS,
    CRITERIA_HELP,
    FOLDER,
    F,
    Number,
    accept_option,
    archive_options,
    json_option,
    make_archive,
    make_archive_and_limits,
    max_bytes_option,
    page_rows_option,
    parse_queries,
    patience_option,
    split_all,
    states,
)
from psfharvest.cli.output import fail, say
from psfharvest.core import exit_status, ranges
from psfharvest.core.catalog.detectors import SUFFIX_MEANING
from psfharvest.core.errors import ArchiveDown, BadInput, LocalError
from psfharvest.core.exit_status import ExitStatus
from psfharvest.core.model import Report
from psfharvest.filesystem.failures import describe
from psfharvest.show.progress import Reporter
from psfharvest.store.sink_kinds import SINK_KINDS

if TYPE_CHECKING:
    from psfharvest.client import Archive
    from psfharvest.run import What
    from psfharvest.run.line_stream import LineStream


via_option = click.option(
    "--via",
    type=click.Choice(["auto", "file", "bundle"]),
    default="auto",
    show_default=True,
    help="How they travel: one by one, many at a time, or whichever proves faster.",
)


def run_options(command: F) -> F:
    """Add what ``harvest`` and ``resume`` share."""
    for option in reversed(
        [
            click.option(
                "--retry",
                default="failed",
                show_default=True,
                metavar="STATES",
                help="What gets fresh attempts: failed, missing, or failed,missing.",
            ),
            max_bytes_option,
            accept_option,
            click.option("--fsync", is_flag=True, help="Let every claim survive power loss, too (slower)."),
            click.option("--quiet", is_flag=True, help="Show no progress."),
        ]
    ):
        command = option(command)
    command = with_metrics(command)
    return log_options(json_option(patience_option(3600.0)(page_rows_option(archive_options(command)))))


@click.command(
    help=f"""Download cutouts into DIR, resumably: the same command continues where the last one stopped.

    Ask by a query (DETECTOR is UVIS, IR or WFPC2, several as UVIS,IR, or all), or give dataURIs with --uris.
    {CRITERIA_HELP}
    \b
    psfharvest harvest stars UVIS filter=F606W n_sat_pixels=0 --limit 1000 --suffix flc
    psfharvest harvest both WFPC2 chip=3 qfit=..0.1 --suffix d0m,c0m
    psfharvest harvest listed --uris uris.txt
    make-uris | psfharvest harvest piped --uris -
    psfharvest harvest all UVIS --suffix flc --workers 4   in parts, merged at the end

    {exit_status.help_text()}
    """
)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("words", nargs=-1, metavar="[DETECTOR [CRITERION]...]", shell_complete=complete.words)
@click.option("--uris", metavar="FILE", help="A file of dataURIs, one a line; - reads standard input as it comes.")
@click.option(
    "--suffix",
    "suffixes",
    multiple=True,
    metavar="S",
    shell_complete=complete.suffixes,
    help="raw flt flc (WFC3), d0m c0m (WFPC2); several as flt,flc.",
)
@click.option("--unsat-size", type=Number(ranges.SIDE_PX), default=51, show_default=True, metavar="PX")
@click.option("--sat-size", type=Number(ranges.SIDE_PX), default=101, show_default=True, metavar="PX")
@click.option(
    "--columns",
    metavar="A,B",
    shell_complete=complete.columns,
    help="Metadata to keep beside the cutouts.  [default: all]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="The N sources with the lowest ids, of each detector; a larger N later goes on.",
)
@via_option
@click.option(
    "--sink",
    type=click.Choice(list(SINK_KINDS)),
    help="How they are stored; fixed for a folder's life.  [default: files]",
)
@click.option(
    "--layout",
    type=click.Choice(["tree", "flat"]),
    help="Of --sink files; flat is the notebook's.  [default: tree]",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep a new DIR's manifest in FILE, on a local disk; DIR notes where.",
)
@click.option(
    "--shard-bytes",
    type=Number(ranges.SHARD_BYTES),
    metavar="N",
    help="Of --sink shards: the size at which the next shard is begun.  [default: 1000000000]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say what it would take: sources, cutouts, bytes, requests, time; make nothing.",
)
@click.option("--extend", is_flag=True, help="Add to a folder that holds another harvest.")
@cluster_options
@run_options
def harvest(
    folder: Path,
    words: tuple[str, ...],
    uris: str | None,
    suffixes: tuple[str, ...],
    unsat_size: int,
    sat_size: int,
    columns: str | None,
    limit: int | None,
    via: str,
    sink: str | None,
    layout: str | None,
    manifest: Path | None,
    shard_bytes: int | None,
    extend: bool,
    dry_run: bool,
    dask: str | None,
    workers: int | None,
    part_rows: int | None,
    **options: Any,
) -> int:
    _check_accept(options["accept"])
    _refuse_suffix_words(words, suffixes)
    alone = {"manifest": manifest, "extend": extend, "max_bytes": options["max_bytes"], "layout": layout}
    cluster = Cluster.of(dask, workers, part_rows, sink=sink, uris=uris, **alone)
    what = _what(words, uris, columns, limit)
    chosen = split_all(suffixes)
    is_sized = (unsat_size, sat_size) != (51, 101)
    _refuse_with_list(uris, suffix=chosen, limit=limit is not None, columns=columns, unsat_size=is_sized)
    if uris is None and not chosen:
        raise BadInput("a query needs --suffix: which products of each source (raw flt flc, or d0m c0m)")
    if shard_bytes is not None and sink not in (None, "shards"):
        raise BadInput(f"--shard-bytes goes with --sink shards, not with --sink {sink}")
    sizes = {"unsat_size": unsat_size, "sat_size": sat_size}
    if dry_run:
        return _dry_run(folder, what, chosen, sizes, sink=sink, via=via, **options)
    more: dict[str, Any] = {"suffixes": chosen, **sizes}
    more |= {
        "sink": sink,
        "layout": layout,
        "manifest": manifest,
        "shard_bytes": shard_bytes,
        "extend": extend,
        "via": via,
    }

    async def work(archive: Archive, **common: Any) -> Report:
        report = await archive.harvest(what, folder, part_rows=part_rows, **more, **common)
        if cluster is not None or report.total or report.stopped or not isinstance(what, list):
            return report
        reasons = [reason for query in what for reason in await unmatched.explain(archive, query)]
        return replace(report, notes=(*report.notes, *reasons))

    return _run(folder, work, cluster, **options)


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@via_option
@run_options
def resume(folder: Path, via: str, **options: Any) -> int:
    """
    Go on with what DIR's manifest has recorded.

    \b
    psfharvest resume stars
    psfharvest resume stars --retry failed,missing
    """
    return _run(folder, lambda archive, **common: archive.resume(folder, via=via, **common), **options)


def _check_accept(accept: tuple[str, ...]) -> None:
    """Raise `BadInput` for a name that is no deviation's, before anything is asked or made."""
    from psfharvest.core.fits import accepted_deviations  # noqa: PLC0415 - heavy

    accepted_deviations.checked(split_all(accept))


def _refuse_suffix_words(words: tuple[str, ...], suffixes: tuple[str, ...]) -> None:
    """Raise `BadInput` for suffixes that stand beside --suffix: it takes one word."""
    loose = [word for word in words if word.lower() in SUFFIX_MEANING]
    if loose:
        together = ",".join([*split_all(suffixes), *(word.lower() for word in loose)])
        raise BadInput(f"{loose[0]!r} is a suffix: several are written as --suffix {together}")


def _refuse_with_list(uris: str | None, **given: object) -> None:
    """Raise `BadInput` for options of a query that stand beside a list."""
    for name, value in given.items():
        if uris is not None and value:
            raise BadInput(f"--{name.replace('_', '-')} goes with a query; a dataURI says all of that itself")


def _what(words: tuple[str, ...], uris: str | None, columns: str | None, limit: int | None) -> What | Path:
    if uris is not None:
        if words:
            raise BadInput(f"either a query or --uris: remove {' '.join(words)!r} or --uris")
        return _standard_input() if uris == "-" else Path(uris)
    if not words:
        raise BadInput(
            "harvest what? Give DETECTOR and criteria, or --uris FILE; 'resume DIR' goes on with a folder"
        )
    return parse_queries(words, columns, limit)


def _dry_run(
    folder: Path,
    what: What | Path,
    suffixes: list[str],
    sizes: dict[str, int],
    *,
    sink: str | None,
    via: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Say what a harvest would take."""
    from psfharvest.cli import dry_run  # noqa: PLC0415 - heavy

    archive, limits = make_archive_and_limits(**{k: v for k, v in options.items() if k in ARCHIVE_OPTIONS})

    async def work() -> dry_run.Plan:
        async with archive:
            return await dry_run.make_plan(archive, what, suffixes, **sizes)

    plan = loop.run(work)
    dry_run.show(plan, folder, archive, limits, sink=sink, via=via, as_json=as_json)
    return ExitStatus.DONE


def _run(
    folder: Path,
    do: Callable[..., Awaitable[Report]],
    cluster: Cluster | None = None,
    *,
    retry: str,
    fsync: bool,
    max_bytes: int | None,
    accept: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    log_words, place = (options.pop("log_file"), options.pop("verbosity")), options.pop("metrics_place")
    archive = make_archive(**options)
    chosen = states(retry)
    with (
        metrics_served(place, is_quiet=quiet) as metrics,
        logs(*log_words) as log,
        Reporter(is_quiet=quiet) as reporter,
    ):
        common = {"fsync": fsync, "retry_states": chosen, "max_bytes": max_bytes}
        common |= {"progress": reporter, "events": to_each(log, metrics), "accept": split_all(accept)}
        work = functools.partial(_work, archive, do, **common)
        patience_s = float(options["patience_s"])

        async def in_parts_or_not() -> Report:
            if cluster is None:
                return await speaking(archive, work, patience_s, is_heard=lambda: quiet or reporter.has_begun)
            if not quiet:
                say(cluster.words)
            async with cluster.connected(options["token"]) as client:
                # Its workers ask the archive, and what they meet is shown by the harvest's own progress.
                return await work(cluster=client)

        try:
            report = loop.run(in_parts_or_not, is_final=True)
        except loop.Interrupted as interrupted:
            report = account_without_run(folder, interrupted.word)
        except ArchiveDown as error:
            fail(error)
            report = account_without_run(folder, "archive_down")
        except LocalError as error:
            fail(error)
            report = error.report or account_without_run(folder, "local_error")
        except OSError as error:  # the system refuses an event loop or a thread
            say(f"{folder}: {describe(error, folder)}")
            report = account_without_run(folder, "local_error")
    return conclude(report, folder, is_quiet=quiet, as_json=as_json)


async def _work(archive: Archive, do: Callable[..., Awaitable[Report]], **common: Any) -> Report:
    async with archive:
        return await do(archive, **common)


def _standard_input() -> LineStream:
    from psfharvest.run.line_stream import LineStream  # noqa: PLC0415 - heavy
    from psfharvest.run.lines import STANDARD_INPUT  # noqa: PLC0415

    if sys.stdin is None or sys.stdin.closed:
        raise BadInput("--uris -: there is no standard input")
    return LineStream(sys.stdin.fileno(), STANDARD_INPUT)
