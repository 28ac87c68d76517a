"""An archive that wants our memory, our time, or our secret: bundles and pages made for it, over a real socket."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from wire_server import CLOSE, Forever, Step, WireServer, reply

from hostile.seeds import cutout_uri, render
from hostile.test_bundles import BUNDLE, FILE, MIB, PLAIN, endless_gzip, member
from psfharvest import Archive, RetryPolicy
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.wires.base import BrokenStream, Request
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.errors import PsfharvestError
from psfharvest.core.fits import datauri

TOKEN = "0123456789abcdefTOKEN"
URIS = [cutout_uri(k) for k in range(40)]
MAX_PEAK_MIB = 450
LIMITED = """
import resource, sys
from hostile.memory import peak_mib
from psfharvest.cli import main

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
try:
    main()
finally:
    print(peak_mib(), file=sys.stderr)
"""


def bloated() -> bytes:
    """Forty cutouts, each whole and of the asked shape, with sixty mebibytes of an extension behind it."""
    extension = ["XTENSION= 'IMAGE   '", "BITPIX  =                    8", "NAXIS   =                    1",
                 f"NAXIS1  = {60 * 2**20:>20}", "PCOUNT  = 0", "GCOUNT  = 1", "END"]  # fmt: skip
    head = "".join(f"{card:80}" for card in extension).ljust(2880).encode()
    body = render() + head + MIB * 60 + bytes(-(60 * 2**20) % 2880)
    content = gzip.compress(body + bytes(-len(body) % 512), 1)
    packed = b""
    for uri in URIS:
        info = tarfile.TarInfo(f"any/{datauri.file_name(uri)}")
        info.size = len(body)
        packed += gzip.compress(info.tobuf(tarfile.GNU_FORMAT), 1) + content
    return packed + gzip.compress(bytes(1024))


def page(rows: bytes) -> bytes:
    """A bundle that holds the archive's own page only."""
    return gzip.compress(member("any/MANIFEST.HTML", rows) + bytes(1024), 1)


QUERY = "/api/v0/invoke"
COUNT = b'{"status": "COMPLETE", "data": [{"Column1": 5}], "fields": [{"name": "Column1", "type": "string"}]}'
"""What the control request is answered with: the archive lives, so that bad answers are their cutouts' own."""

GREEDY: dict[str, Callable[[], tuple[Step, ...]]] = {
    "cutouts with much behind them": lambda: (reply(bloated()),),
    "members without end": lambda: endless_gzip(member("x"), member("x") * 2000),
    "gzip members that hold nothing": lambda: (PLAIN, Forever(gzip.compress(b"") * 3000)),
    "a page for a pattern": lambda: (reply(page(b"<tr><td>" * 131_000)),),
    "a page of half rows": lambda: (reply(page(b"<tr><td>a</td><td>" * 50_000)),),
    "a switch of protocols": lambda: (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", CLOSE),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", list(GREEDY))
def test_greedy_bundles(tmp_path: Path, name: str) -> None:
    """With the limits as they are, the run ends in its minute of processor time, small, with a whole account."""
    (tmp_path / "list").write_text("\n".join(URIS))
    answers = {BUNDLE: GREEDY[name](), FILE: (reply(b"", "404 Not Found"),), QUERY: (reply(COUNT),)}
    with WireServer(answers) as server:
        words = ["harvest", "home", "--uris", "list", "--archive", server.url(""), "--json", "--quiet"]
        words += ["--via", "bundle", "--max-connections", "2", "--attempts", "3"]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert 3 == done.returncode, done.stderr
    account = json.loads(done.stdout.splitlines()[-1])
    assert (40, 0) == (account["missing"] + account["failed"], account["pending"])
    assert int(done.stderr.split()[-1]) < MAX_PEAK_MIB


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
def test_a_proxy_does_not_get_what_is_meant_for_this_machine(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive on loopback is asked directly: a proxy would read the token in plain text."""
    with WireServer() as archive, WireServer() as proxy:
        for name in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        archive.script["/ok"] = (reply(b"direct"),)
        endpoints = Endpoints(archive.url(""), TOKEN)

        async def run() -> bytes:
            wire = make(is_private=True)
            try:
                return (await wire.exchange(Request(archive.url("/ok"), credentials=endpoints.credentials()))).body
            finally:
                await wire.aclose()

        assert b"direct" == anyio.run(run)

    assert [] == proxy.seen


@pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpcore)")
@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
def test_a_switch_of_protocols_is_no_answer(make: Callable[[], Any]) -> None:
    """A stream that begins with 101 is broken, in our own words."""

    async def run(url: str) -> None:
        wire = make()
        try:
            with pytest.raises(BrokenStream):
                async with wire.stream(Request(url)) as stream:
                    assert 200 == stream.status
        finally:
            await wire.aclose()

    with WireServer({"/": (*GREEDY["a switch of protocols"](), CLOSE)}) as server:
        anyio.run(run, server.url("/"))


ECHO = f"You sent: Authorization: token {TOKEN}".encode()


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "500 Server Error", "404 Not Found"])
@pytest.mark.parametrize("make", [lambda: None, httpx.AsyncClient], ids=["curl", "httpx"])
def test_an_archive_that_repeats_the_token_is_not_quoted(
    tmp_path: Path, make: Callable[[], Any], status: str
) -> None:
    """An error page that shows the request's own headers is told of without the token, in errors and in files."""
    pages = dict.fromkeys((FILE, BUNDLE, "/api/v0/invoke"), (reply(ECHO, status),))
    retry = RetryPolicy(attempts=2, first_delay_s=0.01, patience_s=0.1)

    async def run(url: str) -> str:
        client = make()
        async with Archive(url, client=client, token=TOKEN, retry=retry) as archive:
            for via in ("file", "bundle"):
                await archive.harvest([cutout_uri()], tmp_path / via, via=via)
            try:
                await archive.fetch(cutout_uri())
            except PsfharvestError as error:
                told = str(error)
        if client is not None:
            await client.aclose()
        return told

    with WireServer(pages) as server:
        told = anyio.run(run, server.url(""))

    assert "You sent: Authorization: token ..." in told
    assert [] == [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
