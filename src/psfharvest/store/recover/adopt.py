"""
Rebuild a lost manifest from the cutouts that are stored, and take in folders that others have left.

What is stored is only read. Every cutout is checked as a download is and hashed; those that are right become
``done``, broken ones ``pending``, so that the next harvest fetches exactly those. The manifest grows in a folder of
its own, one transaction for some hundred cutouts, and takes its name when it is whole; after a death the same call
goes on with it. A changed pixel cannot be found where no hash stood beside it: the checks see a file's structure.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from psfharvest.core.errors import BadInput, SinkError
from psfharvest.core.fits import accepted_deviations, names
from psfharvest.core.model import Item, Report, UriBatch
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest import damage, targets
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.targets import Target
from psfharvest.store.read import account
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.builder import BrokenCutout, ManifestBuilder, take_name
from psfharvest.store.recover.candidates import Candidate, CandidateBatch
from psfharvest.store.recover.check import ABSENT, CheckedCutout, look_at, look_at_file
from psfharvest.store.recover.detect_layout import FolderLayout, recognise
from psfharvest.store.sink_kinds import SINK_KINDS

BATCH_SIZE = 64
"""Cutouts that one thread looks at in one go."""
EXAMPLES = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UriList:
    """
    dataURIs that the stored cutouts are held against.

    Parameters
    ----------
    identity
        Equal for the same list.
    batches
        Given position and lines, yields the list from there on.
    target
        What a harvest of the list is known by; None where there is no such harvest.
    """

    identity: str
    batches: Callable[[int, int], Iterator[UriBatch]]
    target: Target | None = None


class AdoptProgress(NamedTuple):
    """How far it has come: cutouts read, broken ones among them, and all there are, where that is known."""

    n_read: int
    n_broken: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Adopted:
    """
    What became of it.

    `problems` counts broken cutouts by what is wrong with them, `examples` has the first of them; `strays` are
    files that belong to no cutout; `set_aside` is the new name of a damaged manifest; `is_asked` tells whether the
    folder knows the list that it was made for.
    """

    report: Report
    kind: FolderLayout
    problems: Mapping[str, int]
    examples: Sequence[BrokenCutout]
    strays: int
    set_aside: str
    is_asked: bool

    @property
    def broken(self) -> int:
        """How many cutouts are not what they should be."""
        return sum(self.problems.values())


def adopt(
    folder: Path,
    listed: UriList | None = None,
    *,
    accept: str | Sequence[str] = (),
    watch: Callable[[AdoptProgress], None] | None = None,
) -> Adopted:
    """
    Make the manifest of a folder that holds cutouts and has none, or a damaged one, which is set aside.

    Parameters
    ----------
    folder
        With the cutouts of one sink and layout, which are recognised.
    listed
        The dataURIs: files need them, since coordinates are nowhere in a FITS file; shards and Parquet have them
        beside the cutouts, and ask for those of the list in addition.
    accept
        Names of deviations that pass, as `Archive.harvest` has them; ways to write a name in the header always do.
    watch
        Called now and then.

    Raises
    ------
    BadInput
        When there is nothing to adopt, or a list is needed.
    FolderRefused
        When the folder has a sound manifest, cutouts of two kinds, or is in use.
    LocalError
        When a file cannot be read, or the manifest not be written.
    """
    started_s = time.monotonic()
    accepted = accepted_deviations.checked(accept)
    places.refuse_parts(folder)
    damage.refuse_sound(folder)
    kind = recognise(folder, any_files=listed is not None)
    if SINK_KINDS[kind.sink].units is None and listed is None:
        raise BadInput(
            f"{folder} holds cutouts of sink {kind.sink!r}, which keeps no coordinates; give the list of their "
            f"dataURIs: psfharvest adopt {folder} --uris FILE"
        )
    with folder_lock(folder):
        damage.refuse_sound(folder)
        with ManifestBuilder(folder, kind, listed.identity if listed else "") as builder:
            try:
                _Work(folder, kind, listed, accepted, watch, builder).run()
            except OSError as error:
                raise SinkError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
            problems, examples = builder.problems(), builder.examples(EXAMPLES)
            n_present = builder.manifest.tally().done + builder.n_broken_items()
            is_asked = bool(targets.read_targets(builder.manifest))
        set_aside = take_name(folder)
        report = account.account(folder)
    n_own = n_present if SINK_KINDS[kind.sink].units is None else kind.n_places
    return Adopted(
        replace(report, elapsed_s=time.monotonic() - started_s),
        kind,
        problems,
        examples,
        max(0, kind.n_files - n_own),
        set_aside,
        is_asked,
    )


@dataclass(slots=True)
class _Work:
    folder: Path
    kind: FolderLayout
    listed: UriList | None
    accepted: frozenset[str]
    watch: Callable[[AdoptProgress], None] | None
    builder: ManifestBuilder
    n_read: int = 0
    n_broken: int = 0
    _n_threads: int = os.cpu_count() or 1

    def run(self) -> None:
        """Do what is left of it."""
        with self.builder.manifest.transaction():
            self.builder.manifest.set(accept=json.dumps(sorted(self.accepted)))
        with ThreadPoolExecutor(self._n_threads, thread_name_prefix="psfharvest-adopt") as pool:
            if self.listed is not None:
                self._take_list(self.listed, pool)
            if (units := SINK_KINDS[self.kind.sink].units) is not None:
                self._take_stored(pool, units)

    def _take_list(self, listed: UriList, pool: ThreadPoolExecutor) -> None:
        for batch in listed.batches(self.builder.position, self.builder.lines):
            with self.builder.step(position=batch.position, lines=batch.lines):
                new = self.builder.manifest.add(batch.asked)
                if SINK_KINDS[self.kind.sink].units is None:
                    self._keep(_each(pool, self._look_at_files, new, BATCH_SIZE))
            self._report_progress()
        if listed.target is not None:
            self.builder.finish(listed.target)

    def _take_stored(
        self, pool: ThreadPoolExecutor, units: Callable[[Path, Sequence[int]], Iterator[CandidateBatch]]
    ) -> None:
        for unit in units(self.folder, self.builder.mark):
            with self.builder.step(mark=list(unit.mark)):
                items = self.builder.items_of(unit.candidates)
                pairs = [(items[candidate.asked.uri], candidate) for candidate in unit.candidates]
                # a thread decodes a whole row group, however few of its rows it looks at
                is_whole = SINK_KINDS[self.kind.sink].is_decoded_whole
                at_once = -(-len(pairs) // self._n_threads) if is_whole else BATCH_SIZE
                self._keep(_each(pool, self._look_at_candidates, pairs, at_once))
                self.builder.lose(unit.lost)
                self.builder.manifest.set(**unit.checkpoint)
            self._report_progress()

    def _look_at_files(self, piece: Sequence[Item]) -> list[CheckedCutout]:
        is_tree, accepted = self.kind.layout == "tree", self._passing
        return [look_at_file(self.folder, item, is_tree=is_tree, accepted=accepted) for item in piece]

    def _look_at_candidates(self, piece: Sequence[tuple[Item, Candidate]]) -> list[CheckedCutout]:
        with Reader(self.folder) as reader:
            return [look_at(reader, item, candidate, self._passing) for item, candidate in piece]

    @property
    def _passing(self) -> frozenset[str]:
        return self.accepted.union(names.DIFFERENCES)

    def _keep(self, findings: Sequence[CheckedCutout]) -> None:
        self.builder.keep(findings)
        self.n_read += sum(finding.problem != ABSENT for finding in findings)
        self.n_broken += sum(finding.problem not in ("", ABSENT) for finding in findings)

    def _report_progress(self) -> None:
        if self.watch is not None:
            total = self.kind.n_files if SINK_KINDS[self.kind.sink].units is None else None
            self.watch(AdoptProgress(self.n_read, self.n_broken, total))


def _each(
    pool: ThreadPoolExecutor, look: Callable[[Sequence[T]], list[CheckedCutout]], things: Sequence[T], at_once: int
) -> list[CheckedCutout]:
    """Look at all things, many at a time, and return the findings in their order."""
    pieces = [things[at : at + at_once] for at in range(0, len(things), max(1, at_once))]
    return [finding for findings in pool.map(look, pieces) for finding in findings]
