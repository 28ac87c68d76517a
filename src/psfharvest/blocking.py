"""
The verbs of `Archive` without ``await``: in scripts, in threads, and inside a running event loop (Jupyter).

Each archive has one background thread with its own event loop; a loop of the calling thread is left alone.
An interrupt cancels the work, which keeps what is claimed, and is raised again within a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import numpy as np  # noqa: F401 - an interrupt in its first import would spoil it for the whole process

from psfharvest import client as asynchronous
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.share_rules import of_kind
from psfharvest.concurrency.background_loop import END, GRACE_S, LOOK_S, Background, Call, Work
from psfharvest.concurrency.mirrored import signature_of
from psfharvest.concurrency.threaded_iterator import read_aside
from psfharvest.core.catalog.plan import Part
from psfharvest.core.errors import BadInput
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.model import Limits, Outcome, Report, RetryPolicy, State
from psfharvest.engine import stream
from psfharvest.events.hub import Listener
from psfharvest.run import What, interrupt_words
from psfharvest.show.bar import Watch, watching

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Archive", "CutoutStream"]

BUFFER = 64
"""Cutouts buffered between the background loop and the reader; the loop waits while it is full."""
ACKNOWLEDGE_EVERY = BUFFER // 4
"""Cutouts read between two acknowledgements to the loop."""

SHOW_EVERY_S = 0.1

_of_parents: list[object] = []
"""What a forked child has of its parent's: never freed, since that would end the parent's connections, too."""

T = TypeVar("T")
W = TypeVar("W")


class Archive:
    """
    The PSF databases at MAST, for code without ``await``.

    Its thread begins with the first call, and ends with `close`, with the ``with`` block, or when the archive is
    forgotten. Calls from several threads may go on at once.

    Parameters
    ----------
    url, client, limits, retry, token, trust_env, events
        As in `psfharvest.Archive`; a client of your own must not be in use by another event loop, and `events` is
        called in the archive's thread.
    share
        Another archive of this kind, whose connections, rate, pauses and thread this one shares.

    Raises
    ------
    BadInput
        When the URL is none, or the token would be exposed.

    Examples
    --------
    >>> with blocking.Archive() as archive:
    ...     report = archive.harvest(Query("UVIS", filter="F606W"), "stars/", suffixes=["flt"])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        token: str | None = None,
        trust_env: bool = True,
        events: Listener | None = None,
        share: Archive | None = None,
    ) -> None:
        self._shared = None if share is None else of_kind(share, Archive)
        self._given: dict[str, Any] = {"url": url, "client": client, "limits": limits, "retry": retry}
        self._given |= {"token": token, "trust_env": trust_env, "events": events}
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        """Be as new, in this process."""
        self._process = os.getpid()
        shared = None if self._shared is None else self._shared._archive
        self._archive: asynchronous.Archive = asynchronous.Archive(**self._given, share=shared)
        self._background: Background | None = None
        self._interrupted: Call[Any] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._archive)

    def _repr_html_(self) -> str:
        """Return address, connections and state for notebooks."""
        return self._archive._repr_html_()

    def close(self) -> None:
        """End what is under way, and the thread; the archive cannot be used after that."""
        self._is_closed = True
        if self._background is None or self._process != os.getpid():
            return
        if self._shared is None:
            self._background.end()
        else:
            with suppress(BadInput):  # the other was closed, and this one with it
                self._background.begin(lambda _: self._archive.aclose()).run()

    @property
    def endpoints(self) -> Endpoints:
        """Where the archive's paths are."""
        return self._archive.endpoints

    @signature_of(asynchronous.Archive.count)
    def count(self, **given: Any) -> int:
        """Return the number of sources that the query matches; see `psfharvest.Archive.count`."""
        return self._do(lambda _: self._archive.count(**given))

    @signature_of(asynchronous.Archive.plan)
    def plan(self, **given: Any) -> list[Part]:
        """Return parts of a query that can be harvested by themselves; see `psfharvest.Archive.plan`."""

        async def every() -> list[Part]:
            return [part async for part in self._archive.plan(**given)]

        return self._do(lambda _: every())

    @signature_of(asynchronous.Archive.limit)
    def limit(self, **given: Any) -> None:
        """Change the ceiling of connections while work is under way; see `psfharvest.Archive.limit`."""
        self._do(lambda _: self._archive.limit(**given))

    @signature_of(asynchronous.Archive.hold)
    def hold(self, **given: Any) -> None:
        """Send no request for so long; see `psfharvest.Archive.hold`."""

        async def hold() -> None:
            self._archive.hold(**given)

        self._do(lambda _: hold())

    @signature_of(asynchronous.Archive.query, progress=True)
    def query(self, *, progress: bool | Watch | None, **given: Any) -> Table:
        """Return the matching rows of the catalogue, sorted by id, with a bar; see `psfharvest.Archive.query`."""
        with watching(progress, unit="row") as watch:
            return self._do(lambda emit: self._archive.query(progress=emit if watch else None, **given), watch)

    @signature_of(asynchronous.Archive.fetch)
    def fetch(self, **given: Any) -> Cutout:
        """Return one cutout; see `psfharvest.Archive.fetch`."""
        return self._do(lambda _: self._archive.fetch(**given))

    @signature_of(asynchronous.Archive.stream, progress=True)
    def stream(self, *, what: What, progress: bool | Watch | None, **given: Any) -> CutoutStream:
        """
        Return cutouts in memory as they arrive, in no particular order; nothing is stored.

        Parameters
        ----------
        what, suffixes, unsat_size, sat_size, via, ahead, accept
            As in `psfharvest.Archive.stream`. A generator is read in a thread of its own.
        progress
            True draws a bar (tqdm's), False nothing; a function is called with a `Progress` as cutouts are taken.

        Returns
        -------
        CutoutStream
            Iterate over it, best in a ``with`` block: leaving that ends the requests.
        """
        background, archive = self._running(), self._archive
        flow = _Flow(
            lambda: archive.stream(_at_hand(what), **given),
            (lambda: archive.expected_cutouts(what, given.get("suffixes", ()))) if progress else None,
        )
        return CutoutStream(flow, background.begin(flow.fill), progress)

    @signature_of(asynchronous.Archive.harvest, progress=True)
    def harvest(
        self, *, what: What | Path, folder: str | Path, progress: bool | Watch | None, **given: Any
    ) -> Report:
        """
        Download cutouts into a folder, resumably: the same call continues where the last one stopped.

        Parameters
        ----------
        what, folder, suffixes, unsat_size, sat_size, sink, layout, via, fsync, manifest, shard_bytes, extend,\
        retry_states, max_bytes, accept, part, cluster, part_rows, events
            As in `psfharvest.Archive.harvest`. A generator is read in a thread of its own.
        progress
            True draws a bar (tqdm's), False nothing; a function is called with a `Progress` a few times a second,
            in the thread that called `harvest`.

        Returns
        -------
        Report
            The account.

        Raises
        ------
        KeyboardInterrupt
            Soon after an interrupt, with one sentence; what is claimed is kept, and the same call continues.
        """
        return self._watched(
            progress, folder, lambda emit: self._archive.harvest(_at_hand(what), folder, progress=emit, **given)
        )

    @signature_of(asynchronous.Archive.resume, progress=True)
    def resume(self, *, folder: str | Path, progress: bool | Watch | None, **given: Any) -> Report:
        """Go on with what a folder's manifest has recorded; parameters and result are those of `harvest`."""
        return self._watched(progress, folder, lambda emit: self._archive.resume(folder, progress=emit, **given))

    def _watched(
        self,
        progress: bool | Watch | None,
        folder: str | Path,
        work: Callable[[Watch | None], Coroutine[Any, Any, Report]],
    ) -> Report:
        """Do a harvest's work, show its progress here, and say in one sentence how far it was when interrupted."""
        with watching(progress) as watch:
            try:
                return self._do(lambda emit: work(emit if watch else None), watch)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(interrupt_words.words(Path(folder))) from None

    def _running(self) -> Background:
        if self._is_closed:
            raise BadInput("this Archive is closed; open a new one")
        base = None if self._shared is None else self._shared._running()
        if self._process != os.getpid():
            _of_parents.append((self._archive, self._background))
            self._begin()
        with self._lock:
            if self._background is None:
                if base is not None:
                    base.begin(lambda _: self._archive.__aenter__()).run()
                self._background = base or Background(self._archive)
            return self._background

    def _do(self, work: Work[T], on_message: Callable[[Any], None] | None = None) -> T:
        background = self._running()
        while self._interrupted is not None and not self._interrupted.has_ended:
            self._interrupted.wait(LOOK_S)  # it may hold the very folder that is asked for now
        call = background.begin(work)
        try:
            return call.run(on_message)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted") from None
        finally:
            if not call.has_ended:
                self._interrupted = call


def _at_hand(what: W) -> W | AsyncIterable[str]:
    """Return what can be read without waiting for it: an iterator may take its time, and is read aside."""
    return read_aside(what) if isinstance(what, Iterator) else what


class CutoutStream:
    """
    Cutouts as they arrive, for a ``for`` loop.

    The requests begin with the first cutout asked for. They end with the last one, with `close`, with the ``with``
    block, or when the stream is forgotten.
    """

    def __init__(self, flow: _Flow, call: Call[None], progress: bool | Watch | None = None) -> None:
        self._flow = flow
        self._call = call
        self._is_begun = False
        self._is_over = False
        self._n_taken = 0
        self._shown_at_s = float("-inf")
        self._shown = ExitStack()
        self._watch = self._shown.enter_context(watching(progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._call.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Cutout:
        if self._is_over:
            raise StopIteration
        try:
            with self._call.or_cancel():
                message = self._next()
        except BaseException as error:
            self._end()
            if isinstance(error, KeyboardInterrupt):
                words = f"interrupted: {self.states.get(State.DONE, 0):,} cutouts had come"
                raise KeyboardInterrupt(words) from None
            raise
        if message is not END:
            self._show()
            return message  # type: ignore[no-any-return]  # `fill` emits nothing else
        self._show(is_last=True)
        self._end()
        self._call.result()
        raise StopIteration

    def _show(self, *, is_last: bool = False) -> None:
        now_s = time.monotonic()
        if self._watch is not None and (is_last or now_s - self._shown_at_s >= SHOW_EVERY_S):
            self._shown_at_s = now_s
            self._watch(stream.stream_progress(self.states, self._flow.expected))

    def _end(self) -> None:
        self._is_over = True
        self._shown.close()

    @property
    def failures(self) -> Sequence[Outcome]:
        """Outcomes of what did not come, the last thousand of them."""
        return () if self._flow.cutouts is None else tuple(self._flow.cutouts.failures)

    @property
    def states(self) -> Mapping[State, int]:
        """How many ended in which state."""
        return {} if self._flow.cutouts is None else dict(self._flow.cutouts.states)

    def close(self) -> None:
        """End the requests; harmless when they have ended."""
        self._end()
        self._call.cancel()
        if self._is_begun:
            self._call.wait(GRACE_S)

    def _next(self) -> Any:
        if not self._is_begun:
            self._is_begun = True
            self._call.start()
        message = self._call.take()
        self._n_taken += 1
        if self._n_taken % ACKNOWLEDGE_EVERY == 0:
            self._call.call_soon(self._flow.took, ACKNOWLEDGE_EVERY)
        return message


class _Flow:
    """Bounded transfer of cutouts from the background loop to the reading thread."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[stream.CutoutStream]],
        expecting: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self.cutouts: stream.CutoutStream | None = None
        self.expected: int | None = None
        self._expecting = expecting
        self._opened = opened
        self._n_under_way = 0
        self._room: anyio.Event | None = None

    async def fill(self, emit: Callable[[Cutout], None]) -> None:
        """Emit each cutout as it comes, waiting while the buffer is full."""
        if self._expecting is not None:
            self.expected = await self._expecting()
        async with self._opened() as self.cutouts:
            async for cutout in self.cutouts:
                while self._n_under_way >= BUFFER:
                    self._room = anyio.Event()
                    await self._room.wait()
                self._n_under_way += 1
                emit(cutout)

    def took(self, n: int) -> None:
        """Acknowledge `n` cutouts taken out of the buffer; called in the loop."""
        self._n_under_way -= n
        if self._room is not None:
            self._room.set()


def __dir__() -> list[str]:
    return __all__
