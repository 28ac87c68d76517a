"""The shared libraries of a Python package, read into the page cache before they are imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_LIBRARY = re.compile(r"\.(so|dylib|dll|pyd)(\.|$)")
_CHUNK_BYTES = 2**20


def read_ahead(package: str) -> int:
    """
    Read a package's shared libraries, so that the import after it does not wait for the disk.

    The dynamic linker maps a library while Python's global interpreter lock is held. From a disk that has it not in
    memory this stops all threads, the event loop's too (pyarrow: 0.15 to 0.4 s); reading a file releases the lock.
    What is imported already, absent, or not readable is left to the import.

    Returns
    -------
    int
        How many bytes were read.
    """
    if package in sys.modules:
        return 0
    n_bytes = 0
    buffer = bytearray(_CHUNK_BYTES)
    for path in _libraries(package):
        try:
            with path.open("rb", buffering=0) as library:
                while n := library.readinto(buffer):
                    n_bytes += n
        except OSError:
            continue
    return n_bytes


def _libraries(package: str) -> Iterator[Path]:
    """Yield a package's own libraries and those that its wheel brings beside it, in a folder ``NAME.libs``."""
    spec = find_spec(package)
    if spec is None:
        return
    homes = [Path(home) for home in spec.submodule_search_locations or ()]
    beside = {home.parent for home in homes}
    if spec.origin is not None and not homes:
        yield Path(spec.origin)
        beside = {Path(spec.origin).parent}
    for folder in (*homes, *(parent / f"{package}.libs" for parent in beside)):
        yield from (path for path in sorted(folder.rglob("*")) if _LIBRARY.search(path.name) and path.is_file())
