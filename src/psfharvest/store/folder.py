"""
A harvest folder: made once, opened by one process at a time.

Nothing is written before it is clear that the call can be carried out; a refused call leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from psfharvest.core import ranges
from psfharvest.core.errors import BadInput, FolderRefused
from psfharvest.filesystem import portable
from psfharvest.filesystem.failures import cannot_use
from psfharvest.store.lock import folder_lock
from psfharvest.store.manifest import damage, targets
from psfharvest.store.manifest import place as places
from psfharvest.store.manifest.database import UNSHARED
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.targets import Target
from psfharvest.store.sink_kinds import SINK_KINDS, Sink, SinkOptions, is_synced

LAYOUTS = ("tree", "flat")


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What holds for a folder's life; None is the folder's own, or the default for a new one.

    `manifest` is where the manifest stands, if not in the folder; `shard_bytes` the size at which a shard is
    closed, which another call may change for the shards to come. `is_part`: it holds a part of a harvest, whose
    manifest may be written on a network file system.
    """

    sink: str | None = None
    layout: str | None = None
    fsync: bool = False
    manifest: Path | None = None
    shard_bytes: int | None = None
    is_part: bool = False

    def __post_init__(self) -> None:
        if self.sink is not None:
            ranges.check_word("sink", self.sink, tuple(SINK_KINDS))
        if self.layout is not None:
            ranges.check_word("layout", self.layout, LAYOUTS)
        if self.layout is not None and self.sink is not None and not SINK_KINDS[self.sink].has_layouts:
            raise BadInput(f"layout {self.layout!r} goes with sink 'files'; leave it away for {self.sink!r}")
        if self.shard_bytes is not None:
            ranges.SHARD_BYTES.check("shard_bytes", self.shard_bytes)
        if self.sink is not None and (require := SINK_KINDS[self.sink].require) is not None:
            require()


def is_harvest(folder: Path) -> bool:
    """Return True when the folder has a manifest, in itself or where it says."""
    return places.find(folder).is_somewhere()


def knows(folder: Path, target: Target) -> bool:
    """Return True when the folder was asked for this before."""
    if not is_harvest(folder):
        return False
    with Manifest.read(folder) as manifest:
        return any(a.identity == target.identity for a in targets.read_targets(manifest))


def make(folder: Path) -> None:
    """Make a folder, and those above it; a `SinkError` where the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_use(error, folder, "choose a folder that can be made") from error


@contextmanager
def new_folder(folder: Path, settings: Settings) -> Iterator[Manifest]:
    """Make a harvest folder (an existing one may hold other things) and hold it."""
    refuse_dangling(folder)
    places.refuse_parts(folder)
    _check_shard_bytes(folder, settings.sink or "files", settings)
    at = places.choose(folder, settings.manifest)
    make(folder)
    with suppress(OSError):  # a parent that may not be read: then its names are the system's affair
        portable.sync_folder(folder.absolute().parent)
    refuse_orphans(folder, settings.sink)
    with folder_lock(folder) as note:
        if is_harvest(folder):
            raise FolderRefused(f"{folder} became a harvest folder just now; run the same again")
        damage.set_aside(folder)
        meta: dict[str, str | int] = {"sink": settings.sink or "files", "layout": settings.layout or "tree"}
        meta |= {UNSHARED: 1} if settings.is_part else {}
        Manifest.create(folder, at, **meta).close()
        with suppress(OSError):
            portable.sync_folder(folder)
        with Manifest.open(folder, durable=settings.fsync or is_synced(settings.sink)) as manifest:
            manifest.lock_note = note
            yield manifest


@contextmanager
def old_folder(folder: Path, settings: Settings) -> Iterator[Manifest]:
    """Open an existing harvest folder and hold it."""
    places.refuse_another(folder, settings.manifest)
    places.refuse_moved(folder)
    with Manifest.read(folder) as manifest:
        _check_settings(folder, manifest, settings)
        _check_shard_bytes(folder, manifest.sink, settings)
        durable = settings.fsync or is_synced(manifest.sink)
    with folder_lock(folder) as note, Manifest.open(folder, durable=durable) as manifest:
        manifest.lock_note = note
        yield manifest


def open_sink(folder: Path, manifest: Manifest, settings: Settings) -> Sink:
    """Return the folder's sink, ready to store."""
    return SINK_KINDS[manifest.sink].open(folder, manifest, SinkOptions(settings.fsync, settings.shard_bytes))


def todo(manifest: Manifest, wanted: Sequence[Target], *, extend: bool) -> list[Target]:
    """Return what is still to be asked for: `wanted` and what an earlier run left unfinished or lacking."""
    for known in targets.find_or_add(manifest, wanted, extend=extend):
        if known.kind == "stream":
            targets.reopen(manifest, known)
    return [a for a in targets.read_targets(manifest) if not a.is_complete or targets.n_lacking(manifest, a)]


def refuse_dangling(folder: Path) -> None:
    """
    Make sure that a folder to be made is no link into nothing, which no folder can be made at.

    Raises
    ------
    FolderRefused
        When it is one.
    """
    if folder.is_symlink() and not folder.exists():
        raise FolderRefused(
            f"{folder} is a link to {folder.readlink()}, which does not exist: make that folder, remove the "
            "link, or choose another folder"
        )


def refuse_orphans(folder: Path, sink: str | None) -> None:
    """
    Refuse shards and Parquet without a manifest: a sink drops what no claim stands behind.

    Raises
    ------
    FolderRefused
        When there are any.
    """
    if (folder / ".merging").exists():
        raise FolderRefused(
            f"{folder} holds a merge that was interrupted: the same 'psfharvest merge' or 'convert' command "
            f"finishes it; or remove {folder}"
        )
    places = SINK_KINDS[sink].places.values() if sink is not None and is_synced(sink) else ()
    inside = (folder / sink).rglob("[0-9]*.*") if sink is not None and places else iter(())
    names = (path.relative_to(folder).as_posix() for path in inside)
    orphan = next((name for name in names if any(place.fullmatch(name) for place in places)), None)
    if orphan is not None:
        raise FolderRefused(
            f"{folder} has {orphan} but no manifest, which was lost: "
            f"'psfharvest adopt {folder}' makes it anew; or choose another folder"
        )


def _check_settings(folder: Path, manifest: Manifest, settings: Settings) -> None:
    sink = manifest.sink
    if settings.layout is not None and settings.sink is None and not SINK_KINDS[sink].has_layouts:
        raise FolderRefused(
            f"layout goes with sink 'files'; {folder} is kept with sink {sink!r}: leave layout=… away"
        )
    for name in ("sink", "layout"):
        asked, own = getattr(settings, name), manifest.setting(name)
        if asked is not None and asked != own:
            raise FolderRefused(
                f"{folder} is kept with {name} {own!r}; leave {name}=… away, or choose another folder"
            )


def _check_shard_bytes(folder: Path, sink: str, settings: Settings) -> None:
    if settings.shard_bytes is not None and sink != "shards":
        raise BadInput(f"shard_bytes goes with sink 'shards'; {folder} is kept with sink {sink!r}")
