"""Errors and warnings for cutouts that did not come: an error when none did, else a warning's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from psfharvest.core.errors import ArchiveDown, ArchiveError, CutoutFailed, CutoutMissing
from psfharvest.core.model import Outcome, Report, State
from psfharvest.core.reasons import MISSING, Reason, remedy


def reasons_of(failures: Iterable[Outcome]) -> Counter[str]:
    """Return how often each reason stands behind what did not come."""
    return Counter(outcome.reason or Reason.HTTP_ERROR for outcome in failures)


def n_lost(states: Mapping[State, int]) -> int:
    """Return how many did not come."""
    return states.get(State.MISSING, 0) + states.get(State.FAILED, 0)


def judge(states: Mapping[State, int], reasons: Mapping[str, int], hint: str) -> str:
    """
    Return what there is to warn of, or nothing.

    Raises
    ------
    CutoutMissing, CutoutFailed
        When not one cutout came.
    """
    total = n_lost(states) + states.get(State.DONE, 0)
    if n_lost(states) == total:
        raise error(total, total, reasons)
    return f"{_words(n_lost(states), total, reasons)}; {hint}" if n_lost(states) else ""


def judge_report(report: Report, folder: str) -> str:
    """
    Return what there is to warn of after a harvest, or nothing.

    Raises
    ------
    ArchiveDown
        When work is left.
    CutoutMissing, CutoutFailed
        When not one cutout came.
    """
    if report.stopped or report.pending:
        words = " ".join(report.notes) or "the archive is out of reach"
        raise ArchiveDown(
            f"{words}; {report.done} of {report.total} cutouts are in {folder}, and the same call continues",
            reason="archive_down",
        )
    states = {State.DONE: report.done, State.MISSING: report.missing, State.FAILED: report.failed}
    again = "; the same call asks for the failed ones again" if report.failed else ""
    return judge(states, report.reasons, f"the manifest in {folder} tells which{again}")


def error(lost: int, total: int, reasons: Mapping[str, int], cutouts: list[Any] | None = None) -> ArchiveError:
    """Return the error of cutouts that did not come; its `cutouts` are those that did, where they are asked for."""
    kind = CutoutMissing if set(reasons) <= MISSING else CutoutFailed
    made: ArchiveError = kind(_words(lost, total, reasons), reason=str(next(iter(reasons), "")))
    if cutouts is not None:
        made.cutouts = cutouts  # type: ignore[attr-defined]  # promised by extract_cutouts_pool alone
    return made


def _words(lost: int, total: int, reasons: Mapping[str, int]) -> str:
    why = "; ".join(f"{n} {reason} ({remedy(reason)})" for reason, n in reasons.items())
    return f"{lost} of {total} cutouts did not come: {why}"
