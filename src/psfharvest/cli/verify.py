"""``verify``: every stored cutout, held against the manifest."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import click

from psfharvest.cli.options import json_option

URIS_SHOWN = 1000
LINES_SHOWN = 20


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Make the broken ones pending again; 'resume DIR' then fetches them.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def verify(folder: Path, repair: bool, quiet: bool, as_json: bool) -> int:
    """
    Re-read every stored cutout and hold it against DIR's manifest; nothing is asked of the archive.

    Problems are: missing, truncated, changed, unreadable. Files that no claim stands behind are told, and left.

    \b
    Exit status: 0 all as claimed; 3 something was broken, repaired or not; 2 no harvest, or in use (--repair).
    """
    from psfharvest.show.progress import counted  # noqa: PLC0415
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415
    from psfharvest.store.recover import audit  # noqa: PLC0415

    problems: Counter[str] = Counter()
    broken: list[int] = []
    uris: list[str] = []
    n_checked = 0
    with Manifest.read(folder) as manifest:
        total = manifest.tally().done
        for found in counted(audit.audit(folder, manifest), total, sys.stderr, is_quiet=quiet):
            n_checked += 1
            if found.problem:
                problems[found.problem] += 1
                broken.append(found.number)
                uris += [found.uri] if len(uris) < URIS_SHOWN else []
                if len(broken) <= LINES_SHOWN:
                    click.echo(f"psfharvest: {found.problem}: {found.location} ({found.uri})", err=True)
        strays = sum(1 for _ in audit.strays(folder, manifest))
    if repair and broken:
        audit.repair(folder, broken)
    _tell(n_checked, len(broken), strays, folder if repair else None)
    if as_json:
        account = {"checked": n_checked, "ok": n_checked - len(broken), "broken": len(broken)}
        click.echo(json.dumps({**account, "problems": dict(problems), "uris": uris, "strays": strays}))
    return 3 if broken else 0


def _tell(n_checked: int, n_broken: int, n_strays: int, repaired: Path | None) -> None:
    click.echo(f"psfharvest: {n_checked:,} cutouts read, {n_broken:,} broken", err=True)
    if n_strays:
        click.echo(f"psfharvest: {n_strays:,} files that no claim stands behind were left as they are", err=True)
    if n_broken:
        again = f"they are pending again: psfharvest resume {repaired} fetches them"
        way = "--repair makes them pending" if repaired is None else again
        click.echo(f"psfharvest: {way}", err=True)
