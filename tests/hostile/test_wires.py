"""Heads and framings that no honest server sends, over real sockets and both wires: an answer or a failure."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_server import CLOSE, Forever, Step, WireServer, chunked, reply

from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import Answer, BrokenStream, Request, Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.model import Failure, Reason
from psfharvest.core.policy.retry import parse_retry_after
from sampling import examples

BODY = b"0123456789" * 50
GOOD = reply(BODY)
MIB = 2**20


def headed(*lines: str, body: bytes = BODY) -> bytes:
    """An answer with these header lines and no others."""
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode("latin-1") + body


HEADS: dict[str, tuple[Step, ...]] = {
    "a length below zero": (headed("Content-Length: -1"), CLOSE),
    "a length past all numbers": (headed(f"Content-Length: {10**40}"), CLOSE),
    "a length in hexadecimal": (headed("Content-Length: 0x1f4"), CLOSE),
    "a length with a sign": (headed("Content-Length: +500"), CLOSE),
    "a length that is no number": (headed("Content-Length: NaN"), CLOSE),
    "two lengths": (headed("Content-Length: 500", "Content-Length: 7"), CLOSE),
    "a list of lengths": (headed("Content-Length: 500, 7"), CLOSE),
    "an empty length": (headed("Content-Length:"), CLOSE),
    "a length too long": (headed("Content-Length: 501"), CLOSE),
    "a length too short": (headed("Content-Length: 499"), CLOSE),
    "length and chunks": (chunked(BODY).replace(b"\r\n", b"\r\nContent-Length: 7\r\n", 1), CLOSE),
    "chunks twice": (chunked(BODY).replace(b"chunked", b"chunked, chunked"), CLOSE),
    "a chunk past all numbers": (headed("Transfer-Encoding: chunked", body=b"F" * 16 + b"\r\n" + BODY), CLOSE),
    "a chunk below zero": (headed("Transfer-Encoding: chunked", body=b"-1\r\n" + BODY), CLOSE),
    "a chunk with an endless size": (headed("Transfer-Encoding: chunked", body=b""), Forever(b"0" * 4096)),
    "a chunk with an endless extension": (headed("Transfer-Encoding: chunked", body=b"5;"), Forever(b"a" * 4096)),
    "endless trailers": (chunked(BODY)[:-2], Forever(b"X-A: b\r\n" * 500)),
    "a hundred thousand headers": (headed(*["X-A: b"] * 100_000, "Content-Length: 500"),),
    "a header of a mebibyte": (headed(f"X-A: {'b' * MIB}", "Content-Length: 500"),),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", Forever(b"X-A: b\r\n" * 500)),
    "an endless header": (b"HTTP/1.1 200 OK\r\nX-A: ", Forever(b"b" * 4096)),
    "an endless status line": (b"HTTP/1.1 200 ", Forever(b"O" * 4096)),
    "an endless name": (b"HTTP/1.1 200 OK\r\n", Forever(b"X" * 4096)),
    "endless informational answers": (Forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),),
    "endless early hints": (Forever(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),),
    "a header without a name": (headed(": x", "Content-Length: 500"), CLOSE),
    "a header with a null byte": (headed("X-A: a\0b", "Content-Length: 500"), CLOSE),
    "a folded header": (headed("X-A: a\r\n b", "Content-Length: 500"), CLOSE),
    "a header of any bytes": (headed("X-\xff\xfe: \x80\x1b[31m", "Content-Length: 500"), CLOSE),
    "a status of no number": (b"HTTP/1.1 abc OK\r\nContent-Length: 500\r\n\r\n" + BODY, CLOSE),
    "a status past all": (b"HTTP/1.1 99999 OK\r\nContent-Length: 500\r\n\r\n" + BODY, CLOSE),
    "a status of zero": (b"HTTP/1.1 000 OK\r\nContent-Length: 500\r\n\r\n" + BODY, CLOSE),
    "a version of the future": (b"HTTP/9.9 200 OK\r\nContent-Length: 500\r\n\r\n" + BODY, CLOSE),
    "a coding that nobody knows": (headed("Content-Encoding: x-evil", "Content-Length: 500"),),
    "a coding that it is not": (headed("Content-Encoding: gzip", "Content-Length: 500"),),
    "ten codings": (headed(f"Content-Encoding: {', '.join(['gzip'] * 10)}", "Content-Length: 500"),),
    "a location of any bytes": (
        b"HTTP/1.1 302 Found\r\nLocation: http://\xff[::\x80\r\nContent-Length: 0\r\n\r\n",
    ),
    "a location of a mebibyte": (reply(b"", "302 Found", f"Location: /{'a' * MIB}"),),
    "a location that is no place": (reply(b"", "302 Found", "Location: javascript:alert(1)"),),
    "a location in a file": (reply(b"", "302 Found", "Location: file:///etc/passwd"),),
    "a redirect with an endless body": (b"HTTP/1.1 302 Found\r\nLocation: /good\r\n\r\n", Forever(bytes(65_536))),
}  # fmt: skip
WHOLE = {BODY, BODY[:499], BODY[:7]}
"""Bodies that an answer's own length may mean."""


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    """A server that answers as `HEADS` says."""
    with WireServer({"/good": (GOOD,)}) as found:
        for name, steps in HEADS.items():
            found.script[path_of(name)] = steps
        yield found


def path_of(name: str) -> str:
    return f"/{name.replace(' ', '-')}"


@pytest.fixture(scope="module", params=[HttpxWire, CurlWire])
def make(request: pytest.FixtureRequest) -> Callable[..., Wire]:
    """Both wires in turn."""
    found: Callable[..., Wire] = request.param
    return found


@asynccontextmanager
async def opened(make: Callable[..., Wire]) -> AsyncIterator[Wire]:
    wire = make(connections=2)
    try:
        yield wire
    finally:
        await wire.aclose()


async def streamed(wire: Wire, request: Request) -> Answer:
    """Read an answer as it comes, up to the cap, as a bundle is read."""
    body = b""
    try:
        async with wire.stream(request) as stream:
            async for chunk in stream.chunks():
                body += chunk
                if len(body) > request.max_bytes:
                    return Answer(request, failure=Failure(Reason.TOO_LARGE))
            return Answer(request, stream.status, body, stream.retry_after)
    except BrokenStream as broken:
        return Answer(request, failure=broken.failure)


@pytest.mark.sample(8)
@pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpcore)")
@pytest.mark.parametrize("name", list(HEADS))
def test_hostile_heads(server: WireServer, make: Callable[..., Wire], name: str) -> None:
    """Each is an answer with a body that was sent, or a failure with a reason; and the next request is answered."""

    async def run() -> tuple[list[Answer], list[Answer]]:
        request = Request(server.url(path_of(name)), max_bytes=100_000, timeout_s=5, total_timeout_s=1)
        async with opened(make) as wire:
            answers = [await wire.exchange(request)]
            with anyio.move_on_after(1):  # a bundle has no deadline for the whole, but can be left
                answers.append(await streamed(wire, request))
            return answers, [await wire.exchange(Request(server.url("/good"))) for _ in range(2)]

    answers, after = anyio.run(run)
    for answer in answers:
        check(answer)
    assert BODY == after[1].body


def check(answer: Answer) -> None:
    failure = failure_of(answer)
    if failure is not None:
        assert failure.reason in Reason
        assert failure.detail or failure.reason is Reason.TOO_LARGE
        return
    assert answer.body in WHOLE


@pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpcore)")
def test_what_comes_behind_an_answer_stays_with_its_host(server: WireServer, make: Callable[..., Wire]) -> None:
    """An answer that nobody asked for is dropped, or taken for that host's next one; never for another host's."""
    with WireServer({"/two": (headed("Content-Length: 500") + reply(b"evil"),)}) as evil:

        async def run() -> list[tuple[Answer, Answer]]:
            async with opened(make) as wire:
                asked = [Request(evil.url("/two"), timeout_s=5), Request(server.url("/good"))]
                return [(await wire.exchange(asked[0]), await wire.exchange(asked[1])) for _ in range(5)]

        pairs = anyio.run(run)

    assert {200, 0} >= {theirs.status for theirs, _ in pairs}
    assert {BODY, b"evil", b""} >= {theirs.body for theirs, _ in pairs}
    assert {BODY} == {good.body for _, good in pairs}


LINES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60)
DATES = st.text(st.sampled_from("MonTueNov 0123456789:,-+GMTZ"), max_size=40)
NUMBERS = st.integers(-(10**30), 10**30).map(str) | st.floats().map(str)


@settings(max_examples=examples(30))
@given(LINES | DATES | NUMBERS)
def test_any_retry_after(server: WireServer, make: Callable[..., Wire], text: str) -> None:
    """Whatever Retry-After says, a 503 comes with a finite wait or none."""
    head = f"HTTP/1.1 503 Busy\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
    server.script["/busy"] = (head.encode("latin-1"),)

    async def run() -> list[Answer]:
        request = Request(server.url("/busy"), timeout_s=10)
        async with opened(make) as wire:
            return [await wire.exchange(request), await streamed(wire, request)]

    for answer in anyio.run(run):
        failure = failure_of(answer)
        wait_s = parse_retry_after(answer.retry_after, datetime.now(UTC))

        assert failure is not None
        assert (503, Reason.SERVER_ERROR) == (answer.status, failure.reason) or failure.reason is Reason.PROTOCOL
        assert wait_s is None or 0 <= wait_s < math.inf
