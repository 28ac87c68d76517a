"""`psfharvest doctor`: its verdicts, its manners, what it writes, and what later runs make of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from wire_server import WireServer, reply

from psfharvest import Archive, Query
from psfharvest.archive.endpoints import endpoints_for
from psfharvest.core.catalog.detectors import DETECTORS
from psfharvest.core.catalog.learnt import Ends, Learnt
from psfharvest.core.errors import ArchiveDown
from psfharvest.doctor.examination import examine
from psfharvest.doctor.requester import CONNECT_TIMEOUT_S
from psfharvest.doctor.table import TABLE
from psfharvest.run import learnt_cache
from psfharvest.simulator import Fault, Settings, Simulator

CANARY = "canary-0123456789"
ALL = tuple(DETECTORS.values())
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")
FAST = ("--max-per-second", "100")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a user of their own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def test_the_plain_simulator_is_as_expected(cache: Path, psfharvest, simulator: Simulator, tmp_path: Path) -> None:
    """All 25 checks are green, a line each; the file holds what each asked and was answered."""
    run = psfharvest("doctor", "--archive", simulator.url, "-o", "doctor.json", *FAST)

    assert run.status == 0, run.out
    lines = run.out.splitlines()
    assert len(lines) == len(TABLE) + 1 == 26
    assert all("as expected:" in line for line in lines[:-1])
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert set(found) == {"archive", "version", "checks", "learnt"}
    assert [check["name"] for check in found["checks"]] == [entry.name for entry in TABLE]
    needed = {"name", "asked", "status", "headers", "body", "verdict", "words"}
    assert all(
        needed <= set(check) and check["asked"].startswith(("GET http", "POST http")) for check in found["checks"]
    )
    assert all(len(check["body"]) <= 4096 and check["status"] == 200 for check in found["checks"][:5])
    assert found["learnt"]["ends_inclusive"] == [True, True]
    assert found["learnt"]["bundles"] is True


def test_json_is_the_last_line(cache: Path, psfharvest, simulator: Simulator) -> None:
    """With --json the lines for people go to standard error; with detectors only their checks are made."""
    run = psfharvest("doctor", "ir", "--quick", "--json", "--archive", simulator.url, *FAST)

    assert run.status == 0, run.err[-2000:]
    assert len(run.out.splitlines()) == 1
    names = [check["name"] for check in run.account["checks"]]
    assert "columns IR" in names
    assert not {"columns UVIS", "columns WFPC2", "raw", "large page"} & set(names)
    assert "count" in run.err


async def test_manners(simulator: Simulator) -> None:
    """Requests start at the pace that was set, over two connections at most, and none is for more than it needs."""
    began_at = time.monotonic()
    diagnosis = await examine(endpoints_for(simulator.url, ""), ALL, is_quick=True, per_second=10)

    n = len(simulator.requests)
    assert diagnosis.exit_status == 0
    assert n <= 18  # at one a second that is less than the 20 s of a quick visit
    assert time.monotonic() - began_at >= (n - 1) / 10
    assert simulator.peak_connections <= 2


def test_out_of_reach(cache: Path, psfharvest) -> None:
    """Nobody listens: status 75, within seconds, and nothing is kept."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    began_at = time.monotonic()
    run = psfharvest("doctor", "--archive", url)

    assert run.status == 75
    assert "out of reach" in run.err
    assert time.monotonic() - began_at < 30
    assert not cache.exists()


async def test_an_outage_is_no_verdict(simulator: Simulator) -> None:
    """An archive that answers everything with 503 is down; one that answers queries is not."""
    simulator.faults = [Fault("status", service="any", code=503)]
    with pytest.raises(ArchiveDown, match="503"):
        await examine(endpoints_for(simulator.url, ""), ALL, per_second=100)

    simulator.faults = [Fault("status", service="file", code=503)]
    diagnosis = await examine(endpoints_for(simulator.url, ""), ALL, per_second=100, is_quick=True)
    verdicts = {check.name: check.finding.verdict for check in diagnosis.checks}
    assert verdicts["flt"] == "differs: please report"
    assert verdicts["count"] == "as expected"
    assert diagnosis.exit_status == 3


@pytest.mark.sample(1)
@pytest.mark.parametrize("place", ["body", "header", "status"])
def test_no_token_in_the_file(cache: Path, psfharvest, tmp_path: Path, place: str) -> None:
    """An archive that gives the token back, wherever, does not bring it into the file, the output or the cache."""
    words = f"you sent token {CANARY}"
    answer = {
        "body": reply(words.encode()),
        "header": reply(b"x", "200 OK", f"X-Echo: {words}", f"Set-Cookie: mast_token={CANARY}"),
        "status": reply(words.encode(), "404 Not Found"),
    }[place]
    paths = (
        "/api/v0/invoke",
        "/api/v0.1/Download/file",
        "/api/v0.1/Download/bundle.tar.gz",
        "/cgi-bin/hla/fitscut.cgi",
    )
    with WireServer(dict.fromkeys(paths, (answer,))) as server:
        run = psfharvest(
            "doctor", "-o", "doctor.json", "--archive", server.url(""), *FAST, env={"MAST_API_TOKEN": CANARY}
        )
        assert any(CANARY in seen.headers.get("authorization", "") for seen in server.seen)

    written = "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    assert CANARY not in written + run.out + run.err


def test_what_is_learnt_is_used_shown_and_forgotten(cache: Path, psfharvest, simulator: Simulator) -> None:
    """A cap on rows that doctor met shapes the next harvest's queries; status shows it; --forget drops it."""
    where = ("--archive", simulator.url)
    simulator.faults = [Fault("short_answer", rows=120)]
    run = psfharvest("doctor", "UVIS", *where, *FAST)
    assert run.status == 3
    assert "large page         differs: adapted" in run.out
    assert learnt_cache.read(simulator.url).page_rows == 120

    simulator.faults = []
    simulator.forget()
    run = psfharvest("harvest", "stars", "UVIS", "--limit", "5", "--suffix", "flt", *where, "--json")
    assert run.status == 0, run.err
    asked = [json.loads(seen.uris[0]) for seen in simulator.requests if seen.service == "query"]
    sizes = [question["pagesize"] for question in asked if "pagesize" in question]
    assert sizes
    assert max(sizes) <= 120
    assert psfharvest("status", "stars", "--json").account["learnt"]["page_rows"] == 120

    assert psfharvest("doctor", "--forget", *where).status == 0
    assert psfharvest("status", "stars", "--json").account["learnt"] == {}
    assert learnt_cache.read(simulator.url) == Learnt()


def test_a_spoilt_cache_is_none(cache: Path) -> None:
    """What is no file of ours, or of another form, is as if nothing had been learnt."""
    url = "http://127.0.0.1:1/base"
    learnt_cache.write(url, Learnt(page_rows=7, ends=Ends(low=False)))
    assert learnt_cache.read(url) == Learnt(page_rows=7, ends=Ends(low=False))
    assert learnt_cache.read("http://127.0.0.1:1/other") == Learnt()
    for content in (
        "",
        "[]",
        '{"form": 2}',
        '{"form": 1, "learnt": 3}',
        '{"form": 1, "learnt": {"page_rows": -1}}',
    ):
        learnt_cache.cache_file(url).write_text(content)
        assert learnt_cache.read(url) == Learnt()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A forward proxy on loopback."""
    with Proxy() as running:
        yield running


class Proxy:
    """A forward proxy for plain HTTP, one request a connection, which keeps the targets that it was asked for."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as asked:
            method, target, _ = asked.readline().decode().split()
            self.targets.append(target)
            headers = dict(line.decode().strip().split(": ", 1) for line in iter(asked.readline, b"\r\n"))
            fields = {name.lower(): value for name, value in headers.items()}
            body = asked.read(int(fields.get("content-length", 0)))
            url = urlsplit(target)
            onward = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=30)
            kept = {name: value for name, value in headers.items() if not name.lower().startswith("proxy-")}
            onward.request(method, f"{url.path}?{url.query}" if url.query else url.path, body or None, kept)
            answer = onward.getresponse()
            content = answer.read()
            head = "".join(
                f"{name}: {value}\r\n" for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP
            )
            length = f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
            connection.sendall(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}{length}".encode() + content)
            onward.close()


def test_through_a_proxy(cache: Path, psfharvest, simulator: Simulator, tmp_path: Path, proxy: Proxy) -> None:
    """All requests go through the proxy of the usual variables, for a name that only the proxy could know."""
    env = {"http_proxy": proxy.url, "HTTP_PROXY": proxy.url, "no_proxy": "", "NO_PROXY": ""}
    run = psfharvest("doctor", "--archive", simulator.url, "-o", "doctor.json", *FAST, env=env)

    assert run.status == 0, run.out + run.err
    assert len(proxy.targets) == len(simulator.requests) > 20
    assert all(target.startswith(simulator.url) for target in proxy.targets)


@pytest.mark.sample(1)
@pytest.mark.parametrize("where", ["nowhere.invalid", "127.0.0.1"])
@pytest.mark.parametrize("words", [(), ("--quick",)])
def test_without_a_network(cache: Path, psfharvest, where: str, words: tuple[str, ...]) -> None:
    """No name, or no listener: 75 and one sentence after one request that needs no more than five seconds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began_at = time.monotonic()
    run = psfharvest("doctor", "--archive", f"http://{where}:{port}", *words)

    assert run.status == 75
    assert run.err.startswith(f"psfharvest: http://{where}:{port} is out of reach")
    assert not run.out
    assert time.monotonic() - began_at < 30
    assert CONNECT_TIMEOUT_S < 5


@pytest.mark.campaign
async def test_a_host_that_does_not_answer_at_all(simulator: Simulator) -> None:
    """A network that swallows packets is given up after the first connection's deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:  # what the backlog does not hold is never answered
            one.setblocking(False)
            one.connect_ex(address)
        with anyio.fail_after(30), pytest.raises(ArchiveDown, match="out of reach"):
            await examine(endpoints_for(f"http://127.0.0.1:{address[1]}", ""), ALL)
        for one in waiting:
            one.close()


def test_forget_without_anything(cache: Path, psfharvest, simulator: Simulator) -> None:
    """There is nothing to drop, nothing is asked, and that is no error."""
    run = psfharvest("doctor", "--forget", "--archive", simulator.url)

    assert (run.status, "nothing was learnt" in run.err) == (0, True)
    assert not simulator.count()


async def test_the_archives_own_names_are_learnt_and_used(cache: Path, tmp_path: Path) -> None:
    """After doctor even a small harvest accepts the archive's own way to write names."""
    query = Query("UVIS", psf_x_center=(100, 110))
    with Simulator(Settings(sources=6000, seed=1, oddities=("name_last_letter",))) as odd:
        diagnosis = await examine(endpoints_for(odd.url, ""), ALL, is_quick=True, per_second=1000)
        assert diagnosis.learnt.quirks == ["name_last_letter"]
        learnt_cache.write(odd.url, diagnosis.learnt)
        async with Archive(odd.url) as archive:
            report = await archive.harvest(query, tmp_path / "h", suffixes=["flt"])
    assert 0 < report.total < 20
    assert report.quirks == {"name_last_letter": report.total}
