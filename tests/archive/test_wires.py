"""What every wire must do, over real HTTP and TLS, on both event loops; then what libcurl's does beyond that."""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import pytest
import trustme
from wire_server import CLOSE, RESET, Forever, Pause, WireServer, chunked, reply

from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import Answer, BrokenStream, Request, Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.model import Evidence, Failure, Reason

BODY = bytes(range(256)) * 68
BIG = bytes(range(251)) * 40_000
LONG = Pause(60)
HEAD_ONLY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
PATIENCE_S = 20.0

SCRIPT = {
    "/ok": (reply(BODY),),
    "/big": (reply(BIG),),
    "/empty": (reply(b""),),
    "/chunked": (chunked(BODY[:1000], BODY[1000:]),),
    "/until-closed": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY, CLOSE),
    "/missing": (reply(b"no such thing", "404 Not Found"),),
    "/busy": (reply(b"later", "503 Service Unavailable", "Retry-After: 7"),),
    "/gzip": (reply(gzip.compress(BODY), "200 OK", "Content-Encoding: gzip"),),
    "/garbage": (b"\x00\xff this is no HTTP\r\n\r\n", CLOSE),
    "/bad-chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Pause(0.2), CLOSE),
    "/silent-close": (CLOSE,),
    "/reset": (RESET,),
    "/reset-midway": (HEAD_ONLY + b"x" * 100, Pause(0.1), RESET),
    "/short": (HEAD_ONLY + b"x" * 100, CLOSE),
    "/short-chunked": (chunked(b"x" * 100, is_whole=False), CLOSE),
    "/silence": (LONG,),
    "/stall": (HEAD_ONLY + b"x" * 100, LONG),
    "/slow-head": (b"HTTP/1.1 200 OK\r\n", *((b"X-A: b\r\n", Pause(0.1)) * 100)),
    "/slow-body": (HEAD_ONLY, *((b"x", Pause(0.1)) * 100)),
    "/endless": (b"HTTP/1.1 200 OK\r\n\r\n", Forever(bytes(65_536))),
    "/labelled": (reply(BODY, "200 OK", "Content-Encoding: binary"),),
    "/bomb": (reply(gzip.compress(bytes(50_000_000)), "200 OK", "Content-Encoding: gzip"),),
    "/loop": (reply(b"", "302 Found", "Location: /loop"),),
    "/nowhere": (reply(b"", "302 Found"),),
    "/to-ok": (reply(b"gone there", "301 Moved Permanently", "Location: /ok?from=1"),),
    "/form-to-ok": (reply(b"", "303 See Other", "Location: /ok"),),
    "/to-plain": (reply(b"", "302 Found", "Location: http://example.com/"),),
    "/close-after": (reply(BODY), CLOSE),
    "/50ms": (Pause(0.05), reply(BODY)),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate in a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a server on this machine needs to speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A server over plain HTTP."""
    with WireServer(dict(SCRIPT)) as found:
        yield found


@pytest.fixture
def tls_server(tls: ssl.SSLContext) -> Iterator[WireServer]:
    """The same over TLS."""
    with WireServer(dict(SCRIPT), tls) as found:
        yield found


@pytest.fixture(params=["http", "https"])
def any_server(request: pytest.FixtureRequest) -> WireServer:
    """Both in turn."""
    found = request.getfixturevalue("server" if request.param == "http" else "tls_server")
    assert isinstance(found, WireServer)
    return found


@pytest.fixture(autouse=True)
def _trust(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))


async def drive(wire: Wire, requests: Sequence[Request], width: int) -> list[Answer]:
    """Send all through one queue, never more than `width` at once, as the fetcher does."""
    answers: list[Answer] = []
    woken = anyio.Event()
    n_sent = 0
    async with wire.queue(lambda: woken.set()) as queue:  # noqa: PLW0108 - each time another event
        while len(answers) < len(requests):
            woken = anyio.Event()
            answers += queue.take()
            queue.proceed()
            room = width - (n_sent - len(answers))
            queue.submit(requests[n_sent : n_sent + room])
            n_sent = min(len(requests), n_sent + room)
            if len(answers) < len(requests):
                with anyio.fail_after(PATIENCE_S):
                    await woken.wait()
    return answers


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - a server in another thread tells nobody
            await anyio.sleep(0.01)


async def read(wire: Wire, request: Request) -> tuple[int, bytes]:
    """Read a stream to its end."""
    async with wire.stream(request) as stream:
        return stream.status, b"".join([chunk async for chunk in stream.chunks()])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class WireTests:
    """The contract."""

    make: Callable[..., Wire]

    @asynccontextmanager
    async def wire(self, connections: int = 8) -> AsyncIterator[Wire]:
        async with AsyncExitStack() as stack:
            wire = type(self).make(connections=connections)
            stack.push_async_callback(wire.aclose)
            yield wire

    async def ask(self, request: Request) -> Answer:
        async with self.wire() as wire:
            with anyio.fail_after(PATIENCE_S):
                return await wire.exchange(request)

    # Answers.

    @pytest.mark.parametrize(
        ("path", "status", "body"),
        [
            ("/ok", 200, BODY),
            ("/big", 200, BIG),
            ("/empty", 200, b""),
            ("/chunked", 200, BODY),
            ("/until-closed", 200, BODY),
            ("/missing", 404, b"no such thing"),
            ("/gzip", 200, BODY),
            ("/labelled", 200, BODY),
        ],
    )
    async def test_gives_the_whole_answer(
        self, any_server: WireServer, path: str, status: int, body: bytes
    ) -> None:
        """Status and body come as they were sent, asked for singly, in a queue, or as a stream."""
        request = Request(any_server.url(path), tag=object())
        async with self.wire() as wire:
            answer = await wire.exchange(request)
            (in_queue,) = await drive(wire, [request], 1)
            streamed = await read(wire, request)

        assert (answer.status, answer.body, answer.failure) == (status, body, None)
        assert answer.request is request
        assert answer.elapsed_s > 0
        assert (in_queue.status, in_queue.body, in_queue.failure) == (status, body, None)
        assert in_queue.request is request
        assert streamed == (status, body)

    async def test_gives_retry_after_in_seconds(self, server: WireServer) -> None:
        """The number of seconds to wait comes with the answer."""
        async with self.wire() as wire:
            answer = await wire.exchange(Request(server.url("/busy")))
            async with wire.stream(Request(server.url("/busy"))) as stream:
                streamed = stream.retry_after

        assert (answer.status, answer.body, answer.retry_after) == (503, b"later", "7")
        assert streamed == "7"

    async def test_gives_retry_after_as_a_date(self, server: WireServer) -> None:
        """A date to wait for means the same as its distance in seconds."""
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
        server.script["/busy"] = (reply(b"later", "503 Service Unavailable", f"Retry-After: {date}"),)

        failure = failure_of(await self.ask(Request(server.url("/busy"))))

        assert failure is not None
        assert failure.retry_after_s == pytest.approx(300, abs=30)

    async def test_leaves_percent_encoding_alone(self, server: WireServer) -> None:
        """What is quoted arrives as it was quoted, neither undone nor done twice."""
        target = "/ok?uri=mast%3AWFC3PSF%2Furl%5B1%5D%26size%3D51%20%252F&x=a+b"

        await self.ask(Request(server.url(target)))

        assert server.seen[0].target == target

    async def test_sends_headers_and_no_others_of_weight(self, server: WireServer) -> None:
        """A request has our name, our headers and credentials, and asks for plain bytes."""
        request = Request(server.url("/ok"), headers=(("X-One", "1"),), credentials=(("Authorization", "token t"),))

        await self.ask(request)

        (seen,) = server.seen
        assert seen.method == "GET"
        wanted = {
            "user-agent": "psfharvest",
            "x-one": "1",
            "authorization": "token t",
            "accept-encoding": "identity",
        }
        assert wanted.items() <= seen.headers.items()

    async def test_posts_a_form(self, server: WireServer) -> None:
        """A body is posted with the type that is given, at once."""
        form = b"request=" + b"a" * 100_000
        request = Request(
            server.url("/ok"), body=form, headers=(("Content-Type", "application/x-www-form-urlencoded"),)
        )

        answer = await self.ask(request)

        (seen,) = server.seen
        assert answer.status == 200
        assert (seen.method, seen.body) == ("POST", form)
        assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
        assert "expect" not in seen.headers

    async def test_different_requests_do_not_rub_off(self, server: WireServer) -> None:
        """A request looks the same whatever was sent before it over the same handle."""
        plain = Request(server.url("/ok"))
        form = plain._replace(body=b"a=1", headers=(("X-One", "1"),), credentials=(("X-Two", "2"),))
        async with self.wire(connections=1) as wire:
            for request in (plain, form, plain, form):
                await wire.exchange(request)

        assert server.seen[0] == server.seen[2]
        assert server.seen[1] == server.seen[3]
        assert [seen.method for seen in server.seen[:2]] == ["GET", "POST"]
        assert not {"x-one", "x-two"} & server.seen[0].headers.keys()
        assert {"x-one", "x-two"} <= server.seen[1].headers.keys()

    # Redirects.

    async def test_follows_a_redirect(self, any_server: WireServer) -> None:
        """A redirect within the host is followed, with all headers."""
        request = Request(any_server.url("/to-ok"), credentials=(("Authorization", "token t"),))
        async with self.wire() as wire:
            answer = await wire.exchange(request)
            streamed = await read(wire, request)

        assert (answer.status, answer.body) == (200, BODY)
        assert answer.request is request
        assert streamed == (200, BODY)
        assert [seen.target for seen in any_server.seen] == ["/to-ok", "/ok?from=1"] * 2
        assert all(seen.headers["authorization"] == "token t" for seen in any_server.seen)

    async def test_a_form_is_not_posted_on(self, server: WireServer) -> None:
        """After 303 the answer is fetched, not posted for again."""
        answer = await self.ask(Request(server.url("/form-to-ok"), body=b"a=1"))

        assert answer.body == BODY
        assert [seen.method for seen in server.seen] == ["POST", "GET"]

    async def test_credentials_stay_with_their_host(self, server: WireServer) -> None:
        """Another host is asked without the credentials, and with the other headers."""
        with WireServer(dict(SCRIPT)) as other:
            server.script["/away"] = (reply(b"", "302 Found", f"Location: {other.url('/ok')}"),)
            request = Request(
                server.url("/away"), headers=(("X-One", "1"),), credentials=(("Authorization", "token t"),)
            )
            answer = await self.ask(request)
            (seen,) = other.seen

        assert answer.body == BODY
        assert "authorization" not in seen.headers
        assert seen.headers["x-one"] == "1"

    @pytest.mark.parametrize("path", ["/loop", "/nowhere", "/to-plain"])
    async def test_refuses_a_bad_redirect(self, server: WireServer, path: str) -> None:
        """Neither a loop, nor a redirect without an address, nor one to plain http elsewhere is followed."""
        async with self.wire() as wire:
            answer = await wire.exchange(Request(server.url(path)))
            with pytest.raises(BrokenStream) as broken:
                await read(wire, Request(server.url(path)))

        assert answer.failure is not None
        assert (answer.failure.reason, answer.failure.evidence) == (Reason.REDIRECT, Evidence.ALIVE)
        assert broken.value.failure.reason is Reason.REDIRECT
        assert len(server.seen) <= 12

    # Errors.

    @pytest.mark.parametrize(
        ("path", "reason", "evidence"),
        [
            ("/garbage", Reason.PROTOCOL, Evidence.NONE),
            ("/bad-chunk", Reason.PROTOCOL, Evidence.NONE),
            ("/silent-close", Reason.RESET, Evidence.NONE),
            ("/reset", Reason.RESET, Evidence.NONE),
            ("/reset-midway", Reason.RESET, Evidence.NONE),
            ("/short", Reason.TRUNCATED, Evidence.NONE),
            ("/short-chunked", Reason.TRUNCATED, Evidence.NONE),
            ("/silence", Reason.TIMEOUT, Evidence.NONE),
            ("/stall", Reason.TIMEOUT, Evidence.NONE),
        ],
    )
    async def test_tells_what_broke(
        self, server: WireServer, path: str, reason: Reason, evidence: Evidence
    ) -> None:
        """A broken answer has the same name on every wire, whichever way it was asked for."""
        request = Request(server.url(path), timeout_s=0.5)
        async with self.wire() as wire:
            with anyio.fail_after(PATIENCE_S):
                answer = await wire.exchange(request)
                (in_queue,) = await drive(wire, [request], 1)
                with pytest.raises(BrokenStream) as broken:
                    await read(wire, request)
                after = await wire.exchange(Request(server.url("/ok")))

        for failure in (answer.failure, in_queue.failure, broken.value.failure):
            assert failure is not None
            assert (failure.reason, failure.evidence) == (reason, evidence), failure
            assert failure.detail
        assert after.body == BODY

    @pytest.mark.parametrize("path", ["/slow-head", "/slow-body", "/silence"])
    async def test_the_whole_has_a_deadline(self, server: WireServer, path: str) -> None:
        """An answer that trickles, so that no stall is seen, ends with the deadline for the whole."""
        answer = await self.ask(Request(server.url(path), timeout_s=5, total_timeout_s=0.5))

        assert answer.failure is not None
        assert (answer.failure.reason, answer.failure.evidence) == (Reason.TIMEOUT, Evidence.NONE)

    async def test_the_deadline_is_for_all_redirects_together(self, server: WireServer) -> None:
        """A redirect does not start the clock anew."""
        server.script["/hop"] = (Pause(0.3), reply(b"", "302 Found", "Location: /hop"))

        answer = await self.ask(Request(server.url("/hop"), total_timeout_s=0.8))

        assert answer.failure is not None
        assert (answer.failure.reason, answer.failure.evidence) == (Reason.TIMEOUT, Evidence.NONE)

    async def test_a_trickle_is_no_stall(self, server: WireServer) -> None:
        """As long as bytes come the deadline for stalls does not end an answer."""
        server.script["/slow"] = (
            b"HTTP/1.1 200 OK\r\n",
            *((b"X-A: b\r\n", Pause(0.2)) * 5),
            b"Content-Length: 5\r\n\r\n",
            *((b"x", Pause(0.2)) * 5),
        )

        answer = await self.ask(Request(server.url("/slow"), timeout_s=0.6))

        assert (answer.failure, answer.body) == (None, b"xxxxx")

    async def test_refused(self) -> None:
        """Nobody listens: refused, and the archive out of reach."""
        failure = (await self.ask(Request(f"http://127.0.0.1:{free_port()}/"))).failure

        assert failure is not None
        assert (failure.reason, failure.evidence) == (Reason.REFUSED, Evidence.UNREACHABLE)
        assert re.search("refused|(failed to|couldn't) connect", failure.detail, re.IGNORECASE), failure.detail

    async def test_unknown_host(self) -> None:
        """A name that nobody knows is told apart from a refusal."""
        failure = (await self.ask(Request("http://nonexistent.invalid/"))).failure

        assert failure is not None
        assert (failure.reason, failure.evidence) == (Reason.DNS, Evidence.UNREACHABLE)

    async def test_untrusted_certificate(self, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A certificate of an authority that we do not trust ends the connection."""
        stranger = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        stranger.issue_cert("127.0.0.1").configure_cert(context)
        monkeypatch.delenv("SSL_CERT_FILE")
        with WireServer(dict(SCRIPT), context) as untrusted:
            failure = (await self.ask(Request(untrusted.url("/ok")))).failure
            assert untrusted.seen == []

        assert failure is not None
        assert (failure.reason, failure.evidence) == (Reason.TLS, Evidence.UNREACHABLE)

    async def test_certificate_of_another_host(self, tls_server: WireServer) -> None:
        """A trusted certificate of another name does not do."""
        tls_server.script["/ok"] = (reply(BODY),)

        failure = (await self.ask(Request(tls_server.url("/ok", host="127.0.0.2")))).failure

        assert failure is not None
        assert failure.reason in (Reason.TLS, Reason.REFUSED)
        assert failure.evidence is Evidence.UNREACHABLE

    @pytest.mark.parametrize("path", ["/endless", "/bomb", "/big"])
    async def test_a_body_has_a_cap(self, server: WireServer, path: str) -> None:
        """A body past its cap is cut off, compressed or not."""
        failure = (await self.ask(Request(server.url(path), max_bytes=2**20))).failure

        assert failure is not None
        assert (failure.reason, failure.evidence) == (Reason.TOO_LARGE, Evidence.ALIVE)
        await until(lambda: server.open == 0)

    async def test_a_body_may_reach_its_cap(self, server: WireServer) -> None:
        """A body of just the cap is whole."""
        answer = await self.ask(Request(server.url("/ok"), max_bytes=len(BODY)))

        assert (answer.failure, answer.body) == (None, BODY)

    # Connections.

    async def test_connections_are_kept(self, any_server: WireServer) -> None:
        """Requests one after another share one connection."""
        async with self.wire() as wire:
            for _ in range(10):
                assert (await wire.exchange(Request(any_server.url("/ok")))).body == BODY

        assert any_server.accepted == 1

    async def test_a_connection_closed_under_us_is_replaced(self, server: WireServer) -> None:
        """A server that closes a kept connection without saying so costs nobody an answer."""
        async with self.wire() as wire:
            for _ in range(5):
                answer = await wire.exchange(Request(server.url("/close-after")))
                assert answer.body == BODY
                await until(lambda: server.open == 0)

        assert server.accepted == 5

    @pytest.mark.sample(1)
    async def test_many_requests_over_few_connections(self, any_server: WireServer) -> None:
        """Each of 600 requests is answered once, and there are never more connections than allowed."""
        requests = [Request(any_server.url(f"/ok?n={n}"), tag=n) for n in range(600)]
        async with self.wire(connections=8) as wire:
            answers = await drive(wire, requests, 8 + wire.depth)

        assert Counter(answer.request.tag for answer in answers) == Counter(range(600))
        assert {(answer.status, answer.body == BODY, answer.failure) for answer in answers} == {(200, True, None)}
        assert len(any_server.seen) == 600
        assert 1 < any_server.peak <= 8

    @pytest.mark.sample(1)
    async def test_good_and_bad_together(self, server: WireServer) -> None:
        """Each answer in a mixed lot is its own request's."""
        wanted = {
            "/ok": None,
            "/short": Reason.TRUNCATED,
            "/garbage": Reason.PROTOCOL,
            "/big": None,
            "/missing": None,
        }
        paths = list(wanted) * 20
        async with self.wire(connections=8) as wire:
            answers = await drive(wire, [Request(server.url(p), tag=p) for p in paths], 8)

        assert Counter(answer.request.tag for answer in answers) == Counter(paths)
        for answer in answers:
            failure = answer.failure
            assert (failure and failure.reason) is wanted[str(answer.request.tag)]

    async def test_a_bad_answer_holds_back_what_was_not_sent(self, server: WireServer) -> None:
        """After a bad answer nothing queued is sent before its owner has said so; it can be taken back unsent."""
        answers: list[Answer] = []
        async with self.wire(connections=2) as wire, wire.queue(lambda: None) as queue:
            n = 2 + wire.depth
            queue.submit([Request(server.url("/missing" if k < 2 else "/ok"), tag=k) for k in range(n)])
            with anyio.fail_after(PATIENCE_S):
                while len(answers) < 2:
                    await anyio.sleep(0.01)
                    answers += queue.take()
                queue.withdraw()
                while len(answers) < n:
                    await anyio.sleep(0.01)
                    answers += queue.take()

        assert set(range(n)) == {answer.request.tag for answer in answers}
        assert sum(answer.n_sent for answer in answers) <= 6
        assert all((answer.n_sent == 0) == (answer.status == 0) for answer in answers)

    # Cancellation.

    async def test_leaving_a_queue_ends_its_requests(self, server: WireServer) -> None:
        """A queue that is left, or cancelled, waits for nothing and leaves all places free."""
        requests = [Request(server.url("/silence")) for _ in range(4)]
        async with self.wire(connections=4) as wire:
            for _ in range(3):
                with anyio.fail_after(PATIENCE_S):
                    async with wire.queue(lambda: None) as queue:
                        queue.submit(requests)
                        await until(lambda: server.open == 4)
                    await until(lambda: server.open == 0)
                    with anyio.move_on_after(0.2):
                        async with wire.queue(lambda: None) as queue:
                            queue.submit(requests)
                            await anyio.sleep_forever()
                await until(lambda: server.open == 0)
            answers = await drive(wire, [Request(server.url("/ok")) for _ in range(20)], 4)

        assert {answer.status for answer in answers} == {200}
        assert server.peak <= 4

    async def test_a_cancelled_exchange_ends(self, server: WireServer) -> None:
        """A single request that is cancelled closes its connection, and the wire goes on."""
        async with self.wire(connections=1) as wire:
            for path in ("/silence", "/stall") * 2:
                with anyio.move_on_after(0.1) as scope:
                    await wire.exchange(Request(server.url(path)))
                assert scope.cancelled_caught
                await until(lambda: server.open == 0)
            answer = await wire.exchange(Request(server.url("/ok")))

        assert answer.body == BODY

    async def test_a_left_stream_ends(self, server: WireServer) -> None:
        """A stream that is left early, cancelled or not, closes its connection, and the wire goes on."""
        async with self.wire(connections=1) as wire:
            async with wire.stream(Request(server.url("/endless"))) as stream:
                chunks = stream.chunks()
                assert await anext(chunks)
                await chunks.aclose()
            await until(lambda: server.open == 0)
            with anyio.move_on_after(0.1):
                await read(wire, Request(server.url("/stall")))
            await until(lambda: server.open == 0)
            answer = await wire.exchange(Request(server.url("/ok")))

        assert answer.body == BODY

    async def test_a_slow_reader_is_waited_for(self, server: WireServer) -> None:
        """What a stream's reader does not read is not fetched, nor does the pause count as a stall."""
        size = 40 * 2**20
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        server.script["/huge"] = (head, *((bytes(2**20),) * 40))
        async with self.wire() as wire, wire.stream(Request(server.url("/huge"), timeout_s=0.4)) as stream:
            await anyio.sleep(1)
            sent = server.sent
            got = 0
            async for chunk in stream.chunks():
                got += len(chunk)

        assert sent < size / 2
        assert got == size

    async def test_closing_closes_the_connections(self, server: WireServer) -> None:
        """After `aclose` the server sees nobody, and closing again is harmless."""
        wire = type(self).make(connections=4)
        await drive(wire, [Request(server.url("/ok")) for _ in range(8)], 4)
        await wire.aclose()
        await wire.aclose()

        await until(lambda: server.open == 0)
        with pytest.raises(RuntimeError, match="closed"):
            await wire.exchange(Request(server.url("/ok")))


class TestHttpxWire(WireTests):
    """The contract, by httpx."""

    make = HttpxWire


class TestCurlWire(WireTests):
    """The contract, by libcurl; and what only it promises."""

    make = CurlWire

    async def test_its_limit_holds_for_all_together(self, server: WireServer) -> None:
        """However much is handed over, queues, queries and streams share the connections."""
        requests = [Request(server.url("/50ms")) for _ in range(40)]
        async with self.wire(connections=3) as wire, anyio.create_task_group() as group:
            group.start_soon(drive, wire, requests, 40)
            group.start_soon(drive, wire, requests, 40)
            for _ in range(5):
                group.start_soon(wire.exchange, requests[0])
                group.start_soon(read, wire, requests[0])

        assert len(server.seen) == 90
        assert server.peak == 3

    async def test_its_limit_goes_down_and_up(self, server: WireServer) -> None:
        """A lowered limit closes connections as transfers end; a raised one opens more."""
        requests = [Request(server.url("/50ms")) for _ in range(24)]
        async with self.wire(connections=8) as wire:
            await drive(wire, requests, 24)
            assert server.peak == 8
            wire.set_limit(2)
            await drive(wire, requests, 24)
            await until(lambda: server.open <= 2)
            server.peak = 0
            await drive(wire, requests, 24)
            assert server.peak <= 2
            wire.set_limit(6)
            await drive(wire, requests, 24)
            assert server.peak == 6

    async def test_other_hosts_count_too(self, server: WireServer) -> None:
        """A kept connection to one host gives way to one that is needed for another."""
        with WireServer(dict(SCRIPT)) as other:
            async with self.wire(connections=2) as wire:
                for _ in range(5):
                    await drive(wire, [Request(s.url("/ok")) for s in (server, other) * 10], 20)
                    await until(lambda: server.open + other.open <= 2)

    async def test_queues_take_turns(self, server: WireServer) -> None:
        """A small queue beside a large one is not made to wait for its end."""
        large = [Request(server.url("/50ms?large")) for _ in range(60)]
        small = [Request(server.url("/50ms?small")) for _ in range(6)]
        async with self.wire(connections=2) as wire, anyio.create_task_group() as group:
            group.start_soon(drive, wire, large, 60)
            await until(lambda: len(server.seen) >= 2)
            await drive(wire, small, 6)
            n_large = sum("large" in seen.target for seen in server.seen)
            group.cancel_scope.cancel()

        assert n_large < 20

    async def test_a_query_goes_first(self, server: WireServer) -> None:
        """A single request does not wait behind what queues have queued."""
        many = [Request(server.url("/50ms")) for _ in range(100)]
        async with self.wire(connections=1) as wire, anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(drive, wire, many, 100)
            await until(lambda: len(server.seen) >= 2)
            n_before = len(server.seen)
            await wire.exchange(Request(server.url("/ok")))
            n_after = len(server.seen)
            group.cancel_scope.cancel()

        assert n_after - n_before < 10

    async def test_closing_while_busy_answers_all(self, server: WireServer) -> None:
        """Whoever waits when the wire is closed gets a failure, begun or not, and no thread is left."""
        ends: list[Failure | None] = []
        wire = CurlWire(connections=2)

        async def exchange() -> None:
            ends.append((await wire.exchange(Request(server.url("/silence")))).failure)

        async def stream() -> None:
            with pytest.raises(BrokenStream) as broken:
                await read(wire, Request(server.url("/stall")))
            ends.append(broken.value.failure)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(stream)
                await until(lambda: len(server.seen) == 2)
                for _ in range(3):
                    group.start_soon(exchange)
                await anyio.sleep(0.1)
                await wire.aclose()

        assert [end and end.reason for end in ends] == [Reason.RESET] * 5
        assert not [t for t in threading.enumerate() if t.name == "psfharvest-curl"]

    async def test_a_url_that_cannot_be_sent_is_an_answer(self, server: WireServer) -> None:
        """A URL or header that libcurl will not take fails alone."""
        good = Request(server.url("/ok"))
        bad = [Request("http://["), Request("http://127.0.0.1/\N{SNOWMAN}"), Request("gopher://127.0.0.1/")]
        async with self.wire() as wire:
            answers = await drive(wire, [*bad, good], 4)

        assert sorted(bool(answer.failure) for answer in answers) == [False, True, True, True]

    async def test_it_sleeps_when_idle(self, server: WireServer) -> None:
        """With a connection kept, a request under way, or a stream paused, the thread uses no processor."""
        async with self.wire() as wire, anyio.create_task_group() as group:
            await wire.exchange(Request(server.url("/ok")))
            group.start_soon(wire.exchange, Request(server.url("/silence")))
            async with wire.stream(Request(server.url("/endless"))):
                await anyio.sleep(0.5)
                before = time.process_time()
                await anyio.sleep(1)
                used_s = time.process_time() - before
            group.cancel_scope.cancel()

        assert used_s < 0.2

    async def test_a_paused_stream_survives_its_servers_end(self, server: WireServer) -> None:
        """A server that hangs up on a paused stream makes nobody busy, and all that it sent is read."""
        server.script["/huge"] = (b"HTTP/1.1 200 OK\r\n\r\n", bytes(4 * 2**20), CLOSE)
        async with self.wire() as wire, wire.stream(Request(server.url("/huge"))) as stream:
            await anyio.sleep(0.5)
            got = sum([len(chunk) async for chunk in stream.chunks()])

        assert got == 4 * 2**20

    async def test_it_trusts_the_system(self, monkeypatch: pytest.MonkeyPatch, ca_file: Path) -> None:
        """Without SSL_CERT_FILE a file that exists is trusted; with it, the file that it names."""
        from psfharvest.archive.wires.curl import transfer

        found = dict(transfer.common_settings("me"))
        assert found[transfer.pycurl.CAINFO] == str(ca_file)
        monkeypatch.delenv("SSL_CERT_FILE")
        monkeypatch.setenv("SSL_CERT_DIR", "/some")
        assert dict(transfer.common_settings("me"))[transfer.pycurl.CAPATH] == "/some"
        monkeypatch.delenv("SSL_CERT_DIR")
        assert Path(dict(transfer.common_settings("me"))[transfer.pycurl.CAINFO]).is_file()

    async def test_it_goes_through_a_proxy(self, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The usual variables name the proxy."""
        monkeypatch.setenv("http_proxy", server.url(""))
        server.script["http://archive.invalid/ok"] = (reply(BODY),)

        answer = await self.ask(Request("http://archive.invalid/ok"))

        assert answer.body == BODY
        assert server.seen[0].target == "http://archive.invalid/ok"

    async def test_a_proxy_that_refuses_a_tunnel(self, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """No tunnel means that the archive is out of reach."""
        monkeypatch.setenv("https_proxy", server.url(""))

        failure = (await self.ask(Request("https://archive.invalid/ok"))).failure

        assert failure is not None
        assert (failure.reason, failure.evidence) == (Reason.REFUSED, Evidence.UNREACHABLE)


@pytest.mark.parametrize("path", ["/ok", "/silence"])
def test_a_forgotten_wire_does_not_keep_the_interpreter(server: WireServer, path: str) -> None:
    """A program that never closes its wire, busy or not, ends when it ends."""
    code = f"""
        import anyio
        from psfharvest.archive.wires.curl import CurlWire
        from psfharvest.archive.wires.base import Request

        wire = CurlWire()

        async def main():
            with anyio.move_on_after(0.5):
                kept = wire.queue(lambda: None)
                queue = await kept.__aenter__()
                queue.submit([Request({server.url(path)!r})] * 50)
                await wire.exchange(Request({server.url(path)!r}))

        anyio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_collected_wire_ends_its_thread(server: WireServer) -> None:
    """A wire that nobody holds any more leaves no thread behind."""

    async def main() -> None:
        wire = CurlWire()
        assert (await wire.exchange(Request(server.url("/ok")))).status == 200

    anyio.run(main)

    assert not [t for t in threading.enumerate() if t.name == "psfharvest-curl"]


def test_a_wire_serves_one_loop_after_another(server: WireServer) -> None:
    """The thread outlives an event loop, and what that loop left behind."""
    wire = CurlWire(connections=2)
    kept = []

    async def leave_things_behind() -> None:
        kept.append(wire.queue(lambda: None))
        queue = await kept[-1].__aenter__()
        queue.submit([Request(server.url("/50ms"))] * 6)
        seen = len(server.seen)
        await until(lambda: len(server.seen) >= seen + 2)

    async def ask() -> None:
        assert (await wire.exchange(Request(server.url("/ok")))).status == 200

    for backend in ("asyncio", "trio"):
        anyio.run(leave_things_behind, backend=backend)
        anyio.run(ask, backend=backend)
    anyio.run(wire.aclose)


async def test_an_error_in_the_transfer_thread_reaches_every_caller(server: WireServer) -> None:
    """What breaks the thread is raised, as it is, to whoever waits and to whoever comes later."""
    wire = CurlWire(connections=2)
    beyond_any_integer = Request(server.url("/ok"), connect_timeout_s=float("inf"))
    errors: list[str] = []

    async def waiting() -> None:
        try:
            await wire.exchange(Request(server.url("/silence")))
        except OverflowError as error:
            errors.append(str(error))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(waiting)
            await until(lambda: "/silence" in server.seen[-1:] or server.seen)
            with pytest.raises(OverflowError):
                await wire.exchange(beyond_any_integer)
        with pytest.raises(OverflowError):
            await wire.exchange(Request(server.url("/ok")))
        with pytest.raises(OverflowError):
            async with wire.stream(Request(server.url("/ok"))):
                pass
        await wire.aclose()

    assert 1 == len(errors)
