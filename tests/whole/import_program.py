"""
A program run by a test: prints, as JSON, which modules the event loop's own thread has imported while it ran, and
the longest that it was at work without coming back to a task that only waits a moment.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import anyio

from psfharvest import Archive, Query

QUERY = Query("UVIS", limit=20)
imported: list[str] = []
is_on = False


def hear(name: str, args: tuple[Any, ...]) -> None:
    """Note an import in the main thread."""
    if name == "import" and is_on and threading.current_thread() is threading.main_thread():
        caller = next(
            (f"{f.filename}:{f.lineno}" for f in reversed(traceback.extract_stack()) if "psfharvest" in f.filename),
            "",
        )
        imported.append(f"{args[0]} (from {caller})")


async def beat(longest_s: list[float]) -> None:
    """Measure the processor time of the loop's thread between two wake-ups."""
    at = time.thread_time()
    while True:
        await anyio.sleep(0.001)
        at, before = time.thread_time(), at
        longest_s[0] = max(longest_s[0], at - before)


async def watched(url: str, folder: Path, what: str) -> float:
    """Return the longest time at work."""
    longest_s = [0.0]
    async with anyio.create_task_group() as group:
        group.start_soon(beat, longest_s)
        await work(url, folder, what)
        group.cancel_scope.cancel()
    return longest_s[0]


async def work(url: str, folder: Path, what: str) -> None:
    """Do one kind of work with an archive."""
    global is_on  # noqa: PLW0603 - a hook cannot be taken away
    await anyio.to_thread.run_sync(int)  # the backend's own modules
    with anyio.move_on_after(0.01):
        await anyio.sleep(1)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    is_on = True
    async with Archive(url) as archive:
        if what == "query":
            await archive.query(QUERY)
        elif what == "stream":
            async with archive.stream(QUERY, suffixes=["flt"]) as cutouts:
                uris = [cutout.uri async for cutout in cutouts]
            await archive.fetch(uris[0])
        else:
            sink: Any = what.removesuffix("+")
            via: Any = "bundle" if what.endswith("+") else "file"
            await archive.harvest(QUERY, folder, suffixes=["flt"], sink=sink, via=via)
            await archive.resume(folder)
    is_on = False


if __name__ == "__main__":
    url, folder, what, backend = sys.argv[1:]
    sys.addaudithook(hear)
    longest_s = anyio.run(watched, url, Path(folder), what, backend=backend)
    sys.stdout.write(json.dumps({"imported": imported, "longest_s": longest_s}))
