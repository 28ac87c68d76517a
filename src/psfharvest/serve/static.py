"""The page's own files: a fixed set, read into memory once; a request's path never becomes a file's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file: its bytes, its media type and its ETag."""

    body: bytes
    kind: str
    etag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return all files by name."""
    found = {}
    for entry in files("psfharvest.serve").joinpath("web").iterdir():
        ending = "." + entry.name.rpartition(".")[2]
        if ending in KINDS:
            body = entry.read_bytes()
            found[entry.name] = StaticFile(body, KINDS[ending], f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found
