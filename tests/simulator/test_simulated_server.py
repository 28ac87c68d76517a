"""The simulator starts, records, refuses and stops as a test needs it to."""

import ast
import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import trustme

import psfharvest.simulator
from psfharvest.simulator import Fault, Settings, Simulator

PACKAGE = Path(psfharvest.simulator.__file__).parent


def test_record_of_requests(start, real):
    """Requests are remembered with what they asked, and counted by service."""
    asker = start()
    asker.file(real, headers={"user-agent": "psf-test", "authorization": "token x"})
    asker.bundle([real, real + "x"])
    asker.query("id", [])
    seen = asker.sim.requests

    assert [each.service for each in seen] == ["file", "bundle", "query"]
    assert (real,) == seen[0].uris
    assert (real, real + "x") == seen[1].uris
    assert tuple(seen[0].header(name) for name in ("User-Agent", "Authorization", "Range")) == (
        "psf-test",
        "token x",
        None,
    )
    assert "%5B1%5D" in seen[0].path
    assert [asker.sim.count(name) for name in ("fitscut", "file", "bundle", "query", "any")] == [0, 1, 1, 1, 3]
    assert len(seen[1].body) > 100
    assert asker.sim.record.bytes_out > 20_160


def test_forget(start, real):
    """Forgetting clears record, counters and peaks."""
    asker = start()
    asker.file(real)
    asker.sim.forget()

    assert (asker.sim.requests, asker.sim.count("file"), asker.sim.record.bytes_out) == ([], 0, 0)


def test_record_is_bounded_and_counters_are_not(start, real):
    """Old requests are forgotten, but still counted."""
    asker = start(record_size=3)
    for _ in range(5):
        asker.file(real)

    assert (len(asker.sim.requests), asker.sim.count("file")) == (3, 5)


def test_peaks(start, real):
    """Peaks tell how many requests and connections there were at once."""
    asker = start(latency_s=0.2)

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=asker.sim.url, limits=httpx.Limits(max_connections=5)) as http:
            await asyncio.gather(*(http.get("/api/v0.1/Download/file", params={"uri": real}) for _ in range(10)))

    asyncio.run(ask())

    assert (asker.sim.peak_in_flight, asker.sim.peak_connections) == (5, 5)
    assert asker.sim.count("file") == 10


def test_refuse_and_accept(start, real):
    """Refused means refused, with open connections gone; afterwards the same port answers again."""
    asker = start()
    url = asker.sim.url
    asker.file(real)
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as idle:
        asker.sim.refuse()
        idle.settimeout(5)

        assert _last_bytes(idle) == b""
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    asker.sim.accept()
    asker.sim.accept()

    assert url == asker.sim.url
    assert asker.file(real).status_code == 200


def _last_bytes(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


def test_stops_at_once_with_open_requests(real):
    """Leaving the block ends stalled and delayed requests, and the thread."""
    before = threading.active_count()
    with (
        Simulator(Settings(sources=0, latency_s=60), [Fault("stall", nth=1)]) as sim,
        socket.create_connection(("127.0.0.1", int(sim.url.rsplit(":", 1)[1]))) as one,
    ):
        one.sendall(b"GET /api/v0.1/Download/file?uri=x HTTP/1.1\r\nHost: x\r\n\r\n")
        while not sim.count("file"):
            time.sleep(0.01)

    assert before == threading.active_count()
    assert sim.count("file") == 1


def test_tls(tmp_path, real):
    """With a certificate the simulator speaks https, and resets work there too."""
    authority = trustme.CA()
    cert = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    key.write_bytes(cert.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    import ssl

    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with (
        Simulator(Settings(sources=0), [Fault("reset", nth=2)], tls=(str(chain), str(key))) as sim,
        httpx.Client(verify=context, base_url=sim.url) as http,
    ):
        assert sim.url.startswith("https://")
        assert sim.render(real) == http.get("/api/v0.1/Download/file", params={"uri": real}).content
        with pytest.raises(httpx.TransportError):
            http.get("/api/v0.1/Download/file", params={"uri": real})


def test_taken_port_is_told():
    """A port that is taken raises OSError in the thread that asked for it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address"), Simulator(Settings(sources=0), port=taken.getsockname()[1]):
            pass


def test_other_paths_and_methods(plain):
    """What the archive does not have is 404, and what it does not do is 405."""
    assert plain.http.get("/api/v0/nothing").status_code == 404
    assert plain.http.delete("/api/v0/invoke").status_code == 405
    assert plain.http.get("/api/v0.1/Download/file").status_code == 400


def test_latency_is_spread_by_jitter(start, real):
    """With jitter and latency every answer is still whole."""
    asker = start(latency_s=0.01, latency_jitter=0.5, bundle_latency_s_per_cutout=0.001)

    assert asker.sim.render(real) == asker.file(real).content
    assert asker.bundle([real] * 3).status_code == 200


def test_settings_refuse_nonsense():
    """Settings that cannot be are refused with what can."""
    for wrong in ({"sources": -1}, {"bundle_level": 10}, {"latency_s": -1.0}):
        with pytest.raises(ValueError, match="must"):
            Settings(**wrong)


SERVE = """
import sys
from psfharvest.simulator import Settings, serve
serve(Settings(sources=50), announce=lambda url: print(url, flush=True))
print("left in order", flush=True)
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_interrupted(number):
    """serve announces its URL, serves, and returns when interrupted."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parents[1])},
    ) as process:
        url = process.stdout.readline().strip()
        answer = httpx.get(f"{url}/api/v0.1/Download/file")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=20)

    assert answer.status_code == 400
    assert (rest, process.returncode) == ("left in order\n", 0)


def test_importing_is_light():
    """Importing the simulator imports no server."""
    heavy = {"uvicorn", "uvloop", "astropy", "httpx"}
    code = f"import sys, psfharvest.simulator; print(sorted({heavy} & set(sys.modules)))"
    env = os.environ | {"PYTHONPATH": str(PACKAGE.parents[1])}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_shares_no_code_with_its_clients(path):
    """No module imports anything else of psfharvest, and only one imports uvicorn."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for name in names:
            assert not name.startswith("psfharvest") or name.startswith("psfharvest.simulator")
            assert not name.startswith("uvicorn") or path.stem == "wire"


def test_public_names():
    """All public names are there, once each."""
    names = psfharvest.simulator.__all__

    assert len(set(names)) == len(names)
    assert all(hasattr(psfharvest.simulator, name) for name in names)
