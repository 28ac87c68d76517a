"""``doctor``: whether an archive is as psfharvest expects it, by a few polite requests."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli import loop
from psfharvest.cli.options import archive_options, json_option
from psfharvest.cli.output import result, result_json, say
from psfharvest.core.catalog.detectors import DETECTORS, detector
from psfharvest.core.errors import LocalError
from psfharvest.filesystem.atomic import require_parent, written_whole

if TYPE_CHECKING:
    from psfharvest.doctor.check import Check

NAME_WIDTH = 18


@click.command()
@click.argument("detectors", nargs=-1, metavar="[DETECTOR]...")
@click.option("--quick", is_flag=True, help="Only the checks that matter most: under 20 s.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all answers and verdicts as JSON, for a bug report; it never holds the token.",
)
@click.option("--forget", is_flag=True, help="Drop what was learnt of the archive, and ask for nothing.")
@archive_options
@json_option
def doctor(
    detectors: tuple[str, ...], quick: bool, output: Path | None, forget: bool, as_json: bool, **options: Any
) -> int:
    """
    Check, by some 25 polite requests, whether the archive is as psfharvest expects it.

    A line each check: as expected, differs: adapted (psfharvest deals with it), or differs: please report. What is
    learnt is kept for later runs. It takes less than two minutes: two connections, one request a second.

    \b
    Exit status: 0 all as expected, 3 something differs, 75 the archive is out of reach.

    \b
    psfharvest doctor
    psfharvest doctor UVIS --quick
    psfharvest doctor -o doctor.json
    """
    from psfharvest.archive.endpoints import endpoints_for  # noqa: PLC0415 - heavy
    from psfharvest.doctor.examination import examine  # noqa: PLC0415
    from psfharvest.run import learnt_cache  # noqa: PLC0415

    endpoints = endpoints_for(options["archive"], options["token"])
    chosen = [detector(name) for name in detectors] or list(DETECTORS.values())
    if output is not None:
        require_parent(output)
    if forget:
        was_there = learnt_cache.forget(endpoints.root)
        say(f"{endpoints.root}: {'what was learnt is dropped' if was_there else 'nothing was learnt'}")
        return 0
    work = functools.partial(
        examine,
        endpoints,
        list(dict.fromkeys(chosen)),
        is_quick=quick,
        per_second=_per_second(options["max_per_second"]),
        timeout_s=options["timeout_s"] or 30.0,
        on_check=functools.partial(_show, as_json=as_json),
    )
    diagnosis = loop.run(work)
    if output is not None:
        with written_whole(output) as partial:
            partial.write_text(json.dumps(diagnosis.to_dict(), indent=1))
    try:
        learnt_cache.write(endpoints.root, diagnosis.learnt)
    except LocalError as error:
        say(f"what was learnt is not kept: {error}")
    if as_json:
        say(diagnosis.meaning())
        result_json(diagnosis.to_dict())
    else:
        result(diagnosis.meaning())
    return diagnosis.exit_status


def _per_second(asked: float | None) -> float:
    return 1.0 if asked is None or not math.isfinite(asked) else asked


def _show(check: Check, *, as_json: bool) -> None:
    line = f"{check.name:<{NAME_WIDTH}} {check.finding.verdict}: {check.finding.words}"
    if as_json:
        say(line)
    else:
        result(line)
