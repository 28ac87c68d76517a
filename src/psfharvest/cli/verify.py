"""``verify``: every stored cutout, compared with the manifest."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from psfharvest.cli.options import json_option

if TYPE_CHECKING:
    from psfharvest.store.recover.audit import Checked

URIS_SHOWN = 1000
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
    throughout is broken, too; --repair mends it. Files that no claim stands behind are counted, and left.

    \b
    Exit status: 0 all as claimed; 3 something was broken, repaired or not; 2 no harvest, or in use (--repair).
    """
    from psfharvest.show.progress import counted  # noqa: PLC0415
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415
    from psfharvest.store.recover import audit, mend  # noqa: PLC0415

    found = _Found()
    with Manifest.read(folder) as manifest:
        total = manifest.tally().done
        for checked in counted(audit.audit(folder, manifest), total, sys.stderr, is_quiet=quiet):
            found.take(checked)
        found.strays = sum(1 for _ in audit.strays(folder, manifest))
    is_broken = bool(found.broken or found.files)
    n_pending = mend.repair(folder, found.broken, found.files) if repair and is_broken else 0
    _tell(found)
    if n_pending:
        click.echo(
            f"psfharvest: {n_pending:,} are pending again: psfharvest resume {folder} fetches them", err=True
        )
    elif is_broken and not repair:
        click.echo("psfharvest: --repair makes them pending, and mends shards and Parquet files", err=True)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    return 3 if is_broken else 0


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    n_checked: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    broken: list[int] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    strays: int = 0

    def take(self, checked: Checked) -> None:
        """Count one finding, and say it if it is one of the first."""
        if not checked.number:
            self.files.append(checked.location)
            click.echo(f"psfharvest: {checked.problem}: {checked.location} as a whole", err=True)
            return
        self.n_checked += 1
        if not checked.problem:
            return
        self.problems[checked.problem] += 1
        self.broken.append(checked.number)
        if len(self.uris) < URIS_SHOWN:
            self.uris.append(checked.uri)
        if len(self.broken) <= LINES_SHOWN:
            click.echo(f"psfharvest: {checked.problem}: {checked.location} ({checked.uri})", err=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the account that ``--json`` prints."""
        n_broken = len(self.broken)
        return {
            "checked": self.n_checked,
            "ok": self.n_checked - n_broken,
            "broken": n_broken,
            "problems": dict(self.problems),
            "uris": self.uris,
            "strays": self.strays,
            "files": self.files,
        }


def _tell(found: _Found) -> None:
    click.echo(f"psfharvest: {found.n_checked:,} cutouts read, {len(found.broken):,} broken", err=True)
    if found.files:
        click.echo(f"psfharvest: {len(found.files):,} shards or Parquet files cannot be read throughout", err=True)
    if found.strays:
        click.echo(f"psfharvest: {found.strays:,} files that no claim stands behind were left", err=True)
