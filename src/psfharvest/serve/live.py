"""
How a harvest is going: its account, its rate and time left, what is amiss, and how that came about.

The account is what ``psfharvest status --json`` gives. While the service runs it keeps its own samples of it, from
which the rate is found.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psfharvest.core.model import REMEDY, Reason, Report
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.account import account_of
from psfharvest.store.read.running import Running, running_of

LOOK_EVERY_S = 0.5
"""Questions that come closer together share one look."""
SAMPLES_MAX = 2048
RATE_OVER_S = 30.0
QUIET_S = 10.0
"""A run that is under way and settles nothing for so long is said to give nothing."""
STOPPED = {
    "interrupted": "The last run was interrupted; the same command continues.",
    "terminated": "The last run was terminated; the same command continues.",
    "local_error": "The last run stopped since local storage failed (disk full, or not writable).",
    "all_refused": "The last run stopped since one check refused all that came; its note says what lets it pass.",
    "archive_down": "The last run stopped since the archive stayed out of reach; the same command continues.",
    "": "",
}
RUNS_MAX = 200
"""The last runs that the notes tell of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The account at one time; `at_s` is seconds since 1970."""

    at_s: float
    done: int
    missing: int
    failed: int
    pending: int
    bytes: int
    requests: int

    @property
    def settled(self) -> int:
        """How many cutouts are no longer pending."""
        return self.done + self.missing + self.failed


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one look; `version` grows whenever something else is seen."""

    version: int
    report: Report
    runs: Sequence[Mapping[str, Any]]
    asked: Sequence[str]
    expected: int
    under_way: Running | None


class Live:
    """Follows one folder's account; used by one thread at a time."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._apart_s = LOOK_EVERY_S
        self._look: Look | None = None
        self._looked_at_s = -math.inf
        self._changed_at_s = 0.0
        self._why: tuple[int, list[dict[str, Any]]] = (0, [])

    def look(self, manifest: Manifest) -> Look:
        """Return the folder's state, no older than `LOOK_EVERY_S`."""
        now_s = time.monotonic()
        if self._look is None or now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._looked_at_s = now_s
            self._look = self._new_look(manifest, self._look)
        return self._look

    def now(self, manifest: Manifest) -> dict[str, Any]:
        """Return what ``status --json`` gives, and with it rate, time left and what is amiss."""
        look = self.look(manifest)
        report = look.report
        per_second, left_s = self._speed(look)
        return {
            **report.to_dict(),
            "asked": list(look.asked),
            "expected": max(report.total, look.expected),
            **({} if look.under_way is None else {"running": look.under_way.to_dict()}),
            "is_running": look.under_way is not None,
            "per_second": round(per_second, 2),
            "left_s": None if left_s is None else round(left_s),
            "trouble": self._trouble(look),
            "changed_at_s": round(self._changed_at_s, 1),
            "runs": len(look.runs),
        }

    def why(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return for each reason of what is missing or failed: how many, what to do, and an example."""
        look = self.look(manifest)
        if self._why[0] != look.version:
            examples = manifest.examples() if look.report.reasons else {}
            found = [
                {
                    "reason": reason,
                    "n": n,
                    "remedy": REMEDY[Reason(reason)] if reason in set(Reason) else "",
                    "example": examples.get(reason, ""),
                }
                for reason, n in sorted(look.report.reasons.items(), key=lambda pair: -pair[1])
            ]
            self._why = look.version, found
        return self._why[1]

    def series(self, manifest: Manifest) -> dict[str, list[float]]:
        """Return the samples as columns, the oldest first; the older the service, the wider apart they are."""
        self.look(manifest)
        columns = {name: [getattr(sample, name) for sample in self._samples] for name in Sample.__slots__}
        return {**columns, "at_s": [round(at_s, 2) for at_s in columns["at_s"]]}

    def notes(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return what happened, the latest first: runs that began, and how they ended."""
        return [note for run in reversed(self.look(manifest).runs[-RUNS_MAX:]) for note in _of_run(run)]

    def _new_look(self, manifest: Manifest, before: Look | None) -> Look:
        manifest.refresh()
        at_s = time.time()
        report, runs, asks = account_of(manifest), manifest.runs(), targets.read_targets(manifest)
        settled = report.total - report.pending
        if before is not None and settled != before.report.total - before.report.pending:
            self._changed_at_s = at_s
        self._take(
            Sample(at_s, report.done, report.missing, report.failed, report.pending, report.bytes, report.requests)
        )
        under_way = running_of(manifest)
        expected = sum(ask.expected or 0 for ask in asks)
        made = Look(1, report, runs, [targets.describe(ask) for ask in asks], expected, under_way)
        if before is None:
            return made
        is_same = before == replace(made, version=before.version)
        return before if is_same else replace(made, version=before.version + 1)

    def _take(self, sample: Sample) -> None:
        """Keep a sample; when there are many, every second one goes, and later ones come half as often."""
        if self._samples and sample.at_s - self._samples[-1].at_s < self._apart_s:
            if len(self._samples) > 1:
                self._samples[-1] = sample
            return
        self._samples.append(sample)
        if len(self._samples) > SAMPLES_MAX:
            self._samples = self._samples[::2]
            self._apart_s *= 2

    def _speed(self, look: Look) -> tuple[float, float | None]:
        """Return cutouts per second and time left: as the run itself says, or else from the samples."""
        run, report = look.under_way, look.report
        if run is None or run.outage:
            return 0.0, None
        if run.per_second is not None:
            return run.per_second, run.left_s
        per_second = self._per_second()
        left = max(report.total, look.expected) - (report.total - report.pending)
        return per_second, left / per_second if per_second > 0 and left else None

    def _per_second(self) -> float:
        last = self._samples[-1]
        since = next(s for s in self._samples if s.at_s >= last.at_s - RATE_OVER_S)
        return (last.settled - since.settled) / (last.at_s - since.at_s) if last.at_s > since.at_s else 0.0

    def _trouble(self, look: Look) -> str:
        stopped = look.runs[-1]["stopped"] if look.runs else ""
        if look.under_way is not None:
            return self._outage(look.under_way)
        if stopped == "unfinished":
            return "The last run was killed, or its machine stopped; the same command continues."
        return STOPPED.get(stopped, f"The last run ended with: {stopped}.")

    def _outage(self, under_way: Running) -> str:
        if under_way.outage:
            until = f" It is tried until {under_way.gives_up_at}." if under_way.gives_up_at else ""
            return f"The archive is down since {under_way.outage_since}: {under_way.outage}.{until}"
        quiet_s = time.time() - max(self._changed_at_s, self._samples[0].at_s)
        return f"Nothing has come for {quiet_s:,.0f} s." if quiet_s > QUIET_S else ""


def _of_run(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    n, stopped = run["n"], run["stopped"]
    end = "is not finished" if stopped == "unfinished" else f"stopped: {stopped}" if stopped else "finished"
    words = f"Run {n} {end} after {run['elapsed_s']:,.0f} s and {run['requests']:,} requests."
    retried = ", ".join(f"{count:,} {reason}" for reason, count in json.loads(run["retried"]).items())
    words += f" Overcome by trying again: {retried}." if retried else ""
    return [{"at": run["started_at"], "words": words}]
