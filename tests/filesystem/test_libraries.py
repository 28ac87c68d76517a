"""Shared libraries are read before a package is imported: all of them, and nothing but them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from psfharvest.filesystem import libraries

SIZE = 3 * 2**20 + 5


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(SIZE))


def test_every_library_of_a_package(package: Path) -> None:
    """A package's own libraries, those in its sub-packages, and those that its wheel puts beside it."""
    home = package / "heavy_package"
    for name in (
        "_core.cpython-311-x86_64-linux-gnu.so",
        "sub/libheavy.so.2300",
        "../heavy_package.libs/libz.so.1",
    ):
        written(home / name)
    written(home / "data.bin")
    (home / "__init__.py").touch()

    assert 3 * SIZE == libraries.read_ahead("heavy_package")
    assert "heavy_package" not in sys.modules


def test_an_extension_module_of_its_own(package: Path) -> None:
    """A module that is one library, such as pycurl, with its wheel's libraries beside it."""
    name = "heavy_extension.abi3.so"
    written(package / name)
    written(package / "heavy_extension.libs" / "libheavy-1234.so.4")

    assert 2 * SIZE == libraries.read_ahead("heavy_extension")


def test_absent_and_unreadable(package: Path) -> None:
    """What is not there is left to the import, which names it."""
    assert 0 == libraries.read_ahead("no_such_package")
    (package / "odd_package").mkdir()
    (package / "odd_package" / "libgone.so").symlink_to("nowhere")
    assert 0 == libraries.read_ahead("odd_package")
