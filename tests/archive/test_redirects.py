"""Redirects and cookies: decisions as values, then the same over both wires."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from wire_server import WireServer, reply

from psfharvest.archive.endpoints import is_loopback
from psfharvest.archive.wires.base import Request, Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.archive.wires.redirects import MAX_REDIRECTS, Redirects
from psfharvest.core.model import Evidence, Failure, Reason

SECRET = (("Authorization", "token t"),)


def led(url: str, *steps: tuple[str, list[str]]) -> Redirects:
    redirects = Redirects(Request(url, credentials=SECRET))
    for location, cookies in steps:
        assert redirects.follow(302, location, cookies) is None
    return redirects


@pytest.mark.parametrize(
    ("here", "location", "there", "keeps_secret"),
    [
        ("https://a.example/x", "/y", "https://a.example/y", True),
        ("https://a.example/x", "https://a.example:443/y", "https://a.example:443/y", True),
        ("https://a.example/x", "http://a.example/y", "https://a.example/y", True),
        ("https://a.example/x", "http://a.example:80/y?q=1", "https://a.example/y?q=1", True),
        ("https://a.example/x", "http://b.example/y", "https://b.example/y", False),
        ("http://a.example/x", "http://a.example/y", "http://a.example/y", True),
        ("http://a.example/x", "http://b.example/y", "https://b.example/y", False),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:9000/y", "http://127.0.0.1:9000/y", False),
        ("http://127.0.0.1:8000/x", "http://b.example:8080/y", "https://b.example:8080/y", False),
    ],
)
def test_plain_http_is_tried_over_https(here: str, location: str, there: str, keeps_secret: bool) -> None:
    """A way out to plain http is taken over https, and only the first host sees the credentials."""
    hop = led(here, (location, [])).hop

    assert (hop.url, hop.credentials == SECRET) == (there, keeps_secret)


def test_loopback_goes_back_to_http_when_https_does_not_connect() -> None:
    """Only this machine itself may be asked in plain text after all; elsewhere the failure is the redirect's."""
    near = led("https://127.0.0.1/x", ("http://127.0.0.1:8000/y", []))
    far = led("https://a.example/x", ("http://b.example/y", []))
    refused = Failure(Reason.REFUSED, "no", evidence=Evidence.UNREACHABLE)

    assert near.hop.url == "https://127.0.0.1:8000/y"
    assert near.fall_back()
    assert (near.hop.url, near.hop.credentials) == ("http://127.0.0.1:8000/y", ())
    assert near.reason_for(refused).reason is Reason.REFUSED
    assert not far.fall_back()
    assert far.reason_for(refused).reason is Reason.REDIRECT


@pytest.mark.parametrize(
    ("location", "evidence"),
    [
        ("/y", Evidence.UNREACHABLE),
        ("https://a.example:443/y", Evidence.UNREACHABLE),
        ("https://a.example:8443/y", Evidence.ERRING),
        ("https://b.example/y", Evidence.ERRING),
        ("http://b.example/y", Evidence.ALIVE),
    ],
)
def test_a_host_that_was_led_to_is_not_the_archive(location: str, evidence: Evidence) -> None:
    """That it cannot be reached is no outage by itself: the archive has answered."""
    refused = Failure(Reason.DNS, "no", evidence=Evidence.UNREACHABLE)

    assert led("https://a.example/x", (location, [])).reason_for(refused).evidence is evidence


@pytest.mark.parametrize(
    "location",
    [None, "", "ftp://a.example/", "http://", "https://u:p@b.example/", "http://[", "https://b.example:0/"],
)
def test_what_is_no_address_is_refused(location: str | None) -> None:
    """A target that cannot be asked ends the request, and shows no password."""
    failure = Redirects(Request("https://a.example/")).follow(302, location)

    assert failure is not None
    assert failure.reason is Reason.REDIRECT
    assert "u:p" not in failure.detail


def test_five_are_followed() -> None:
    """The sixth redirect is one too many."""
    redirects = led("https://a.example/", *[("/x", [])] * MAX_REDIRECTS)

    assert redirects.follow(302, "/x") is not None


def test_cookies_return_to_their_host_only() -> None:
    """A cookie goes back to the host that set it, below its path, and over TLS if it says so."""
    given_first = ["one=1; Path=/", "two=2; HttpOnly", "three=3; Secure", "bad"]
    redirects = led("http://127.0.0.1:1/a/b", ("/a/c", given_first))
    at_home = dict(redirects.hop.headers)
    redirects.follow(302, "/elsewhere", ["one=; Max-Age=0; Path=/", "four=4; Path=/"])
    beside = dict(redirects.hop.headers)
    redirects.follow(302, "http://localhost:1/a/c")
    away = dict(redirects.hop.headers)
    redirects.follow(302, "http://127.0.0.1:1/a/c")
    back = dict(redirects.hop.headers)

    assert at_home == {"Cookie": "one=1; two=2"}
    assert beside == {"Cookie": "four=4"}
    assert away == {}
    assert back == {"Cookie": "two=2; four=4"}


@given(st.lists(st.tuples(st.text(max_size=40), st.lists(st.text(max_size=60), max_size=3)), max_size=8))
def test_nothing_breaks_the_rules(steps: list[tuple[str, list[str]]]) -> None:
    """Whatever an archive sends, nobody but the first host sees a secret, and no header is broken."""
    redirects = Redirects(Request("https://a.example/x", credentials=SECRET))
    for location, cookies in steps:
        if redirects.follow(302, location, cookies) is None:
            url = urlsplit(redirects.hop.url)
            assert url.scheme == "https" or is_loopback(url.hostname or "")
            assert not redirects.hop.credentials or url.hostname == "a.example"
        assert all(value.isprintable() for _, value in redirects.hop.headers)


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
class TestOverTheWires:
    """Both wires alike."""

    async def test_a_cookie_comes_back(self, make: type[Wire]) -> None:
        """The case of an archive that redirects to itself until its cookie comes back."""
        with WireServer() as server:
            server.script = {
                "/a": (reply(b"", "302 Found", "Set-Cookie: sid=1; Path=/", "Set-Cookie: b=2", "Location: /b"),),
                "/b": (reply(b"there"),),
            }
            wire = make()  # type: ignore[call-arg]
            for _ in range(2):
                assert (await wire.exchange(Request(server.url("/a")))).body == b"there"
            async with wire.stream(Request(server.url("/a"))) as stream:
                assert b"there" == b"".join([chunk async for chunk in stream.chunks()])
            await wire.exchange(Request(server.url("/b")))
            await wire.aclose()
            cookies = [seen.headers.get("cookie") for seen in server.seen]

        assert cookies == [None, "sid=1; b=2"] * 3 + [None]

    async def test_a_location_may_hold_any_bytes(self, make: type[Wire]) -> None:
        """What is beyond ASCII is quoted."""
        with WireServer(
            {"/a": (b"HTTP/1.1 302 Found\r\nLocation: /b?\xe9=%20[1]\r\nContent-Length: 0\r\n\r\n",)}
        ) as server:
            server.script["/b"] = (reply(b"there"),)
            wire = make()  # type: ignore[call-arg]
            answer = await wire.exchange(Request(server.url("/a")))
            await wire.aclose()

        assert b"there" == answer.body
        assert server.seen[-1].target.isascii()
        assert server.seen[-1].target.endswith(("=%20[1]", "=%20%5B1%5D"))

    async def test_http_is_tried_over_https(
        self, make: type[Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A redirect to http is asked over https where that works, and on loopback over http where it does not."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with WireServer({"/ok": (reply(b"plain"),)}) as plain, WireServer({}, context) as secure:
            secure.script = {
                "/ok": (reply(b"secure"),),
                "/self": (reply(b"", "302 Found", f"Location: http://127.0.0.1:{secure.port}/ok"),),
                "/plain": (reply(b"", "302 Found", f"Location: {plain.url('/ok')}"),),
            }
            wire = make()  # type: ignore[call-arg]
            bodies = [(await wire.exchange(Request(secure.url(path)))).body for path in ("/self", "/plain")]
            await wire.aclose()

        assert bodies == [b"secure", b"plain"]

    async def test_the_servers_own_time_comes_with_its_answer(self, make: type[Wire]) -> None:
        """Retry-After and Date are handed over as they were sent."""
        date, later = "Fri, 01 Jan 2027 00:00:00 GMT", "Fri, 01 Jan 2027 00:00:03 GMT"
        with WireServer() as server:
            server.script = {"/": (reply(b"", "503 Busy", f"Retry-After: {later}", f"Date: {date}"),)}
            wire = make()  # type: ignore[call-arg]
            answer = await wire.exchange(Request(server.url("/")))
            async with wire.stream(Request(server.url("/"))) as stream:
                pass
            await wire.aclose()

        assert (answer.retry_after, answer.date) == (later, date)
        assert (stream.retry_after, stream.date) == (later, date)
