"""
Record of one run: emits its events, and keeps some of them in the manifest.

What became of cutouts is found by comparing the manifest's own counts with what was announced last, after each
transaction. So the sum of all `Settled` less all `TakenBack` is the change of the account, whatever changed it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from psfharvest.core.harvest_rate import HarvestRate, expected
from psfharvest.core.model import Outcome, Progress, Reason, Report, State
from psfharvest.events import model as events
from psfharvest.events.histogram import Histogram
from psfharvest.events.hub import Voice
from psfharvest.events.words import Narrator
from psfharvest.store.manifest import history
from psfharvest.store.manifest.history import History
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.tally import ASKED, Counted

NOTES_WAITING_MAX = 1000
_SETTLED = (State.DONE, State.MISSING, State.FAILED)
_UNWORTHY = (events.Asked, events.Queried, events.Pulse)
"""Events that are no notes."""


class Chronicle:
    """
    The events of one run, and its history.

    Parameters
    ----------
    voice
        Emits the events.
    manifest
        Whose counts say what became of cutouts.
    before
        The counts as they were before the run, and before it made anything pending again.
    """

    def __init__(self, voice: Voice, manifest: Manifest, before: Mapping[Counted, tuple[int, int]]) -> None:
        self.voice = voice
        self._manifest = manifest
        self._told = before
        self._examples: dict[str, str] = {}
        self._durations = Histogram()
        self._bundled = 0
        self._disk_s = 0.0
        self._rate = HarvestRate()
        self._history = History()
        self._narrator = Narrator()
        self._pulses: deque[history.Pulse] = deque()
        self._notes: deque[history.Note] = deque(maxlen=NOTES_WAITING_MAX)
        voice.also(self._take_note)

    @property
    def is_behind(self) -> bool:
        """True while a pulse or a note waits for a transaction."""
        return bool(self._pulses or self._notes)

    def batch(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of outcomes that are about to be recorded: one example of each reason is reported."""
        for outcome in outcomes:
            if outcome.reason is not None:
                self._examples.setdefault(outcome.reason.value, outcome.item.uri)

    def asked(self, n: int, expected: int | None, bad: Sequence[str], *, is_complete: bool) -> None:
        """Announce what has entered the manifest; `bad` is what was refused at once."""
        for text in bad:
            self._examples.setdefault(Reason.BAD_URI.value, text)
        now = self._manifest.counts()
        n_new = _of(now, ASKED) - _of(self._told, ASKED)
        self._told = {**self._told, (ASKED, ""): now.get((ASKED, ""), (0, 0))}
        self.voice.emit(events.Asked, n=n, n_new=n_new, expected=expected, is_complete=is_complete)

    def settled(self, durations: Histogram, n_bundled: int, disk_s: float = 0.0) -> None:
        """
        Announce what has become of cutouts since the last call.

        Parameters
        ----------
        durations
            Histogram of the times of all good answers of this run.
        n_bundled
            Cutouts that have come in bundles in this run.
        disk_s
            Time spent in storing and recording in this run.
        """
        before, now = self._told, self._manifest.counts()
        self._told = now
        changes = {
            kind: (n - before.get(kind, (0, 0))[0], size_bytes - before.get(kind, (0, 0))[1])
            for kind, (n, size_bytes) in now.items()
            if kind[0] in _SETTLED and (n, size_bytes) != before.get(kind, (0, 0))
        }
        self._tell_taken_back(changes)
        n_of = Counter[str]()
        for (state, _), (n, _bytes) in changes.items():
            n_of[state] += max(0, n)
        size_bytes = sum(max(0, change) for _, change in changes.values())
        if not (n_of.total() or size_bytes):
            return
        reasons = {reason: n for (_, reason), (n, _bytes) in changes.items() if reason and n > 0}
        n_by_bundle = min(n_bundled - self._bundled, n_of[State.DONE])
        self._bundled += n_by_bundle
        via = {"file": n_of[State.DONE] - n_by_bundle, "bundle": n_by_bundle}
        fresh, self._durations = durations.since(self._durations), durations.copy()
        self.voice.emit(
            events.Settled,
            done=n_of[State.DONE],
            missing=n_of[State.MISSING],
            failed=n_of[State.FAILED],
            bytes=size_bytes,
            reasons=reasons,
            durations=fresh.counts,
            durations_s=fresh.sum_s,
            via={way: n for way, n in via.items() if n},
            examples={reason: uri for reason, uri in self._examples.items() if reason in reasons},
            store_s=disk_s - self._disk_s,
        )
        self._disk_s = disk_s
        self._examples.clear()

    def started(self, **fields: Any) -> None:
        """Announce the run, with what was pending before anything got fresh attempts."""
        pending = _of(self._told, ASKED) - sum(_of(self._told, state) for state in _SETTLED)
        self.voice.emit(events.Started, pending=pending, **fields)

    def ended(self, report: Report) -> None:
        """Announce its end."""
        self.voice.emit(events.Ended, report=report)

    def pulse(self, progress: Progress, *, disk_s: float, loop_lag_s: float) -> None:
        """Announce how it goes on; what is kept of it waits for the next transaction."""
        self._rate.add(progress)
        left_s = self._rate.left_s(progress)
        now = self.voice.now()
        since = now - progress.outage_s if progress.outage else None
        tally = progress.tally
        self._pulses.append(
            history.Pulse(
                run=self.voice.run,
                at=now,
                pid=os.getpid(),
                done=tally.done,
                missing=tally.missing,
                failed=tally.failed,
                pending=tally.pending,
                expected=expected(progress),
                arrived=progress.arrived,
                bytes=tally.bytes,
                requests=progress.requests,
                in_flight=progress.in_flight,
                waiting=progress.waiting,
                connections=progress.connections,
                per_second=round(self._rate.per_second, 3),
                bytes_per_s=round(self._rate.bytes_per_s, 1),
                left_s=None if left_s is None else round(left_s, 1),
                outage=progress.outage,
                outage_since=since,
                gives_up_at=None if since is None else since + progress.patience_s,
                disk_s=round(disk_s, 4),
                loop_lag_s=round(loop_lag_s, 4),
            )
        )
        self.voice.emit(
            events.Pulse,
            progress=progress,
            per_second=self._rate.per_second,
            left_s=left_s,
            bytes_per_s=self._rate.bytes_per_s,
            disk_s=disk_s,
            loop_lag_s=loop_lag_s,
        )

    def write(self) -> None:
        """Keep what waits; within a transaction of the manifest, from the disk's thread."""
        notes = []
        with self._manifest.connection() as db:
            while self._pulses:
                self._history.add_pulse(db, self._pulses.popleft())
            while self._notes:
                notes.append(self._notes.popleft())
            self._history.add_notes(db, notes)

    def _tell_taken_back(self, changes: Mapping[Counted, tuple[int, int]]) -> None:
        for (state, reason), (n, size_bytes) in changes.items():
            if n < 0 or size_bytes < 0:
                n_back = max(0, -n)
                self.voice.emit(
                    events.TakenBack,
                    n=n_back,
                    reason=reason,
                    delay_s=0.0,
                    example="",
                    done=n_back if state == State.DONE else 0,
                    missing=n_back if state == State.MISSING else 0,
                    failed=n_back if state == State.FAILED else 0,
                    bytes=max(0, -size_bytes),
                )

    def _take_note(self, event: events.Event) -> None:
        if isinstance(event, _UNWORTHY):
            return
        name = type(event).__name__
        for level, words in self._narrator.sentences(event):
            if level >= logging.INFO:
                self._notes.append(history.Note(self.voice.run, event.at, logging.getLevelName(level), name, words))


def _of(counts: Mapping[Counted, tuple[int, int]], state: str) -> int:
    return sum(n for (kind, _), (n, _bytes) in counts.items() if kind == state)
