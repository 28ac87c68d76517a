"""What `psfharvest doctor` learnt of archives, kept for later runs in the user's cache folder."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import platformdirs

from psfharvest.core.catalog.learnt import Learnt
from psfharvest.filesystem.atomic import written_whole

FORM = 1
MAX_BYTES = 2**20


def cache_file(root: str) -> Path:
    """Return where the file of an archive with this base URL is, or would be."""
    parts = urlsplit(root)
    name = quote(f"{parts.netloc.lower()}{parts.path.rstrip('/')}", safe="")[:200]
    return Path(platformdirs.user_cache_dir("psfharvest", appauthor=False)) / "archives" / f"{name}.json"


def read(root: str) -> Learnt:
    """Return what was learnt of an archive; nothing where no file is, or none that can be read."""
    return Learnt.from_dict(read_plain(root))


def read_plain(root: str) -> dict[str, Any]:
    """Return what was learnt of an archive as plain values; empty where nothing was."""
    try:
        file = cache_file(root)
        content = json.loads(file.read_bytes()) if file.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RuntimeError):
        return {}
    if not isinstance(content, dict) or content.get("form") != FORM:
        return {}
    learnt = content.get("learnt")
    return Learnt.from_dict(learnt).to_dict() if isinstance(learnt, dict) else {}


def write(root: str, learnt: Learnt) -> Path:
    """
    Keep what was learnt of an archive, in place of what was kept before.

    Raises
    ------
    SinkError
        When the cache folder cannot be written.
    """
    file = cache_file(root)
    content = {"form": FORM, "archive": root, "at": datetime.now(UTC).isoformat("T", "seconds")}
    with contextlib.suppress(OSError):  # writing names what is wrong
        file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content | {"learnt": learnt.to_dict()}, indent=1))
    return file


def forget(root: str) -> bool:
    """Drop what was learnt of an archive; returns whether there was anything."""
    try:
        cache_file(root).unlink()
    except OSError:
        return False
    return True
