"""The token goes to the archive's own host, over TLS or loopback; to no other host, into no file and no log."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_server import CLOSE, RESET, Seen, Step, WireServer, reply

from harness import rows_of
from hostile.seeds import cutout_uri, render
from psfharvest import Archive, Limits, Query, RetryPolicy, blocking
from psfharvest.archive.endpoints import Endpoints, is_loopback, without
from psfharvest.core.errors import BadInput, PsfharvestError
from psfharvest.simulator import Fault, Simulator
from sampling import examples

TOKEN = "0123456789abcdefTOKEN"
FILE = "/api/v0.1/Download/file"
QUICK = RetryPolicy(attempts=2, first_delay_s=0.01, max_delay_s=0.02, patience_s=0.1)


@pytest.fixture(params=["curl", "httpx"])
def client(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Both wires in turn: ours, and a client of the caller's."""
    return (lambda: None) if request.param == "curl" else httpx.AsyncClient


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server on this machine needs to speak TLS; it is trusted."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def fetched(url: str, make: Callable[[], Any]) -> bytes | PsfharvestError:
    """Fetch one cutout with the token: its bytes, or the error."""

    async def run() -> bytes | PsfharvestError:
        client = make()
        limits = Limits(timeout_s=5, connect_timeout_s=5)
        try:
            async with Archive(url, client=client, token=TOKEN, retry=QUICK, limits=limits) as archive:
                return (await archive.fetch(cutout_uri())).raw
        except PsfharvestError as error:
            return error
        finally:
            if client is not None:
                await client.aclose()

    return anyio.run(run)


def knows(seen: Seen) -> bool:
    """Whether a request shows the token anywhere."""
    return TOKEN in repr(seen)


# Where it goes.


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("via", "words", "env"), [("file", ["--token", TOKEN], {}), ("bundle", [], {"MAST_API_TOKEN": TOKEN})]
)
def test_it_goes_with_every_request_to_the_archive(
    simulator: Simulator, psfharvest, via: str, words: list[str], env: dict[str, str]
) -> None:
    """Queries, files and bundles carry it, by whichever way it was given."""
    asked = [
        "harvest",
        "home",
        "UVIS",
        "--suffix",
        "flt",
        "--limit",
        "20",
        "--archive",
        simulator.url,
        "--via",
        via,
    ]
    assert 0 == psfharvest(*asked, *words, env=env).status

    assert {"query", via} == {seen.service for seen in simulator.requests}
    assert {f"token {TOKEN}"} == {seen.header("authorization") for seen in simulator.requests}


def test_it_goes_over_tls(client: Callable[[], Any], tls: ssl.SSLContext) -> None:
    """An archive that speaks TLS gets it."""
    with WireServer({FILE: (reply(render()),)}, tls) as archive:
        assert render() == fetched(archive.url(""), client)

    assert [f"token {TOKEN}"] == [seen.headers["authorization"] for seen in archive.seen]


async def test_fitscut_does_not_get_it(simulator: Simulator) -> None:
    """DataURLs are of another host: what is read there is asked for without it."""
    async with Archive(simulator.url, token=TOKEN) as archive:
        uris = [cutout_uri()]
        async with archive.stream(uris, via="fitscut") as cutouts:
            assert [render()] == [cutout.raw async for cutout in cutouts]

    assert [""] == [seen.header("authorization") or "" for seen in simulator.requests]


# Where it does not go.


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_another_host_does_not_get_it(client: Callable[[], Any], status: str) -> None:
    """A redirect to another port is followed without it, and so is one that leads back from there."""
    with WireServer() as archive, WireServer() as other:
        archive.script[FILE] = (reply(b"", status, f"Location: {other.url('/away')}"),)
        archive.script["/back"] = (reply(render()),)
        other.script["/away"] = (reply(b"", status, f"Location: {archive.url('/back')}"),)
        assert render() == fetched(archive.url(""), client)

    assert [True, False] == [knows(seen) for seen in archive.seen]
    assert [False] == [knows(seen) for seen in other.seen]


def test_a_form_is_passed_on_without_it(client: Callable[[], Any]) -> None:
    """A query that is redirected with its form goes on without the token."""

    async def run(url: str) -> None:
        made = client()
        async with Archive(url, client=made, token=TOKEN, retry=QUICK) as archive:
            with pytest.raises(PsfharvestError):
                await archive.count(Query("UVIS"))
        if made is not None:
            await made.aclose()

    with WireServer() as archive, WireServer({"/away": (reply(b"{}"),)}) as other:
        archive.script["/api/v0/invoke"] = (reply(b"", "307 Temporary", f"Location: {other.url('/away')}"),)
        anyio.run(run, archive.url(""))

    assert all(knows(seen) for seen in archive.seen)
    assert [("POST", False)] == list({(seen.method, knows(seen)) for seen in other.seen})


def test_a_downgrade_does_not_get_it(client: Callable[[], Any], tls: ssl.SSLContext) -> None:
    """From TLS to plain HTTP on this machine it does not go along; to plain HTTP elsewhere nothing goes."""
    count = b'{"status": "COMPLETE", "data": [{"Column1": 5}], "fields": [{"name": "Column1", "type": "string"}]}'
    control = {"/api/v0/invoke": (reply(count),)}  # the archive lives: a bad redirect is its cutout's own
    with WireServer({"/plain": (reply(render()),)}) as plain, WireServer(control, tls) as archive:
        archive.script[FILE] = (reply(b"", "302 Found", f"Location: {plain.url('/plain')}"),)
        assert render() == fetched(archive.url(""), client)
        archive.script[FILE] = (reply(b"", "302 Found", f"Location: http://192.0.2.1:{archive.port}/"),)
        refused = fetched(archive.url(""), client)

    assert [False] == [knows(seen) for seen in plain.seen]
    assert "redirect" in str(refused)
    assert TOKEN not in str(refused)


CONFUSIONS = [
    "http://127.0.0.1:{a}@127.0.0.1:{b}/", "http://127.0.0.1:{a}\\@127.0.0.1:{b}/", "//127.0.0.1:{b}/",
    "http://127.0.0.1:{a}#@127.0.0.1:{b}/", "http://127.0.0.1:{a}?@127.0.0.1:{b}/", "http:\\\\127.0.0.1:{b}/",
    "http:/127.0.0.1:{b}/", "http:127.0.0.1:{b}/", "\\\\127.0.0.1:{b}/", "/\\127.0.0.1:{b}/", "///127.0.0.1:{b}/",
    "HTTP://127.0.0.1:{b}/", "http://user:word@127.0.0.1:{b}/", "http://localhost:{b}/", "http://127.1:{b}/",
    "http://2130706433:{b}/", "http://0x7f.1:{b}/", "http://127.0.0.1:0{b}/", "http://127.0.0.1:{a}%40127.0.0.1:{b}/",
    "http://127.0.0.1:{a}\t@127.0.0.1:{b}/", "http://127.0.0.1:{a} @127.0.0.1:{b}/", "http://[::1]:{b}/",
    "http://[::ffff:127.0.0.1]:{b}/", "http://127.0.0.1:{a}:{b}/", "http://127.0.0.1:{b}:{a}/",
    "http://127.0.0.1;@127.0.0.1:{b}/", "http://\u2460\u2461\u2466.0.0.1:{b}/", "http://127.0.0.1.:{b}/",
    "http://0.0.0.0:{b}/", "http://127.0.0.1:{b}/../..//127.0.0.1:{a}/", "http://a@b@127.0.0.1:{b}/",
]  # fmt: skip
PIECES = [
    "http:",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "127.0.0.1",
    "{a}",
    "{b}",
    "#",
    "?",
    "localhost",
    "%40",
    "\t",
    " ",
    "[::1]",
]


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[WireServer, WireServer]]:
    """The archive, and another server that has every path a location could lead to."""
    with WireServer() as archive, WireServer() as other:
        yield archive, other


@settings(max_examples=examples(40))
@given(location=st.lists(st.sampled_from(PIECES), min_size=1, max_size=10).map("".join), wire=st.booleans())
@example(location="http://127.0.0.1:{a}@127.0.0.1:{b}/", wire=True)
def test_no_spelling_of_a_location_leads_it_astray(
    two: tuple[WireServer, WireServer], location: str, *, wire: bool
) -> None:
    """Whatever a Location looks like to whichever parser, the other server never sees the token."""
    check_location(two, location, (lambda: None) if wire else httpx.AsyncClient)


@pytest.mark.parametrize("location", CONFUSIONS)
def test_known_confusions_do_not_lead_it_astray(
    two: tuple[WireServer, WireServer], client: Callable[[], Any], location: str
) -> None:
    """Nor do the spellings that parsers of URLs are known to disagree on."""
    check_location(two, location, client)


def check_location(two: tuple[WireServer, WireServer], location: str, make: Callable[[], Any]) -> None:
    archive, other = two
    archive.seen.clear()
    other.seen.clear()
    text = location.format(a=archive.port, b=other.port)
    head = f"HTTP/1.1 302 Found\r\nLocation: {text}\r\nContent-Length: 0\r\n\r\n"
    archive.script[FILE] = (head.encode("utf-8"),)
    found = fetched(archive.url(""), make)

    assert isinstance(found, PsfharvestError)
    assert archive.seen
    assert not any(knows(seen) for seen in other.seen)


@pytest.mark.parametrize(
    "base",
    ["http://example.org", "HTTP://EXAMPLE.ORG/", "http://127.0.0.1.example.org", "http://localhost.example.org",
     "http://archive.localhost:8000", "http://127.0.0.1@example.org", "http://example.org:80", "http://[2001:db8::1]",
     "http://0.0.0.0", "http://192.0.2.1", "http://10.0.0.1:8000", "http://2130706433", "http://127.0.0.1%00.evil",
     "//127.0.0.1", "ftp://127.0.0.1", "http://example.org#@127.0.0.1", "http://example.org?@127.0.0.1"],
)  # fmt: skip
def test_a_base_that_would_show_it_is_refused(base: str) -> None:
    """Plain HTTP to anything but this machine is refused before a byte is sent, in words without the token."""
    with pytest.raises(BadInput) as refused:
        Archive(base, token=TOKEN)

    assert TOKEN not in "".join(traceback.format_exception(refused.value))


BASES = st.lists(st.sampled_from([*PIECES, "https:", "example.org", ".", "::1", "[", "]", "8"]), max_size=9).map(
    "".join
)


@settings(max_examples=examples(300))
@given(BASES | st.text(max_size=20).map("http://".__add__))
def test_any_base_is_refused_or_safe(base: str) -> None:
    """A base is taken with the token only if it is https or this machine, and httpx reads the same host in it."""
    try:
        root = Endpoints(base, TOKEN).root
    except BadInput as error:
        assert TOKEN not in str(error)  # noqa: PT017 - raised or not, both are right
        return
    parts = urlsplit(root)

    assert parts.scheme == "https" or is_loopback(parts.hostname or "")
    try:
        read = httpx.URL(root)
    except httpx.InvalidURL:
        return
    assert (parts.scheme, parts.hostname) == (read.scheme, read.host) or parts.scheme == "https"


@pytest.mark.parametrize("token", ["a\r\nEvil: 1", "a\n", "\0", "é", "\x7f", "\u2028"])
def test_a_token_that_would_break_the_header_is_refused(token: str) -> None:
    """Line breaks and what is not plain are refused, and not repeated."""
    with pytest.raises(BadInput) as refused:
        Archive("http://127.0.0.1:9", token=token)

    assert token not in str(refused.value)


# Where it is not kept.

LOUD = """
    import logging, sys
    import psfharvest.cli

    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    psfharvest.cli.main()
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
def test_it_is_in_no_file_and_no_output(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """After a harvest with failures, with all loggers on, neither the folder nor what was printed holds it."""
    simulator.faults = [
        Fault("status", code=401, service="file", rate=0.3),
        Fault("html", service="file", rate=0.2),
    ]
    words = [
        "harvest",
        "home",
        "UVIS",
        "--suffix",
        "flt",
        "--limit",
        "30",
        "--via",
        "file",
        "--sink",
        sink,
        "--json",
    ]
    words += ["--archive", simulator.url, "--attempts", "2"]
    env = os.environ | {"MAST_API_TOKEN": TOKEN}
    loud = [sys.executable, "-c", textwrap.dedent(LOUD), *words]
    done = subprocess.run(loud, cwd=tmp_path, env=env, capture_output=True, check=False)

    assert 3 == done.returncode, done.stderr.decode()
    assert {f"token {TOKEN}"} == {seen.header("authorization") for seen in simulator.requests}
    assert {"done", "failed"} == {row["state"] for row in rows_of(tmp_path / "home")}
    for printed in (done.stdout, done.stderr):
        assert TOKEN.encode() not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert [] == [path for path in files if TOKEN.encode() in path.read_bytes()]


BROKEN: dict[str, tuple[Step, ...]] = {
    "401": (reply(b"who are you?", "401 Unauthorized"),),
    "500": (reply(b"oh", "500 Server Error"),),
    "page": (reply(b"<html>login</html>"),),
    "reset": (RESET,),
    "garbage": (b"\0\1\2", CLOSE),
    "loop": (reply(b"", "302 Found", f"Location: {FILE}"),),
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", CLOSE),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_it_is_in_no_exception(client: Callable[[], Any], caplog: pytest.LogCaptureFixture, name: str) -> None:
    """However a request fails, neither the error, its causes, nor any logger's words tell it."""
    with WireServer({FILE: BROKEN[name]}) as archive, caplog.at_level("DEBUG"):
        error = fetched(archive.url(""), client)

    assert isinstance(error, PsfharvestError)
    assert any(knows(seen) for seen in archive.seen)
    assert TOKEN not in "".join(traceback.format_exception(error))
    assert TOKEN not in repr(vars(error))
    assert TOKEN not in caplog.text
    assert client() is None or "httpcore" in caplog.text


@pytest.mark.parametrize("msg", ["no access for {}", "Invalid column name '{}'.", "{}"])
def test_a_query_that_is_answered_with_it_does_not_tell_it(client: Callable[[], Any], msg: str) -> None:
    """Words of the query service that repeat the token are told without it, whosever fault they are about."""
    words = msg.format(TOKEN)
    answers = [{"status": "ERROR", "msg": words}, {"status": words}, {"status": [words]}]

    async def run(url: str) -> str:
        made = client()
        async with Archive(url, client=made, token=TOKEN, retry=QUICK) as archive:
            with pytest.raises(PsfharvestError) as told:
                await archive.count(Query("UVIS"))
        if made is not None:
            await made.aclose()
        return "".join(traceback.format_exception(told.value))

    for answer in answers:
        with WireServer({"/api/v0/invoke": (reply(json.dumps(answer).encode()),)}) as archive:
            told = anyio.run(run, archive.url(""))
        assert TOKEN not in told
        assert "..." in told


@given(st.integers(0, 60), st.integers(0, 300))
def test_words_cut_short_within_it_do_not_tell_its_beginning(before: int, limit: int) -> None:
    """However an archive's words are cut, not more than three of its characters are left."""
    secrets = Endpoints("http://127.0.0.1:9", TOKEN).credentials()
    told = without(secrets, (f"{'x' * before}{TOKEN} and {TOKEN}" * 3)[:limit])

    assert TOKEN[:4] not in told


def test_it_is_in_no_repr() -> None:
    """Objects that hold it do not show it, nor do requests that carry it, nor a traceback with its variables."""
    endpoints = Endpoints("http://127.0.0.1:9", TOKEN)
    archive = Archive("http://127.0.0.1:9", token=TOKEN)
    shown = [endpoints, endpoints.credentials(), dict(endpoints.credentials()), archive, vars(archive)]
    shown += [blocking.Archive("http://127.0.0.1:9", token=TOKEN)]

    assert (("Authorization", f"token {TOKEN}"),) == endpoints.credentials()
    for what in shown:
        assert TOKEN not in repr(what)
        assert TOKEN not in f"{what}"


def test_a_traceback_with_variables_does_not_tell_it(client: Callable[[], Any]) -> None:
    """Tools that print the variables of each frame of ours find the token hidden in the requests there."""

    async def run(url: str) -> BaseException:
        made = client()
        async with Archive(url, client=made, token=TOKEN, retry=QUICK) as archive:
            with pytest.raises(PsfharvestError) as told:
                await archive.count(Query("UVIS"))
        if made is not None:
            await made.aclose()
        return told.value

    with WireServer({"/api/v0/invoke": BROKEN["500"]}) as archive:
        error: BaseException | None = anyio.run(run, archive.url(""))
    frames: list[traceback.FrameSummary] = []
    while error is not None:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames += [frame for frame in found.stack if f"{os.sep}psfharvest{os.sep}" in frame.filename]
        error = error.__cause__ or error.__context__
    values = [text for frame in frames for text in (frame.locals or {}).values()]

    assert any("credentials=(('Authorization'" in text for text in values)
    assert not any(TOKEN in text for text in values)
