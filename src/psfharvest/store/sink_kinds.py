"""
Sinks: all that the package knows of each, in one entry of `SINK_KINDS`.

Harvesting, adopting, recognising a folder and reading back go by these entries. A sink whose locations the manifest
cannot derive stores them: `Stored` with a text as its `place`. Heavy modules are imported when a sink is opened.
Type checkers read the names in `psfharvest.core.names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psfharvest.core.catalog import detectors
from psfharvest.core.model import Outcome

if TYPE_CHECKING:
    from psfharvest.store.manifest.manifest import Manifest, Stored
    from psfharvest.store.manifest.merging import MergedManifest
    from psfharvest.store.recover.candidates import CandidateBatch
    from psfharvest.store.recover.numbered_files import NumberedFiles

_FOLDER = "|".join(detectors.FOLDERS)
CUTOUT_NAME = (
    rf"[A-Za-z0-9]{{1,40}}_[0-9]{{1,18}}_[^/]+_(?:{'|'.join(detectors.SUFFIX_MEANING)})_cutout(?:-[0-9]+)?\.fits"
)


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What one run may ask of a sink; each sink takes what it knows."""

    fsync: bool = False
    shard_bytes: int | None = None


class Sink(Protocol):
    """Stores bodies durably; one process and one thread at a time."""

    @property
    def needs_sources(self) -> bool:
        """Whether it stores the catalogue rows, too."""
        ...

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        """Store the bodies of outcomes and return where each went; raises `SinkError`."""
        ...

    def checkpoint(self) -> Mapping[str, int]:
        """Return what the manifest must record together with a claim."""
        ...

    def close(self) -> None:
        """Finish and close what is open."""
        ...


class BodyReader(Protocol):
    """Reads bodies back from the files of one sink."""

    def read(self, path: str, place: int, size_bytes: int) -> bytes:
        """Return the body at a place in a file, given its path relative to the folder."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkKind:
    """One way to keep cutouts in a folder."""

    name: str
    open: Callable[[Path, Manifest, SinkOptions], Sink]
    """Opens the sink of a folder, ready to store."""
    places: Mapping[str, re.Pattern[str]] = field(hash=False)
    """By layout (``tree`` where there is one only): the paths, relative to the folder, of the files it makes."""
    is_synced: bool
    """Whether each batch is synced: its claims survive power loss, if the manifest's do."""
    units: Callable[[Path, Sequence[int]], Iterator[CandidateBatch]] | None = None
    """Yields what the folder holds, for `adopt`; None where a list of dataURIs is needed."""
    endings: Mapping[str, Callable[[Path], BodyReader]] = field(default_factory=dict, hash=False)
    """Readers of locations ``PATH:PLACE``, by the ending of the path; a location without a place is a file."""
    is_decoded_whole: bool = False
    """Whether reading one body decodes all beside it, so that few threads should share a unit."""
    numbered: Callable[[], NumberedFiles] | None = None
    """Returns what recovery knows of its numbered files; None: a file has one cutout, or is never appended to."""
    open_merged: Callable[[Path, MergedManifest], Sink] | None = None
    """Opens the sink that a merge or a conversion stores into; None: a folder of this kind cannot be merged."""
    require: Callable[[], None] | None = None
    """Raises `BadInput` when a library that it needs is not installed."""

    @property
    def has_layouts(self) -> bool:
        """Whether ``layout=`` goes with it."""
        return len(self.places) > 1


def _open_files(folder: Path, manifest: Manifest, options: SinkOptions) -> Sink:
    from psfharvest.store.sinks.files import FileSink  # noqa: PLC0415 - as the module says

    return FileSink(folder, layout=manifest.setting("layout"), fsync=options.fsync)


def _open_shards(folder: Path, manifest: Manifest, options: SinkOptions) -> Sink:
    from psfharvest.store.manifest import damage  # noqa: PLC0415
    from psfharvest.store.sinks.shards import SHARD_BYTES, ShardSink, cuts  # noqa: PLC0415

    shard, end = manifest.mark
    if cuts(folder, shard, end):
        damage.refuse_claims_beyond(manifest, shard, end)
    if options.shard_bytes is not None:
        with manifest.transaction():
            manifest.set(shard_bytes=options.shard_bytes)
    shard_bytes = int(manifest.setting("shard_bytes", SHARD_BYTES))
    return ShardSink(folder, shard=shard, end=end, columns=manifest.columns, shard_bytes=shard_bytes)


def _open_parquet(folder: Path, manifest: Manifest, options: SinkOptions) -> Sink:
    from psfharvest.store.read.provenance import origin  # noqa: PLC0415
    from psfharvest.store.sinks.parquet import ParquetSink  # noqa: PLC0415

    del options

    shard, end = manifest.mark
    return ParquetSink(
        folder,
        shard=shard,
        end=end,
        claimed=lambda: manifest.mark,
        columns=manifest.columns,
        origin=lambda: origin(folder, manifest),
    )


def _shard_units(folder: Path, mark: Sequence[int]) -> Iterator[CandidateBatch]:
    from psfharvest.store.recover import candidates  # noqa: PLC0415

    return candidates.shards(folder, mark)


def _parquet_units(folder: Path, mark: Sequence[int]) -> Iterator[CandidateBatch]:
    from psfharvest.store.recover import parquet_candidates  # noqa: PLC0415

    return parquet_candidates.units(folder, mark)


def _shard_reader(folder: Path) -> BodyReader:
    from psfharvest.store.readers.shard_reader import ShardReader  # noqa: PLC0415

    return ShardReader(folder)


def _parquet_reader(folder: Path) -> BodyReader:
    from psfharvest.store.readers.parquet_reader import ParquetReader  # noqa: PLC0415 - needs an extra

    return ParquetReader(folder)


def _shard_files() -> NumberedFiles:
    from psfharvest.store.recover.shard_files import ShardFiles  # noqa: PLC0415

    return ShardFiles()


def _parquet_files() -> NumberedFiles:
    from psfharvest.store.recover.parquet_files import ParquetFiles  # noqa: PLC0415

    return ParquetFiles()


def _open_merged_files(folder: Path, merged: MergedManifest) -> Sink:
    from psfharvest.store.sinks.files import FileSink  # noqa: PLC0415

    return FileSink(folder, layout=merged.layout)


def _open_merged_shards(folder: Path, merged: MergedManifest) -> Sink:
    from psfharvest.store.sinks.shards import ShardSink  # noqa: PLC0415

    shard, end = merged.mark
    return ShardSink(folder, shard=shard, end=end)


def _open_merged_parquet(folder: Path, merged: MergedManifest) -> Sink:
    from psfharvest.store.sinks.parquet import ParquetSink  # noqa: PLC0415

    shard, end = merged.mark
    return ParquetSink(folder, shard=shard, end=end, claimed=lambda: merged.mark)


def _require_pyarrow() -> None:
    from psfharvest.store.sinks.arrow import require_pyarrow  # noqa: PLC0415

    require_pyarrow()


FILES = SinkKind(
    name="files",
    open=_open_files,
    places={
        "flat": re.compile(rf"(?:{_FOLDER})/{CUTOUT_NAME}"),
        "tree": re.compile(rf"(?:{_FOLDER})/[^/]{{1,4}}/[^/]{{1,40}}/{CUTOUT_NAME}"),
    },
    is_synced=False,
    open_merged=_open_merged_files,
)
SHARDS = SinkKind(
    name="shards",
    open=_open_shards,
    places={"tree": re.compile(r"shards/[0-9]{6,}\.tar")},
    is_synced=True,
    units=_shard_units,
    endings={".tar": _shard_reader},
    numbered=_shard_files,
    open_merged=_open_merged_shards,
)
PARQUET = SinkKind(
    name="parquet",
    open=_open_parquet,
    places={
        "tree": re.compile(r"parquet/(?:\.journal/[0-9]{6,}\.tar|(?:[0-9]+|other)/[0-9]{6,}\.parquet)"),
    },
    is_synced=True,
    units=_parquet_units,
    endings={".parquet": _parquet_reader},
    is_decoded_whole=True,
    numbered=_parquet_files,
    open_merged=_open_merged_parquet,
    require=_require_pyarrow,
)
SINK_KINDS = {kind.name: kind for kind in (FILES, SHARDS, PARQUET)}


def numbered_files(sink: str) -> NumberedFiles | None:
    """Return what looks after a sink's numbered files; None where each cutout has a file of its own."""
    numbered = SINK_KINDS[sink].numbered
    return None if numbered is None else numbered()


def is_synced(name: str | None) -> bool:
    """Return whether a sink syncs each batch; None is the default sink."""
    return SINK_KINDS[name or FILES.name].is_synced
