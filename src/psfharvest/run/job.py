"""One call of `harvest` or `resume`: checks its arguments, opens the folder, and carries out the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from psfharvest.archive.session import LONG_PATIENCE_S, Session
from psfharvest.core import ranges
from psfharvest.core.catalog.plan import ListPart, Part
from psfharvest.core.errors import BadInput, PsfharvestError, SinkError
from psfharvest.core.model import Progress, Report, State, Tally
from psfharvest.core.policy.suspicion import Suspicion
from psfharvest.engine.share import Share
from psfharvest.events.hub import Listener
from psfharvest.run.disk import in_thread, in_threads
from psfharvest.run.line_stream import LineStream, is_read_once
from psfharvest.run.lost_claims import mend_tail
from psfharvest.run.planner import Uris
from psfharvest.run.run import CONTROLS_MAX, Run, settings_of
from psfharvest.run.targets import What, as_uris, ask_for, queries_of, targets_of
from psfharvest.store import folder as folders
from psfharvest.store.folder import Settings
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import refuse_parts
from psfharvest.store.manifest.targets import Target
from psfharvest.store.read.account import account
from psfharvest.store.sink_kinds import Sink
from psfharvest.store.staging import StagingFolder

VIAS = ("auto", "file", "bundle")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """
    What both calls share.

    Parameters
    ----------
    session
        The open archive.
    folder, settings
        The harvest folder, and how it stores.
    via
        How cutouts travel.
    retry_states
        Which of ``failed`` and ``missing`` get fresh attempts.
    progress
        Called a few times a second.
    max_bytes
        Size of all of the folder's cutouts beyond which the run ends with work pending.
    events
        Called with every event of this call.
    accept
        Names of deviations of cutouts that pass, beside those that the folder accepts.
    guard
        Called before each write; an error that it raises ends the call.

    Raises
    ------
    BadInput
        When a word is not allowed.
    """

    session: Session
    folder: Path
    settings: Settings
    via: str
    retry_states: Sequence[str]
    progress: Callable[[Progress], None] | None
    max_bytes: int | None = None
    events: Listener | None = None
    accept: frozenset[str] = frozenset()
    guard: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        ranges.check_word("via", self.via, VIAS)
        for name in self.retry_states:
            if name not in (State.FAILED, State.MISSING):
                raise BadInput(f"retry_states {name!r}: failed and missing are allowed")
        if self.max_bytes is not None:
            ranges.STORED_BYTES.check("max_bytes", self.max_bytes)

    async def harvest(
        self,
        what: What | Path,
        suffixes: Sequence[str],
        *,
        extend: bool,
        part: Part | ListPart | None = None,
        **sizes: int,
    ) -> Report:
        """Ask for what is wanted, in a new folder or an old one, and run."""
        if isinstance(what, Path) and await in_thread(is_read_once, what):
            what = LineStream(what)
        if not isinstance(what, LineStream):
            return await self._harvest(what, suffixes, extend, part, **sizes)
        async with aclosing(what):
            await what.open()  # before anything is made on disk: it may be refused
            return await self._harvest(what, suffixes, extend, part, **sizes)

    async def _harvest(
        self, what: What | Path, suffixes: Sequence[str], extend: bool, part: Part | ListPart | None, **sizes: int
    ) -> Report:
        refuse_parts(self.folder)
        with closing(self.session.hub.voice(listener=self.events)) as voice, self.session.share(voice) as share:
            mashup = self.session.mashup(share, LONG_PATIENCE_S)
            wanted = [
                await ask_for(mashup, one, self.folder, chosen, part, **sizes)
                for one, chosen in targets_of(what, suffixes)
            ]
            try:
                return await self._run_targets(wanted, what, share, extend=extend)
            except SinkError as error:
                return await in_thread(_finished, self.folder, wanted, tuple(self.retry_states), error)

    async def _run_targets(
        self, wanted: Sequence[Target], what: What | Path, share: Share, *, extend: bool
    ) -> Report:
        queries = queries_of(what)
        is_harvest = folders.is_harvest(self.folder)
        if queries and not is_harvest and all(query.limit == 0 for query in queries):
            return Report.of(Tally(), elapsed_s=0.0, requests=share.requests)
        opened = folders.old_folder if is_harvest else folders.new_folder
        async with in_threads(opened(self.folder, self.settings)) as manifest:
            todo = await in_thread(folders.todo, manifest, wanted, extend=extend)
            streams = {a.n: as_uris(what) for a in todo if a.kind == "stream" and not isinstance(what, Path)}
            return await self._run(manifest, todo, streams, share)

    async def resume(self) -> Report:
        """Run over what an old folder has recorded."""
        try:
            return await self._resume()
        except SinkError as error:
            return await in_thread(_finished, self.folder, (), tuple(self.retry_states), error)

    async def _resume(self) -> Report:
        with closing(self.session.hub.voice(listener=self.events)) as voice, self.session.share(voice) as share:
            async with in_threads(folders.old_folder(self.folder, self.settings)) as manifest:
                todo = await in_thread(folders.todo, manifest, (), extend=False)
                return await self._run(manifest, todo, {}, share)

    async def _run(
        self,
        manifest: Manifest,
        todo: Sequence[Target],
        streams: Mapping[int, Uris],
        share: Share,
    ) -> Report:
        await in_thread(_note_archive, manifest, self.session.endpoints.root)
        suspicion = await in_thread(_suspicion, manifest, self.accept | self.session.known_names)
        before = manifest.counts()
        await in_thread(manifest.reopen, [State(name) for name in self.retry_states])
        note = await in_thread(mend_tail, self.folder, manifest)
        async with (
            in_threads(_opened_sink(self.folder, manifest, self.settings)) as sink,
            in_threads(closing(StagingFolder(self.folder))) as staging,
        ):
            return await Run(
                manifest=manifest,
                sink=sink,
                todo=todo,
                mashup=self.session.mashup(share, LONG_PATIENCE_S),
                fetcher=self.session.harvester(
                    share, self.via, lambda: manifest.tally().pending, staging, suspicion.accepted
                ),
                share=share,
                policy=self.session.policy(LONG_PATIENCE_S),
                folder=self.folder,
                notes=[*note, *filter(None, (self.session.note,))],
                watch=self.progress,
                streams=streams,
                max_bytes=self.max_bytes,
                before=before,
                archive=self.session.endpoints.root,
                via=self.via,
                suspicion=suspicion,
                guard=self.guard,
            ).run()


def _note_archive(manifest: Manifest, root: str) -> None:
    """Record which archive the folder is filled from, so that what is known of it can be shown."""
    if manifest.setting("archive") != root:
        with manifest.transaction():
            manifest.set(archive=root)


def _suspicion(manifest: Manifest, accept: frozenset[str]) -> Suspicion:
    """Return what the folder accepts, and what a call accepts beside it, which is recorded."""
    known = {name: json.loads(manifest.setting(name) or "[]") for name in ("accept", "proven")}
    suspicion = Suspicion(accept.union(known["accept"]), known["proven"])
    for item in manifest.known_good(CONTROLS_MAX):  # of a folder that did not keep it yet
        suspicion.came(item)
    with manifest.transaction():
        manifest.set(**settings_of(suspicion))
    return suspicion


def _finished(folder: Path, wanted: Sequence[Target], retry_states: Sequence[str], error: SinkError) -> Report:
    """
    Return the account of a folder that cannot be written and where nothing was left to do.

    Raises
    ------
    SinkError
        The given one, where something is left.
    """
    try:
        report = account(folder)
        is_known = all(folders.knows(folder, target) for target in wanted)
    except PsfharvestError:
        raise error from None
    retried = sum(getattr(report, state) for state in retry_states)
    if report.pending or retried or report.lacking or not (is_known and report.is_fully_asked):
        raise error
    return replace(report, stopped="", notes=(f"nothing was left to do, though: {error}",))


@contextmanager
def _opened_sink(folder: Path, manifest: Manifest, settings: Settings) -> Iterator[Sink]:
    """Open the folder's sink, and close it."""
    with closing(folders.open_sink(folder, manifest, settings)) as sink:
        yield sink
