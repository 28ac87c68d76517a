"""The Parquet sink: a journal, then its claim, then files that any reader of Parquet takes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_contract import BODY, PATHS, SinkTests, cutout_uri, outcome_of

from psfharvest.core.errors import SinkError
from psfharvest.core.fits import pixels
from psfharvest.core.model import Outcome
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.readers.parquet_reader import ParquetReader
from psfharvest.store.sinks import parquet_journal
from psfharvest.store.sinks.parquet import ParquetSink
from standard_readers import every_file_opens


def fits_bytes(image: np.ndarray, *cards: str) -> bytes:
    """A FITS file as fitscut makes it."""
    ny, nx = image.shape
    head = [
        f"SIMPLE  = {'T':>20}", f"BITPIX  = {-32:>20}", f"NAXIS   = {2:>20}", f"NAXIS1  = {nx:>20}",
        f"NAXIS2  = {ny:>20}", *cards, "END",
    ]  # fmt: skip
    text = "".join(f"{card:<80}" for card in head)
    return pixels.put_together(text + " " * (-len(text) % 2880), image)


def image_of(k: int, size: int = 51) -> np.ndarray:
    image = np.random.default_rng(k).normal(10, 5, (size, size)).astype(np.float32)
    image[0, : k % size] = np.nan
    return image


def cutouts(numbers: range, size: int = 51) -> list[Outcome]:
    return [
        outcome_of(cutout_uri(k, size=size), fits_bytes(image_of(k, size), f"CARD    = {k}"), k) for k in numbers
    ]


def location_of(stored: Stored) -> tuple[str, int]:
    size = stored.outcome.item.size_px
    assert stored.shard is not None
    return f"parquet/{'other' if size is None else size}/{stored.shard:06d}.parquet", int(stored.place or 0)


class TestParquet(SinkTests):
    def open(self, folder: Path) -> ParquetSink:
        return ParquetSink(folder)

    def read(self, folder: Path, stored: Stored) -> bytes:
        return ParquetReader(folder).read(*location_of(stored))


def test_a_journal_that_is_damaged_in_its_middle_is_refused(tmp_path: Path) -> None:
    """Cutouts behind the damage could not be counted, so that every later one would get a wrong place."""
    sink = ParquetSink(tmp_path, claimed=lambda: (-1, 0))
    sink.store(cutouts(range(1, 8)))
    mark = sink.checkpoint()
    sink.close()  # unclaimed, as after a death: the journal stays
    journal = parquet_journal.journal_path(tmp_path / "parquet", 0)
    data = bytearray(journal.read_bytes())
    data[data.index(b"ustar", len(data) // 2)] ^= 1
    journal.write_bytes(data)

    with pytest.raises(SinkError, match="is damaged; run: "):
        ParquetSink(tmp_path, shard=mark["shard"], end=mark["shard_end"])
    assert data == journal.read_bytes()


@given(path=PATHS)
def test_any_path_of_the_archives_stays_inside(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever follows ``mast:``, the bytes land in the files and no name leads elsewhere."""
    TestParquet().check_any_path(path, tmp_path_factory.mktemp("any"))


@given(
    size=st.integers(1, 40),
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50),
    blanks=st.integers(0, 80),
)
def test_taken_apart_is_put_together_again(size: int, bits: list[int], blanks: int) -> None:
    """Header and pixels give back the same bytes, whatever 32 bits a pixel has, NaN payloads as well."""
    flat = np.resize(np.array(bits, np.uint32), size * size)
    body = fits_bytes(flat.view(np.float32).reshape(size, size), *["COMMENT é"] * blanks)
    found = pixels.take_apart(body, size)

    assert found is not None
    assert body == pixels.put_together(*found)
    assert pixels.take_apart(body + b"x", size) is None
    assert 0 == size * size % 720 or pixels.take_apart(body[:-1] + b"x", size) is None
    assert pixels.take_apart(body, size + 1) is None


def test_files_are_one_row_a_cutout_sizes_apart(tmp_path: Path) -> None:
    """51 and 101 come into folders of their own; rows hold dataURI, source, header, pixels; no bytes twice."""
    sink = ParquetSink(tmp_path)
    outcomes = [o for pair in zip(cutouts(range(1, 40)), cutouts(range(41, 80), 101), strict=False) for o in pair]
    sink.store(outcomes)
    sink.close()

    assert ["101", "51"] == sorted(p.name for p in (tmp_path / "parquet").iterdir())
    for size in (51, 101):
        table = pq.read_table(tmp_path / f"parquet/{size}/000000.parquet")
        mine = [o for o in outcomes if o.item.size_px == size]
        assert [o.item.uri for o in mine] == table["uri"].to_pylist()
        assert [1] * len(mine) == table["id"].to_pylist()
        assert [hashlib.sha256(o.body).hexdigest() for o in mine] == table["sha256"].to_pylist()
        assert f"[{size}, {size}]" == table.schema.field("image").metadata[b"shape"].decode()
        assert len(mine) == table["fits"].null_count
        images = table["image"].combine_chunks().flatten().to_numpy().reshape(-1, size, size)
        np.testing.assert_array_equal(np.stack([image_of(o.item.number, size) for o in mine]), images)


def journal_reader(folder: Path, claimed: list[Stored]) -> None:
    for stored in claimed:
        assert stored.outcome.body == TestParquet().read(folder, stored)


def test_full_journals_become_files_and_locations_stay(tmp_path: Path) -> None:
    """What is claimed can be read at its place from the journal, and after it has become a file."""
    sink = ParquetSink(tmp_path, journal_bytes=300_000)
    stored = []
    for start in range(1, 101, 10):
        stored += sink.store(cutouts(range(start, start + 10)))
        journal_reader(tmp_path, stored[-10:])
    sink.close()

    names = [p.name for p in sorted((tmp_path / "parquet/51").iterdir())]
    assert len(names) > 2
    assert sorted({f"{s.shard:06d}.parquet" for s in stored}) == names
    journal_reader(tmp_path, stored)


def die_during(folder: Path, stage: str) -> tuple[list[Stored], dict[str, int]]:
    """Leave behind what a death at this stage would."""
    claim: dict[str, int] = {}
    sink = ParquetSink(folder)
    claimed = sink.store(cutouts(range(1, 8))) + sink.store(cutouts(range(8, 12), 101))
    claim = dict(sink.checkpoint())
    if stage == "stored":
        sink.store(cutouts(range(20, 40)))
    elif stage == "torn":
        with (folder / "parquet/.journal/000000.tar").open("ab") as file:
            file.write(b"WFC3PSF/torn" + bytes(400))
    else:
        journal = parquet_journal.journal_path(folder / "parquet", 0)
        kept = folder / "kept.tar"
        shutil.copy(journal, kept)
        sink.close()
        if stage == "growing":
            (folder / "parquet/51/000000.parquet").rename(folder / "parquet/51/.000000.growing")
        if stage != "converted":
            journal.parent.mkdir(exist_ok=True)
            shutil.copy(kept, journal)
        kept.unlink()
    return claimed, claim


@pytest.mark.parametrize("stage", ["stored", "torn", "growing", "renamed", "converted"])
def test_after_a_death_it_goes_on_from_the_claim(tmp_path: Path, stage: str) -> None:
    """Wherever the process died, the claimed rows are there once, unclaimed ones are not, and new ones follow."""
    claimed, claim = die_during(tmp_path, stage)
    journal_reader(tmp_path, claimed)

    sink = ParquetSink(tmp_path, shard=claim["shard"], end=claim["shard_end"])
    more = sink.store(cutouts(range(50, 60)))
    sink.close()

    journal_reader(tmp_path, claimed + more)
    table = pq.read_table(tmp_path / "parquet/51")
    wanted = [s.outcome.item.uri for s in claimed + more if s.outcome.item.size_px == 51]
    assert wanted == table["uri"].to_pylist()
    assert [] == list((tmp_path / "parquet").rglob(".*"))


def test_what_was_not_claimed_stays_out_of_the_files(tmp_path: Path) -> None:
    """When the last batch's claim failed, closing leaves the journal for the next run, which drops that batch."""
    claim = (0, 0)

    def claimed() -> tuple[int, int]:
        return claim

    sink = ParquetSink(tmp_path, claimed=claimed)
    kept = sink.store(cutouts(range(1, 5)))
    claim = (sink.checkpoint()["shard"], sink.checkpoint()["shard_end"])
    sink.store(cutouts(range(5, 9)))
    sink.close()

    assert [] == list(tmp_path.glob("parquet/51/*"))
    journal_reader(tmp_path, kept)
    ParquetSink(tmp_path, shard=claim[0], end=claim[1], claimed=claimed).close()
    assert 4 == pq.read_metadata(tmp_path / "parquet/51/000000.parquet").num_rows
    journal_reader(tmp_path, kept)


def test_bytes_that_are_no_plain_image_are_kept_whole(tmp_path: Path) -> None:
    """What header and pixels do not give back stands in column ``fits``, beside its pixels, where it has any."""
    sink = ParquetSink(tmp_path)
    odd = [
        outcome_of(cutout_uri(1), BODY, 1),
        outcome_of(cutout_uri(2), cutouts(range(2, 3))[0].body[:-1] + b"!", 2),
    ]
    stored = sink.store([*odd, *cutouts(range(3, 5)), outcome_of("mast:X/readme.txt", b"text", 9)])
    sink.close()

    journal_reader(tmp_path, stored)
    table = pq.read_table(tmp_path / "parquet/51/000000.parquet")
    assert [True, True, False, False] == [v is not None for v in table["fits"].to_pylist()]
    assert [False, True, True, True] == [v is not None for v in table["image"].to_pylist()]
    assert "image" not in pq.read_schema(tmp_path / "parquet/other/000000.parquet").names


def test_a_full_disk_while_files_are_made_loses_nothing(tmp_path: Path) -> None:
    """When the files cannot be written the error says so, and the journal is made into files another time."""
    sink = ParquetSink(tmp_path)
    stored = sink.store(cutouts(range(1, 5)))
    claim = dict(sink.checkpoint())
    (tmp_path / "parquet/51").write_bytes(b"in the way")

    with pytest.raises(SinkError, match="parquet/"):
        sink.close()
    (tmp_path / "parquet/51").unlink()
    journal_reader(tmp_path, stored)
    ParquetSink(tmp_path, shard=claim["shard"], end=claim["shard_end"]).close()
    assert 4 == pq.read_metadata(tmp_path / "parquet/51/000000.parquet").num_rows


def test_a_failed_turn_touches_no_other_file(tmp_path: Path) -> None:
    """When a full journal cannot become files, closing the sink neither writes to nor closes what opened since."""
    sink = ParquetSink(tmp_path, journal_bytes=2000)
    stored = sink.store(cutouts(range(1, 4)))
    (tmp_path / "parquet/51").write_bytes(b"in the way")
    with pytest.raises(SinkError):
        sink.store(cutouts(range(4, 6)))
    other = tmp_path / "other"
    other.write_bytes(b"V" * 4096)
    with other.open("r+b") as file:
        sink.close()
        assert b"V" * 4096 == file.read()
    (tmp_path / "parquet/51").unlink()

    assert [s.outcome.body for s in stored] == [ParquetReader(tmp_path).read(*location_of(s)) for s in stored]
    assert 3 == every_file_opens(tmp_path)
