"""``psfharvest serve`` as a program: its first line, who may read, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serving import N_STARS, served, served_at

from psfharvest.serve.notebook import show


def test_the_first_line_is_the_address(stars: Path) -> None:
    """The address is printed once the server listens, and answers on loopback without more."""
    with served(stars) as (url, process), httpx.Client(base_url=url) as client:
        page, now = client.get("/"), client.get("/api/now")

        assert urlsplit(url).hostname == "127.0.0.1"
        assert ("text/html; charset=utf-8", N_STARS) == (page.headers["content-type"], now.json()["total"])
        assert "server" not in page.headers
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost", 200), ("LOCALHOST", 200), ("[::1]", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost@evil.example", 421), ("", 421),
        ("127.0.0.1:x", 421), ("192.0.2.1", 421), ("a b", 421),
    ],
)  # fmt: skip
def test_it_answers_to_its_own_names_only(server: str, host: str, status: int) -> None:
    """A page of another site whose name was made to mean this address gets nothing."""
    port = "" if host.endswith("x") or not host else f":{urlsplit(server).port}"

    answer = httpx.get(f"{server}api/now", headers={"host": f"{host}{port}"})

    assert status == answer.status_code, answer.text


@pytest.fixture(scope="module")
def server(stars: Path):
    with served_at(stars) as url:
        yield url


def test_without_a_host_header(server: str) -> None:
    """HTTP/1.0 without a Host header is no browser of ours."""
    with socket.create_connection(("127.0.0.1", urlsplit(server).port), timeout=30) as raw:
        raw.sendall(b"GET /api/now HTTP/1.0\r\n\r\n")
        assert b" 421 " in raw.recv(100)


def test_other_machines_need_the_token(stars: Path) -> None:
    """Beyond loopback the address has a token; it becomes a cookie that no script reads and no other site sends."""
    with served_at(stars, "--host", "0.0.0.0") as url:
        address = urlsplit(url)
        base = f"http://127.0.0.1:{address.port}"
        with httpx.Client(base_url=base) as client:
            without = [client.get(route).status_code for route in ("/", "/api/now", "/api/fits/1", "/metrics")]
            wrong = client.get("/?token=wrong-token").status_code
            elsewhere = client.get(f"/api/now?{address.query}").status_code
            welcome = client.get(f"/?{address.query}")
            cookie = welcome.headers["set-cookie"]
            inside = client.get("/api/now").status_code
        token = address.query.partition("=")[2]
        bearer = httpx.get(f"{base}/api/now", headers={"authorization": f"Bearer {token}"}).status_code
        named = httpx.get(f"{base}/", headers={"host": "evil.example"}).status_code

    assert address.query.startswith("token=")
    assert len(token) >= 24
    assert ([401] * 4, 401, 401) == (without, wrong, elsewhere)
    assert (303, "./") == (welcome.status_code, welcome.headers["location"])
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert (200, 200, 421) == (inside, bearer, named)


def test_a_token_of_ones_own(stars: Path) -> None:
    """A token may be given, on loopback too; one that is easily guessed is refused."""
    with served_at(stars, "--token", "correct-horse") as url:
        assert url.endswith("/?token=correct-horse")
        assert httpx.get(url.partition("?")[0]).status_code == 401


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "is no harvest folder"),
        ([], "Missing argument"),
        (["STARS", "--token", "short"], "fewer than 8 characters"),
        (["STARS", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["STARS", "--port", "TAKEN"], "choose another --host or --port"),
    ],
)
def test_refusals(psfharvest, stars: Path, words: list[str], expected: str) -> None:
    """What cannot be done is said on standard error; nothing is printed as an address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        replaced = {"STARS": str(stars), "TAKEN": str(taken.getsockname()[1])}
        done = psfharvest("serve", *(replaced.get(word, word) for word in words))

    assert expected in done.err
    assert "" == done.out
    assert done.status == (74 if "listen" in expected or "choose another" in expected else 2)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_with_streams_and_idle_connections_open(stars: Path, signum: int) -> None:
    """Event streams, kept connections and half requests do not hold up the end."""
    with served(stars) as (url, process), contextlib.ExitStack() as open_:
        port = urlsplit(url).port
        for _ in range(8):
            streamed = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            streamed.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in streamed.recv(200)
            idle = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in idle.recv(200)
            half = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            half.sendall(b"GET /api/rows HTTP/1.1\r\nHo")
        process.send_signal(signum)
        started_at = time.monotonic()
        status = process.wait(timeout=30)
        took_s = time.monotonic() - started_at

    assert 0 == status
    assert took_s < 10  # a hang, not a slow machine


def test_answers_leave_at_once(stars: Path) -> None:
    """The end of an answer does not wait for the client to acknowledge its start: on loopback that takes 40 ms."""
    page = show(stars, 500, environment={})
    try:
        with httpx.Client(base_url=page.url) as client:
            client.get("/healthz")
            of_server = list(accepted(urlsplit(page.url).port))
    finally:
        page.close()

    assert [1] == of_server


def accepted(port: int) -> Iterator[int]:
    """Yield TCP_NODELAY of each connection of this process to one of its own ports."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as found:
            is_tcp = found.family in (socket.AF_INET, socket.AF_INET6)
            if is_tcp and found.getsockname()[1] == port and found.getpeername():
                yield found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_events_tell_of_a_change(stars: Path, tmp_path: Path, psfharvest, simulator) -> None:
    """The stream for programs gives the account at once, and again when it has changed."""
    words = ["harvest", tmp_path / "d", "UVIS", "--suffix", "flt", "--archive", simulator.url, "--quiet"]
    assert psfharvest(*words, "--limit", "5").status == 0
    with served_at(tmp_path / "d") as url, httpx.stream("GET", f"{url}api/events", timeout=60) as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        more = threading.Thread(target=lambda: psfharvest(*words, "--limit", "9", "--extend"))
        more.start()
        last = next(line for line in lines if '"done": 9' in line)
        more.join()

    assert '"done": 5' in first
    assert '"total": 9' in last


def test_events_outlive_a_folder_that_goes_away(stars: Path, tmp_path: Path) -> None:
    """The stream says so, and goes on when it is back."""
    shutil.copytree(stars, tmp_path / "d")
    with served_at(tmp_path / "d") as url, httpx.stream("GET", f"{url}api/events", timeout=60) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith(("event: ", "data: ")))
        first = next(lines), next(lines)
        (tmp_path / "d" / "manifest.sqlite").rename(tmp_path / "away")
        gone = next(lines), next(lines)
        (tmp_path / "away").rename(tmp_path / "d" / "manifest.sqlite")
        back = next(lines), next(lines)

    assert ("event: trouble", True) == (gone[0], "has no manifest.sqlite" in gone[1])
    assert "event: now" == first[0]
    assert first == back


def test_an_export_that_breaks_off_is_seen_to(psfharvest, tmp_path: Path) -> None:
    """Its client gets an error, the log one line."""
    listed = tmp_path / "uris.txt"
    listed.write_text("".join(f"mast:WFC3PSF/a/{'b' * 300}/{n}.fits\n" for n in range(40_000)))
    words = (
        "harvest",
        tmp_path / "d",
        "--uris",
        listed,
        "--archive",
        "http://127.0.0.1:1",
        "--patience",
        "0",
        "--quiet",
    )
    assert 75 == psfharvest(*words).status
    with served(tmp_path / "d") as (url, process), httpx.stream("GET", f"{url}api/export") as stream:
        parts = stream.iter_raw()
        next(parts)
        process.send_signal(signal.SIGINT)
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
        assert 0 == process.wait(timeout=30)
        assert process.stderr is not None
        said = process.stderr.read()

    assert "/api/export breaks off: the service is ending" in said
    assert "Traceback" not in said


@pytest.mark.sample(1)
@pytest.mark.parametrize("host", ["::", "0.0.0.0", "localhost", "127.0.0.2"])
def test_what_is_printed_can_be_opened(stars: Path, host: str) -> None:
    """Every address of this machine means those of both protocols."""
    if ":" in host and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    with served_at(stars, "--host", host) as url:
        reached = urlsplit(url)._replace(netloc=f"127.0.0.1:{urlsplit(url).port}").geturl()
        for address in (url, reached) if host in ("::", "0.0.0.0") else (url,):
            assert 200 == httpx.get(address, follow_redirects=True).status_code
