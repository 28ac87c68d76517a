"""Faults befall the requests that they choose, in the way that they say."""

import email.utils
import gzip
import socket
import time
import zlib
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.simulator import KINDS, Fault

FILE_OF = "/api/v0.1/Download/file?uri="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status", Fault("status")),
        ("status:429", Fault("status", code=429)),
        ("status:503,nth=3,retry_after=2", Fault("status", code=503, nth=(3,), retry_after="2")),
        ("status,nth=3+5", Fault("status", nth=(3, 5))),
        ("status:code=500,from=2,until=4", Fault("status", code=500, start=2, until=4)),
        ("truncate:0.5,framing=close", Fault("truncate", at=0.5, framing="close")),
        ("reset", Fault("reset")),
        ("stall:30,at=100,rate=0.25,seed=7", Fault("stall", seconds=30.0, at=100.0, rate=0.25, seed=7)),
        ("gzip_bomb:1e6", Fault("gzip_bomb", inflated_bytes=1e6)),
        ("mashup_error:a%2C b: c,times=1", Fault("mashup_error", msg="a, b: c", times=1)),
        ("redirect:http://x:1/{path}", Fault("redirect", url="http://x:1/{path}")),
        ("bundle_evil:huge", Fault("bundle_evil", form="huge")),
        ("html,service=file,every=2,match=flt[1]", Fault("html", service="file", every=2, match="flt[1]")),
        ("close,match=a:b", Fault("close", match="a:b")),
    ],
)
def test_grammar(text, expected):
    """A fault's text form gives the fault."""
    assert expected == Fault.parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("explode", "status, html"),
        ("", "status, html"),
        ("status:503,wings=2", "retry_after"),
        ("status:many", "code must be a number"),
        ("html:5", "no KEY=VALUE"),
        ("status:503,5", "no KEY=VALUE"),
        ("truncate,framing=odd", "length, close, chunked"),
        ("status,service=shop", "fitscut"),
        ("bundle_evil:mild", "absolute"),
        ("reset:5,form=cut", "at"),
        ("status:9", "100..999"),
        ("text,rate=2", "0..1"),
        ("stall:seconds=nan", "seconds must be a number from 0"),
        ("stall:seconds=-3", "seconds must be a number from 0"),
        ("truncate:at=inf", "at must be a number from 0"),
    ],
)
def test_mistakes_are_told_what_is_allowed(text, told):
    """An error in a fault's text names what is allowed."""
    with pytest.raises(ValueError, match=told.replace("(", "\\(").replace(".", "\\.")):
        Fault.parse(text)


@given(st.sampled_from(sorted(KINDS)))
def test_every_kind_parses_bare(kind):
    """Every kind does something sensible without any value."""
    assert kind == Fault.parse(kind).kind


def statuses(asker, uri: str, n: int) -> list[int]:
    """Ask for one cutout several times."""
    return [asker.file(uri).status_code for _ in range(n)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("nth=2", [200, 500, 200, 200, 200, 200]),
        ("nth=1+4", [500, 200, 200, 500, 200, 200]),
        ("every=3", [200, 200, 500, 200, 200, 500]),
        ("first=2", [500, 500, 200, 200, 200, 200]),
        ("from=3,until=4", [200, 200, 500, 500, 200, 200]),
        ("times=1", [500, 200, 200, 200, 200, 200]),
        ("match=27404778", [500] * 6),
        ("match=99999", [200] * 6),
        ("service=query", [200] * 6),
        ("every=2,first=4", [200, 500, 200, 500, 200, 200]),
        ("rate=0", [200] * 6),
        ("rate=1", [500] * 6),
    ],
)
def test_selectors(start, real, where, expected):
    """Each selector chooses the requests that it names."""
    assert expected == statuses(start(f"status:500,{where}"), real, 6)


def test_rate_chooses_uris_for_good(start, real):
    """A rate hits its share of URIs, the same ones each time."""
    asker = start("status:500,rate=0.3,seed=1")
    asked = [real.replace("675.3514", f"{600 + i}.5") for i in range(100)]
    one, two = ([asker.file(uri).status_code for uri in asked] for _ in range(2))

    assert one == two
    assert 15 < one.count(500) < 45


def test_first_fault_wins_and_numbering_starts_anew(start, real):
    """Faults are tried in order; swapping them at run time counts requests from one again."""
    asker = start("status:500,nth=1", "status:502")
    one = statuses(asker, real, 2)
    asker.sim.faults = [Fault("status", code=503, nth=2)]

    assert (one, statuses(asker, real, 2)) == ([500, 502], [200, 503])


def test_retry_after_in_all_forms(start, real):
    """Retry-After comes in seconds, as a date, or as nonsense."""
    asker = start(
        "status:429,retry_after=7,nth=1", "status:503,retry_after=date+60,nth=2", "status:503,retry_after=-x,nth=3"
    )
    one, two, three = (asker.file(real) for _ in range(3))
    date = email.utils.parsedate_to_datetime(two.headers["retry-after"])

    assert (one.status_code, one.headers["retry-after"]) == (429, "7")
    assert 30 < date.timestamp() - time.time() < 90
    assert three.headers["retry-after"] == "-x"


@pytest.mark.parametrize(
    ("fault", "begins"),
    [("html", b"<!DOCTYPE html>"), ("text:sorry", b"sorry"), ("empty", b"")],
)
def test_wrong_content_with_status_200(start, real, fault, begins):
    """A page, a text or nothing comes in a cutout's place, with status 200."""
    answer = start(fault).file(real)

    assert answer.status_code == 200
    assert answer.content.startswith(begins)
    assert len(answer.content) < 500


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
def test_truncate(start, real, framing):
    """A truncated body has its first bytes, in each of three framings, and then the connection ends."""
    asker = start(f"truncate:1000,framing={framing}")
    head, rest, ending = asker.raw_file(real)
    whole = asker.sim.render(real)
    expected = {
        "length": whole[:1000],
        "close": whole[:1000],
        "chunked": b"3e8\r\n" + whole[:1000] + b"\r\n",
    }[framing]

    assert (expected, "end") == (rest, ending)
    assert (framing == "length") == (b"content-length: 20160" in head)
    assert (framing == "chunked") == (b"transfer-encoding" in head)


def test_truncate_at_a_fraction(start, real):
    """A place below one is a fraction of the body."""
    _, rest, _ = start("truncate:0.25,framing=close").raw_file(real)

    assert len(rest) == 20_160 // 4


@pytest.mark.parametrize("by", [100, -100])
def test_wrong_length(start, real, by):
    """Content-Length promises more, or less, than what comes."""
    head, rest, ending = start(f"wrong_length:{by}").raw_file(real)

    assert f"content-length: {20_160 + by}".encode() in head
    assert (len(rest), ending) == (20_160, "end")


def test_reset_before_the_headers(start, real):
    """The connection is reset with nothing said."""
    assert start("reset").raw_file(real) == (b"", b"", "reset")


def test_reset_in_the_middle(start, real):
    """The connection is reset after some bytes of the body."""
    head, rest, ending = start("reset:500").raw_file(real)

    assert head.startswith(b"HTTP/1.1 200")
    assert 500 <= len(rest) < 600
    assert ending == "reset"


def test_stall_before_the_headers_and_in_the_body(start, real):
    """The server falls silent, at once or after some bytes."""
    one = start("stall:30").raw_file(real, timeout_s=0.3)
    _, rest, ending = start("stall:30,at=100").raw_file(real, timeout_s=0.3)

    assert one == (b"", b"", "silence")
    assert (100 <= len(rest) < 120, "silence") == (True, ending)


def test_stall_ends(start, real):
    """After a stall the answer comes whole."""
    asker = start("stall:0.2,nth=1", "stall:0.2,at=100,nth=2")

    assert [asker.sim.render(real)] * 2 == [asker.file(real).content for _ in range(2)]


def test_slow(start, real):
    """A slow body drips in many pieces, and is whole."""
    asker = start("slow:200000")
    with asker.http.stream("GET", "/api/v0.1/Download/file", params={"uri": real}) as answer:
        pieces = list(answer.iter_raw())

    assert len(pieces) >= 2
    assert asker.sim.render(real) == b"".join(pieces)


def test_wrong_shape_and_wrong_source(start, real):
    """A whole cutout of another size, or of another exposure's name, comes on both paths."""
    asker = start("wrong_shape:31,nth=1", "wrong_source,nth=2", "wrong_shape,nth=3")
    small, other, less = (asker.file(real).content for _ in range(3))

    assert asker.sim.render(real.replace("size=51", "size=31"))[:400] == small[:400]
    assert asker.sim.render(real.replace("size=51", "size=49"))[:400] == less[:400]
    assert b"'ibe802npq'" not in other
    assert other.count(b"'ibe892npq") == 2
    assert asker.sim.render(real)[8640:] == other[8640:]


def test_endless(start, real):
    """The body goes on and on, well past the cutout's size."""
    asker = start("endless")
    size = 0
    with asker.http.stream("GET", "/api/v0.1/Download/file", params={"uri": real}) as answer:
        for piece in answer.iter_raw():
            size += len(piece)
            if size > 1_000_000:
                break

    assert size > 1_000_000


def test_gzip_bomb(start, real):
    """A small body inflates to a large one."""
    asker = start("gzip_bomb:2e7")
    with asker.http.stream("GET", "/api/v0.1/Download/file", params={"uri": real}) as answer:
        sent = b"".join(answer.iter_raw())

        assert answer.headers["content-encoding"] == "gzip"
    assert len(sent) < 100_000
    assert len(zlib.decompressobj(-15).decompress(sent[10:])) == 19 * 1_048_576
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(sent)


def test_redirects(start, real):
    """A redirect leads to itself, or to where its URL says with the request's query."""
    asker = start("redirect,nth=1", "redirect:/api/v0.1/Download/file/?{query},code=307,nth=2")
    one, two = asker.file(real), asker.file(real)

    assert one.status_code == 302
    assert one.headers["location"] == one.request.url.raw_path.decode()
    assert two.status_code == 307
    assert asker.sim.render(real) == asker.http.get(two.headers["location"]).content


def test_redirect_loop(start, real):
    """A redirect to itself never ends by itself."""
    with pytest.raises(httpx.TooManyRedirects):
        start("redirect").file(real, follow_redirects=True)


def test_close(start, real):
    """The connection closes behind a whole answer that had promised to keep it."""
    head, rest, ending = start("close").raw_file(real)

    assert b"connection: close" not in head
    assert (len(rest), ending) == (20_160, "end")


def test_hang_up(start, real):
    """The connection closes without a byte."""
    assert start("hang_up").raw_file(real) == (b"", b"", "end")


def test_a_length_of_any_text(start, real):
    """Content-Length says whatever it is told to."""
    head, _, _ = start("wrong_length:text=-5").raw_file(real)

    assert b"content-length: -5" in head


@pytest.mark.parametrize(("fault", "n_bytes"), [("slow_head:0.01", 100), ("endless_head", 1_000_000)])
def test_headers_that_never_end(start, real, fault, n_bytes):
    """Header lines drip, or pour, and no empty line comes."""
    asker = start(fault)
    parts = urlsplit(asker.sim.url)
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"GET {FILE_OF}{quote(real, safe='')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while len(received) < n_bytes:
            received += connection.recv(65_536)

    assert received.startswith(b"HTTP/1.1 200")
    assert b"\r\n\r\n" not in received


def test_false_gzip(start, real):
    """A plain body says that it is compressed."""
    asker = start("false_gzip")
    with asker.http.stream("GET", FILE_OF + quote(real, safe="")) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert asker.sim.render(real) == b"".join(answer.iter_raw())


def test_endless_zeros(start, real):
    """What comes behind the body is zeros, for ever."""
    asker = start("endless:zeros")
    whole = asker.sim.render(real)
    received = b""
    with asker.http.stream("GET", FILE_OF + quote(real, safe="")) as answer:
        for piece in answer.iter_raw():
            received += piece
            if len(received) > 200_000:
                break

    assert whole == received[: len(whole)]
    assert not any(received[len(whole) :])


@pytest.mark.parametrize("code", [204, 304])
def test_statuses_without_a_body(start, real, code):
    """What HTTP gives no body to has none, and the connection can be used on."""
    asker = start(f"status:{code},nth=1")
    one, two = asker.file(real), asker.file(real)

    assert (one.status_code, one.content, two.status_code) == (code, b"", 200)
    assert len({seen.connection for seen in asker.sim.requests}) == 1


def test_garbage(start, real):
    """What comes is not HTTP."""
    head, _, ending = start("garbage").raw_file(real)

    assert not head.startswith(b"HTTP")
    assert ending == "end"


def test_outage_by_number(start, real):
    """Without seconds an outage refuses the chosen requests, of every service."""
    asker = start("outage,from=2,until=3")
    found = [asker.file(real).status_code, asker.file(real).status_code]
    found += [asker.http.post("/api/v0/invoke").status_code, asker.file(real).status_code]

    assert found == [200, 503, 503, 200]


def test_outage_by_time(start, real):
    """With seconds an outage begins at the chosen request and is over after a while, once."""
    asker = start("outage:0.5,nth=2,retry_after=1")
    begin = [asker.file(real) for _ in range(3)]
    while asker.file(real).status_code == 503:
        time.sleep(0.05)

    assert [answer.status_code for answer in begin] == [200, 503, 503]
    assert begin[1].headers["retry-after"] == "1"
    assert statuses(asker, real, 3) == [200] * 3


def test_mashup_faults(start):
    """A query fails in given words, never completes, or silently lacks rows; counts are left alone."""
    asker = start(
        "mashup_error:The session is in the kill state.,nth=1", "executing_forever,nth=2", "short_answer:3"
    )
    page = {"page": 1, "pagesize": 100}
    one, two, three = (asker.query("id", [], **page) for _ in range(3))

    assert (one["status"], one["msg"]) == ("ERROR", "The session is in the kill state.")
    assert two["status"] == "EXECUTING"
    assert (len(three["data"]), three["paging"]["rowsTotal"], three["status"]) == (3, 3, "COMPLETE")
    assert asker.query("COUNT_BIG(*)", [])["data"][0]["Column1"] == 105


def test_fault_leaves_other_connections_alone(start, real):
    """While one request stalls, others are answered."""
    asker = start("stall:30,nth=1")
    one = asker.raw_file(real, timeout_s=0.2)

    assert one[2] == "silence"
    assert asker.file(real).status_code == 200


def test_recorded_faults(start, real):
    """The record tells which fault befell a request, and what status was sent."""
    asker = start("status:503,nth=1", "reset,nth=2")
    asker.file(real)
    asker.raw_file(real)
    asker.file(real)

    assert [(seen.fault, seen.status) for seen in asker.sim.requests] == [("status", 503), ("reset", 0), ("", 200)]
