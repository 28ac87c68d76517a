"""Sockets at rest between two requests stay registered; neither a reused number nor a hang-up misleads."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import trustme
from http2_server import Http2Server
from wire_server import CLOSE, WireServer, reply

from psfharvest.archive.wires.base import Request
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.curl.poll import IN, OUT, EpollPoller, Poller, SelectorPoller

BODY = bytes(range(256)) * 68
SCRIPT = {"/ok": (reply(BODY),), "/once": (reply(BODY, "200 OK", "Connection: close"), CLOSE)}
PATIENCE_S = 60.0


@pytest.fixture(params=[EpollPoller, SelectorPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    """Each poller in turn."""
    found: Poller = request.param()
    yield found
    found.close()


@contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open two ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@contextmanager
def forked() -> Iterator[None]:
    """Let a child process hold a copy of every descriptor meanwhile."""
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wait, 1)
        os._exit(0)
    try:
        os.close(wait)
        yield
    finally:
        os.close(go)
        os.waitpid(child, 0)


def n_descriptors() -> int:
    """Count the open descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class TestPoller:
    """What both pollers do."""

    def test_a_socket_at_rest_is_watched_again(self, poller: Poller) -> None:
        """What came while it rested is reported as soon as it is watched."""
        with sockets() as (ours, theirs):
            poller.watch(ours.fileno(), IN)
            assert poller.rest(ours.fileno())
            assert not poller.rest(ours.fileno())
            theirs.send(b"x")
            assert list(poller.poll(0)) == []
            assert list(poller.poll(0)) == []
            poller.watch(ours.fileno(), IN)
            assert list(poller.poll(0)) == [(ours.fileno(), IN)]

    @pytest.mark.parametrize("what", [IN, OUT, IN | OUT])
    def test_a_reused_number_is_another_socket(self, poller: Poller, what: int) -> None:
        """A number that was closed at rest and given to a resolver's pair is watched like any new one."""
        with sockets() as (old, _other), sockets() as (new, theirs):
            number = old.fileno()
            poller.watch(number, IN)
            poller.rest(number)
            os.dup2(new.fileno(), number)  # closes the old one without a word, as libcurl does
            assert not poller.watch(number, what)
            theirs.send(b"x")
            assert list(poller.poll(1.0)) == [(number, what)]

    def test_a_change_of_interest_counts(self, poller: Poller) -> None:
        """What is watched for reading no longer reports that it can be written to."""
        with sockets() as (ours, _theirs):
            poller.watch(ours.fileno(), IN | OUT)
            assert list(poller.poll(0)) == [(ours.fileno(), OUT)]
            poller.watch(ours.fileno(), IN)
            assert list(poller.poll(0)) == []
            poller.watch(ours.fileno(), OUT)
            poller.rest(ours.fileno())
            assert list(poller.poll(0)) == []

    def test_a_socket_that_a_child_holds_is_silenced(self, poller: Poller) -> None:
        """One closed at rest that lives on in another process keeps nobody awake; the others are watched."""
        with sockets() as (rested, other_end), sockets() as (watched, theirs):
            poller.watch(rested.fileno(), IN)
            poller.watch(watched.fileno(), IN)
            poller.rest(rested.fileno())
            with forked():
                rested.close()
                other_end.send(b"x")
                list(poller.poll(0))
                used_s = time.thread_time()
                list(poller.poll(0.3))
                list(poller.poll(0.3))
                assert time.thread_time() - used_s < 0.1
                theirs.send(b"x")
                assert list(poller.poll(1.0)) == [(watched.fileno(), IN)]


def test_epoll_knows_a_socket_again() -> None:
    """A socket that rested is known by its number; one that spoke meanwhile, or is another, is not."""
    poller = EpollPoller()
    with sockets() as (ours, theirs):
        number = ours.fileno()
        assert not poller.watch(number, IN)
        poller.rest(number)
        assert poller.watch(number, IN)
        poller.rest(number)
        theirs.send(b"x")
        poller.poll(0)
        assert not poller.watch(number, IN)
    poller.close()


async def test_a_child_that_holds_a_connection_keeps_nobody_awake() -> None:
    """After a fork, connections that libcurl closes here live on; what their server says wakes nobody for long."""
    with WireServer(dict(SCRIPT)) as first, WireServer(dict(SCRIPT)) as second:
        wire = CurlWire(connections=1)
        try:
            assert (await wire.exchange(Request(first.url("/ok")))).body == BODY
            with forked():
                assert (await wire.exchange(Request(second.url("/ok")))).body == BODY  # closes the kept connection
                for connection in tuple(first._sockets):
                    connection.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
                await anyio.sleep(0.2)
                before_s = time.process_time()
                await anyio.sleep(1)
                assert time.process_time() - before_s < 0.2
                assert (await wire.exchange(Request(first.url("/ok")))).body == BODY
        finally:
            await wire.aclose()


async def test_an_http2_connection_that_speaks_while_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PING wakes nobody twice, is answered with the next request, and that goes over the same connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Http2Server(BODY[:16_384], context) as server:
        wire = CurlWire(connections=4)
        try:
            for n in range(1, 6):
                with anyio.fail_after(PATIENCE_S):
                    answer = await wire.exchange(Request(server.url))
                assert (answer.status, answer.body, answer.failure) == (200, BODY[:16_384], None)
                assert server.n_requests == n
                server.speak()
                await anyio.sleep(0.05)
            before_s = time.process_time()
            await anyio.sleep(0.5)
            assert time.process_time() - before_s < 0.1
        finally:
            await wire.aclose()
        assert server.accepted == 1
        assert server.n_pongs >= 4


@pytest.mark.sample(1)
@pytest.mark.parametrize("n", [1000, pytest.param(10_000, marks=pytest.mark.campaign)])
async def test_many_connects(n: int) -> None:
    """Connections that end after each answer, names that resolve to nothing and kept ones leave no descriptor."""
    with WireServer(dict(SCRIPT)) as once, WireServer(dict(SCRIPT)) as kept:
        wire = CurlWire(connections=8)
        good = bad = 0
        before = n_descriptors()
        try:
            async with anyio.create_task_group() as group:

                async def work(first: int) -> None:
                    nonlocal good, bad
                    for number in range(first, n, 8):
                        url = kept.url("/ok") if number % 3 == 0 else once.url("/once")
                        if number % 200 == 7:
                            url = f"http://n{number}.invalid/"
                        with anyio.fail_after(PATIENCE_S):
                            answer = await wire.exchange(Request(url))
                        good += answer.body == BODY
                        bad += answer.failure is not None

                for first in range(8):
                    group.start_soon(work, first)
        finally:
            await wire.aclose()
        assert (good, bad) == (n - n // 200, n // 200)
        assert once.accepted >= n // 2
    assert n_descriptors() <= before + 2
