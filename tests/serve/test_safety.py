"""What no request gets: a file beside the folder, a write, an unbounded answer, another site's page the data."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import N_STARS, client_of
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from psfharvest.core.errors import FolderRefused
from psfharvest.serve import create_app
from psfharvest.serve.guard import Gate, Names

CANARY = "the canary beside the folder"
ROUTES = [
    "/", "/static/index.html", "/api/account", "/api/now", "/api/series", "/api/notes", "/api/facets", "/api/rows",
    "/api/points", "/api/pixels", "/api/cutout/1", "/api/fits/1", "/api/export", "/metrics", "/healthz",
]  # fmt: skip
PARAMETERS = [
    "where", "sort", "order", "at", "count", "columns", "n", "harvest", "format", "version",
    "column", "x", "y", "uri",
]  # fmt: skip
HOSTILE = [
    "../canary", "..%2fcanary", "/etc/passwd", "\x00", "'; DROP TABLE item; --", "1 OR 1=1", "-1", "1e9",
    "9" * 40, "NaN",
    "qfit=0..1) OR (1=1", "a" * 5000, "🌟", "json_extract(x)", "n) FROM item; --=1", "meta", "..", "%00",
    "\r\nX: y",
    "id=1..2..3", "state=done", "qfit=..", '{"paramName": "qfit", "values": [{"min": 0}, {"min": 1}]}', "[" * 3000,
    "{" * 3000, "0x10", "\uff11", "+1", "1_000", " 1",
]  # fmt: skip


@pytest.fixture(scope="session")
def guarded(stars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest with a canary beside it, and one within that is no cutout."""
    top = tmp_path_factory.mktemp("guarded")
    shutil.copytree(stars, top / "stars")
    (top / "canary").write_text(CANARY)
    (top / "stars" / "canary").write_text(CANARY)
    return top / "stars"


def same(folder: Path) -> dict[str, tuple[int, int]]:
    """Name, size and time of every file; a journal's own files come and go with its readers."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.parent.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@given(
    route=st.one_of(
        st.sampled_from(ROUTES),
        st.sampled_from(HOSTILE).map(lambda part: f"/api/cutout/{quote(part, safe='')}"),
        st.sampled_from(HOSTILE).map(lambda part: f"/api/fits/{quote(part, safe='')}"),
        st.sampled_from(HOSTILE).map(lambda part: f"/static/{quote(part, safe='')}"),
        st.sampled_from(HOSTILE).map(lambda part: "/" + quote(part, safe="./")),
        st.text(max_size=30).map(lambda part: "/" + quote(part, safe="./%")),
    ),
    query=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(PARAMETERS), st.text(max_size=8)),
            st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20), st.integers().map(str)),
        ),
        max_size=3,
    ),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "DELETE", "PATCH"]),
    headers=st.dictionaries(
        st.sampled_from(
            ["origin", "range", "cookie", "if-none-match", "sec-fetch-site", "x-forwarded-for", "accept"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
        max_size=3,
    ),
)
def test_no_request_breaks_or_leaks(guarded: Path, route: str, query: list, method: str, headers: dict) -> None:
    """Any request is answered in a known way, changes nothing, and never shows what is no cutout of the folder."""

    async def ask() -> httpx.Response:
        async with client_of(guarded) as client:
            return await client.request(method, route, params=query, headers=headers)

    before = same(guarded)
    answer = anyio.run(ask)

    assert answer.status_code in (200, 304, 307, 400, 403, 404, 405, 204), answer.text
    assert CANARY not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "nosniff" == answer.headers["x-content-type-options"]
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.json()["error"]
    assert before == same(guarded)


async def test_a_location_outside_the_folder_is_not_read(guarded: Path, tmp_path: Path) -> None:
    """A manifest from a stranger may say that a cutout's bytes are anywhere; only the folder's own are read."""
    places = ["../canary", str(guarded.parent / "canary"), "shards/../../canary.tar:0", "a/../../canary"]
    folder = tmp_path / "d" / "stars"
    shutil.copytree(guarded.parent, tmp_path / "d")
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        done = db.execute("SELECT n FROM outcome WHERE state = 'done'").fetchall()
        for (n,), place in zip(done, places, strict=False):
            db.execute("UPDATE outcome SET place = ?, size_bytes = ? WHERE n = ?", (place, len(CANARY), n))
    db.close()

    async with client_of(folder) as client:
        for n in range(1, N_STARS + 1):
            file = await client.get(f"/api/fits/{n}")
            assert CANARY not in file.text
        assert CANARY.encode() not in (await client.get("/api/pixels", params={"n": "1,2,3,4,5,6,7,8"})).content


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/api/rows?nope=1", "unknown parameter 'nope'"),
        ("/api/rows?count=0", "a whole number from 1 to 500 is allowed"),
        ("/api/rows?count=501", "a whole number from 1 to 500 is allowed"),
        ("/api/rows?at=1&at=2", "at is given 2 times"),
        ("/api/rows?where=bogus=1", "column 'bogus' is not in this harvest"),
        ("/api/rows?where=qfit", "write column=value"),
        ("/api/rows?where=qfit=abc", "qfit='abc': a number is allowed"),
        ("/api/facets?column=sky&where=state=gone", "state='gone': one of pending, done"),
        ("/api/rows?where=qfit=1&where=qfit=2", "has two criteria"),
        ("/api/rows?sort=bogus", "column 'bogus' is not in this harvest"),
        ("/api/rows?sort=uri", "sort by another column"),
        ("/api/rows?columns=bogus", "column 'bogus' is not in this harvest"),
        ("/api/rows?order=up", "one of asc, desc is allowed"),
        ("/api/pixels?n=" + ",".join(["1"] * 201), "200 numbers at most"),
        ("/api/export?format=xml", "one of csv, jsonl, txt is allowed"),
        ("/api/now?harvest=1", "a whole number from 0 to 0 is allowed"),
        ("/?x=1", "unknown parameter 'x'"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(client: httpx.AsyncClient, address: str, words: str) -> None:
    answer = await client.get(address)

    assert 400 == answer.status_code
    assert words in answer.json()["error"]


async def test_an_address_that_is_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/nothing")

    assert (404, True) == (answer.status_code, "the page is at /" in answer.json()["error"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("route", ["/", "/api/rows", "/nothing"])
async def test_only_reading_is_allowed(client: httpx.AsyncClient, method: str, route: str) -> None:
    answer = await client.request(method, route)

    assert (405, "GET, HEAD") == (answer.status_code, answer.headers["allow"])


@pytest.mark.sample(10)
@pytest.mark.parametrize(
    ("site", "mode", "dest", "route", "status"),
    [
        ("cross-site", "cors", "empty", "/api/rows", 403),
        ("cross-site", "no-cors", "image", "/api/fits/1", 403),
        ("same-site", "no-cors", "script", "/static/index.html", 403),
        ("cross-site", "navigate", "iframe", "/", 403),
        ("cross-site", "navigate", "document", "/api/export", 403),
        ("cross-site", "navigate", "document", "/metrics", 403),
        ("cross-site", "navigate", "document", "/cutout", 403),
        ("cross-site", "navigate", "document", "/", 200),
        ("same-origin", "cors", "empty", "/api/rows", 200),
        ("none", "navigate", "document", "/api/rows", 200),
    ],
)
async def test_another_sites_page_gets_nothing(
    client: httpx.AsyncClient, site: str, mode: str, dest: str, route: str, status: int
) -> None:
    """Only a link to the page itself works from elsewhere."""
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}

    assert status == (await client.get(route, headers=headers)).status_code


async def ask_gate(hosts: list[str], route: str = "/api/now", **headers: str) -> httpx.Response:
    """Ask an application behind a gate, which is reached as ``stars.example`` and wants a token."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    gate = Gate(app, names=Names(frozenset({"stars.example"})), token="correct-horse", cookie="key")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate)) as client:
        given = [*(("host", host) for host in hosts), *headers.items()]
        return await client.get(f"http://stars.example{route}", headers=given)


async def test_a_gate_opens_to_its_own_name_given_once() -> None:
    """Any other name, none, or two is another server's, before the token is looked at."""
    for host in ("stars.example", "STARS.example:8000"):
        assert 200 == (await ask_gate([host], authorization="Bearer correct-horse")).status_code
    for hosts in (
        ["evil.example"], ["stars.example.evil.example"], ["x@stars.example"], ["stars.example:x"], ["192.0.2.1"],
        ["stars.example", "evil.example"], ["evil.example", "stars.example"], ["stars.example", "stars.example"],
    ):  # fmt: skip
        assert 421 == (await ask_gate(hosts, authorization="Bearer correct-horse")).status_code, hosts


async def test_a_gate_takes_its_token_only() -> None:
    """By header or cookie, whole; an address with it opens the page alone, and is never kept by a cache."""
    host = ["stars.example"]
    for headers in ({"authorization": "Bearer correct-horse"}, {"cookie": "a=b; key=correct-horse"}):
        assert 200 == (await ask_gate(host, **headers)).status_code
    for headers in (
        {}, {"authorization": "Bearer correct"}, {"authorization": "Bearer "}, {"authorization": "correct-horse"},
        {"cookie": "key=correct"}, {"cookie": "other=correct-horse"}, {"cookie": "key="},
    ):  # fmt: skip
        assert 401 == (await ask_gate(host, **headers)).status_code, headers
    assert 401 == (await ask_gate(host, "/api/now?token=correct-horse")).status_code
    assert 401 == (await ask_gate(host, "/?token=")).status_code
    assert 200 == (await ask_gate(host, "/healthz")).status_code
    welcome = await ask_gate(host, "/?x=1&token=correct-horse")

    assert (303, "./?x=1", "no-store") == (
        welcome.status_code, welcome.headers["location"], welcome.headers["cache-control"]
    )  # fmt: skip
    cookie = welcome.headers["set-cookie"]
    assert all(part in cookie for part in ("key=correct-horse", "HttpOnly", "SameSite=strict", "Path=/"))


@pytest.mark.parametrize("route", ROUTES)
async def test_head_is_get_without_a_body(client: httpx.AsyncClient, route: str) -> None:
    query = {"x": "qfit", "y": "sky"} if route == "/api/points" else {}
    head, get = await client.head(route, params=query), await client.get(route, params=query)

    assert get.status_code == head.status_code == 200
    assert get.headers["content-type"] == head.headers["content-type"]


def test_a_folder_without_a_harvest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderRefused, match="no harvest folder"):
        create_app(tmp_path)
