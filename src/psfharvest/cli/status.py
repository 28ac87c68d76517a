"""``status``: the account of a folder, without touching the network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from psfharvest.cli.options import json_option
from psfharvest.cli.output import result, result_json
from psfharvest.core.model import REMEDY, Reason, Report


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def status(folder: Path, as_json: bool) -> None:
    """
    Show what DIR holds, what is missing, and why; also while another process harvests.

    Standard output has the table, or with --json one object: total, done, missing, failed, pending, bytes,
    elapsed_s and requests (of all runs), reasons, retried, and learnt: what doctor found out of the archive.
    """
    from psfharvest.run import learnt_cache  # noqa: PLC0415 - heavy, as the others
    from psfharvest.store.manifest import targets  # noqa: PLC0415
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415
    from psfharvest.store.read.account import account  # noqa: PLC0415

    report = account(folder)
    with Manifest.read(folder) as manifest:
        root = manifest.setting("archive")
        learnt = learnt_cache.read_plain(root) if root else {}
    if as_json:
        result_json(report.to_dict() | {"learnt": learnt})
        return
    with Manifest.read(folder) as manifest:
        asked = [(targets.describe(ask), ask.is_complete) for ask in targets.read_asks(manifest)]
        examples = manifest.examples()
        runs = manifest.runs()
    for words, is_complete in asked:
        result(f"{folder}: {words}{'' if is_complete else ' (not all asked for yet)'}")
    _table(report)
    for reason, n in report.reasons.items():
        result(f"\n{n:,} {reason}: {REMEDY[Reason(reason)]}")
        if reason in examples:
            result(f"  for example {examples[reason]}")
    if learnt:
        result(f"\nlearnt of {root}: {json.dumps(learnt)}")
    if runs:
        last = runs[-1]
        end = f"stopped: {last['stopped']}" if last["stopped"] else "finished"
        result(f"\n{len(runs)} run{'s' * (len(runs) > 1)}, the last from {last['started_at']}, {end}")


def _table(report: Report) -> None:
    for name in ("total", "done", "missing", "failed", "pending"):
        result(f"{name:>10} {getattr(report, name):>14,}")
    result(f"{'stored':>10} {report.bytes / 1e6:>14,.1f} MB")
    result(f"{'requests':>10} {report.requests:>14,} in {report.elapsed_s:,.1f} s")
