"""Rows that the archive counts and fails to list: all others are given, and how many are lacking is said."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from psfharvest import Archive, ArchiveDown, Limits, Query, RetryPolicy
from psfharvest.simulator import Simulator

ERROR = b'{"status": "ERROR", "msg": "bad page"}'
QUICK = RetryPolicy(first_delay_s=0.005, max_delay_s=0.02, patience_s=2)


class BrokenRows:
    """
    A proxy before the simulated archive; a listing fails that would hold one of certain rows.

    Parameters
    ----------
    url, ids
        Of the simulator, and its ids.
    """

    def __init__(self, url: str, ids: list[int]) -> None:
        self.ids = ids
        self.broken: Collection[int] = ()
        self.is_http = False
        """Whether it fails by status 500, or by an answer whose status is ``ERROR``."""
        self.n_failures = 0
        """How many listings fail in any case, first."""
        self.n_queries = 0
        broken = self

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                broken.n_queries += 1
                if broken._fails(body):
                    status, found = (500, b"oops") if broken.is_http else (200, ERROR)
                else:
                    with urllib.request.urlopen(url + self.path, body) as answer:
                        status, found = answer.status, answer.read()
                self.send_response(status)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _fails(self, body: bytes) -> bool:
        params = json.loads(parse_qs(body.decode())["request"][0])["params"]
        if "COUNT" in params["columns"]:
            return False
        if self.n_failures:
            self.n_failures -= 1
            return True
        ranges = [f["values"][0] for f in params["filters"] if f["paramName"] == "id"]
        return any(all(one["min"] <= id_ <= one["max"] for one in ranges) for id_ in self.broken)


@pytest.fixture
def archive(simulator: Simulator) -> Iterator[BrokenRows]:
    found = BrokenRows(simulator.url, sorted(simulator.catalogue.rows("UVIS")["id"].tolist())[:1000])
    thread = Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


async def listed(archive: BrokenRows) -> Any:
    ids = archive.ids
    async with Archive(archive.url, retry=QUICK, limits=Limits(page_rows=700)) as opened:
        return await opened.query(Query("UVIS", columns=["id"], id=(ids[0], ids[-1])))


@pytest.mark.parametrize("is_http", [False, True])
@pytest.mark.parametrize(
    "places",
    [[0], [-1], [500], [0, 1, 2], [10, 700, -3]],
    ids=lambda places: f"{places[:3]}",
)
async def test_all_rows_are_given_but_those_that_the_archive_fails_on(
    archive: BrokenRows, places: list[int], is_http: bool
) -> None:
    """Parts are halved down to the ids on which it fails, while it gives others."""
    archive.is_http = is_http
    archive.broken = {archive.ids[place] for place in places}
    table = await listed(archive)

    assert [id_ for id_ in archive.ids if id_ not in archive.broken] == table["id"].tolist()
    assert len(places) == table.meta["lacking"]
    assert any(f"first that with id {min(archive.broken)}" in note for note in table.meta["notes"])
    assert archive.n_queries < 200 + 80 * len(places)


@pytest.mark.parametrize("n_failures", [1, 3, 8, 30])
async def test_a_service_that_fails_for_a_while_lacks_nothing(archive: BrokenRows, n_failures: int) -> None:
    """While it gives no row that it gave before either, the rows asked for are not at fault."""
    archive.n_failures = n_failures
    table = await listed(archive)

    assert archive.ids == table["id"].tolist()
    assert "lacking" not in table.meta or not table.meta["lacking"]


async def test_a_service_that_gives_no_row_at_all_is_down(archive: BrokenRows) -> None:
    """Its counts alone make no catalogue: what is left is asked for by the next call."""
    archive.broken = archive.ids
    with pytest.raises(ArchiveDown, match="bad page"):
        await listed(archive)


@pytest.mark.campaign
async def test_very_many_rows_in_a_row_end_the_query(archive: BrokenRows) -> None:
    """Twenty ids in a row that are not given are the archive's trouble, not theirs."""
    archive.broken = set(archive.ids[300:400])
    with pytest.raises(ArchiveDown, match="counts sources with ids up to"):
        await listed(archive)
