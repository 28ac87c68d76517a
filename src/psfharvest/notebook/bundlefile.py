"""
One cutout, or a ``.tar.gz`` as the archive makes them: a file that is whole under its name, or not there.

A bundle's first member is its root folder, cutouts stand two levels down, and MANIFEST.HTML tells what became of
each dataURI. Members are written as they come, so that a bundle never stands in memory.
"""

from __future__ import annotations

import html
import io
import itertools
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from psfharvest.core import bundle_page
from psfharvest.core.errors import BadInput
from psfharvest.core.fits import datauri, keys
from psfharvest.filesystem.atomic import require_parent
from psfharvest.filesystem.failures import cannot_store

LEVEL = 1
"""Of compression: pixels of noise gain little from more."""

_numbers = itertools.count()
_ROW = """            <tr>
                <td>{uri}</td>
                <td>{file}</td>
                <td>PUBLIC</td>
                <td>{status}</td>
                <td>anonymous</td>
            </tr>
"""
_PAGE = """<!DOCTYPE html>
<html>
    <head>
        <title>{root}</title>
    </head>
    <body>
        <h2>Manifest for File: {root}</h2>
        <h3>Total Files: {n}</h3>
        <table cellspacing="0" cellpadding="4" rules="all">
            <tr>
                <td><b>URI</b></td>
                <td><b>File</b></td>
                <td><b>Access</b></td>
                <td><b>Status</b></td>
                <td><b>Logged In User</b></td>
            </tr>
{rows}        </table>
    </body>
</html>
"""


def target(name: str | os.PathLike[str]) -> Path:
    """
    Return the path of a file that is to be written.

    Raises
    ------
    BadInput
        When it cannot be one.
    """
    path = Path(name)
    if not path.name or path.is_dir():
        raise BadInput(f"{str(name)!r} is a folder; give the name of a file")
    require_parent(path)
    return path


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """
    Open a file that gets its name when the block ends well, and else is not there.

    Raises
    ------
    SinkError
        When it cannot be written.
    """
    partial = path.with_name(f".{os.getpid()}-{next(_numbers)}.partial")
    try:
        try:
            with partial.open("xb") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_store(error, str(path)) from error


class BundleFile:
    """
    A bundle that is being written.

    Parameters
    ----------
    file
        Where to.
    root
        The root folder in it.
    uris
        All dataURIs that may come, each once; two with one file name get names of their own.
    """

    def __init__(self, file: BinaryIO, root: str, uris: Iterable[str]) -> None:
        self._root = root
        self._names = _names(uris)
        self._mtime = int(time.time())
        self._tar = tarfile.open(fileobj=file, mode="w:gz", compresslevel=LEVEL)  # noqa: SIM115 - finish() closes
        entry = tarfile.TarInfo(root)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, self._mtime
        self._tar.addfile(entry)

    def add(self, uri: str, raw: bytes) -> None:
        """Write one cutout."""
        self._add(self._names[uri], raw)

    def finish(self, statuses: Mapping[str, str]) -> None:
        """Write what became of each dataURI, and end the bundle."""
        rows = "".join(
            _ROW.format(
                uri=html.escape(uri),
                file=html.escape(self._names[uri] if status == "OK" else ""),
                status=html.escape(status),
            )
            for uri, status in statuses.items()
        )
        n = sum(status == "OK" for status in statuses.values())
        self._add(bundle_page.NAME, _PAGE.format(root=self._root, n=n, rows=rows).encode())
        self._tar.close()

    def _add(self, name: str, raw: bytes) -> None:
        entry = tarfile.TarInfo(f"{self._root}/{name}")
        entry.size, entry.mode, entry.mtime = len(raw), 0o644, self._mtime
        self._tar.addfile(entry, io.BytesIO(raw))


def _names(uris: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken: set[bytes] = set()
    for uri in uris:
        parts = datauri.parts_of(uri)
        for copy in itertools.count():
            name = keys.key_of(uri, parts, copy)
            if keys.digest(name) not in taken:
                break
        taken.add(keys.digest(name))
        names[uri] = name
    return names
