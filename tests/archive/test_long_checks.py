"""Checks in a worker thread: each body comes back once, whatever the order of adding and taking."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from psfharvest import Archive
from psfharvest.archive.fetch.long_checks import BATCH_MAX, LongChecks
from psfharvest.core.fits.filekinds import flaw_of_file

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("pause_s", [0.0, 0.0005, 0.003])
async def test_each_body_is_checked_once(pause_s: float) -> None:
    """Results are taken while others are being made: none is lost, none comes twice, all come from the thread."""
    loop_thread = threading.get_ident()

    def check(body: int) -> int:
        time.sleep(0.001)
        assert threading.get_ident() != loop_thread
        return -body

    def wake() -> None:
        woken[0].set()

    checks: LongChecks[int, int] = LongChecks(check)
    woken = [anyio.Event()]
    taken: list[tuple[int, int]] = []
    n = 5 * BATCH_MAX + 1
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(checks.run, wake)
            for body in range(n):
                checks.add(body)
                await anyio.sleep(pause_s)
                taken += checks.take()
            while len(taken) < n:
                await woken[0].wait()
                woken[0] = anyio.Event()
                taken += checks.take()
            group.cancel_scope.cancel()

    assert [(body, -body) for body in range(n)] == taken
    assert [] == checks.take()


async def test_what_a_check_raises_comes_from_take() -> None:
    """An error of ours reaches who takes the results, as it is, and not as an exception group."""

    def check(body: int) -> float:
        return 1 / body

    checks: LongChecks[int, float] = LongChecks(check)
    woken = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(checks.run, woken.set)
            checks.add(0)
            await woken.wait()
            group.cancel_scope.cancel()

    with pytest.raises(ZeroDivisionError):
        checks.take()


LONG = gzip.compress(bytes(2**28))
"""A body whose check takes a second."""


@pytest.fixture
def archive_of_long_checks() -> Iterator[str]:
    """An archive whose every answer is `LONG`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(LONG)))
            self.end_headers()
            self.wfile.write(LONG)

        def log_message(self, *args: object) -> None:
            del args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.campaign
async def test_a_cancellation_waits_for_no_check(archive_of_long_checks: str, tmp_path: Path) -> None:
    """A harvest with many of them before it ends sooner than one check that began at the same time."""
    ended = []

    def one_check() -> None:
        assert flaw_of_file(LONG, "a.gz") is None
        ended.append("check")

    uris = [f"mast:HST/product/{n}.gz" for n in range(3 * BATCH_MAX)]
    beside = threading.Thread(target=one_check)
    with anyio.fail_after(60):
        async with Archive(archive_of_long_checks) as archive:
            with anyio.CancelScope() as scope:

                def is_begun(_: object) -> None:
                    if "_inflate" in at_work() and not beside.is_alive():
                        beside.start()
                        scope.cancel()

                await archive.harvest(uris, tmp_path / "stars", via="file", progress=is_begun)
            ended.append("harvest")
    beside.join()

    assert ["harvest", "check"] == ended


def at_work() -> list[str]:
    """Return the functions that threads are in."""
    return [frame.f_code.co_name for frame in sys._current_frames().values()]
