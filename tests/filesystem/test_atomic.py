"""Write, then rename: whole or not at all, beside the target, through links, and never over a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from psfharvest.core.errors import SinkError
from psfharvest.filesystem.atomic import replace, written_whole


def test_what_is_written_takes_the_name_at_the_end(tmp_path: Path) -> None:
    """Until the block ends, the old content is there; nothing else is left behind."""
    target = tmp_path / "out.txt"
    target.write_text("old")
    with written_whole(target) as partial:
        partial.write_text("new")
        assert ("old", target.parent, ".txt") == (target.read_text(), partial.parent, partial.suffix)

    assert "new" == target.read_text()
    assert [target] == list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    """An error or interrupt in the block changes nothing; the system's own is told with the target's name."""
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write() -> None:
        with written_whole(target) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(SinkError if isinstance(error, OSError) else type(error)):
        write()

    assert "old" == target.read_text()
    assert [target] == list(tmp_path.iterdir())


def test_a_link_goes_on_leading_where_it_led(tmp_path: Path) -> None:
    """A link's target is replaced, beside itself, and the link stays."""
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "far/real.txt")
    with written_whole(link) as partial:
        partial.write_text("new")

    assert link.is_symlink()
    assert "new" == (tmp_path / "far/real.txt").read_text()


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    """A pipe takes what is written, and is a pipe afterwards."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with written_whole(pipe) as partial:
        partial.write_bytes(b"through")

    assert b"through" == os.read(reader, 100)
    os.close(reader)
    assert pipe.is_fifo()


def test_folders_replace_folders_only(tmp_path: Path) -> None:
    """A folder takes a folder's place; a file never does."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    replace(tmp_path / "new", tmp_path / "old")
    assert ["new"] == [path.name for path in (tmp_path / "old").iterdir()]

    (tmp_path / "file").write_text("file")
    with pytest.raises(IsADirectoryError):
        replace(tmp_path / "file", tmp_path / "old")
    assert ["new"] == [path.name for path in (tmp_path / "old").iterdir()]
