"""How a command over a harvest folder ends: its account for people, as JSON, and the exit status."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from psfharvest.cli.output import BrokenOutput, result_json, say
from psfharvest.core import account
from psfharvest.core.advice import in_shell
from psfharvest.core.errors import BadInput, ManifestError
from psfharvest.core.exit_status import CONTINUES
from psfharvest.core.model import Report


def conclude(report: Report, folder: Path, *, is_quiet: bool, as_json: bool) -> int:
    """Print the account, and return the exit status."""
    broken: BrokenOutput | None = None
    if as_json:  # before anything for people, who may have gone
        try:
            result_json(report.to_dict() | {"notes": [in_shell(note) for note in report.notes]})
        except BrokenOutput as error:
            broken = error
    show_account(report, folder, is_quiet=is_quiet)
    if broken is not None:
        say(f"{broken}; the account is kept: psfharvest status {folder} --json")
        return report.exit_status if report.exit_status in CONTINUES else broken.exit_status
    return report.exit_status


def account_without_run(folder: Path, stopped: str) -> Report:
    """Return the account of a run that could not give it itself; of a harvest in parts, their sum."""
    from psfharvest.store import parts  # noqa: PLC0415
    from psfharvest.store.manifest.place import is_in_parts  # noqa: PLC0415
    from psfharvest.store.read.account import last_run  # noqa: PLC0415

    with suppress(BadInput, ManifestError, OSError):  # a plan that cannot be read, which the next command says
        if is_in_parts(folder):
            return replace(parts.summed(folder), stopped=stopped, is_fully_asked=False)
    return last_run(folder, stopped)


def show_account(report: Report, folder: Path, *, is_quiet: bool = False) -> None:
    """Print the account in words to standard error."""
    if is_quiet:
        return
    for line in account.lines(report, str(folder)):
        say(line)
    if report.exit_status not in CONTINUES:
        return
    from psfharvest.store.folder import is_harvest  # noqa: PLC0415
    from psfharvest.store.manifest.place import is_in_parts  # noqa: PLC0415

    with suppress(ManifestError, OSError):  # why the folder cannot be looked at has been said
        if is_harvest(folder):
            say(f"work is left; the same command continues, so does: psfharvest resume {folder}")
        elif is_in_parts(folder):
            say("work is left; the same command continues")
