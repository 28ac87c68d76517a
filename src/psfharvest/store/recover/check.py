"""
Stored bytes, looked at as a download is: a whole image of the asked shape and exposure, and their hash.

A FITS file's structure says nothing of its pixels: a changed pixel is found only where a hash stood beside the
bytes (in Parquet), and x and y of a dataURI are nowhere in its file.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from psfharvest.core.errors import SinkError
from psfharvest.core.fits import filekinds
from psfharvest.core.model import Item, Limits
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.candidates import Candidate
from psfharvest.store.sinks import files

ABSENT = "absent"
"""Where nothing is stored: no trouble, the cutout is pending."""
UNREADABLE = "unreadable"
CHANGED = "changed"
MAX_CUTOUT_BYTES = Limits().max_body_bytes
"""A larger file is no cutout, and is not read."""


class CheckedCutout(NamedTuple):
    """What stands for an item; `problem` is empty, a `Reason`, ``absent``, ``unreadable`` or ``changed``."""

    item: Item
    location: str
    problem: str = ""
    size_bytes: int = 0
    sha256: bytes = b""
    shard: int | None = None
    place: int | str | None = None
    quirk: str = ""


def look_at_file(folder: Path, item: Item, *, is_tree: bool, accepted: Collection[str] = ()) -> CheckedCutout:
    """
    Return what stands at an item's own place in the folder.

    Raises
    ------
    SinkError
        When a file may not be read.
    """
    own = files.default_location(item, is_tree=is_tree)
    for location in (own, files.fallback_location(item)):
        found = _look_at_path(folder / location, item, location, accepted)
        if found.problem != ABSENT:
            return found._replace(place=files.explicit_location(item, location, is_tree=is_tree))
    return CheckedCutout(item, own, ABSENT)


def look_at(reader: Reader, item: Item, candidate: Candidate, accepted: Collection[str] = ()) -> CheckedCutout:
    """
    Return what stands at a candidate's location.

    Raises
    ------
    SinkError
        When it may not be read.
    """
    nothing = CheckedCutout(item, candidate.at, UNREADABLE)
    if not candidate.at or _is_too_large(item, candidate.size_bytes):
        return nothing
    try:
        body = reader.read(candidate.at, candidate.size_bytes)
    except PermissionError as error:
        raise _not_allowed(candidate.at, error) from error
    except (OSError, ValueError, IndexError):
        return nothing
    found = _look_at_bytes(body, item, candidate.at, accepted)
    if candidate.sha256 and not found.problem and found.sha256.hex() != candidate.sha256:
        return found._replace(problem=CHANGED)
    return found._replace(shard=candidate.shard, place=candidate.place)


def _look_at_path(path: Path, item: Item, location: str, accepted: Collection[str]) -> CheckedCutout:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return CheckedCutout(item, location, ABSENT)
        if _is_too_large(item, status.st_size):
            return CheckedCutout(item, location, "too_large")
        return _look_at_bytes(path.read_bytes(), item, location, accepted)
    except (FileNotFoundError, NotADirectoryError):
        return CheckedCutout(item, location, ABSENT)
    except PermissionError as error:
        raise _not_allowed(location, error) from error
    except OSError:
        return CheckedCutout(item, location, UNREADABLE)


def _look_at_bytes(body: bytes, item: Item, location: str, accepted: Collection[str]) -> CheckedCutout:
    flaw, quirk = filekinds.verdict(item, body, accepted)
    if flaw is not None:
        return CheckedCutout(item, location, flaw.reason)
    return CheckedCutout(item, location, "", len(body), hashlib.sha256(body).digest(), quirk=quirk)


def _is_too_large(item: Item, size_bytes: int) -> bool:
    return item.size_px is not None and size_bytes > MAX_CUTOUT_BYTES


def _not_allowed(location: str, error: OSError) -> SinkError:
    return SinkError(f"cannot read {location}: {error.strerror}; mend that, then run the same again")
