"""The shard sink: plain tars, in WebDataset's naming, cut back to the claim after a death."""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_contract import BODY, PATHS, SinkTests, cutout_uri, item_of, outcome_of

from psfharvest.core.errors import SinkError
from psfharvest.core.tar import header
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.row_schema import NULLS, RowSchema
from psfharvest.store.sinks.shards import ShardSink, stem
from standard_readers import every_file_opens


class TestShards(SinkTests):
    def open(self, folder: Path) -> ShardSink:
        return ShardSink(folder, shard_bytes=100_000)

    def read(self, folder: Path, stored: Stored) -> bytes:
        with (folder / f"shards/{stored.shard:06d}.tar").open("rb") as file:
            file.seek(int(stored.place or 0))
            return file.read(len(stored.outcome.body or b""))


@given(path=PATHS)
def test_any_path_of_the_archives_stays_inside(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever follows ``mast:``, the bytes land in the shard and no member leads elsewhere."""
    outer = tmp_path_factory.mktemp("any")
    TestShards().check_any_path(path, outer)
    with tarfile.open(outer / "home/shards/000000.tar") as tar:
        for name in tar.getnames():
            assert not name.startswith(("/", "."))
            assert ".." not in name.split("/")


@given(
    name=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=200),
    size=st.integers(0, 8**11 - 1),
)
def test_headers_are_what_tarfile_reads(name: str, size: int) -> None:
    """A header of ours is read back by the standard library, long names as well."""
    with tarfile.open(fileobj=io.BytesIO(header(name, size) + bytes(1024)), mode="r:") as tar:
        member = tar.next()

    assert (name, size, True) == (member.name, member.size, member.isreg())


def test_shards_are_plain_tars_with_webdataset_names(tmp_path: Path) -> None:
    """GNU tar and tarfile list the members, two a cutout with one key; the rows are JSON."""
    sink = ShardSink(tmp_path, shard_bytes=200_000)
    stored = sink.store([outcome_of(cutout_uri(k), BODY, k) for k in range(1, 31)])
    sink.close()

    shards = sorted((tmp_path / "shards").iterdir())
    assert ["000000.tar", "000001.tar", "000002.tar"] == [p.name for p in shards]
    assert {0, 1, 2} == {s.shard for s in stored}
    names: list[str] = []
    for path in shards:
        listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
        assert "" == listed.stderr
        names += listed.stdout.split()
        with tarfile.open(path) as tar:
            for member in tar:
                body = tar.extractfile(member).read()
                if member.name.endswith(".json"):
                    assert {*RowSchema().kinds, NULLS} == set(json.loads(body))
                else:
                    assert BODY == body
    keys = [name.split(".")[0] for name in names]
    assert 60 == len(names)
    assert 30 == len(set(keys))
    assert all(a == b for a, b in zip(keys[::2], keys[1::2], strict=True))


def test_after_a_death_the_shard_goes_on_from_its_claim(tmp_path: Path) -> None:
    """Unclaimed bytes and shards are dropped, claimed ones stay where they are, and the whole is a tar again."""
    sink = ShardSink(tmp_path, shard_bytes=200_000)
    claimed = sink.store([outcome_of(cutout_uri(k), BODY, k) for k in range(1, 6)])
    claim = dict(sink.checkpoint())
    sink.store([outcome_of(cutout_uri(k), BODY, k) for k in range(6, 40)])
    with (tmp_path / "shards/000000.tar").open("ab") as file:
        file.write(b"torn")

    sink = ShardSink(tmp_path, shard=claim["shard"], end=claim["shard_end"], shard_bytes=200_000)
    assert ["000000.tar"] == [p.name for p in (tmp_path / "shards").iterdir()]
    more = sink.store([outcome_of(cutout_uri(k), BODY + bytes([k]), k) for k in range(50, 60)])
    sink.close()

    reader = TestShards()
    for stored in claimed + more:
        assert stored.outcome.body == reader.read(tmp_path, stored)
    names: list[str] = []
    for path in sorted((tmp_path / "shards").iterdir()):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert [stem(s.outcome.item) for s in claimed + more] == [n for n in names if n.endswith(".fits")]


def test_a_shard_shorter_than_its_claim_is_told(tmp_path: Path) -> None:
    """When claimed bytes are gone, nothing is written over what is left."""
    ShardSink(tmp_path).close()

    with pytest.raises(SinkError, match="were claimed"):
        ShardSink(tmp_path, shard=0, end=10_000)


def test_a_failed_roll_touches_no_other_file(tmp_path: Path) -> None:
    """When the next shard cannot be made, closing the sink neither writes to nor closes whatever opened since."""
    sink = ShardSink(tmp_path, shard_bytes=2000)
    (stored,) = sink.store([outcome_of(cutout_uri(1), BODY)])
    (tmp_path / "shards/000001.tar").mkdir()
    with pytest.raises(SinkError, match="000001"):
        sink.store([outcome_of(cutout_uri(2), BODY)])
    other = tmp_path / "other"
    other.write_bytes(b"V" * 4096)
    with other.open("r+b") as file:
        sink.close()
        sink.close()
        assert b"V" * 4096 == file.read()
    (tmp_path / "shards/000001.tar").rmdir()

    assert BODY == TestShards().read(tmp_path, stored)
    assert 1 == every_file_opens(tmp_path)


def test_a_closed_sink_writes_nothing(tmp_path: Path) -> None:
    """A sink is of no use after its end: it says so, and whoever has its descriptor's number now is safe."""
    sink = ShardSink(tmp_path)
    sink.close()
    other = tmp_path / "other"
    other.write_bytes(b"V" * 4096)
    with other.open("r+b"), pytest.raises(ValueError, match="closed"):
        sink.store([outcome_of(cutout_uri(1), BODY)])

    assert b"V" * 4096 == other.read_bytes()


def test_a_batch_that_fails_leaves_a_whole_tar(tmp_path: Path) -> None:
    """On a disk that fills up in the middle of a batch, the shard ends where its claims end."""
    code = (
        "import sys, pathlib, resource, signal\n"
        "from sink_contract import outcome_of, cutout_uri, BODY\n"
        "from psfharvest.store.sinks.shards import ShardSink\n"
        "from psfharvest.core.errors import SinkError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sink = ShardSink(pathlib.Path(sys.argv[1]))\n"
        "sink.store([outcome_of(cutout_uri(k)) for k in range(1, 6)])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1))\n"
        "try:\n"
        "    sink.store([outcome_of(cutout_uri(k)) for k in range(6, 60)])\n"
        "except SinkError as error:\n"
        "    sink.close()\n"
        "    sys.exit(0)\n"
        "sys.exit('nothing failed')\n"
    )
    path = os.pathsep.join(sys.path)
    env = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=env)

    assert 5 == every_file_opens(tmp_path)


def test_the_system_is_told_to_let_go(tmp_path: Path) -> None:
    """A shard stays in the page cache no more than a file whose writer asked the same, on whatever file system."""
    size = 400 * len(BODY)
    plain = tmp_path / "plain"
    with plain.open("wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    sink = ShardSink(tmp_path)
    for start in range(0, 400, 100):
        sink.store([outcome_of(cutout_uri(k), BODY, k) for k in range(start + 1, start + 101)])
    held = share_in_memory(tmp_path / "shards/000000.tar")
    sink.close()

    assert held < 0.5 or share_in_memory(plain) > 0.5


def share_in_memory(path: Path) -> float:
    """Return how much of a file the system holds in memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        n_pages = -(-len(pages) // mmap.PAGESIZE)
        view = (ctypes.c_char * len(pages)).from_buffer(pages)
        found = (ctypes.c_ubyte * n_pages)()
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(len(pages)), found
        )
        del view  # else the map cannot be closed
    assert not failed
    return sum(page & 1 for page in found) / n_pages


def test_names_have_one_dot_and_differ() -> None:
    """WebDataset's keys are unique, also for what is no cutout."""
    uris = [
        "mast:x",
        "mast:x.fits",
        "mast:x.jpg",
        "mast:x.tar.gz",
        "mast:a.b/x.fits",
        cutout_uri(1),
        cutout_uri(1, "F.1"),
    ]
    names = [stem(item_of(uri)) for uri in uris]

    assert len(uris) == len({name.rpartition("/")[2].split(".")[0] + name.rpartition("/")[0] for name in names})
    assert all(1 == name.rpartition("/")[2].count(".") for name in names)
