"""
Keys: our own stable names for cutouts, safe as paths on every file system, whatever a dataURI says.

A cutout's key is ``WFC3PSF/<the archive's file name>``; any other URI's is its own path. Every component is made
of plain characters, is neither hidden nor a step up, and fits a file system's limit; no key can meet the
folder's own files.
"""

from __future__ import annotations

import hashlib
import re

from psfharvest.core.catalog import detectors
from psfharvest.core.fits.datauri import CutoutURI

MAX_COMPONENT = 200
MAX_KEY = 1000
_RESERVED = frozenset(
    {"manifest.sqlite", "manifest.place", "shards", "parquet", "other", "contact-sheet"}
    | {name.lower() for name in detectors.FOLDERS}
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+=,@-]")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def key_of(uri: str, parts: CutoutURI | None, copy: int = 0) -> str:
    """
    Return the key of a dataURI.

    Parameters
    ----------
    uri, parts
        The dataURI, and what `psfharvest.core.fits.datauri.parse` made of it.
    copy
        How many other dataURIs with this name were asked before; each gets a key of its own.
    """
    if parts is not None:
        name = parts.file_name
        is_plain = parts.filter.isalnum() and parts.filter.isascii()  # all else in it is, by the grammar
        return number(f"{parts.instrument}PSF/{name if is_plain else safe(name)}", copy)
    components = [safe(c) for c in uri.removeprefix("mast:").split("?", 1)[0].split("/") if c]
    question = uri.rpartition("?")[2] if "?" in uri else ""
    if question:
        components.append(safe(question.replace("/", "_")))
    components = components or ["_"]
    top = components[0].casefold()
    if any(top.startswith(name) for name in _RESERVED):
        components[0] = f"_{components[0]}"
    if sum(map(len, components)) + len(components) > MAX_KEY:  # a path has its limits, too
        components = [components[0], safe("_".join(components[1:]))]
    return number("/".join(components), copy, mark="~")


def number(key: str, copy: int, mark: str = "-") -> str:
    """
    Return `key` with the copy's number before its ending.

    No key has the mark there by itself: a cutout's name ends as the grammar says, and ``~`` is escaped elsewhere.
    """
    if not copy:
        return key
    stem, dot, ending = key.rpartition(".")
    if not dot or "/" in ending:
        return f"{key}{mark}{copy + 1}"
    return f"{stem}{mark}{copy + 1}.{ending}"


def safe(component: str) -> str:
    """Return one component of a path made harmless; what was plain stays as it was."""
    text = _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "replace")), component)
    if text.startswith((".", "-")) or _DEVICE.match(text):
        text = f"_{text}"
    if text.endswith("."):
        text = f"{text}_"
    if len(text) > MAX_COMPONENT:
        digest = hashlib.blake2b(component.encode("utf-8", "replace"), digest_size=8).hexdigest()
        text = f"{text[: MAX_COMPONENT - 40]}~{digest}{text[-20:]}"
    return text


def digest(key: str) -> bytes:
    """Return 12 bytes that stand for a key, equal for keys that differ in case only."""
    return hashlib.blake2b(key.casefold().encode(), digest_size=12).digest()
