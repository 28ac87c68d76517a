"""
Re-read what is stored and hold it against the manifest; it changes nothing.

A claim is kept when the bytes are there and have the recorded hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from psfharvest.store.manifest import Manifest


class Checked(NamedTuple):
    """One stored cutout: `problem` is empty, ``missing``, ``wrong_size``, ``changed`` or ``unreadable``."""

    number: int
    uri: str
    location: str
    problem: str


def audit(folder: Path, manifest: Manifest) -> Iterator[Checked]:
    """Yield the finding on every cutout that is claimed as done."""
    columns = "n, uri, location, size_bytes, sha256"
    for n, uri, location, size_bytes, sha256 in manifest.cutouts(columns, "state = 'done'"):
        yield Checked(n, uri, location, _problem(folder / location, size_bytes, sha256))


def _problem(path: Path, size_bytes: int, sha256: str) -> str:
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    if len(body) != size_bytes:
        return "wrong_size"
    return "" if hashlib.sha256(body).hexdigest() == sha256 else "changed"
