"""One run over a folder: pending items are fetched, stored, then claimed; the report counts them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio

from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.concurrency.cancellation import is_error
from psfharvest.core.errors import AllRefused, ArchiveDown, LocalError
from psfharvest.core.model import (
    BadLine,
    Delivery,
    Item,
    Outcome,
    Progress,
    Report,
    RetryPolicy,
    State,
    WantedURI,
)
from psfharvest.core.policy.refusals import NoProductVerdicts
from psfharvest.core.policy.suspicion import Suspicion
from psfharvest.core.ports import Fetcher
from psfharvest.engine.pump import Pump
from psfharvest.engine.share import Share
from psfharvest.events.histogram import Histogram
from psfharvest.run.chronicle import Chronicle
from psfharvest.run.disk import Disk
from psfharvest.run.lost_claims import find_lost
from psfharvest.run.planner import TargetReader, Uris
from psfharvest.store.manifest import targets
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.tally import Counted
from psfharvest.store.manifest.targets import Target
from psfharvest.store.sink_kinds import Sink
from psfharvest.version import __version__

WATCH_S = 0.2
PULSE_EVERY_S = 1.0
LEFTOVERS_S = 0.4
"""How long a stopped run goes on storing what had arrived: it must end within a second."""
CONTROLS_MAX = 3
"""Cutouts done in this folder before that are given for control requests."""


class ByteLimit(Exception):
    """Raised within a run when the next cutout would go beyond the limit of stored bytes."""


class AccountingFetcher(Fetcher, Protocol):
    """A fetcher that can say what travelled how, and what arrived too late to be handed on."""

    def account(self) -> dict[str, Any]:
        """Return what travelled how, and why, as plain values."""
        ...

    def durations(self) -> Histogram:
        """Return the histogram of the times of good answers; see `psfharvest.events.DURATION_BOUNDS_S`."""
        ...

    def arrived(self) -> int:
        """Return how many cutouts have arrived and wait for the verified end of what they came in."""
        ...

    def leftovers(self) -> Iterator[list[Delivery]]:
        """Yield what had arrived when the work was ended and may be claimed; call it off the event loop."""
        ...

    def know_good(self, items: Iterable[Item]) -> None:
        """Take items that the archive is known to have, for control requests."""
        ...


@dataclass(slots=True)
class Run:
    """
    A run over a folder whose lock is held.

    Parameters
    ----------
    manifest, sink
        The folder's, open.
    todo
        What is to be asked for still.
    mashup, fetcher, share, policy
        The archive's side; the share counts this run's requests.
    watch
        Called with a `Progress` a few times a second.
    streams
        For a target of kind ``stream``: its dataURIs.
    folder
        The harvest folder.
    max_bytes
        Size of all of the folder's cutouts beyond which the run ends with work pending; None is no limit.
    notes
        What the user should know of how the folder was opened.
    before
        The manifest's counts before this call made anything pending again.
    archive, via
        Where cutouts come from, and how they are to travel: for the events.
    suspicion
        What is accepted of cutouts, and examines checks of ours that refuse all.
    guard
        Called before each write; an error that it raises ends the run without it.
    """

    manifest: Manifest
    sink: Sink
    todo: Sequence[Target]
    mashup: Mashup
    fetcher: AccountingFetcher
    share: Share
    policy: RetryPolicy
    folder: Path
    watch: Callable[[Progress], None] | None = None
    streams: Mapping[int, Uris] = field(default_factory=dict)
    max_bytes: int | None = None
    notes: Sequence[str] = ()
    before: Mapping[Counted, tuple[int, int]] = field(default_factory=dict)
    archive: str = ""
    via: str = "auto"
    suspicion: Suspicion = field(default_factory=Suspicion)
    guard: Callable[[], None] | None = None
    _disk: Disk = field(init=False)
    _pump: Pump = field(init=False)
    _targets: TargetReader = field(init=False)
    _chronicle: Chronicle = field(init=False)
    _known: list[Target] = field(default_factory=list)
    _no_product: NoProductVerdicts = field(default_factory=NoProductVerdicts)
    _run: int = 0
    _is_over: bool = False
    _started_at: float = 0.0
    _down_at: float | None = None
    _expected: int | None = None
    _notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._disk = Disk(self.guard)
        self._notes += self.notes
        self._notes += filter(None, (self.manifest.note, self.manifest.lock_note))
        self._pump = Pump(self.fetcher, self, self.share, self.policy, suspicion=self.suspicion)
        self._targets = TargetReader(
            self.manifest,
            self._disk,
            self.mashup,
            self.todo,
            self.streams,
            with_source=self.sink.needs_sources,
            on_asked=self._tell_asked,
        )
        self._chronicle = Chronicle(self.share.voice, self.manifest, self.before)

    async def run(self) -> Report:
        """
        Ask for the rest, fetch what is pending, and return the account.

        An outage past the patience ends the run without an error: the account says ``stopped``.

        Raises
        ------
        LocalError
            When disk or manifest fail; with the account in its `report`.
        """
        self._started_at = time.monotonic()
        self._run = await self._disk.do(self.manifest.begin_run)
        self.share.voice.begin(self._run)
        self._known = await self._disk.do(targets.read_targets, self.manifest)
        self.fetcher.know_good(await self._disk.do(self.manifest.known_good, CONTROLS_MAX))
        stopped = "interrupted"
        try:
            self._tell_start()
            stopped = await self._work()
        except LocalError as error:
            stopped = "local_error"
            error.report = self.report(stopped)
            raise
        except Exception as error:
            stopped = f"error ({type(error).__name__})"
            raise
        finally:
            await self._end(stopped)
        return self.report(stopped)

    async def _end(self, stopped: str) -> None:
        """Record and announce the end of the run."""
        try:
            with anyio.CancelScope(shield=True):
                await self._close_run(stopped)
        finally:
            if self.watch is not None:
                self.watch(self.progress())  # so that the last look is the final state
            self._tell_settled()
            self._chronicle.ended(self.report(stopped))
        with anyio.CancelScope(shield=True), suppress(LocalError):
            await self._disk.do(self._write_history)  # the note of its end

    def report(self, stopped: str) -> Report:
        """Return the account as it stands."""
        # That one check refused everything is noted only of a run that went to its end.
        suspicions = [] if stopped else self.suspicion.notes()
        return Report.of(
            self.manifest.tally(),
            elapsed_s=self._elapsed_s(),
            requests=self.share.requests,
            retried=self._retried(),
            stopped=stopped,
            notes=(*self._targets.notes, *self.mashup.notes, *self._notes, *suspicions),
            is_fully_asked=self._targets.n_left == 0,
            lacking=self._targets.lacking,
            via=self.fetcher.account(),
        )

    def progress(self) -> Progress:
        """Return a look at the run."""
        tally, limiter = self.manifest.tally(), self.share.limiter
        expected = [target.expected for target in self._known]
        if self._targets.n_left == 0:
            self._expected = tally.total
        elif None not in expected:
            self._expected = sum(e or 0 for e in expected)
        return Progress(
            tally=tally,
            expected=self._expected,
            in_flight=self.share.in_flight,
            waiting=self._pump.waiting,
            connections=self.share.connections,
            requests=self.share.requests,
            elapsed_s=self._elapsed_s(),
            outage=limiter.words if limiter.is_down else "",
            arrived=self.fetcher.arrived(),
            outage_s=self._outage_s(),
            patience_s=self.policy.patience_s,
        )

    def _outage_s(self) -> float:
        """Return for how long the archive has been down."""
        if not self.share.limiter.is_down:
            self._down_at = None
            return 0.0
        if self._down_at is None:
            self._down_at = time.monotonic()
        return time.monotonic() - self._down_at

    async def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Store, then claim; a batch that was begun is ended, whatever happens."""
        with anyio.CancelScope(shield=True):
            self._chronicle.batch(outcomes)
            try:
                refuted = await self._disk.do(self._keep, outcomes)
                if refuted:
                    self._pump.refetch(await self._disk.do(self._pending_among, refuted))
            finally:
                self._tell_settled()
        self._targets.make_room()

    def _keep(self, outcomes: Sequence[Outcome]) -> list[int]:
        """Store and claim outcomes; return the numbers of items that are pending again by them."""
        room = None if self.max_bytes is None else self.max_bytes - self.manifest.tally().bytes
        fitting = outcomes if room is None else _fitting(outcomes, room)
        refuted = self._store(fitting)
        if len(fitting) < len(outcomes):
            raise ByteLimit
        return refuted

    def _pending_among(self, numbers: Sequence[int]) -> list[Item]:
        return self.manifest.pending(0, len(numbers), with_source=self.sink.needs_sources, among=numbers)

    def _store(self, outcomes: Sequence[Outcome]) -> list[int]:
        stored = self.sink.store([o for o in outcomes if o.state is State.DONE])
        stored += [Stored(o) for o in outcomes if o.state is not State.DONE]
        with self.manifest.transaction():
            self.manifest.record(stored)
            refuted = self._no_product.recorded(outcomes)
            self.manifest.retract(refuted)
            self.manifest.set(**self.sink.checkpoint(), **settings_of(self.suspicion))
            self._note_run()
            self._chronicle.write()
        return refuted

    async def _keep_leftovers(self) -> None:
        """Claim what had arrived when the run was stopped, as far as a moment allows; the rest stays pending."""
        with anyio.CancelScope(shield=True), suppress(ByteLimit):
            await self._disk.do(self._claim_leftovers, time.monotonic() + LEFTOVERS_S)

    def _claim_leftovers(self, ends_at: float) -> None:
        for deliveries in self.fetcher.leftovers():
            self._keep(
                [
                    Outcome(d.item, State.DONE, d.item.attempts + 1, d.body, d.sha256, quirk=d.quirk)
                    for d in deliveries
                ]
            )
            if time.monotonic() >= ends_at:
                return

    def _note_run(self, **more: Any) -> None:
        self.manifest.update_run(
            self._run,
            elapsed_s=self._elapsed_s(),
            requests=self.share.requests,
            retried=json.dumps(self._retried()),
            via=json.dumps(self.fetcher.account(), sort_keys=True),
            **more,
        )

    async def _work(self) -> str:
        error: BaseException | None = None

        async def beside(task: Callable[..., Awaitable[None]], *args: Any) -> None:
            nonlocal error
            try:
                await task(*args)
            except BaseException as raised:
                if not is_error(raised):
                    raise
                error = error or raised  # raised below, without an exception group
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(self._hear_cancellation)
            self._targets.begin_search()
            group.start_soon(self._targets.run)
            group.start_soon(beside, self._find_lost)
            group.start_soon(beside, self._beat)
            if self.watch is not None:
                group.start_soon(beside, self._watch, self.watch)
            try:
                await self._pump.run(self._targets.items())
            except Exception as raised:  # noqa: BLE001 - as above
                error = error or raised
            except BaseException:  # a cancellation
                await self._keep_leftovers()
                raise
            self._is_over = True
            group.cancel_scope.cancel()
        return await self._stopped_by(error)

    async def _stopped_by(self, error: BaseException | None) -> str:
        """Return what the account says of how the work ended; raise what is no end of a run."""
        if isinstance(error, ByteLimit):
            self._notes.append(f"stopped at {self.manifest.tally().bytes:,} bytes: the limit is {self.max_bytes:,}")
            return "max_bytes"
        if isinstance(error, ArchiveDown | AllRefused):
            await self._keep_leftovers()
            self._notes.append(str(error))
            return "archive_down" if isinstance(error, ArchiveDown) else "all_refused"
        if error is not None:
            raise error
        return ""

    async def _find_lost(self) -> None:
        async def again(numbers: Sequence[int]) -> None:
            self._tell_settled()
            await self._targets.again(numbers)

        try:
            await find_lost(self.folder, self.manifest, self._disk, note=self._notes.append, on_taken_back=again)
        finally:
            self._targets.end_search()

    async def _hear_cancellation(self) -> None:
        """Wait no longer for a locked manifest once the run is cancelled, also in work that is shielded."""
        try:
            await anyio.sleep_forever()
        finally:
            if not self._is_over:
                self.manifest.stop_waiting()

    async def _close_run(self, stopped: str) -> None:
        def close() -> None:
            self._write_history(stopped=stopped)

        try:
            await self._disk.do(close)
        except LocalError:
            if stopped in ("", "archive_down", "all_refused"):  # else an error or a cancellation goes first
                raise

    async def _beat(self) -> None:
        """Announce each second how it goes on; a transaction of its own keeps that where none claims anything."""
        loop_lag_s = disk_s = 0.0
        while True:
            if self._chronicle.is_behind:
                try:
                    await self._disk.do(self._write_history)
                except LocalError:
                    return  # what has to be stored meets the same, and says so
            self._chronicle.pulse(self.progress(), disk_s=self._disk.busy_s - disk_s, loop_lag_s=loop_lag_s)
            disk_s, due_at = self._disk.busy_s, anyio.current_time() + PULSE_EVERY_S
            await anyio.sleep_until(due_at)
            loop_lag_s = max(0.0, anyio.current_time() - due_at)

    def _write_history(self, **of_run: Any) -> None:
        with self.manifest.transaction():
            if of_run:
                self._note_run(**of_run)
            self._chronicle.write()

    def _tell_start(self) -> None:
        progress = self.progress()
        self._chronicle.started(
            folder=str(self.manifest.folder),
            archive=self.archive,
            sink=self.manifest.sink,
            via=self.via,
            expected=progress.expected,
            connections=progress.connections,
            version=__version__,
        )
        self._tell_settled()

    def _tell_asked(
        self, target: Target, asked: Sequence[WantedURI | BadLine], *, is_complete: bool = False
    ) -> None:
        bad = [one.text for one in asked if isinstance(one, BadLine)]
        self._chronicle.asked(len(asked), target.expected, bad, is_complete=is_complete)
        self._tell_settled()

    def _tell_settled(self) -> None:
        n_bundled = int(self.fetcher.account()["bundled_cutouts"])
        self._chronicle.settled(self.fetcher.durations(), n_bundled, self._disk.busy_s)

    async def _watch(self, watch: Callable[[Progress], None]) -> None:
        while True:
            watch(self.progress())
            await anyio.sleep(WATCH_S)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_at

    def _retried(self) -> dict[str, int]:
        return {reason.value: n for reason, n in sorted(self._pump.retried.items())}


def settings_of(suspicion: Suspicion) -> dict[str, str]:
    """Return what of a suspicion a folder keeps: what is accepted, and of what cutouts have come."""
    return {"accept": json.dumps(sorted(suspicion.accepted)), "proven": json.dumps(sorted(suspicion.proven))}


def _fitting(outcomes: Sequence[Outcome], room: int) -> list[Outcome]:
    """Return the outcomes up to the first whose body does not fit into `room` bytes."""
    kept: list[Outcome] = []
    for outcome in outcomes:
        room -= len(outcome.body or b"")
        if room < 0:
            break
        kept.append(outcome)
    return kept
