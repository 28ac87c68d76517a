"""What was removed from a folder, or cut, is noticed by the next run and fetched again, and nothing else is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from psfharvest import Archive, Harvest, Limits, LocalError, Query, blocking
from psfharvest.core.model import Progress, Report
from psfharvest.simulator import Simulator
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.adopt import adopt

N = 60
LIMITS = Limits(max_connections=4, max_per_second=None)
Harm = Callable[[Path], int]


async def harvest(simulator: Simulator, folder: Path, sink: str, n: int = N) -> Report:
    """Harvest the same sources into the folder."""
    async with Archive(simulator.url, limits=LIMITS) as archive:
        return await archive.harvest(Query("UVIS", limit=n), folder, suffixes=["flt"], sink=sink, via="file")


def done(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Return location, size and hash of each dataURI that is done."""
    with sqlite3.connect(f"file:{folder}/manifest.sqlite?mode=ro", uri=True) as db:
        rows = db.execute("SELECT uri, location, size_bytes, sha256 FROM cutout WHERE state = 'done'").fetchall()
    return {uri: tuple(rest) for uri, *rest in rows}


def check(folder: Path, simulator: Simulator) -> None:
    """Every cutout is there, byte for byte, and each file opens with its own reader."""
    with Reader(folder) as reader:
        for uri, (location, size, _) in done(folder).items():
            assert simulator.render(uri) == reader.read(location, size)
    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            tar.getmembers()
    for path in folder.rglob("*.parquet"):
        pq.read_table(path)


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Return the stored files, in order."""
    found = sorted(folder.rglob(pattern))
    assert found
    return found


def remove_some(folder: Path) -> int:
    """Remove three files."""
    for path in files_of(folder, "*.fits")[5:50:15]:
        path.unlink()
    return 3


def cut_some(folder: Path) -> int:
    """Cut one file to half, one to nothing, and make one longer."""
    half, empty, longer = files_of(folder, "*.fits")[::25]
    os.truncate(half, half.stat().st_size // 2)
    os.truncate(empty, 0)
    longer.write_bytes(longer.read_bytes() + b"\0" * 80)
    return 3


def remove_all(folder: Path) -> int:
    """Remove every file."""
    for path in files_of(folder, "*.fits"):
        path.unlink()
    return N


def remove_folder(folder: Path) -> int:
    """Remove the cutouts of one exposure."""
    gone = files_of(folder, "*.fits")[0].parent
    n = len(list(gone.iterdir()))
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    return n


def cut_shard(folder: Path) -> int:
    """Cut the last shard in the middle."""
    path = files_of(folder, "*.tar")[-1]
    return _beyond(folder, path, path.stat().st_size // 2)


def remove_shard(folder: Path) -> int:
    """Remove the last shard."""
    path = files_of(folder, "*.tar")[-1]
    return _beyond(folder, path, None)


def _beyond(folder: Path, path: Path, length: int | None) -> int:
    name = path.relative_to(folder).as_posix()
    ends = [
        int(location.partition(":")[2]) + size
        for location, size, _ in done(folder).values()
        if location.startswith(f"{name}:")
    ]
    if length is None:
        path.unlink()
    else:
        os.truncate(path, length)
    return sum(end > (length or 0) for end in ends)


def remove_parquet(folder: Path) -> int:
    """Remove one Parquet file."""
    path = files_of(folder, "*.parquet")[0]
    n = pq.ParquetFile(path).metadata.num_rows
    path.unlink()
    return n


def cut_parquet(folder: Path) -> int:
    """Cut one Parquet file before its end."""
    path = files_of(folder, "*.parquet")[0]
    n = pq.ParquetFile(path).metadata.num_rows
    os.truncate(path, path.stat().st_size - 30)
    return n


HARMS = [
    ("files", remove_some),
    ("files", cut_some),
    ("files", remove_all),
    ("files", remove_folder),
    ("shards", cut_shard),
    ("shards", remove_shard),
    ("parquet", remove_parquet),
    ("parquet", cut_parquet),
]


@pytest.mark.sample(2)
@pytest.mark.parametrize(("sink", "harm"), HARMS, ids=[f"{s}-{h.__name__}" for s, h in HARMS])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_rerun_brings_back_what_is_gone(
    simulator: Simulator, tmp_path: Path, sink: str, harm: Harm
) -> None:
    """As many requests as cutouts were lost; the account says what happened, and the next run asks for nothing."""
    assert N == (await harvest(simulator, tmp_path, sink)).done
    n_lost = harm(tmp_path)
    assert n_lost
    simulator.forget()

    report = await harvest(simulator, tmp_path, sink)

    assert (N, 0, 0) == (report.done, report.pending, report.exit_status)
    assert n_lost == simulator.count("file")
    assert any(note.startswith(f"{n_lost} stored cutouts were gone") for note in report.notes), report.notes
    check(tmp_path, simulator)
    simulator.forget()
    assert () == (await harvest(simulator, tmp_path, sink)).notes
    assert 0 == simulator.count("file")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_old_shards_are_looked_at_too(simulator: Simulator, tmp_path: Path) -> None:
    """A shard that was closed long ago and was cut since is mended, and its cutouts go into the last one."""
    async with Archive(simulator.url, limits=LIMITS) as archive:
        query = Query("UVIS", limit=N)
        ask = {"suffixes": ["flt"], "sink": "shards", "via": "file"}
        await archive.harvest(query, tmp_path, shard_bytes=200_000, **ask)
        first, second = files_of(tmp_path, "*.tar")[:2]
        n_lost = _beyond(tmp_path, first, first.stat().st_size // 3) + _beyond(tmp_path, second, None)
        simulator.forget()
        report = await archive.harvest(query, tmp_path, **ask)

    assert (N, n_lost) == (report.done, simulator.count("file"))
    check(tmp_path, simulator)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_gone_comes_beside_what_is_new(simulator: Simulator, tmp_path: Path) -> None:
    """Lost cutouts, and those of a second query, are each asked for once."""
    await harvest(simulator, tmp_path, "files")
    remove_some(tmp_path)
    simulator.forget()
    async with Archive(simulator.url, limits=LIMITS) as archive:
        report = await archive.harvest(Query("IR", limit=40), tmp_path, suffixes=["flt"], extend=True, via="file")

    assert (N + 40, 43) == (report.done, simulator.count("file"))
    check(tmp_path, simulator)


def to_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


IN_THE_WAY: dict[str, Callable[[Path], None]] = {
    "folder": to_folder,
    "pipe": os.mkfifo,
    "link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("what", IN_THE_WAY)
@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
@pytest.mark.parametrize("is_verified", [False, True])
def test_what_is_no_file_in_the_place_of_one(
    simulator: Simulator, tmp_path: Path, sink: str, what: str, is_verified: bool
) -> None:
    """It counts as gone, is waited for by nobody and stays under another name; what was there is fetched again."""
    n = 12
    with blocking.Archive(simulator.url, limits=LIMITS) as archive:
        query = Query("UVIS", limit=n)
        ask = {"suffixes": ["flt"], "sink": sink, "via": "file"}
        archive.harvest(query, tmp_path, progress=False, **ask)
        path = files_of(tmp_path, {"files": "*.fits", "shards": "*.tar", "parquet": "*.parquet"}[sink])[0]
        n_lost = {".fits": 1, ".tar": n}.get(path.suffix) or pq.ParquetFile(path).metadata.num_rows
        path.unlink()
        IN_THE_WAY[what](path)
        simulator.forget()
        if is_verified:
            assert Harvest(tmp_path).verify(repair=True).is_broken
        report = archive.harvest(query, tmp_path, progress=False, **ask)
        n_asked = simulator.count("file")
        again = archive.harvest(query, tmp_path, progress=False, **ask)

    assert (n, 0, 0) == (report.done, report.pending, report.exit_status)
    assert n_lost == n_asked
    assert (n, n_asked) == (again.done, simulator.count("file"))
    assert what != "folder" or ["mine"] == [found.read_text() for found in tmp_path.rglob("mine")]
    if sink != "files":  # there, a cutout goes to another place, beside a folder
        assert 1 == len(list(tmp_path.rglob("*-no-file-1")))
        check(tmp_path, simulator)


@pytest.mark.campaign
def test_the_command_says_so(simulator: Simulator, tmp_path: Path) -> None:
    """`resume` tells on standard error how many were gone."""
    command = [sys.executable, "-m", "psfharvest"]
    harvest_words = [
        "harvest",
        tmp_path / "d",
        "UVIS",
        "--limit",
        "20",
        "--suffix",
        "flt",
        "--archive",
        simulator.url,
    ]
    subprocess.run([*command, *harvest_words], check=True, capture_output=True)
    files_of(tmp_path / "d", "*.fits")[3].unlink()

    run = subprocess.run(
        [*command, "resume", tmp_path / "d", "--archive", simulator.url], capture_output=True, text=True, check=True
    )

    assert "1 stored cutouts were gone" in run.stderr + run.stdout


@pytest.mark.parametrize("is_moved", [False, True], ids=["removed", "the folder is moved"])
@pytest.mark.parametrize("sink", ["files", "shards"])
async def test_a_manifest_that_goes_during_a_run_ends_it(
    simulator: Simulator, tmp_path: Path, sink: str, is_moved: bool
) -> None:
    """Its commits would go to a file without a name: the run ends with 74, and what is stored is adopted."""
    folder = tmp_path / "stars"

    def harm(progress: Progress) -> None:
        if progress.tally.done and folder.exists() and (folder / "manifest.sqlite").exists():
            if is_moved:
                folder.rename(tmp_path / "moved")
            else:
                (folder / "manifest.sqlite").unlink()

    async with Archive(simulator.url, limits=Limits(max_connections=2, max_per_second=100)) as archive:
        with pytest.raises(LocalError, match=r"manifest\.sqlite was moved or removed|cannot store") as raised:
            await archive.harvest(
                Query("UVIS", limit=400), folder, suffixes=["flt"], sink=sink, via="file", progress=harm
            )
    assert 74 == raised.value.exit_status
    if sink == "shards" and not is_moved:
        adopted = adopt(folder)
        assert adopted.report.done > 0 == adopted.broken


@pytest.mark.parametrize("sink", ["shards", "parquet"])
async def test_a_shard_that_goes_during_a_run_ends_it(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """What is appended to a file without a name is not claimed; the same command fetches what was lost."""
    folder = tmp_path / "stars"

    def harm(progress: Progress) -> None:
        if progress.tally.done and not harmed:
            harmed.extend(folder.rglob("*.tar"))
            for path in harmed:
                path.unlink()

    harmed: list[Path] = []
    query, limits = Query("UVIS", limit=400), Limits(max_connections=2, max_per_second=200)
    async with Archive(simulator.url, limits=limits) as archive:
        with pytest.raises(LocalError, match="cannot store") as raised:
            await archive.harvest(query, folder, suffixes=["flt"], sink=sink, via="file", progress=harm)
        assert 74 == raised.value.exit_status
    report = await harvest(simulator, folder, sink, 400)
    assert (400, 0) == (report.done, report.exit_status)
    check(folder, simulator)
