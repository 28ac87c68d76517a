"""
Merge harvest folders into one, and convert a folder to another sink: cutouts, catalogue, account and history.

The sources are only read. The merged manifest grows in a folder of its own and takes its name at the end, by one
rename: until then the target is what it was before. After a death the same call goes on. What two folders have,
counts once, in the better of both states: done, missing, failed, pending. Nothing is asked of the archive.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from psfharvest.core.errors import BadInput, FolderRefused
from psfharvest.core.model import Report
from psfharvest.filesystem import atomic
from psfharvest.filesystem.failures import refused_as_sink_error
from psfharvest.store import folder as folders
from psfharvest.store.folder import Settings
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest import damage, merging, targets
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.merging import MergedManifest
from psfharvest.store.manifest.place import MANIFEST_NAME
from psfharvest.store.merge_transfer import Destination, drop_unclaimed, take
from psfharvest.store.moves import Moves
from psfharvest.store.parts import Planning
from psfharvest.store.read.account import account
from psfharvest.store.sink_kinds import SINK_KINDS

NAME = ".merging"


@dataclass(frozen=True, slots=True)
class Step:
    """
    How far it has come.

    `n` cutouts have been dealt with since the last step, `n_left` are left of the present source, `folder`;
    `n_broken` of those dealt with were not as recorded there.
    """

    folder: Path
    n: int
    n_left: int
    n_broken: int = 0


def merge(sources: Sequence[Path], into: Path, *, is_partial: bool = False) -> Iterator[Step]:
    """
    Merge harvest folders of one sink into a folder, which may be a harvest folder itself; iterate to do the work.

    Parameters
    ----------
    sources
        The folders; they stay as they are.
    into
        Made when it does not exist.
    is_partial
        Whether folders with pending work are taken, too; it is pending in the target then.

    Raises
    ------
    BadInput
        When that cannot be done; nothing was changed.
    LocalError
        When disk or manifest fail; the same call goes on.
    """
    _refuse_same(sources, into)
    places.refuse_parts(into)
    sinks = {_sink_of(folder) for folder in (*sources, *([into] if folders.is_harvest(into) else []))}
    if len(sinks) > 1:
        raise FolderRefused(
            f"the folders have different sinks ({', '.join(sorted(sinks))}); "
            "convert them to one first: psfharvest convert DIR OUT --sink S"
        )
    for folder in sources:
        if not is_partial and _is_work_left(folder):
            raise FolderRefused(
                f"{folder} has pending work: finish it with 'psfharvest resume {folder}', or merge what is there "
                "with --partial"
            )
    (sink,) = sinks
    has_layouts = SINK_KINDS[sink].has_layouts
    layout = _layout_of(into if folders.is_harvest(into) else sources[0]) if has_layouts else None
    return Merging(sources, into, sink, layout, may_link=True).run()


def convert(source: Path, into: Path, sink: str, layout: str | None = None) -> Iterator[Step]:
    """
    Store a harvest folder's cutouts anew with another sink, each verified; iterate to do the work.

    Parameters
    ----------
    source
        The folder; it stays as it is.
    into
        A new folder, or one that an earlier such call has begun or finished.
    sink, layout
        How it stores.

    Raises
    ------
    BadInput, LocalError
        As `merge` does.
    """
    wanted = Settings(sink, layout)
    _refuse_same([source], into)
    places.refuse_parts(into)
    _sink_of(source)
    if folders.is_harvest(into):
        if _sink_of(into) != sink or _identities(into) != _identities(source):
            raise FolderRefused(f"{into} holds another harvest; convert into a new folder")
        layout = _layout_of(into)
    return Merging([source], into, sink, layout or wanted.layout or "tree", may_link=False).run()


def result(into: Path) -> Report:
    """Return the account of a folder that is merged or converted."""
    return replace(account(into), stopped="")


@dataclass(slots=True)
class Merging:
    """
    One merge.

    Attributes
    ----------
    sources, into, sink, layout
        What becomes of what.
    may_link
        Whether files may get second names.
    moves
        For sources that nobody goes on with: takes note of files that are moved where they cannot be linked.
    is_disjoint
        Whether no dataURI is in two sources.
    planning
        Of parts: what their plan took, which becomes a run of the target.
    """

    sources: Sequence[Path]
    into: Path
    sink: str
    layout: str | None
    may_link: bool
    moves: Moves | None = None
    is_disjoint: bool = False
    planning: Planning | None = None

    def run(self) -> Iterator[Step]:
        """Iterate to do the work; the same again goes on after a death."""
        if (require := SINK_KINDS[self.sink].require) is not None:
            require()
        with refused_as_sink_error(), ExitStack() as stack:
            folders.refuse_dangling(self.into)
            if self.moves is None:
                self._refuse_busy()
            home = self._home()
            if not folders.is_harvest(self.into) and not home.exists():
                folders.refuse_orphans(self.into, self.sink)
            folders.make(self.into)
            stack.enter_context(folder_lock(self.into))
            yield from self._grow(home)
            self._commit(home)

    def _refuse_busy(self) -> None:
        """Refuse sources that another process holds, before anything is made."""
        for source in self.sources:
            with _held(source):
                pass

    def _home(self) -> Path:
        """Return where the manifest grows: a folder in the file system of the manifest to come."""
        path = places.find(self.into).path
        return path.parent / (NAME if path.parent == self.into else f".{path.name}{NAME}")

    def _grow(self, home: Path) -> Iterator[Step]:
        prints = [merging.fingerprint(source) for source in self.sources]
        is_base = folders.is_harvest(self.into)
        if is_base:
            Manifest.open(self.into).close()  # it is of today's schema, and has no journal
        of = json.dumps(
            [
                merging.WORKING,
                *zip(map(self._name, self.sources), prints, strict=True),
                merging.fingerprint(self.into) if is_base else "",
                self.sink,
                self.layout,
            ]
        )
        with self._begun(home, of) or self._new(home, of, is_base=is_base) as merged:
            if self.moves is not None:
                self.moves.undo(merged.unused_shard)
            for n, source in enumerate(self.sources):
                if n < merged.state["n_absorbed"] - 1:
                    continue
                with _held(source):
                    if merging.fingerprint(source) != prints[n]:
                        raise FolderRefused(f"{source} has changed just now; run the same again")
                    merged.attach(source, is_at_rest=self.moves is not None)
                    if n == merged.state["n_absorbed"]:
                        merged.absorb(is_disjoint=self.is_disjoint, n_absorbed=n + 1)
                    yield from self._take(source, merged)
            with Destination(self.into, merged) as target:
                target.settle()
            drop_unclaimed(self.into, self.sink, merged.unused_shard)
            n_broken = merged.state.get("n_broken", 0)
            merged.finish()
        yield Step(self.into, 0, 0, n_broken)

    def _name(self, source: Path) -> str:
        """Return what a source is called: a part goes with its folder."""
        return str(source.absolute() if self.moves is None else source.relative_to(self.into))

    def _take(self, source: Path, merged: MergedManifest) -> Iterator[Step]:
        n_left = merged.n_taking()
        yield Step(source, 0, n_left)
        with Destination(self.into, merged) as target:
            given_up = self.moves is not None
            for n in take(source, target, may_link=self.may_link, is_given_up=given_up, moves=self.moves):
                n_left -= n
                yield Step(source, n, n_left)

    def _begun(self, home: Path, of: str) -> MergedManifest | None:
        """Return what an earlier try has left, if it was of the same."""
        if not (home / MANIFEST_NAME).exists():
            return None
        merged = MergedManifest(home)
        if merged.state.get("of") == of:
            return merged
        merged.close()
        return None

    def _new(self, home: Path, of: str, *, is_base: bool) -> MergedManifest:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        meta: dict[str, str | int] = {merging.STATE: json.dumps({"of": of, "n_absorbed": 0})}
        if not is_base:
            more = {"sink": self.sink, "layout": self.layout or "tree"}
            runs = [] if self.planning is None else [asdict(self.planning)]
            return MergedManifest.new(home, None, {**meta, **more}, runs)
        with Manifest.open(self.into) as manifest:
            if manifest.mark[1]:  # its last shard is to end with its last claim, or be a Parquet file
                folders.open_sink(self.into, manifest, Settings()).close()
        merged = MergedManifest.new(home, self.into, meta)
        if SINK_KINDS[self.sink].numbered is not None:
            merged.close_shard()
            drop_unclaimed(self.into, self.sink, merged.unused_shard)
        return merged

    def _commit(self, home: Path) -> None:
        """Give the merged manifest its name: before that nothing is merged, after that everything."""
        at = places.find(self.into)
        if at.is_somewhere():
            merging.close_for_good(at)
        else:
            damage.set_aside(self.into)
        atomic.replace(home / MANIFEST_NAME, at.path, is_synced=True)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _held(source: Path) -> Iterator[None]:
    """Keep harvests off a source, where this process may write to it."""
    if os.access(source, os.W_OK):
        with folder_lock(source):
            yield
    else:
        yield


def _refuse_same(sources: Sequence[Path], into: Path) -> None:
    seen = {os.path.realpath(into)}  # unlike `Path.resolve`, it takes a link to itself
    for source in sources:
        place = os.path.realpath(source)
        if place in seen:
            raise BadInput(f"{source} is given twice: name each folder once, and the target last")
        seen.add(place)


def _sink_of(folder: Path) -> str:
    with Manifest.read(folder) as manifest:
        return manifest.sink


def _layout_of(folder: Path) -> str:
    with Manifest.read(folder) as manifest:
        return str(manifest.setting("layout", "tree"))


def _identities(folder: Path) -> set[str]:
    with Manifest.read(folder) as manifest:
        return {target.identity for target in targets.read_targets(manifest)}


def _is_work_left(folder: Path) -> bool:
    report = account(folder)
    return bool(report.pending) or not report.is_fully_asked
