"""Which archive is meant, and what no message may show."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_server import WireServer, reply

from psfharvest import Archive, BadInput
from psfharvest.archive.endpoints import endpoints_for, without_userinfo
from psfharvest.archive.wires.base import Request, Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.model import Evidence

HERE, THERE, CLIENTS = "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3/base/"


@pytest.mark.parametrize(
    ("url", "base", "is_trusted", "root"),
    [
        (HERE, CLIENTS, True, HERE),
        (None, CLIENTS, True, CLIENTS.rstrip("/")),
        (None, None, True, THERE),
        (None, "", True, THERE),
        (None, None, False, "https://mast.stsci.edu"),
        (None, CLIENTS, False, CLIENTS.rstrip("/")),
    ],
)
def test_whose_word_counts(
    monkeypatch: pytest.MonkeyPatch, url: str | None, base: str | None, is_trusted: bool, root: str
) -> None:
    """The call's own word first, then the client's, then the environment's, then the public archive."""
    monkeypatch.setenv("PSFHARVEST_ARCHIVE", THERE)
    client = None if base is None else httpx.AsyncClient(base_url=base)

    assert Archive(url, client=client, trust_env=is_trusted).endpoints.root == root


@pytest.mark.parametrize(
    ("given", "is_trusted", "sent"), [(None, True, "env"), (None, False, ""), ("", True, ""), ("own", True, "own")]
)
def test_whose_token_counts(
    monkeypatch: pytest.MonkeyPatch, given: str | None, is_trusted: bool, sent: str
) -> None:
    """A token that is given, even an empty one, goes before the environment's."""
    monkeypatch.setenv("MAST_API_TOKEN", "env")

    assert Archive(HERE, token=given, trust_env=is_trusted).endpoints.token == sent


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_proxies_are_the_environments(
    monkeypatch: pytest.MonkeyPatch, make: type[Wire], is_trusted: bool
) -> None:
    """The environment's proxy is used, or with `trust_env=False` passed by."""
    with WireServer({"/ok": (reply(b"direct"),)}) as server, WireServer() as proxy:
        proxy.script[server.url("/ok")] = (reply(b"by proxy"),)
        monkeypatch.setenv("http_proxy", proxy.url(""))
        monkeypatch.delenv("no_proxy", raising=False)
        wire = make(trust_env=is_trusted)  # type: ignore[call-arg]
        answer = await wire.exchange(Request(server.url("/ok")))
        await wire.aclose()

    assert answer.body == (b"by proxy" if is_trusted else b"direct")


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
async def test_the_environments_certificates(monkeypatch: pytest.MonkeyPatch, make: type[Wire], tmp_path) -> None:
    """A file of certificates that the environment names counts, unless the environment does not."""
    import ssl

    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with WireServer({"/ok": (reply(b"ok"),)}, context) as server:
        for is_trusted in (True, False):
            wire = make(trust_env=is_trusted)  # type: ignore[call-arg]
            answer = await wire.exchange(Request(server.url("/ok")))
            await wire.aclose()
            assert (answer.failure is None) is is_trusted


@pytest.mark.parametrize(
    "url",
    [
        "https://user:canary@archive.example/",
        "https://canary@archive.example",
        "user:canary@archive.example",
        "http://user:can@ary@127.0.0.1:8000",
        "ftp://user:canary@archive.example",
        "http://user:canary@[",
        "http://127.0.0.1:8000/?token=canary",
        "http://127.0.0.1:8000/#canary",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(url: str) -> None:
    """Whatever is wrong with an address, what may be a secret in it stays out of the words."""
    with pytest.raises(BadInput) as refused:
        endpoints_for(url, None)

    words = f"{refused.value} {refused.value!r}"
    assert "canary" not in words
    assert "can@ary" not in words
    assert "user:" not in words


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\t", " ", "\0", "/\n"])
def test_an_address_that_no_request_can_hold_is_refused_at_once(end: str) -> None:
    """A variable may hold the end of a line that it was read from."""
    with pytest.raises(BadInput, match="a base URL like"):
        endpoints_for(f"http://127.0.0.1:8000{end}", None)


def test_the_advice_is_a_token() -> None:
    """Who gives a password is told what to give instead, on the command line as in Python."""
    with pytest.raises(BadInput, match="--token"):
        Archive("https://user:canary@archive.example/")


def test_the_command_shows_no_password(psfharvest) -> None:
    """Neither by option nor by variable."""
    url = "https://user:canary@archive.example/"
    for run in (
        psfharvest("count", "UVIS", "--archive", url),
        psfharvest("count", "UVIS", env={"PSFHARVEST_ARCHIVE": url}),
    ):
        assert run.status == 2
        assert "canary" not in run.out + run.err
        assert "--token" in run.err


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "http://nowhere.invalid:9"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:8", "https://[::1]:8", "http://localhost"])
async def test_a_proxy_that_cannot_be_reached_is_named(
    monkeypatch: pytest.MonkeyPatch, make: type[Wire], proxy: str, url: str
) -> None:
    """Who has forgotten the variable would else look for the fault at the archive; without one it is not named."""
    for name in ("no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = []
    for said in (proxy, ""):
        monkeypatch.setenv("http_proxy", said)
        monkeypatch.setenv("https_proxy", said)
        wire = make()
        found.append((await wire.exchange(Request(url))).failure)
        await wire.aclose()
    by_proxy, direct = found

    assert by_proxy is not None
    assert Evidence.UNREACHABLE is by_proxy.evidence
    assert "proxy" in by_proxy.detail
    assert direct is not None
    assert "proxy" not in direct.detail


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
@pytest.mark.parametrize(
    "proxy", ["http://user:canary@127.0.0.1:9", "user:canary@[:9", "http://user:canary@127.0.0.1:x"]
)
async def test_a_proxys_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, make: type[Wire], proxy: str
) -> None:
    """A proxy that cannot be used is a failure, or refused, without the password that stands in its address."""
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    try:
        wire = make()
        words = str((await wire.exchange(Request("http://127.0.0.1:9/"))).failure)
        await wire.aclose()
    except BadInput as refused:
        words = f"{refused} {refused.__cause__} {refused.__context__}"

    assert "canary" not in words


@given(st.text(alphabet="ab:/@'\" .", max_size=30))
def test_nothing_before_an_at_is_left(words: str) -> None:
    """No word that is shown holds an @ with anything before it in the same word."""
    shown = without_userinfo(f"error in 'http://u:canary{words}@host'")

    assert "@" not in shown or "canary" not in shown.rpartition("@")[0] or "'" in words or '"' in words
