"""Kept connections that turn out to be dead: what a wire repeats over another is a request, and no attempt."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest

from harness import check_every_file, rows_of
from psfharvest import Archive, Limits, Query, RetryPolicy
from psfharvest.simulator import Settings, Simulator


class Gateway(http.server.ThreadingHTTPServer):
    """
    Forwards to an archive, and drops some requests that come on a connection that was used before.

    To a client that is what a restarted archive looks like: its kept connections are dead, and it learns of it by
    using them.
    """

    daemon_threads = True

    def __init__(self, archive: str, drops: str, n_drops: int) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.archive = urlsplit(archive).netloc
        self.drops = drops
        self.n_left = n_drops
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The address to ask."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def takes(self, method: str, *, is_kept: bool) -> bool:
        """Count a request; False where it is to be dropped."""
        with self.lock:
            self.seen[method] += 1
            if not is_kept or method != self.drops or not self.n_left:
                return True
            self.n_left -= 1
            return False


class Forward(http.server.BaseHTTPRequestHandler):
    """One connection to the gateway."""

    protocol_version = "HTTP/1.1"
    server: Gateway
    n_taken = 0

    def do_GET(self) -> None:
        """Forward a request, or drop it with its connection."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.n_taken += 1
        if not self.server.takes(self.command, is_kept=self.n_taken > 1):
            self.close_connection = True
            return
        archive = http.client.HTTPConnection(self.server.archive, timeout=30)
        kind = self.headers.get("Content-Type")
        archive.request(self.command, self.path, body or None, {"Content-Type": kind} if kind else {})
        answer = archive.getresponse()
        content = answer.read()
        archive.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name that the standard library calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def gateway(archive: str, drops: str, n_drops: int) -> Iterator[Gateway]:
    """Serve a gateway."""
    with Gateway(archive, drops, n_drops) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def archive() -> Iterator[Simulator]:
    """What stands behind the gateway."""
    with Simulator(Settings(sources=3000)) as found:
        yield found


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("via", "drops"), [("file", "GET"), ("bundle", "POST")])
async def test_a_repeat_is_a_request_and_no_attempt(
    archive: Simulator, tmp_path: Path, via: str, drops: str
) -> None:
    """With one attempt a cutout, dead connections make nothing fail, and the account tells each request."""
    limits = Limits(max_connections=3)
    with gateway(archive.url, drops, 12) as front, anyio.fail_after(60):
        async with Archive(front.url, limits=limits, retry=RetryPolicy(attempts=1)) as client:
            report = await client.harvest(Query("UVIS", limit=300), tmp_path, suffixes=["flt"], via=via)

    assert (300, 0) == (report.done, report.failed), report
    assert front.seen.total() == report.requests
    assert {1} == {row["attempts"] for row in rows_of(tmp_path)}
    assert sum(report.retried.values()) == (12 if via == "file" else 0)
    assert 300 == check_every_file(tmp_path, archive)


@pytest.mark.parametrize(
    ("library", "via", "drops"), [("httpx", "file", "GET"), ("httpx2", "file", "GET"), ("httpx", "bundle", "POST")]
)
async def test_a_caller_s_client_repeats_as_libcurl_does(
    archive: Simulator, tmp_path: Path, library: str, via: str, drops: str
) -> None:
    """Over a pool that is not ours, a connection that died meanwhile costs no cutout an attempt, singly or not."""
    with gateway(archive.url, drops, 6) as front, anyio.fail_after(60):
        async with (
            import_module(library).AsyncClient() as own,
            Archive(
                front.url, client=own, limits=Limits(max_connections=3), retry=RetryPolicy(attempts=1)
            ) as client,
        ):
            report = await client.harvest(Query("UVIS", limit=60), tmp_path, suffixes=["flt"], via=via)

    assert (60, 0) == (report.done, report.failed), report
    assert front.seen.total() == report.requests
    assert front.n_left < 6
    assert {1} == {row["attempts"] for row in rows_of(tmp_path)}


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fresh_connections_keep_the_ceiling(tmp_path: Path) -> None:
    """Each bundle goes over a connection of its own, and there are never more than allowed."""
    with Simulator(Settings(sources=3000)) as simulator:
        async with Archive(simulator.url, limits=Limits(max_connections=2)) as client:
            report = await client.harvest(Query("UVIS", limit=500), tmp_path, suffixes=["flt"], via="bundle")

        assert 500 == report.done
        assert simulator.count("bundle") > 2
        assert simulator.peak_connections <= 2
