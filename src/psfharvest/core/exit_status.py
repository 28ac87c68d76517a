"""
Exit statuses of the command line: one table, from which reports, errors, signals and help texts take theirs.

Which one a command ends with: `Report.exit_status`, the class of an error, or `psfharvest.cli` for a signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command ends with."""

    DONE = 0
    BAD_INPUT = 2
    INCOMPLETE = 3
    UNEXPECTED = 70
    LOCAL = 74
    PENDING = 75
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


MEANING: Mapping[ExitStatus, str] = {
    ExitStatus.DONE: "all done",
    ExitStatus.BAD_INPUT: "bad input; nothing was changed",
    ExitStatus.INCOMPLETE: "finished, some cutouts missing or failed",
    ExitStatus.LOCAL: "local storage or standard output failed (disk full, not writable)",
    ExitStatus.PENDING: (
        "stopped with work pending (archive down past `--patience`, `--max-bytes` met, all refused by a check)"
    ),
    ExitStatus.HUNG_UP: "hung up (SIGHUP: the terminal or connection has gone)",
    ExitStatus.INTERRUPTED: "interrupted (SIGINT, Ctrl-C)",
    ExitStatus.TERMINATED: "terminated (SIGTERM)",
}
"""Without the status of an unexpected error, which is a fault of ours."""

BY_STOP: Mapping[str, ExitStatus] = {
    "interrupted": ExitStatus.INTERRUPTED,
    "terminated": ExitStatus.TERMINATED,
    "hung_up": ExitStatus.HUNG_UP,
    "local_error": ExitStatus.LOCAL,
    "archive_down": ExitStatus.PENDING,
    "all_refused": ExitStatus.PENDING,
    "max_bytes": ExitStatus.PENDING,
    "scheduler_gone": ExitStatus.PENDING,
}
"""Statuses by what a report calls the reason why it stopped."""

CONTINUES = (
    ExitStatus.LOCAL,
    ExitStatus.PENDING,
    ExitStatus.HUNG_UP,
    ExitStatus.INTERRUPTED,
    ExitStatus.TERMINATED,
)
"""After these the same command continues."""


def help_text() -> str:
    """Return the table as lines for a help text."""
    lines = [f"{int(status):>3}  {meaning.replace('`', '')}" for status, meaning in MEANING.items()]
    continues = [str(int(status)) for status in CONTINUES]
    after = f"{', '.join(continues[:-1])} and {continues[-1]}"
    return "\n    ".join(["\b", "Exit status:", *lines, f"After {after} the same command continues."])
