"""
Events of a harvest on a cluster, as its head sees it: once a second, from the sums of the parts' accounts.

The workers' own events stay with them. The sum of all `Settled` less all `TakenBack` is the change of the account.
"""

from __future__ import annotations

from typing import Any

from psfharvest.core.harvest_rate import HarvestRate
from psfharvest.core.model import Progress, Report
from psfharvest.events import model as events
from psfharvest.events.hub import Voice
from psfharvest.version import __version__

COUNTS = ("done", "missing", "failed", "bytes")


class Announcer:
    """
    Emits the events of one head.

    Parameters
    ----------
    voice
        Emits them to the listeners of the harvest and of the archive.
    before
        The folder's account when the head began; None where it had no parts.
    """

    def __init__(self, voice: Voice, before: Report | None) -> None:
        self._voice = voice
        self._announced = {name: 0 if before is None else getattr(before, name) for name in COUNTS}
        self._reasons: dict[str, int] = {} if before is None else dict(before.reasons)
        self._rate = HarvestRate()
        self._pending = 0 if before is None else before.pending
        self._is_down = False
        self._outage_s = 0.0
        self._is_under_way = False

    def started(self, **fields: Any) -> None:
        """Announce that the parts are about to be worked off."""
        self._is_under_way = True
        self._voice.emit(events.Started, pending=self._pending, version=__version__, **fields)

    def progress(self, progress: Progress) -> None:
        """Announce what the parts have come to since the last call."""
        if bool(progress.outage) is not self._is_down:
            self._is_down = bool(progress.outage)
            if self._is_down:
                now = self._voice.now()
                since = now - progress.outage_s
                ends = {"until": now, "gives_up_at": since + progress.patience_s}
                self._voice.emit(events.Down, why=progress.outage, since=since, **ends)
            else:
                self._voice.emit(events.Up, after_s=self._outage_s)
        self._outage_s = progress.outage_s
        tally = progress.tally
        counts = {name: max(self._announced[name], getattr(tally, name)) for name in COUNTS}
        self._settle(counts, {})
        self._rate.add(progress)
        self._voice.emit(
            events.Pulse,
            progress=progress,
            per_second=self._rate.per_second,
            left_s=self._rate.left_s(progress),
            bytes_per_s=self._rate.bytes_per_s,
            disk_s=0.0,
            loop_lag_s=0.0,
        )

    def ended(self, report: Report) -> None:
        """Announce the end of what has started, once; reasons are known from the account of the whole."""
        if not self._is_under_way:
            return
        self._is_under_way = False
        reasons = {reason: n - self._reasons.get(reason, 0) for reason, n in report.reasons.items()}
        self._settle({name: getattr(report, name) for name in COUNTS}, {r: n for r, n in reasons.items() if n > 0})
        self._voice.emit(events.Ended, report=report)

    def _settle(self, now: dict[str, int], reasons: dict[str, int]) -> None:
        gained = {name: max(0, now[name] - self._announced[name]) for name in COUNTS}
        lost = {name: max(0, self._announced[name] - now[name]) for name in COUNTS}
        self._announced = now
        if any(lost.values()):
            n_back = lost["done"] + lost["missing"] + lost["failed"]
            self._voice.emit(events.TakenBack, n=n_back, reason="", delay_s=0.0, example="", **lost)
        if any(gained.values()) or reasons:
            self._voice.emit(
                events.Settled,
                reasons=reasons,
                durations=(0,) * events.N_BUCKETS,
                durations_s=0.0,
                via={},
                examples={},
                store_s=0.0,
                **gained,
            )
