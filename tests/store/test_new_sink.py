"""A new sink is one entry of `SINK_KINDS`: here one that keeps each batch in a ZIP file."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from harness import rows_of
from psfharvest import Archive, BadInput, Harvest, Query
from psfharvest.core.model import Outcome, WantedURI
from psfharvest.simulator import Simulator
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.recover import verification
from psfharvest.store.recover.adopt import adopt
from psfharvest.store.recover.candidates import Candidate, CandidateBatch
from psfharvest.store.sink_kinds import SINK_KINDS, SinkKind, SinkOptions


class ZipSink:
    """Each batch becomes one ZIP, with a note beside each cutout."""

    needs_sources = True

    def __init__(self, folder: Path, _manifest: Manifest, _options: SinkOptions) -> None:
        self._folder = folder / "zips"

    def store(self, outcomes: Sequence[Outcome]) -> list[Stored]:
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{len(list(self._folder.iterdir())):06d}.zip"
        stored = []
        with zipfile.ZipFile(path, "w") as batch:
            for k, outcome in enumerate(outcomes):
                if outcome.body is None:
                    stored.append(Stored(outcome))
                    continue
                batch.writestr(f"{k}.fits", outcome.body)
                note = {"uri": outcome.item.uri, "row": json.loads(outcome.item.source or "{}")}
                batch.writestr(f"{k}.json", json.dumps(note))
                stored.append(Stored(outcome, None, f"zips/{path.name}:{k}"))
        return stored

    def checkpoint(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


class ZipReader:
    """Reads a cutout by its number in its ZIP."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, place: int, size_bytes: int) -> bytes:
        del size_bytes
        try:
            with zipfile.ZipFile(self._folder / path) as batch:
                return batch.read(f"{place}.fits")
        except (zipfile.BadZipFile, KeyError) as error:
            raise OSError(5, str(error), path) from error

    def close(self) -> None:
        pass


def units(folder: Path, mark: Sequence[int]) -> Iterator[CandidateBatch]:
    """Yield what each ZIP holds."""
    for number, path in enumerate(sorted((folder / "zips").iterdir())):
        if mark and number < mark[0]:
            continue
        with zipfile.ZipFile(path) as batch:
            notes = {
                n.removesuffix(".json"): json.loads(batch.read(n)) for n in batch.namelist() if n.endswith("n")
            }
            found = [
                Candidate(
                    WantedURI.reading(note["uri"]), note["row"], at, batch.getinfo(f"{k}.fits").file_size, None, at
                )
                for k, note in notes.items()
                for at in [f"zips/{path.name}:{k}"]
            ]
        yield CandidateBatch(found, (number + 1,), {}, [])


@pytest.fixture
def _zips() -> Iterator[None]:
    SINK_KINDS["zips"] = SinkKind(
        name="zips",
        open=ZipSink,
        places={"tree": re.compile(r"zips/[0-9]{6}\.zip")},
        is_synced=False,
        units=units,
        endings={".zip": ZipReader},
    )
    yield
    del SINK_KINDS["zips"]


@pytest.mark.usefixtures("_zips")
def test_a_new_sink_is_one_entry(simulator: Simulator, tmp_path: Path) -> None:
    """It is harvested into, verified, mended, adopted and read back; a misspelling is answered with it."""
    folder = tmp_path / "d"

    async def harvest(n: int) -> tuple[int, int]:
        async with Archive(simulator.url) as archive:
            query = Query("UVIS", limit=n)
            found = await archive.harvest(query, folder, suffixes=["flt"], sink="zips", extend=n > 40)
            return found.done, found.exit_status

    assert (40, 0) == anyio.run(harvest, 40)
    places = {row["location"] for row in rows_of(folder)}
    assert all(re.fullmatch(r"zips/[0-9]{6}\.zip:[0-9]+", place) for place in places)
    found = verification.verify(folder)
    assert (40, 0, 0) == (found.ok, found.broken, found.strays)

    for path in folder.glob("manifest.sqlite*"):
        path.unlink()
    adopted = adopt(folder)
    assert ("zips", 40, 0, 0) == (adopted.kind.sink, adopted.report.done, adopted.broken, adopted.strays)
    assert places == {row["location"] for row in rows_of(folder)}

    assert (60, 0) == anyio.run(harvest, 60)
    stars = Harvest(folder)
    assert 60 == len(stars) == len(stars.table())
    assert all(simulator.render(cutout.uri) == cutout.raw for cutout in stars)

    (folder / "zips/000000.zip").write_bytes(b"no zip")
    broken = verification.verify(folder, repair=True)
    assert 0 < broken.broken == broken.problems["unreadable"]
    assert (60, 0) == anyio.run(harvest, 60)
    assert 60 == verification.verify(folder).ok

    for path in (folder / "zips").iterdir():
        path.unlink()
    assert (60, 0) == anyio.run(harvest, 60)
    assert 60 == verification.verify(folder).ok

    async def misspelt() -> None:
        async with Archive(simulator.url) as archive:
            await archive.harvest(Query("UVIS", limit=1), tmp_path / "e", suffixes=["flt"], sink="zip")

    with pytest.raises(BadInput, match="files, shards, parquet, zips"):
        anyio.run(misspelt)
