"""
The archive as an ASGI application: which path leads to which service, and what each says when it cannot.

Rules: a request is recorded before it is answered; latency delays an answer and nothing else; queries are
worked out beside the event loop, so that a large one holds up nobody's cutout. It works on asyncio and trio.
"""

import gzip
import html
import json
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote, unquote_plus

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from psfharvest.simulator.catalog.columns import SERVICES, columns_config
from psfharvest.simulator.catalog.mashup import Mashup, TooLargeError, TooManyRowsError, Twist
from psfharvest.simulator.faults.faultbook import Case, FaultBook
from psfharvest.simulator.faults.faults import Fault
from psfharvest.simulator.http.bundle import Bundle
from psfharvest.simulator.http.delivery import deliver, replacement
from psfharvest.simulator.http.exchange import Answer, Exchange, GoneError, Headers, Receive, Scope, Send
from psfharvest.simulator.http.record import PendingRecord, Record, asked_uris, form_values
from psfharvest.simulator.oddities import transport
from psfharvest.simulator.settings import ErrorForm, Settings
from psfharvest.simulator.sky.fitscut import Fitscut
from psfharvest.simulator.sky.order import FitscutError, parse_query

_PATHS: Final = {
    "/api/v0/invoke": ("query", ("GET", "POST")),
    "/portal/Mashup/Mashup.asmx/columnsconfig": ("columns", ("GET", "POST")),
    "/api/v0.1/Download/file": ("file", ("GET", "HEAD", "POST")),
    "/api/v0.1/Download/file/": ("file", ("GET", "HEAD", "POST")),
    "/api/v0.1/Download/bundle.tar.gz": ("bundle", ("GET", "POST")),
    "/cgi-bin/hla/fitscut.cgi": ("fitscut", ("GET", "HEAD")),
}
QUERIES_AT_ONCE: Final = 2
Aside = Callable[[Callable[[], bytes]], Awaitable[bytes]]
_limiter: RunVar[anyio.CapacityLimiter | None] = RunVar("psfharvest_simulator_queries")
_STATIC_FILE: Final = re.compile(
    rb"uri=mast(?::|%3A)WFP?C[23]PSF.*size(?:=|%3D)(\d{1,4})(?:&|%26)x(?:=|%3D)", re.IGNORECASE
)
_RANGE: Final = re.compile(rb"bytes=(\d+)-(\d*)")


class Archive:
    """The simulated archive, to be served."""

    def __init__(
        self,
        settings: Settings,
        fitscut: Fitscut,
        mashup: Mashup,
        record: Record,
        aside: Aside | None = None,
    ) -> None:
        self._aside = aside or _in_thread
        self.book = FaultBook()
        self._settings = settings
        self._fitscut = fitscut
        self._mashup = mashup
        self._record = record
        self._number = 0
        self._file_headers: Headers = [(b"content-type", settings.content_type.encode())]
        plain = not (settings.accept_ranges or settings.etag or settings.content_disposition)
        self._is_fast = settings.static and plain and settings.content_encoding == "identity"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        exchange = Exchange(scope, receive, send, self._record)
        self._record.request_begins()
        try:
            await self._serve(exchange)
        except GoneError:
            pass  # there is no client to answer
        finally:
            self._record.request_ends()

    async def _serve(self, exchange: Exchange) -> None:
        body = await exchange.body() if exchange.method == "POST" else b""
        service = _PATHS.get(exchange.path, ("other",))[0]
        scope = exchange.scope
        entry = PendingRecord(
            at_s=self._record.now_s(),
            service=service,
            method=exchange.method,
            raw_path=scope["raw_path"],
            query=exchange.query,
            headers=scope["headers"],
            body=body,
            connection=exchange.connection,
        )
        self._record.add(entry)
        self._number += 1
        book = self.book
        fault = book.choose(_case(exchange, service, body), entry.at_s) if book.faults else None
        if self._settings.latency_s:
            await anyio.sleep(self._latency_s())
        if fault is None:
            answer = await self._answer(exchange, service, body, None, book)
        else:
            entry.fault = fault.kind
            answer = replacement(fault, exchange)
            answer = answer or await self._answer(exchange, service, body, fault, book)
        if answer is None:
            await exchange.reset()
            return
        entry.status = answer.status
        if fault is None and service == "file" and "http_1_0" in self._settings.oddities:
            await transport.by_http_1_0(exchange, answer)
        elif fault is None:
            await exchange.reply(answer)
        else:
            is_none = fault.kind in {"garbage", "hang_up"} or (fault.kind == "reset" and fault.at is None)
            entry.status = 0 if is_none else entry.status
            await deliver(exchange, answer, fault)

    def _latency_s(self) -> float:
        swing = (self._number * 2_654_435_761 % 2**32) / 2**31 - 1  # -1..1, evenly spread over requests
        return self._settings.latency_s * (1 + self._settings.latency_jitter * swing)

    async def _answer(
        self,
        exchange: Exchange,
        service: str,
        body: bytes,
        fault: Fault | None,
        book: FaultBook,
    ) -> Answer | None:
        """Give the answer; None where the connection is to be reset."""
        if service == "other":
            return Answer.html("Not Found", html.escape(exchange.path), status=404)
        methods = _PATHS[exchange.path][1]
        if exchange.method not in methods:
            return Answer(405, [(b"allow", ", ".join(methods).encode())])
        if service == "file":
            return self._file(exchange, body, fault)
        if service == "fitscut":
            return self._cgi(exchange, fault)
        if service == "bundle":
            return self._bundle(exchange, body, fault, book)
        if service == "columns":
            return _columns(form_values(body or exchange.query, b"colConfigId"))
        return await self._query(exchange, body, fault)

    async def _query(self, exchange: Exchange, body: bytes, fault: Fault | None) -> Answer | None:
        asked = form_values(body, b"request") or form_values(exchange.query, b"request")
        request = asked[0] if asked else None
        try:
            text = await self._aside(lambda: self._mashup.answer(request, _twist(fault)))
        except TooManyRowsError:
            return None
        except TooLargeError:
            return Answer.html("Internal Server Error", "Out of memory", status=500)
        return Answer(200, [(b"content-type", b"text/json;charset=utf-8")], text)

    def _file(self, exchange: Exchange, body: bytes, fault: Fault | None) -> Answer:
        if self._is_fast and (sizes := _STATIC_FILE.search(exchange.query)):
            side = int(sizes[1])
            if 0 < side <= self._settings.max_size:
                return self._cutout(exchange, self._fitscut.static(side, side), "")
        uris = form_values(exchange.query, b"uri") or form_values(body, b"uri")
        if not uris:
            return Answer.text("uri parameter is required", status=400)
        uri = uris[0]
        oddities = self._settings.oddities
        try:
            content = self._content(uri, fault)
        except FitscutError as error:
            odd = transport.missing(oddities) if error.problem == "missing" else None
            return odd or self._failure(error, self._settings.error_form)
        redirect = transport.redirected(exchange, oddities, _data_url(uri)) if oddities else None
        return redirect or transport.cutout(self._cutout(exchange, content, uri), oddities)

    def _content(self, uri: str, fault: Fault | None) -> bytes:
        if fault is not None and fault.kind == "wrong_source":
            return self._fitscut.other(uri)
        if fault is not None and fault.kind == "wrong_shape":
            return self._fitscut.reshaped(uri, fault.size)
        return self._fitscut.render(uri)

    def _cutout(self, exchange: Exchange, content: bytes, uri: str) -> Answer:
        settings = self._settings
        headers = self._file_headers
        if self._is_fast:
            return Answer(200, headers, content, settings.content_length)
        headers = list(headers)
        if settings.content_disposition:
            name = uri.rsplit("/", 1)[-1].encode("latin-1", "replace")
            headers.append((b"content-disposition", b'attachment; filename="' + name + b'"'))
        if settings.etag:
            headers.append((b"etag", b'"%08x"' % zlib.crc32(content)))
        if settings.content_encoding == "gzip" and b"gzip" in exchange.header(b"accept-encoding"):
            headers.append((b"content-encoding", b"gzip"))
            content = gzip.compress(content, 1, mtime=0)
        answer = Answer(200, headers, content, settings.content_length)
        return _ranged(exchange, answer, content) if settings.accept_ranges else answer

    def _cgi(self, exchange: Exchange, fault: Fault | None) -> Answer:
        query = exchange.query.decode("latin-1")
        try:
            order = parse_query(query)
            content = self._fitscut.cutout(order)
            if fault is not None and fault.kind == "wrong_shape":
                side = fault.size or order.nx - 2
                content = self._fitscut.cutout(replace(order, nx=side, ny=side))
            elif fault is not None and fault.kind == "wrong_source":
                content = self._fitscut.renamed(content, order)
        except FitscutError as error:
            is_text = "texterrors=1" in query.lower()
            return self._failure(error, "text" if is_text else "html")
        return Answer(200, [(b"content-type", b"image/x-fits")], content, self._settings.content_length)

    def _failure(self, error: FitscutError, form: ErrorForm) -> Answer:
        statuses = {
            "missing": self._settings.missing_status,
            "no_overlap": self._settings.no_overlap_status,
            "bad_request": self._settings.bad_request_status,
        }
        status = statuses[error.problem]
        if form == "html":
            return Answer.html("Fitscut error", html.escape(error.text), status=status)
        return Answer.text(error.text, status=status)

    def _bundle(self, exchange: Exchange, body: bytes, fault: Fault | None, book: FaultBook) -> Answer:
        uris = form_values(body, b"uri") or form_values(exchange.query, b"uri")
        if not uris:
            return Answer.text("uri parameter is required", status=400)
        limit = self._settings.max_bundle_uris
        if limit is not None and len(uris) > limit:
            return Answer.text(f"Too many files: {len(uris)} > {limit}", status=self._settings.max_bundle_status)
        instead = transport.instead_of_bundle(self._settings.oddities)
        if instead is not None:
            return instead
        bundle = Bundle(uris, self._fitscut, self._settings, now=datetime.now(UTC), fault=fault, book=book)
        disposition = f'attachment; filename="{bundle.root}.tar.gz"'.encode()
        headers = [(b"content-type", b"application/gzip"), (b"content-disposition", disposition)]
        return Answer(200, headers, bundle.stream())


async def _in_thread(work: Callable[[], bytes]) -> bytes:
    """Return what `work` returns, from a thread of the event loop that runs, whichever it is."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(QUERIES_AT_ONCE)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _data_url(uri: str) -> str:
    """Give path and query of a cutout at fitscut; nothing for another file."""
    query, _, name = uri.partition("/cgi-bin/")[2].rpartition("/")
    return f"/cgi-bin/hla/{query}&imagename={name}" if query.startswith("fitscut.cgi?") else ""


def _case(exchange: Exchange, service: str, body: bytes) -> Case:
    text = unquote(exchange.target) + "\n" + unquote_plus(body.decode("latin-1"))
    return Case(service, text, asked_uris(service, exchange.query, body))


def _twist(fault: Fault | None) -> Twist | None:
    twists: dict[str, Callable[[Fault], Twist]] = {
        "mashup_error": lambda fault: Twist(error=fault.msg),
        "executing_forever": lambda _: Twist(is_executing=True),
        "short_answer": lambda fault: Twist(max_rows=fault.rows),
    }
    return twists[fault.kind](fault) if fault is not None and fault.kind in twists else None


def _columns(asked: list[str]) -> Answer:
    detector = SERVICES.get(asked[0]) if asked else None
    text = json.dumps(columns_config(detector)) if detector else ""  # an empty text is how it says no
    return Answer(200, [(b"content-type", b"text/json;charset=utf-8")], text.encode())


def _ranged(exchange: Exchange, answer: Answer, content: bytes) -> Answer:
    """Serve part of a body where the client asks for one."""
    headers = [*answer.headers, (b"accept-ranges", b"bytes")]
    asked = _RANGE.fullmatch(exchange.header(b"range"))
    if asked is None:
        return Answer(200, headers, content, answer.says_length)
    begin, end = int(asked[1]), int(asked[2] or len(content) - 1)
    if begin >= len(content) or end < begin:
        return Answer(416, [(b"content-range", b"bytes */%d" % len(content))])
    part = content[begin : end + 1]
    headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, begin + len(part) - 1, len(content))))
    return Answer(206, headers, part)
