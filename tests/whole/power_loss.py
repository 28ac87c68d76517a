"""
A harvest over a disk whose power may fail at any system call.

Run as a program, it puts a recorder between Python and the system's calls on files, harvests, and at seeded moments
rebuilds the folder as a disk could hold it after a power loss: of each file the bytes of its last sync, and of what
was written since all, nothing, or any blocks; of names what the last sync of their folder covered, and of later
changes any. The manifest is taken as SQLite has committed it. What it claims must be there.

    python power_loss.py URL SINK SEED CUTS FOLDER CUTOUTS [unsynced]
"""

from __future__ import annotations

import functools
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 4096


class Change(NamedTuple):
    """A change of names: what is removed, what is there instead, and in which folders that stands."""

    removed: str
    made: str
    file: int
    folders: frozenset[str]


class Disk:
    """
    What a disk holds for certain, and what it may hold.

    Parameters
    ----------
    root
        The folder that is looked at; nothing else is.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.names: dict[str, int] = {}
        """Of files and folders, as they are now."""
        self.certain: dict[str, int] = {}
        self.changes: list[Change] = []
        self.synced: dict[int, bytes] = {}
        self.folders: set[int] = set()
        self._last = 0

    def new(self, path: str, *, is_folder: bool = False) -> None:
        self._last += 1
        if is_folder:
            self.folders.add(self._last)
        self.synced[self._last] = b""
        self._change("", path, self._last)

    def linked(self, source: str, path: str) -> None:
        self._change("", path, self.names[source])

    def renamed(self, source: str, path: str) -> None:
        if source in self.names:
            below = [name for name in self.names if name.startswith(f"{source}/")]
            assert not below, "folders are not renamed while a harvest runs"
            self._change(source, path, self.names[source])

    def removed(self, path: str) -> None:
        if path in self.names:
            self._change(path, "", 0)

    def sync(self, path: str) -> None:
        number = self.names.get(path, 0)
        if path == self.root or number in self.folders:
            self.certain = self._after([c for c in self.changes if path in c.folders])
            self.changes = [c for c in self.changes if path not in c.folders]
        elif number:
            self.synced[number] = Path(path).read_bytes()

    def crashed(self, draw: random.Random, into: Path) -> None:
        """Build the folder as the disk may hold it."""
        odds = draw.choice([0.0, 0.5, 1.0])
        names = self._after([change for change in self.changes if draw.random() < odds])
        paths = {number: path for path, number in self.names.items()}
        for name in sorted(names):
            target = into / os.path.relpath(name, self.root)
            if not target.parent.is_dir():
                continue  # a folder above it is lost
            if names[name] in self.folders:
                target.mkdir(exist_ok=True)
                continue
            data, now = self.synced[names[name]], paths.get(names[name])
            if now is not None and (odds := draw.choice([0.0, 0.5, 1.0])):
                data = _mixed(data, Path(now).read_bytes(), odds, draw)
            target.write_bytes(data)

    def _change(self, removed: str, made: str, file: int) -> None:
        folders = frozenset(os.path.dirname(name) for name in (removed, made) if name)  # noqa: PTH120
        change = Change(removed, made, file, folders)
        self.changes.append(change)
        _apply(self.names, change)

    def _after(self, changes: list[Change]) -> dict[str, int]:
        names = dict(self.certain)
        for change in changes:
            _apply(names, change)
        return names


def _apply(names: dict[str, int], change: Change) -> None:
    if change.removed:
        names.pop(change.removed, None)
    if change.made:
        names[change.made] = change.file


def _mixed(old: bytes, new: bytes, odds: float, draw: random.Random) -> bytes:
    """Return what may be left of a file whose later writes were not synced: some blocks, zeros in holes."""
    size = len(new) if odds == 1.0 else draw.choice([len(old), len(new), draw.randint(0, len(new))])
    size = max(size, min(len(old), len(new)))  # what was synced, and not cut since, is there
    pieces = []
    for at in range(0, size, BLOCK):
        source = new if draw.random() < odds else old
        pieces.append(source[at : at + BLOCK].ljust(min(BLOCK, size - at), b"\0"))
    return b"".join(pieces)


class Recorder:
    """
    Stands between Python and the calls on files.

    Parameters
    ----------
    disk
        Receives every call.
    at_call
        Called before each.
    """

    def __init__(self, disk: Disk, at_call: Callable[[], None]) -> None:
        self._disk = disk
        self._at_call = at_call
        self._lock = threading.RLock()
        self._inside = 0
        self._is_looking = False
        self._paths: dict[int, str] = {}

    def install(self) -> None:
        for name in ("open", "close", "write", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync"):
            self._wrap(name)
        for name in ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir"):
            self._wrap(name)

    def _wrap(self, name: str) -> None:
        call = getattr(os, name)
        note = getattr(self, f"_{name}", None)

        @functools.wraps(call)
        def wrapped(*args: Any, **options: Any) -> Any:
            # a look has threads of its own; meanwhile nobody else is at the folder: one thread at a time is
            if self._is_looking or self._inside == threading.get_ident() or options.get("dir_fd") is not None:
                return call(*args, **options)
            with self._lock:
                self._inside = threading.get_ident()
                try:
                    if self._is_ours(args[0]):
                        self._look()
                    result = call(*args, **options)
                    if note is not None:
                        note(result, *args)
                    return result
                finally:
                    self._inside = 0

        setattr(os, name, wrapped)

    def _is_ours(self, what: Any) -> bool:
        path = self._paths.get(what, "") if isinstance(what, int) else what
        return bool(path and self._ours(path))

    def _look(self) -> None:
        self._is_looking = True
        try:
            self._at_call()
        finally:
            self._is_looking = False

    def _ours(self, path: Any) -> str:
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        is_manifest = os.path.basename(full).startswith("manifest.sqlite")  # noqa: PTH119
        return full if full.startswith(f"{self._disk.root}/") and not is_manifest else ""

    def _open(self, fd: int, path: Any, *_: Any) -> None:
        full = self._paths[fd] = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if self._ours(path) and full not in self._disk.names and os.path.isfile(full):  # noqa: PTH113
            self._disk.new(full)  # just now, or by a library's own calls: nothing of it is certain

    def _close(self, _: Any, fd: int) -> None:
        self._paths.pop(fd, None)

    def _fsync(self, _: Any, fd: int) -> None:
        if (path := self._paths.get(fd)) is not None:
            self._disk.sync(path)

    _fdatasync = _fsync

    def _rename(self, _: Any, source: Any, target: Any, *__: Any) -> None:
        one, other = self._ours(source), self._ours(target)
        if one and not other:
            self._disk.removed(one)  # it became the manifest
        elif one and other:
            if one not in self._disk.names:
                self._disk.new(one)
            self._disk.renamed(one, other)

    _replace = _rename

    def _link(self, _: Any, source: Any, target: Any, *__: Any) -> None:
        if self._ours(source) in self._disk.names and self._ours(target):
            self._disk.linked(self._ours(source), self._ours(target))

    def _unlink(self, _: Any, path: Any, *__: Any) -> None:
        self._disk.removed(self._ours(path))

    _remove = _rmdir = _unlink

    def _mkdir(self, _: Any, path: Any, *__: Any) -> None:
        if full := self._ours(path):
            self._disk.new(full, is_folder=True)


class PowerLoss:
    """
    Rebuilds the folder at seeded moments, and compares it with what the manifest claims.

    Parameters
    ----------
    root, seed
        The harvest folder, and what the moments and images depend on.
    n
        How many moments, at most.
    every
        Mean number of calls between two.
    """

    def __init__(self, root: Path, seed: int, n: int, every: float) -> None:
        self.disk = Disk(str(root))
        self.n_cuts = self.n_claims = 0
        self.broken: list[str] = []
        self._root = root
        self._draw = random.Random(seed)
        self._n = n
        self._every = every

    def look(self) -> None:
        """Take a moment, or let it pass."""
        manifest = self._root / "manifest.sqlite"
        if self.n_cuts >= self._n or self._draw.random() * self._every > 1 or not manifest.exists():
            return
        self.cut(manifest)

    def cut(self, manifest: Path) -> None:
        from psfharvest import Harvest

        with tempfile.TemporaryDirectory() as scratch:
            into = Path(scratch) / "disk"
            into.mkdir()
            source = sqlite3.connect(f"file:{manifest}?mode=ro", uri=True)
            copy = sqlite3.connect(into / "manifest.sqlite")
            try:
                source.backup(copy)
                (n_claims,) = copy.execute("SELECT count(*) FROM cutout WHERE state = 'done'").fetchone()
            except sqlite3.Error:  # before its first transaction
                return
            finally:
                source.close()
                copy.close()
            self.disk.crashed(self._draw, into)
            checked = Harvest(into).verify()
        self.n_cuts += 1
        self.n_claims += n_claims
        if checked.broken or checked.ok != n_claims:
            self.broken.append(f"cut {self.n_cuts}: {n_claims} claimed, {checked}")


def main(url: str, sink: str, seed: int, n_cuts: int, folder: Path, n: int, *, fsync: bool) -> None:
    """Harvest, and print how many moments were looked at, what was claimed in all of them, and what was broken."""
    loss = PowerLoss(folder.absolute(), seed, n_cuts, every=8 * n / n_cuts if sink == "files" else 1.5)
    Recorder(loss.disk, loss.look).install()
    import anyio

    from psfharvest import Archive, Limits, Query

    async def harvest() -> int:
        async with Archive(url, limits=Limits(max_connections=4)) as archive:
            query = Query("UVIS", limit=n)
            more: dict[str, Any] = {"shard_bytes": 2_000_000} if sink == "shards" else {}
            return (await archive.harvest(query, folder, suffixes=["flt"], sink=sink, fsync=fsync, **more)).done

    n_done = anyio.run(harvest)
    loss.cut(folder / "manifest.sqlite")
    found = {"done": n_done, "cuts": loss.n_cuts, "claims": loss.n_claims, "broken": loss.broken}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    url, sink, seed, n_cuts, folder, n, *more = sys.argv[1:]
    main(url, sink, int(seed), int(n_cuts), Path(folder), int(n), fsync="unsynced" not in more)
