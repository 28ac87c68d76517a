"""The file sink: whole files under final names, and nothing else."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from sink_contract import BODY, PATHS, SinkTests, cutout_uri, outcome_of

from psfharvest.core.errors import SinkError
from psfharvest.core.fits import datauri
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.store.manifest.manifest import Manifest, Stored
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


def test_leftovers_that_cannot_be_swept_are_no_trouble(tmp_path: Path) -> None:
    """What stays where files grow (NFS keeps what is still open) takes no name that is needed."""
    left = tmp_path / PARTIAL / "kept"
    left.mkdir(parents=True)
    for name in "0123":
        (left / name).write_bytes(b"half")
        (left.parent / name).mkdir()
        (left.parent / name / "x").write_bytes(b"half")
        (left.parent / name).chmod(0o500)
    left.chmod(0o500)
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[2], sys.argv[2] + '/..']\n"
        "from sink_contract import cutout_uri, outcome_of\n"
        "from whole.crash_life import _give_up_power\n"
        "from psfharvest.store.sinks.files import FileSink\n"
        "_give_up_power()\n"
        "sink = FileSink(Path(sys.argv[1]))\n"
        "sink.store([outcome_of(cutout_uri(1), b'body')])\n"
        "sink.close()\n"
    )
    try:
        words = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
        subprocess.run(words, check=True, timeout=60)
    finally:
        for folder in left.parent.iterdir():
            folder.chmod(0o700)
    assert [b"body"] == [path.read_bytes() for path in (tmp_path / "WFC3PSF").rglob("*.fits")]


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


@pytest.mark.parametrize("name", ["con", "aux", "nul", "prn", "com1", "lpt9", "CON", "com1abcde"])
@pytest.mark.parametrize("layout", ["tree", "flat"])
def test_no_folder_or_file_is_a_device_of_windows(tmp_path: Path, name: str, layout: str) -> None:
    """An exposure named as a device of Windows has a place that can be made there; the manifest knows it."""
    uri = (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={name}_flt[1]&size=51&x=1.0&y=2.0&format=fits"
        f"/{name}_8184981_F814W_flt_cutout.fits"
    )
    Manifest.create(tmp_path, sink="files", layout=layout).close()
    with Manifest.open(tmp_path) as manifest:
        with manifest.transaction():
            (item,) = manifest.add([WantedURI(uri, None, datauri.parse(uri))])
        with closing(FileSink(tmp_path, layout=layout)) as sink:
            (stored,) = sink.store([Outcome(item, State.DONE, 1, b"whole", b"\0" * 32)])
        with manifest.transaction():
            manifest.record([stored])
    with closing(sqlite3.connect(tmp_path / "manifest.sqlite")) as db:
        (location,) = db.execute("SELECT location FROM cutout").fetchone()

    assert (tmp_path / location).read_bytes() == b"whole"
    assert not [
        part for part in Path(location).parts if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part)
    ]
