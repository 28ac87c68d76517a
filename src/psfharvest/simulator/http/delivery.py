"""
How an answer leaves when a fault has befallen it: cut, stalled, mislabelled, or replaced altogether.

Rule: every kind of `Fault` that is about the wire has one function here; a fault never harms another
connection.
"""

import email.utils
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel

from psfharvest.simulator.faults.faults import Fault
from psfharvest.simulator.http.exchange import Answer, Exchange, Headers

_FOREVER_S: Final = 3_600.0
_READ_S: Final = 0.05
"""Time that a client gets to read what came before a reset, which would otherwise wipe it out."""
_MEGABYTE: Final = 1 << 20


def replacement(fault: Fault, exchange: Exchange) -> Answer | None:
    """Give the answer that a fault puts in the true one's place, if it does."""
    if fault.kind in {"status", "outage"}:
        if fault.code in {204, 304}:
            return Answer(fault.code, _retry_after(fault), says_length=False)  # HTTP gives them no body
        answer = Answer.html("Service trouble", fault.body, status=fault.code or 503)
        answer.headers.extend(_retry_after(fault))
        return answer
    if fault.kind == "html":
        return Answer.html("Internal Server Error", "The archive is being maintained.")
    if fault.kind == "text":
        return Answer.text(fault.body)
    if fault.kind == "empty":
        return Answer()
    if fault.kind == "redirect":
        return Answer(fault.code or 302, [(b"location", _location(fault, exchange).encode())])
    return None


async def deliver(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    """Send an answer the way its fault wants it."""
    way = _WAYS.get(fault.kind)
    if fault.kind == "bundle_cut":
        way = _bundle_cut
    if fault.kind == "bundle_corrupt" and fault.form in _SPOILS:
        answer = Answer(answer.status, answer.headers, _SPOILS[fault.form](await answer.whole()), says_length=False)
    await (way(exchange, answer, fault) if way else exchange.reply(answer))


def _retry_after(fault: Fault) -> Headers:
    wanted = fault.retry_after
    if wanted is None:
        return []
    text = f"{wanted:g}" if isinstance(wanted, float | int) else wanted
    if text.startswith("date"):
        text = email.utils.formatdate(time.time() + float(text.removeprefix("date") or 0), usegmt=True)
    return [(b"retry-after", text.encode("latin-1"))]


def _location(fault: Fault, exchange: Exchange) -> str:
    target = exchange.target
    if fault.url is None:
        return target
    return fault.url.replace("{path}", target).replace("{query}", exchange.query.decode("latin-1"))


def _place(fault: Fault, size: int, default: float) -> int:
    at = default if fault.at is None else fault.at
    return min(size, int(at * size) if at < 1 else int(at))


async def _truncate(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    body = await answer.whole()
    part = body[: _place(fault, len(body), 0.5)]
    if fault.framing == "close":
        exchange.write_head(answer.status, [*answer.headers, (b"connection", b"close")])
        exchange.write(part)
    else:
        length = [] if fault.framing == "chunked" else [(b"content-length", b"%d" % len(body))]
        await exchange.start(answer.status, [*answer.headers, *length])
        await exchange.send(part, more=True)
    await exchange.hang_up()


async def _wrong_length(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    body = await answer.whole()
    length = fault.text if fault.text is not None else str(max(0, len(body) + fault.by))
    exchange.write_head(answer.status, [*answer.headers, (b"content-length", length.encode("latin-1"))])
    exchange.write(body)
    await exchange.hang_up()


async def _reset(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    if fault.at is not None:
        body = await answer.whole()
        await exchange.start(answer.status, answer.headers)
        await exchange.send(body[: _place(fault, len(body), 0)], more=True)
        await anyio.sleep(_READ_S)
    await exchange.reset()


async def _stall(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    pause_s = _FOREVER_S if fault.seconds is None else fault.seconds
    if fault.at is None:
        if not await exchange.gone(pause_s):
            await exchange.reply(answer)
        return
    body = await answer.whole()
    k = _place(fault, len(body), 0)
    await exchange.start(answer.status, answer.headers)
    await exchange.send(body[:k], more=True)
    if not await exchange.gone(pause_s):
        await exchange.send(body[k:], more=False)


async def _slow(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    body = await answer.whole()
    pace = max(1, round(fault.bytes_per_s / 20))
    await exchange.start(answer.status, answer.headers)
    for begin in range(0, len(body), pace):
        await exchange.send(body[begin : begin + pace], more=True)
        if await exchange.gone(0.05):
            return
    await exchange.send(b"", more=False)


async def _slow_head(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    pause_s = 0.1 if fault.seconds is None else fault.seconds
    exchange.write(b"HTTP/1.1 %d OK\r\n" % answer.status)
    while not await exchange.gone(pause_s):
        exchange.write(b"x-wait: a little\r\n")


async def _endless_head(exchange: Exchange, answer: Answer, _: Fault) -> None:
    exchange.write(b"HTTP/1.1 %d OK\r\n" % answer.status)
    while not await exchange.gone(0.001):  # a client that does not read would otherwise fill our memory
        exchange.write(b"x-more: and more\r\n" * 1_000)


async def _endless(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    await exchange.start(answer.status, answer.headers)
    body, zeros = await answer.whole(), bytes(1_000)
    await exchange.send(body, more=True)
    piece = zeros if fault.form == "zeros" else body or zeros
    while not await exchange.gone(0.0):
        await exchange.send(piece, more=True)


async def _gzip_bomb(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    headers = [*answer.headers, (b"content-encoding", b"gzip")]
    bomb = Answer(answer.status, headers, _zeros(fault.inflated_bytes))
    await exchange.reply(bomb)


async def _zeros(n_bytes: float) -> AsyncGenerator[bytes, None]:
    """Give a gzip stream of zeros; its checksum is wrong, but nobody should come so far."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = deflater.compress(bytes(_MEGABYTE)) + deflater.flush(zlib.Z_FULL_FLUSH)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    for _ in range(max(1, int(n_bytes // _MEGABYTE))):
        yield megabyte
        await anyio.lowlevel.checkpoint()
    yield deflater.flush(zlib.Z_FINISH) + b"\0" * 8


async def _false_gzip(exchange: Exchange, answer: Answer, _: Fault) -> None:
    headers = [*answer.headers, (b"content-encoding", b"gzip")]
    await exchange.reply(Answer(answer.status, headers, await answer.whole()))


async def _close(exchange: Exchange, answer: Answer, _: Fault) -> None:
    await exchange.reply(Answer(answer.status, answer.headers, await answer.whole()))
    await exchange.hang_up()


async def _hang_up(exchange: Exchange, _answer: Answer, _: Fault) -> None:
    await exchange.hang_up()


async def _garbage(exchange: Exchange, _answer: Answer, _: Fault) -> None:
    exchange.write(b"\x16\x03\x01 220 archive ESMTP ready\r\n\x00\xff\xfe not HTTP at all\r\n\r\n")
    await exchange.hang_up()


async def _bundle_cut(exchange: Exchange, answer: Answer, fault: Fault) -> None:
    body = await answer.whole()
    if fault.at is not None and fault.at >= 1:
        body = body[: int(fault.at)]
    elif fault.framing != "clean":
        body = body[:-8]  # members are cut already; without its trailer the stream cannot pass for whole
    await exchange.start(answer.status, answer.headers)
    await exchange.send(body, more=True)
    if fault.framing == "clean":
        await exchange.send(b"", more=False)
    else:
        await exchange.hang_up()


def _flipped(body: bytes, start: int, end: int) -> bytes:
    return body[:start] + bytes(255 - byte for byte in body[start:end]) + body[end:]


_SPOILS: Final[dict[str | None, Callable[[bytes], bytes]]] = {
    "stream": lambda body: _flipped(body, len(body) // 2, len(body) // 2 + 64),
}
"""What a form of damage does to a bundle's whole stream."""


_Way = Callable[[Exchange, Answer, Fault], Awaitable[None]]
_WAYS: Final[dict[str, _Way]] = {
    "truncate": _truncate,
    "wrong_length": _wrong_length,
    "reset": _reset,
    "stall": _stall,
    "slow": _slow,
    "slow_head": _slow_head,
    "endless": _endless,
    "endless_head": _endless_head,
    "gzip_bomb": _gzip_bomb,
    "false_gzip": _false_gzip,
    "close": _close,
    "hang_up": _hang_up,
    "garbage": _garbage,
}
