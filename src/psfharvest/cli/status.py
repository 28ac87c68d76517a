"""``status``: the account of a folder, or a list of its cutouts by state, without touching the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli.options import json_option
from psfharvest.cli.output import result, result_json
from psfharvest.core.advice import in_shell
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Report, State
from psfharvest.core.reasons import remedy
from psfharvest.show.durations import clock

if TYPE_CHECKING:
    from psfharvest.store.read.running import Running


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--failed",
    is_flag=True,
    help="List what is missing or failed: dataURI, reason and the archive's words, a line each.",
)
@click.option(
    "--uris",
    "state",
    type=click.Choice([*State], case_sensitive=False),
    metavar="STATE",
    help="List the dataURIs that are pending, done, missing or failed, one a line: a list for --uris.",
)
@json_option
def status(folder: Path, failed: bool, state: str | None, as_json: bool) -> None:
    """
    Show what DIR holds, what is missing, and why; also while another process harvests.

    Standard output has the table, or with --json one object: total, done, missing, failed, pending, bytes,
    elapsed_s and requests (of all runs), reasons, retried, learnt (what doctor found out), accepted (by --accept),
    and running while a process harvests.

    \b
    psfharvest status stars
    psfharvest status stars --failed --json                one JSON object a line
    psfharvest status stars --uris failed > again.txt
    """
    if failed and state is not None:
        raise BadInput("either --failed or --uris STATE: --failed has the dataURIs, too")
    from psfharvest.store.manifest.place import is_in_parts  # noqa: PLC0415

    if is_in_parts(folder) and not (failed or state):
        _show_parts(folder, as_json=as_json)
        return
    states = (State.MISSING, State.FAILED) if failed else (State(state),) if state is not None else ()
    if states:
        _list(folder, states, as_json=as_json, is_bare=not failed)
        return
    from psfharvest.store.read.account import account  # noqa: PLC0415
    from psfharvest.store.read.running import running  # noqa: PLC0415

    report = account(folder)
    under_way = running(folder)
    if as_json:
        under_way_plain = {"running": under_way.to_dict()} if under_way else {}
        more = {"learnt": _learnt(folder)[1], "accepted": _accepted(folder)}
        result_json(report.to_dict() | more | under_way_plain)
        return
    _show(folder, report, under_way)


def _show_parts(folder: Path, *, as_json: bool) -> None:
    """Show the sum of the accounts of parts that are not merged."""
    from psfharvest.store import parts  # noqa: PLC0415

    report = parts.summed(folder)
    plan = parts.read_plan(folder)
    if as_json:
        result_json(report.to_dict() | {"learnt": {}})
        return
    begun = 0 if plan is None else len(parts.begun(folder, plan))
    result(f"{folder}: {begun:,} of {0 if plan is None else len(plan.parts):,} parts have begun; none is merged")
    _table(report)
    for reason, n in report.reasons.items():
        result(f"\n{n:,} {reason}: {in_shell(remedy(reason))}")
    result(f"\nonce they are finished: psfharvest merge {folder}")


def _learnt(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the folder's archive, and what doctor found out of it."""
    from psfharvest.run import learnt_cache  # noqa: PLC0415 - heavy, as the others
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415

    with Manifest.read(folder) as manifest:
        root = str(manifest.setting("archive") or "")
    return root, learnt_cache.read_plain(root) if root else {}


def _accepted(folder: Path) -> list[str]:
    """Return the deviations of cutouts that pass in this folder."""
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415 - heavy, as the others

    with Manifest.read(folder) as manifest:
        return list(json.loads(manifest.setting("accept") or "[]"))


def _list(folder: Path, states: tuple[State, ...], *, as_json: bool, is_bare: bool) -> None:
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415
    from psfharvest.store.read.cutouts import cutouts  # noqa: PLC0415

    with Manifest.read(folder) as manifest:
        for row in cutouts(manifest, states):
            if as_json:
                result(json.dumps(row._asdict()))
            elif is_bare:
                result(row.uri)
            else:
                result("\t".join([row.uri, row.reason or "", " ".join((row.detail or "").split())]))


def _show(folder: Path, report: Report, under_way: Running | None) -> None:
    from psfharvest.store.manifest import targets  # noqa: PLC0415
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415

    with Manifest.read(folder) as manifest:
        asked = [(targets.describe(target), target.is_complete) for target in targets.read_targets(manifest)]
        examples = manifest.examples()
        runs = manifest.runs()
    for words, is_complete in asked:
        result(f"{folder}: {words}{'' if is_complete else ' (not all asked for yet)'}")
    _table(report)
    _trouble(folder, report, examples)
    root, learnt = _learnt(folder)
    if accepted := _accepted(folder):
        result(f"\naccepted: {', '.join(accepted)}")
    if learnt:
        result(f"\nlearnt of {root}: {json.dumps(learnt)}")
    if runs:
        last = runs[-1]
        end = f"stopped: {last['stopped']}" if last["stopped"] else "finished"
        end = "under way" if under_way else end
        result(f"\n{len(runs)} run{'s' * (len(runs) > 1)}, the last from {last['started_at']}, {end}")
    if under_way:
        for line in _running_lines(under_way):
            result(line)


def _trouble(folder: Path, report: Report, examples: dict[str, str]) -> None:
    for reason, n in report.reasons.items():
        result(f"\n{n:,} {reason}: {in_shell(remedy(reason))}")
        if reason in examples:
            result(f"  for example {examples[reason]}")
    if report.missing or report.failed:
        result(f"\nall of them: psfharvest status {folder} --failed")


def _running_lines(under_way: Running) -> list[str]:
    lines = [f"running: process {under_way.pid} on {under_way.host} since {under_way.since}"]
    if under_way.outage:
        lines.append(f"  the archive is down since {under_way.outage_since}: {under_way.outage}")
        lines.append(f"  trying until {under_way.gives_up_at}")
    elif under_way.per_second is not None:
        left = "" if under_way.left_s is None else f", {clock(under_way.left_s)} left"
        lines.append(f"  {under_way.per_second:.1f} cutouts/s over {under_way.connections} connections{left}")
    return lines


def _table(report: Report) -> None:
    rows: list[tuple[str, Any]] = [
        (name, getattr(report, name)) for name in ("total", "done", "missing", "failed", "pending")
    ]
    for name, n in rows:
        result(f"{name:>10} {n:>14,}")
    result(f"{'stored':>10} {report.bytes / 1e6:>14,.1f} MB")
    result(f"{'requests':>10} {report.requests:>14,} in {report.elapsed_s:,.1f} s")
