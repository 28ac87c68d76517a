"""An open file has one owner: all is written, it is closed once, and cannot be used after that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.filesystem.open_file import OpenFile

USES: dict[str, Callable[[OpenFile], object]] = {
    "size": OpenFile.size,
    "read": lambda file: file.read(1, 0),
    "write": lambda file: file.write(b"x"),
    "write_at": lambda file: file.write_at(0, [b"x"]),
    "truncate": lambda file: file.truncate(0),
    "sync": OpenFile.sync,
    "sync_data": OpenFile.sync_data,
    "drop_pages": lambda file: file.drop_pages(0, 1),
    "number": lambda file: file.number,
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_file_is_of_no_use(tmp_path: Path, use: str) -> None:
    """After close, whoever has got the number since is neither read, written nor closed."""
    file = OpenFile(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    number = file.number
    file.close()
    with (tmp_path / "b").open("w+b") as other:
        other.write(b"content")
        other.flush()
        assert number == other.fileno()

        with pytest.raises(ValueError, match="closed"):
            USES[use](file)
        file.close()
        assert not file.is_open
        assert 7 == os.fstat(number).st_size


def test_what_cannot_be_opened_is_closed() -> None:
    """A file that is not there leaves nothing behind."""
    with pytest.raises(FileNotFoundError):
        OpenFile("/nowhere/at/all")


@given(st.lists(st.binary(max_size=50), max_size=3000), st.integers(0, 5000))
def test_all_pieces_are_written(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], offset: int) -> None:
    """However many pieces there are, all stand at their offset, one after the other."""
    path = tmp_path_factory.mktemp("pieces") / "file"
    with OpenFile(path, os.O_RDWR | os.O_CREAT) as file:
        end = file.write_at(offset, pieces)
        assert b"".join(pieces) == file.read(10**6, offset)

    assert offset + sum(map(len, pieces)) == end
