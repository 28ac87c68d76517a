"""
How a harvest is going: its account, its rate and time left, what is amiss, and how that came about.

The account is what ``psfharvest status --json`` gives; how it came about is what the runs have noted in the
manifest, each second and at each event worth a sentence.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from psfharvest.core.model import Report
from psfharvest.core.reasons import remedy
from psfharvest.store.manifest import history, targets
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.account import account_of
from psfharvest.store.read.running import Running, running_of

STATE_EVERY_S = 0.5
"""Questions that come closer together share one state."""
SAMPLES_MAX = 2048
QUIET_S = 10.0
"""A run that is under way and settles nothing for so long is said to give nothing."""
STOPPED = {
    "interrupted": "The last run was interrupted; the same command continues.",
    "hung_up": "The terminal of the last run went away; the same command continues.",
    "terminated": "The last run was terminated; the same command continues.",
    "local_error": "The last run stopped since local storage failed (disk full, or not writable).",
    "all_refused": "The last run stopped since one check refused all that came; its note says what lets it pass.",
    "max_bytes": "The last run reached its --max-bytes; the same command with a larger one continues.",
    "scheduler_gone": "The cluster's scheduler did not answer; the same command continues.",
    "archive_down": "The last run stopped since the archive stayed out of reach; the same command continues.",
    "": "",
}
SERIES = ("done", "missing", "failed", "pending", "bytes", "requests")
"""Columns of the series, beside its times."""
RUNS_MAX = 200
"""The last runs that the notes tell of."""


@dataclass(frozen=True, slots=True)
class FolderState:
    """What was seen at one state; `version` grows whenever something else is seen."""

    version: int
    report: Report
    runs: Sequence[Mapping[str, Any]]
    asked: Sequence[str]
    expected: int
    under_way: Running | None
    last_note: int
    """Number of the last note, or 0."""


class Live:
    """Follows one folder's account; used by one thread at a time."""

    def __init__(self) -> None:
        self._state: FolderState | None = None
        self._read_at_s = -math.inf
        self._began_at_s = time.time()
        self._changed_at_s = 0.0
        self._why: tuple[int, list[dict[str, Any]]] = (0, [])

    def state(self, manifest: Manifest) -> FolderState:
        """Return the folder's state, no older than `STATE_EVERY_S`."""
        now_s = time.monotonic()
        if self._state is None or now_s - self._read_at_s >= STATE_EVERY_S:
            self._read_at_s = now_s
            self._state = self._new_state(manifest, self._state)
        return self._state

    def now(self, manifest: Manifest) -> dict[str, Any]:
        """Return what ``status --json`` gives, and with it rate, time left and what is amiss."""
        state = self.state(manifest)
        report = state.report
        per_second, left_s = self._speed(state)
        return {
            **report.to_dict(),
            "asked": list(state.asked),
            "expected": max(report.total, state.expected),
            **({} if state.under_way is None else {"running": state.under_way.to_dict()}),
            "is_running": state.under_way is not None,
            "per_second": round(per_second, 2),
            "left_s": None if left_s is None else round(left_s),
            "trouble": self._trouble(state),
            "changed_at_s": round(self._changed_at_s, 1),
            "runs": len(state.runs),
            "last_note": state.last_note,
        }

    def why(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return for each reason of what is missing or failed: how many, what to do, and an example."""
        state = self.state(manifest)
        if self._why[0] != state.version:
            examples = manifest.examples() if state.report.reasons else {}
            found = [
                {
                    "reason": reason,
                    "n": n,
                    "remedy": remedy(reason),
                    "example": examples.get(reason, ""),
                }
                for reason, n in sorted(state.report.reasons.items(), key=lambda pair: -pair[1])
            ]
            self._why = state.version, found
        return self._why[1]

    @staticmethod
    def series(manifest: Manifest) -> dict[str, list[float]]:
        """Return what the runs have noted each second as columns, the oldest first, evenly thinned."""
        manifest.refresh()
        pulses = history.pulses(manifest, SAMPLES_MAX)
        columns: dict[str, list[float]] = {name: [getattr(pulse, name) for pulse in pulses] for name in SERIES}
        return {"at_s": [round(pulse.at, 2) for pulse in pulses], **columns}

    def notes(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return what happened, the latest first; of runs that have noted nothing, how they ended."""
        noted = history.notes(manifest)[::-1]
        found = [
            {"at": _iso(note.at), "level": note.level, "event": note.event, "words": note.words} for note in noted
        ]
        known = {note.run for note in noted}
        older = [_of_run(run) for run in self.state(manifest).runs[-RUNS_MAX:] if run["n"] not in known]
        return sorted(found + older[::-1], key=lambda note: str(note["at"]), reverse=True)

    def _new_state(self, manifest: Manifest, before: FolderState | None) -> FolderState:
        manifest.refresh()
        at_s = time.time()
        report, runs, asks = account_of(manifest), manifest.runs(), targets.read_targets(manifest)
        settled = report.total - report.pending
        if before is not None and settled != before.report.total - before.report.pending:
            self._changed_at_s = at_s
        under_way = running_of(manifest)
        expected = sum(ask.expected or 0 for ask in asks)
        last_note = history.last_note(manifest)
        made = FolderState(1, report, runs, [targets.describe(ask) for ask in asks], expected, under_way, last_note)
        if before is None:
            return made
        is_same = before == replace(made, version=before.version)
        return before if is_same else replace(made, version=before.version + 1)

    @staticmethod
    def _speed(state: FolderState) -> tuple[float, float | None]:
        """Return cutouts per second and time left, as the run says; 0 until it has."""
        run = state.under_way
        return (0.0, None) if run is None or run.outage else (run.per_second or 0.0, run.left_s)

    def _trouble(self, state: FolderState) -> str:
        stopped = state.runs[-1]["stopped"] if state.runs else ""
        if state.under_way is not None:
            return self._outage(state.under_way)
        if stopped == "unfinished":
            return "The last run was killed, or its machine stopped; the same command continues."
        return STOPPED.get(stopped, f"The last run ended with: {stopped}.")

    def _outage(self, under_way: Running) -> str:
        if under_way.outage:
            until = f" It is tried until {under_way.gives_up_at}." if under_way.gives_up_at else ""
            return f"The archive is down since {under_way.outage_since}: {under_way.outage}.{until}"
        quiet_s = time.time() - max(self._changed_at_s, self._began_at_s)
        return f"Nothing has come for {quiet_s:,.0f} s." if quiet_s > QUIET_S else ""


def _of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    n, stopped = run["n"], run["stopped"]
    end = "is not finished" if stopped == "unfinished" else f"stopped: {stopped}" if stopped else "finished"
    words = f"Run {n} {end} after {run['elapsed_s']:,.0f} s and {run['requests']:,} requests."
    retried = ", ".join(f"{count:,} {reason}" for reason, count in json.loads(run["retried"]).items())
    words += f" Overcome by trying again: {retried}." if retried else ""
    return {"at": run["started_at"], "level": "INFO", "event": "Ended", "words": words}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
