"""
Where a life may end: chosen points of a harvest, as a table, and the hook that ends the process there.

Nothing of ours is replaced: Python tells its profiler of every call and return, also of the C functions that touch
the disk, and sqlite3 tells of every statement before it runs. The hook counts what fits and kills at the n-th.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple

DEPTH = 14
"""Callers looked through for `Point.within`."""
COMMIT = "COMMIT"
ANY = ("files", "shards", "parquet")
SHARDED = ("shards", "parquet")


class Point(NamedTuple):
    """
    One moment of a life.

    `event` is ``call`` or ``return`` of a Python function, ``before`` or ``after`` a C function (or a statement of
    SQL); `within` names a function that is under way then. `nth_max`: how late an occurrence may be chosen.
    """

    name: str
    event: str
    function: str
    within: str = ""
    sinks: Sequence[str] = ANY
    sources: Sequence[str] = ("list", "query")
    ways: Sequence[str] = ("file", "bundle")
    nth_max: int = 1
    is_in_loop: bool = False
    """Whether the event loop's own thread passes it; all else happens in the threads beside it."""


def around(name: str, function: str, within: str, **more: Any) -> list[Point]:
    """Return the points before and after one thing."""
    return [Point(f"{when} {name}", when, function, within, **more) for when in ("before", "after")]


BEGINNING: tuple[Point, ...] = (
    # a folder is made
    *around("the lock's file", "open", "folder_lock"),
    *around("taking the lock", "flock", "try_lock"),
    *around("the new manifest's commit", COMMIT, "Manifest.create"),
    *around("the manifest's name", "replace", "Manifest.create"),
    # what is asked for is recorded
    *around("the ask's commit", COMMIT, "find_or_add"),
    *around("the sink's folder", "mkdir", "FileSink.__init__", sinks=("files",)),
    *around("the sink's folder", "mkdir", "ShardSink.__init__", sinks=SHARDED),
    *around("the first shard's end", "write", "ShardSink.__init__", sinks=SHARDED),
    *around("the first shard's name", "replace", "ShardSink.__init__", sinks=SHARDED),
    *around("the run's commit", COMMIT, "Manifest.begin_run"),
    Point("the list's checkpoint", "return", "advance", sources=("list",)),
    *around("the list's commit", COMMIT, "TargetReader._add_lines", sources=("list",)),
    Point("the part's checkpoint", "return", "finish_part", sources=("query",), nth_max=2),
    *around("the part's commit", COMMIT, "TargetReader._add_piece", sources=("query",), nth_max=2),
    *around("the commit of all asked", COMMIT, "complete"),
)
TRAVEL: tuple[Point, ...] = (
    Point("requests are sent", "return", "FileFetcher.submit", ways=("file",), nth_max=20, is_in_loop=True),
    Point("answers are taken", "return", "FileFetcher.take", ways=("file",), nth_max=20, is_in_loop=True),
    Point("a bundle begins", "call", "BundleFetcher.start", ways=("bundle",), is_in_loop=True),
    Point("a member has come", "return", "BundleFetcher._receive", ways=("bundle",), nth_max=30, is_in_loop=True),
    # what has arrived of a bundle waits on the disk for its end
    *around(
        "arrivals go to the disk", "writelines", "StagedBodies.append", sinks=SHARDED, ways=("bundle",), nth_max=4
    ),
    *around("arrivals are read back", "read", "StagedBodies.read", sinks=SHARDED, ways=("bundle",), nth_max=20),
    *around("arrivals leave the disk", "unlink", "StagedBodies.discard", sinks=SHARDED, ways=("bundle",)),
    Point("a bundle has ended", "return", "BundleFetcher._settle", ways=("bundle",), is_in_loop=True),
    # a batch is stored: files
    Point("a batch for files", "call", "FileSink.store", sinks=("files",), nth_max=2),
    *around("a file is begun", "open", "FileSink._write_body", sinks=("files",), nth_max=30),
    *around("a file is written", "write", "FileSink._write_body", sinks=("files",), nth_max=30),
    *around("a folder for files", "mkdir", "FileSink._make_parent", sinks=("files",), nth_max=20),
    *around("a file's name", "rename", "FileSink._rename", sinks=("files",), nth_max=30),
    Point("files stored, not claimed", "return", "FileSink.store", sinks=("files",), nth_max=2),
    # a batch is stored: shards, and the journal of Parquet
    Point("a batch for shards", "call", "ShardSink.store", sinks=SHARDED, nth_max=2),
    *around("bytes into a shard", "pwritev", "ShardSink._append", sinks=SHARDED, nth_max=4),
    *around("a shard's sync", "fdatasync", "ShardSink._append", sinks=SHARDED, nth_max=2),
    *around("the next shard", "open", "ShardSink._roll", sinks=("shards",), nth_max=3),
    *around("the next shard's end", "write", "ShardSink._roll", sinks=("shards",), nth_max=3),
    *around("the next shard's sync", "fsync", "ShardSink._roll", sinks=("shards",), nth_max=6),
    *around("the next shard's name", "replace", "ShardSink._roll", sinks=("shards",), nth_max=3),
    *around("a full shard is closed", "close", "ShardSink._roll", sinks=("shards",), nth_max=3),
    Point("shards stored, not claimed", "return", "ShardSink.store", sinks=SHARDED, nth_max=2),
    # a batch is claimed
    Point("a claim begins", "call", "Manifest.record", nth_max=2),
    Point("a claim stands, not committed", "return", "Manifest.record", nth_max=2),
    *around("a claim's commit", COMMIT, "Run._keep", nth_max=2),
    # a journal becomes Parquet
    Point("a journal is full", "call", "ParquetSink._finish", sinks=("parquet",)),
    Point("a journal is read", "call", "convert", sinks=("parquet",)),
    Point("a Parquet file is written", "return", "_write", sinks=("parquet",), nth_max=2),
    *around("a Parquet file's name", "replace", "convert", sinks=("parquet",), nth_max=2),
    *around("a journal goes", "unlink", "ParquetSink._finish", sinks=("parquet",)),
    *around("the journals' folder goes", "rmdir", "ParquetSink._finish", sinks=("parquet",)),
    Point("the next journal", "return", "ParquetSink._open", sinks=("parquet",), nth_max=2),
)
END: tuple[Point, ...] = (
    *around("the run's last commit", COMMIT, "Run._close_run"),
    *around("the last shard is closed", "close", "ShardSink.close", sinks=("shards",)),
    Point("a sink is closed", "return", "FileSink.close", sinks=("files",), is_in_loop=True),
    Point("a sink is closed", "return", "ShardSink.close", sinks=("shards",)),
    Point("a sink is closed", "return", "ParquetSink.close", sinks=("parquet",)),
    *around("the manifest is closed", "close", "Manifest.close", is_in_loop=True),
)
POINTS = BEGINNING + TRAVEL + END
"""In the order of a life, so that most can be reached one after another in one folder."""


class Hook:
    """
    Tells of points as they are passed, in every thread that starts after `install`.

    Parameters
    ----------
    points
        What to tell of; none is every event of the profiler's.
    tell
        Called with the point, in the thread that passes it.
    """

    def __init__(self, points: Sequence[Point], tell: Callable[[Point | None], None]) -> None:
        self._tell = tell
        self._wanted: dict[tuple[str, str], list[Point]] = {}
        self._is_in_loop = not points or any(point.is_in_loop for point in points)
        for point in points:
            self._wanted.setdefault((point.event, point.function), []).append(point)
        self._watches_sql = any(point.function == COMMIT for point in points)
        self._heard: list[sqlite3.Connection] = []
        self._commits = threading.local()

    def install(self) -> None:
        """Begin."""
        hook = self._hear if self._wanted else lambda *_: self._tell(None)
        threading.setprofile(hook)
        if self._is_in_loop:
            sys.setprofile(hook)

    def _hear(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "return"):
            self._pass(event, frame.f_code.co_qualname, frame)
            return
        when = {"c_call": "before", "c_return": "after"}.get(event)
        if when is None:
            return
        if self._watches_sql and isinstance(getattr(arg, "__self__", None), sqlite3.Connection):
            self._hear_sql(arg.__self__, when, frame)
        self._pass(when, arg.__name__, frame)

    def _hear_sql(self, connection: sqlite3.Connection, when: str, frame: FrameType) -> None:
        if when == "before" and not any(connection is other for other in self._heard):
            self._heard.append(connection)
            connection.set_trace_callback(self._hear_statement)
        elif when == "after" and getattr(self._commits, "is_under_way", False):
            self._commits.is_under_way = False
            self._pass("after", COMMIT, frame)

    def _hear_statement(self, sql: str) -> None:
        if sql == COMMIT:
            self._commits.is_under_way = True
            self._pass("before", COMMIT, sys._getframe(1))

    def _pass(self, event: str, function: str, frame: FrameType) -> None:
        for point in self._wanted.get((event, function), ()):
            if not point.within or _is_within(frame, point.within):
                self._tell(point)


def _is_within(frame: FrameType | None, name: str) -> bool:
    for _ in range(DEPTH):
        if frame is None:
            return False
        if frame.f_code.co_qualname.partition(".<locals>")[0] == name:
            return True
        frame = frame.f_back
    return False


def die_at(points: Sequence[Point], nth: int) -> None:
    """Kill this process at the n-th passing of a point; without points, at the n-th event of the profiler's."""
    left = nth

    def tell(_: Point | None) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    Hook(points, tell).install()


def leave_trail(points: Sequence[Point], path: str) -> None:
    """Write the name of each point that is passed into a file, in their order."""
    trail = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def tell(point: Point | None) -> None:
        assert point is not None
        os.write(trail, f"{point.name} ".encode())

    Hook(points, tell).install()


def point_named(name: str, sink: str) -> Point:
    """Return a point of a sink by its name."""
    (found,) = [p for p in POINTS if p.name == name and sink in p.sinks]
    return found
