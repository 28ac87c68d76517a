"""After any damage and its repair, a folder is right for us and for the readers that its users have."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sink_contract import cutout_uri
from test_parquet import fits_bytes, image_of

from psfharvest.core.errors import FolderRefused
from psfharvest.core.fits import datauri
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.store.folder import Settings, old_folder
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read.harvest import Harvest
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover import audit, mend
from psfharvest.store.recover.verification import verify
from psfharvest.store.sinks.parquet import ParquetSink
from psfharvest.store.sinks.shards import ShardSink
from sampling import examples
from standard_readers import every_file_opens

N = 40
LONG = "mast:" + "x" * 150 + "/y.dat"
"""Its name has a header of its own."""
URIS = [cutout_uri(k, size=51 if k % 3 else 101) for k in range(1, N)] + [LONG]
BODIES = {uri: fits_bytes(image_of(k, 51 if k % 3 else 101)) for k, uri in enumerate(URIS[:-1], 1)}
BODIES[LONG] = b"no image" * 999
ROLL = 150_000


def open_sink(folder: Path, sink: str, manifest: Manifest) -> ShardSink | ParquetSink:
    shard, end = manifest.setting("shard", 0), manifest.setting("shard_end", 0)
    if sink == "shards":
        return ShardSink(folder, shard=shard, end=end, shard_bytes=ROLL)
    return ParquetSink(
        folder,
        shard=shard,
        end=end,
        journal_bytes=ROLL,
        claimed=lambda: (manifest.setting("shard", 0), manifest.setting("shard_end", 0)),
    )


def fill(folder: Path, sink: str, *, is_closed: bool = True) -> None:
    """Store what is pending, as a run does."""
    with old_folder(folder, Settings()) as manifest:
        store = open_sink(folder, sink, manifest)
        while items := manifest.pending(0, 7, with_source=True):
            bodies = [BODIES[item.uri] for item in items]
            outcomes = [
                Outcome(item, State.DONE, 1, body, hashlib.sha256(body).digest())
                for item, body in zip(items, bodies, strict=True)
            ]
            stored = store.store(outcomes)
            with manifest.transaction():
                manifest.record(stored)
                manifest.set(**store.checkpoint())
        if is_closed:
            store.close()


def make(folder: Path, sink: str, *, is_closed: bool = True) -> Path:
    """Make a folder with all cutouts, in several shards or files."""
    folder.mkdir()
    Manifest.create(folder, sink=sink, layout="tree").close()
    with old_folder(folder, Settings()) as manifest, manifest.transaction():
        manifest.add([WantedURI(uri, None, datauri.parse(uri)) for uri in URIS])
    fill(folder, sink, is_closed=is_closed)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, to be copied."""
    base = tmp_path_factory.mktemp("made")
    return {
        "shards": make(base / "shards", "shards"),
        "parquet": make(base / "parquet", "parquet"),
        "journal": make(base / "journal", "parquet", is_closed=False),
    }


def find_and_repair(folder: Path) -> int:
    """Verify and repair, as the command does; return how many things were broken."""
    with Manifest.read(folder) as manifest:
        broken = [found for found in audit.audit(folder, manifest) if found.problem]
    if broken:
        numbers = [found.number for found in broken if found.number]
        mend.repair(folder, numbers, [found.location for found in broken if not found.number])
    return len(broken)


def check_mended(folder: Path, sink: str) -> None:
    """Repair, then store what is missing: all readers are content after each step, and all is as claimed."""
    find_and_repair(folder)
    every_file_opens(folder)
    assert 0 == find_and_repair(folder)
    fill(folder, sink)
    assert N == every_file_opens(folder)
    assert 0 == find_and_repair(folder)
    with Manifest.read(folder) as manifest, Reader(folder) as reader:
        rows = list(manifest.cutouts("uri, location, size_bytes", "state = 'done'"))
        assert {uri: reader.read(location, size) for uri, location, size in rows} == BODIES
    assert N == len(Harvest(folder).table())


def places(folder: Path) -> list[tuple[Path, int, int]]:
    """Return path, offset and size of each cutout in shards, in their order."""
    with Manifest.read(folder) as manifest:
        rows = list(manifest.cutouts("location, size_bytes", "state = 'done'"))
    return [(folder / at.rpartition(":")[0], int(at.rpartition(":")[2]), size) for at, size in rows]


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def first(folder: Path) -> Path:
    return min(folder.glob("shards/*.tar"))


def last(folder: Path) -> Path:
    return max(folder.glob("shards/*.tar"))


def padded(size: int) -> int:
    return -(-size // 512) * 512


SHARD_DAMAGE: dict[str, Callable[[Path], object]] = {
    "the last is cut in its last cutouts": lambda d: cut(last(d), last(d).stat().st_size - 30_000),
    "the last is cut in its last note": lambda d: cut(last(d), last(d).stat().st_size - 1024 - 300),
    "the last has other bytes over its end": lambda d: write(last(d), last(d).stat().st_size - 1100, b"\xff" * 512),
    "the last has other bytes in the second half of its end": lambda d: write(
        last(d), last(d).stat().st_size - 300, b"\xff" * 200
    ),
    "the last has lost half its end": lambda d: cut(last(d), last(d).stat().st_size - 512),
    "the last is emptied": lambda d: cut(last(d), 0),
    "the last is removed": lambda d: last(d).unlink(),
    "the first is cut": lambda d: cut(first(d), 60_000),
    "the first has lost half its end": lambda d: cut(first(d), first(d).stat().st_size - 700),
    "the first is emptied": lambda d: cut(first(d), 0),
    "the first is removed": lambda d: first(d).unlink(),
    "the first has four bytes": lambda d: cut(first(d), 4),
    "all are emptied": lambda d: [cut(path, 0) for path in d.glob("shards/*.tar")],
    "all are removed": lambda d: shutil.rmtree(d / "shards"),
    "the first header is zeroed": lambda d: write(first(d), 0, bytes(512)),
    "a cutout's header is zeroed": lambda d: write(places(d)[2][0], places(d)[2][1] - 512, bytes(512)),
    "a header's checksum is wrong": lambda d: write(places(d)[2][0], places(d)[2][1] - 512 + 148, b"7"),
    "a note's header is zeroed": lambda d: write(
        places(d)[2][0], places(d)[2][1] + padded(places(d)[2][2]), bytes(512)
    ),
    "a note is no JSON": lambda d: write(
        places(d)[2][0], places(d)[2][1] + padded(places(d)[2][2]) + 512, b"\xff\xff"
    ),
    "a long name's header is zeroed": lambda d: write(places(d)[-1][0], places(d)[-1][1] - 1536, bytes(512)),
    "a long name is damaged": lambda d: write(places(d)[-1][0], places(d)[-1][1] - 1024, b"9999"),
    "a pixel is changed": lambda d: write(places(d)[2][0], places(d)[2][1] + 5000, b"\x01\x02"),
    "neighbours have changed pixels": lambda d: [write(p, at + 5000, b"\x01\x02") for p, at, _ in places(d)[1:4]],
    "a stretch in the middle is noise": lambda d: write(first(d), 40_000, random.Random(1).randbytes(40_000)),
    "a stretch in the middle is zeros": lambda d: write(first(d), 40_000, bytes(40_000)),
    "the last bytes are noise": lambda d: write(
        last(d), last(d).stat().st_size - 20_000, random.Random(2).randbytes(20_000)
    ),
    "every header of a shard is zeroed": lambda d: [
        write(path, at - 512, bytes(512)) for path, at, _ in places(d) if path == first(d)
    ],
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("damage", SHARD_DAMAGE)
def test_a_damaged_shard_is_mended_for_every_reader(made: dict[str, Path], tmp_path: Path, damage: str) -> None:
    """Whatever became of a shard: after repair tar, tarfile, WebDataset read all of it; the harvest goes on."""
    folder = tmp_path / "d"
    shutil.copytree(made["shards"], folder)
    SHARD_DAMAGE[damage](folder)

    with Manifest.read(folder) as manifest:
        assert any(found.problem for found in audit.audit(folder, manifest))
    check_mended(folder, "shards")


@pytest.mark.campaign
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_shards_is_mended(made: dict[str, Path], tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes over any place of a shard, and any cut."""
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made["shards"], folder)
    for path in sorted(folder.glob("shards/*.tar")):
        size = path.stat().st_size
        for at in data.draw(st.lists(st.integers(0, size - 1), max_size=3)):
            length = data.draw(st.sampled_from([1, 10, 512, 5000, 50_000]))
            fill_in = data.draw(
                st.sampled_from([bytes(length), b"\xff" * length, random.Random(at).randbytes(length)])
            )
            write(path, at, fill_in[: size - at])
        if data.draw(st.booleans()):
            cut(path, data.draw(st.integers(0, size)))

    check_mended(folder, "shards")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("parquet/*/*.parquet"))


def journal(folder: Path) -> Path:
    (path,) = folder.glob("parquet/.journal/*.tar")
    return path


PARQUET_DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file is emptied": lambda d: cut(files(d)[0], 0),
    "a file is removed": lambda d: files(d)[0].unlink(),
    "a file is cut": lambda d: cut(files(d)[1], files(d)[1].stat().st_size // 2),
    "a footer is zeroed": lambda d: write(files(d)[0], files(d)[0].stat().st_size - 200, bytes(200)),
    "a column is noise": lambda d: write(files(d)[0], 5000, random.Random(1).randbytes(3000)),
    "the beginning is zeros": lambda d: write(files(d)[0], 0, bytes(600)),
    "every file is cut": lambda d: [cut(path, path.stat().st_size - 3) for path in files(d)],
    "one byte is changed": lambda d: write(files(d)[0], files(d)[0].stat().st_size // 2, b"\x99"),
    "all are removed": lambda d: shutil.rmtree(d / "parquet"),
}
JOURNAL_DAMAGE: dict[str, Callable[[Path], object]] = {
    "it is cut": lambda d: cut(journal(d), 30_000),
    "it is emptied": lambda d: cut(journal(d), 0),
    "it is removed": lambda d: journal(d).unlink(),
    "its first header is zeroed": lambda d: write(journal(d), 0, bytes(512)),
    "it has noise in the middle": lambda d: write(journal(d), 20_000, random.Random(1).randbytes(20_000)),
    "it has a changed pixel": lambda d: write(journal(d), 7000, b"\x01\x02"),
    "it has lost its end": lambda d: cut(journal(d), journal(d).stat().st_size - 1024),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("damage", PARQUET_DAMAGE)
def test_damaged_parquet_is_mended_for_every_reader(made: dict[str, Path], tmp_path: Path, damage: str) -> None:
    """Whatever became of a Parquet file: after repair pyarrow reads all of them, and the harvest goes on."""
    folder = tmp_path / "d"
    shutil.copytree(made["parquet"], folder)
    PARQUET_DAMAGE[damage](folder)

    check_mended(folder, "parquet")


@pytest.mark.sample(1)
@pytest.mark.parametrize("damage", JOURNAL_DAMAGE)
def test_a_damaged_journal_is_mended(made: dict[str, Path], tmp_path: Path, damage: str) -> None:
    """A journal that was damaged after a death never gives two cutouts one row."""
    folder = tmp_path / "d"
    shutil.copytree(made["journal"], folder)
    JOURNAL_DAMAGE[damage](folder)

    check_mended(folder, "parquet")


def test_a_repair_holds_the_folder_from_its_first_look_on(made: dict[str, Path], tmp_path: Path) -> None:
    """What a harvest stores between look and repair would be taken back; one in use is refused before any look."""
    folder = tmp_path / "stars"
    shutil.copytree(made["shards"], folder)
    write(first(folder), 0, bytes(512))
    n_seen = 0

    def watch(found: Iterator[audit.CheckedClaim], _total: int) -> Iterator[audit.CheckedClaim]:
        nonlocal n_seen
        for one in found:
            n_seen += 1
            yield one
        with pytest.raises(FolderRefused), old_folder(folder, Settings()):
            raise AssertionError

    with old_folder(folder, Settings()), pytest.raises(FolderRefused):
        verify(folder, repair=True, watch=watch)
    assert 0 == n_seen

    found = verify(folder, repair=True, watch=watch)

    assert found.broken == found.pending > 0
    assert n_seen > N
    fill(folder, "shards")
    assert N == every_file_opens(folder)
