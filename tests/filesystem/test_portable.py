"""What stands in for system calls that a platform lacks does what they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.filesystem import portable


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_reading_at_an_offset(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int, offset: int
) -> None:
    """By moving the file's position: the same bytes as pread gives."""
    path = tmp_path_factory.mktemp("portable") / "file"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert (
            portable._seek_and_read(fd, size, offset) == os.pread(fd, size, offset) == data[offset : offset + size]
        )
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "write",
    [
        lambda fd, pieces, offset: portable._seek_and_write(fd, b"".join(pieces), offset),
        portable._joined_write,
        portable.pwritev,
    ],
)
def test_writing_at_an_offset(tmp_path: Path, write: Callable[[int, list[bytes], int], int]) -> None:
    """By moving the file's position, in one piece: the same file as pwritev leaves, holes included."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert write(fd, [b"abc", b"", b"de"], 3) == 5
        assert write(fd, [b"XY"], 4) == 2
    finally:
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0aXYde"


def test_what_is_asked_of_every_platform(tmp_path: Path) -> None:
    """Syncs of files and folders, and advice on pages, work on any file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | portable.O_BINARY)
    try:
        portable.pwrite(fd, b"x", 0)
        portable.sync(fd)
        portable.sync_data(fd)
        portable.drop_pages(fd, 0, 1)
    finally:
        os.close(fd)
    portable.sync_folder(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("mode", [0o700, 0o300])
def test_a_folder_whose_file_system_syncs_none(tmp_path: Path, mode: int) -> None:
    """A folder that cannot be synced, or may not be read, is passed over; other errors are raised."""
    tmp_path.chmod(mode)
    portable.sync_folder(tmp_path)
    if Path("/proc/self").is_dir():
        with pytest.raises(OSError, match="Invalid argument"):
            os.fsync(os.open("/proc/self", os.O_RDONLY))
        portable.sync_folder("/proc/self")
    tmp_path.chmod(0o700)

    with pytest.raises(FileNotFoundError):
        portable.sync_folder(tmp_path / "gone")
