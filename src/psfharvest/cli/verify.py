"""``verify``: every stored cutout, compared with the manifest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psfharvest.cli.options import json_option
from psfharvest.cli.output import result_json, say

if TYPE_CHECKING:
    from psfharvest.store.recover.audit import CheckedClaim
    from psfharvest.store.recover.verification import Verification

LINES_SHOWN = 20


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Make the broken ones pending again; 'resume DIR' then fetches them.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def verify(folder: Path, repair: bool, quiet: bool, as_json: bool) -> int:
    """
    Re-read every stored cutout and compare it with DIR's manifest; nothing is asked of the archive.

    Problems are: missing, truncated, changed, unreadable. A shard or Parquet file that tar or pyarrow cannot read
    throughout is broken, too; --repair mends it. Files that belong to no claim are counted, and left.

    \b
    Exit status: 0 all as claimed; 3 something was broken, repaired or not; 2 no harvest, or in use (--repair).
    """
    from psfharvest.show.progress import counted  # noqa: PLC0415
    from psfharvest.store.recover.verification import verify as verified  # noqa: PLC0415

    n_shown = 0

    def watch(findings: Iterator[CheckedClaim], total: int) -> Iterator[CheckedClaim]:
        nonlocal n_shown
        for checked in counted(findings, total, sys.stderr, is_quiet=quiet):
            if checked.problem and n_shown < LINES_SHOWN:
                n_shown += 1
                what = f"({checked.uri})" if checked.number else "as a whole"
                say(f"{checked.problem}: {checked.location} {what}")
            yield checked

    found = verified(folder, repair=repair, watch=watch)
    for line in _summary(found, folder, is_repair=repair):
        say(f"{line}")
    if as_json:
        result_json(found.to_dict())
    return 3 if found.is_broken else 0


def _summary(found: Verification, folder: Path, *, is_repair: bool) -> Iterator[str]:
    yield f"{found.checked:,} cutouts read, {found.broken:,} broken"
    if found.files:
        yield f"{len(found.files):,} shards or Parquet files cannot be read throughout"
    if found.strays:
        yield f"{found.strays:,} files that belong to no claim were left as they are"
    if found.pending:
        yield f"{found.pending:,} are pending again: psfharvest resume {folder} fetches them"
    elif found.is_broken and not is_repair:
        yield "--repair makes them pending, and mends shards and Parquet files"
