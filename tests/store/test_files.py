"""The file sink: whole files under final names, and nothing else."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from sink_contract import BODY, PATHS, SinkTests, cutout_uri, outcome_of

from psfharvest.core.errors import SinkError
from psfharvest.store.manifest.manifest import Stored
from psfharvest.store.sinks.files import PARTIAL, FileSink


class TestFiles(SinkTests):
    def open(self, folder: Path) -> FileSink:
        return FileSink(folder, layout="tree")

    def read(self, folder: Path, stored: Stored) -> bytes:
        item = stored.outcome.item
        place = stored.place
        if place is None:
            top, _, name = item.key.partition("/")
            place = f"{top}/{item.rootname[:4]}/{item.rootname}/{name}"
        return (folder / str(place)).read_bytes()


class TestFlatFiles(TestFiles):
    def open(self, folder: Path) -> FileSink:
        return FileSink(folder, layout="flat", fsync=True)

    def read(self, folder: Path, stored: Stored) -> bytes:
        return (folder / str(stored.place or stored.outcome.item.key)).read_bytes()


@pytest.mark.parametrize("sink", [TestFiles(), TestFlatFiles()])
@given(path=PATHS)
def test_any_path_of_the_archives_stays_inside(
    sink: TestFiles, path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever follows ``mast:``, the bytes land below the folder and can be read."""
    sink.check_any_path(path, tmp_path_factory.mktemp("any"))


def test_a_uri_whose_path_is_a_step_of_anothers_gets_its_own_place(tmp_path: Path) -> None:
    """``mast:a`` and ``mast:a/b`` are both stored, in either order."""
    for first, second in (("mast:a", "mast:a/b"), ("mast:c/d", "mast:c")):
        sink = FileSink(tmp_path)
        stored = sink.store([outcome_of(first, b"first"), outcome_of(second, b"second")])
        sink.close()

        assert [(tmp_path / str(s.place)).read_bytes() for s in stored] == [b"first", b"second"]


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Half-written files are gone once a sink is opened, and the folder for them once it is closed."""
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / "7").write_bytes(b"half")
    sink = FileSink(tmp_path)

    assert list((tmp_path / PARTIAL).iterdir()) == []
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_no_final_name(tmp_path: Path) -> None:
    """When the bytes do not fit, the error says so, and no file stands under a final name."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from sink_contract import cutout_uri, outcome_of\n"
        "from psfharvest.store.sinks.files import FileSink\n"
        "try: FileSink(Path(sys.argv[1])).store([outcome_of(cutout_uri(1), bytes(20_000))])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "SinkError cannot store WFC3PSF/" in done.stdout
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the folder's place is a local failure with its name."""
    (tmp_path / "home").write_bytes(BODY)

    with pytest.raises(SinkError, match="home"):
        FileSink(tmp_path / "home")


def test_a_folder_in_another_file_system(tmp_path: Path) -> None:
    """Where ``WFC3PSF`` leads into another file system, files are written there, whole, without leftovers."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as other:
        (tmp_path / "WFC3PSF").symlink_to(other)
        sink = FileSink(tmp_path)
        outcomes = [outcome_of(cutout_uri(k), BODY + bytes([k]), k) for k in range(1, 5)]
        sink.store(outcomes)

        assert [o.body for o in outcomes] == [(tmp_path / sink.location(o.item)).read_bytes() for o in outcomes]
        assert 4 == sum(1 for path in Path(other).rglob("*") if path.is_file())
        assert [] == list((tmp_path / PARTIAL).iterdir())
        sink.close()


def test_folders_that_are_swept_are_made_again(tmp_path: Path) -> None:
    """A cleaner that removes folders under a running harvest costs nothing that comes after it."""
    sink = FileSink(tmp_path)
    sink.store([outcome_of(cutout_uri(1))])
    shutil.rmtree(tmp_path / "WFC3PSF")
    shutil.rmtree(tmp_path / PARTIAL)
    again = outcome_of(cutout_uri(2))
    sink.store([again])

    assert again.body == (tmp_path / sink.location(again.item)).read_bytes()
