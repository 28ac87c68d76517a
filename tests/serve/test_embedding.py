"""The application within another one, single cutouts through an archive, and the page within a notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from serving import N_STARS, client_of
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from psfharvest import Archive, BadInput, Harvest, RetryPolicy
from psfharvest.serve import create_app
from psfharvest.serve.notebook import show
from psfharvest.simulator import Fault, Simulator


async def test_mounted_under_a_prefix(stars: Path) -> None:
    """Under any prefix of another application the page's addresses lead to its own files; the other's stay its."""
    outer = Starlette(
        routes=[Route("/", lambda _: PlainTextResponse("outer")), Mount("/a/b", create_app(stars))],
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(outer), base_url="https://any.example", follow_redirects=True
    ) as client:
        page = await client.get("/a/b")
        linked = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        answers = [await client.get(httpx.URL(page.url).join(address)) for address in linked]
        now = await client.get("/a/b/api/now")
        visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        crossed = await client.get("/a/b/api/now", headers=visit)
        outer_page = await client.get("/")

    assert "static/app.js" in linked
    assert {200} == {answer.status_code for answer in answers}
    assert N_STARS == now.json()["total"]
    assert crossed.status_code == 403
    assert ("outer", None) == (outer_page.text, outer_page.headers.get("content-security-policy"))


@asynccontextmanager
async def through(stars: Path, url: str) -> AsyncIterator[httpx.AsyncClient]:
    retry = RetryPolicy(attempts=2, first_delay_s=0.01, max_delay_s=0.05, patience_s=0.3)
    async with Archive(url, retry=retry) as archive, client_of(stars, archive=archive) as client:
        yield client


async def test_a_cutout_through_an_archive(stars: Path, simulator: Simulator) -> None:
    """One cutout comes as the archive gives it, under its own name."""
    uri = Harvest(stars)[0].uri
    async with through(stars, simulator.url) as client:
        found = await client.get("/cutout", params={"uri": uri})

    assert (200, simulator.render(uri)) == (found.status_code, found.content)
    assert found.headers["content-type"] == "application/fits"
    assert Harvest(stars)[0].file_name in found.headers["content-disposition"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("status", code=404, service="file"), 404),
        (Fault("truncate", service="file"), 502),
        (Fault("outage"), 503),
    ],
    ids=["missing", "failed", "down"],
)
async def test_what_goes_wrong_has_a_status(stars: Path, simulator: Simulator, fault: Fault, status: int) -> None:
    """Each of our errors has its status and words; an outage says when to ask again."""
    simulator.faults = [fault]
    async with through(stars, simulator.url) as client:
        answer = await client.get("/cutout", params={"uri": Harvest(stars)[0].uri})

    assert status == answer.status_code, answer.text
    assert answer.json()["error"]
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_text_that_is_no_uri(stars: Path, simulator: Simulator) -> None:
    async with through(stars, simulator.url) as client:
        answers = [await client.get("/cutout", params={"uri": text}) for text in ("", "x", "file:///etc/passwd")]
    async with client_of(stars) as client:
        without = await client.get("/cutout", params={"uri": "x"})

    assert [422] * 3 == [answer.status_code for answer in answers]
    assert without.status_code == 404


async def test_a_client_that_leaves_ends_the_request(stars: Path, simulator: Simulator) -> None:
    """When nobody waits for a cutout any more, the archive is no longer asked for it."""
    simulator.faults = [Fault("stall", seconds=600, service="file")]
    async with Archive(simulator.url) as archive:
        app = create_app(stars, archive=archive)
        scope = {
            "type": "http", "method": "GET", "path": "/cutout", "raw_path": b"/cutout", "root_path": "",
            "query_string": str(httpx.QueryParams(uri=Harvest(stars)[0].uri)).encode(), "headers": [],
            "scheme": "http", "server": ("x", 80), "http_version": "1.1",
        }  # fmt: skip

        async def receive() -> dict[str, object]:
            while simulator.count("file") < 1:  # noqa: ASYNC110 - counted in another thread
                await anyio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            del message

        with anyio.fail_after(60):
            await app(scope, receive, send)

    assert simulator.count("file") == 1


async def test_a_long_question_ends_with_its_client(stars: Path) -> None:
    """A sort for a client that has left is given up, and the next question is answered."""
    app = create_app(stars)
    scope = {
        "type": "http", "method": "GET", "path": "/api/rows", "raw_path": b"/api/rows", "root_path": "",
        "query_string": b"sort=qfit", "headers": [], "scheme": "http", "server": ("x", 80), "http_version": "1.1",
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        del message

    with anyio.fail_after(60):
        await app(scope, receive, send)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            again = await client.get("/api/rows", params={"sort": "qfit"})
    assert N_STARS == again.json()["total"]


def test_show_serves_the_page_in_a_frame(stars: Path) -> None:
    """`Harvest.show` gives a frame whose address answers, which a notebook's page may frame; `close` ends it."""
    page = show(stars, 500, environment={})
    try:
        address = re.search(r'src="([^"]+)"', page._repr_html_())
        assert address is not None
        framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
        answer = httpx.get(address[1], headers=framed)
        data = httpx.get(f"{address[1]}api/now", headers={"sec-fetch-site": "cross-site"})
        named = httpx.get(address[1], headers={"host": "evil.example"})
    finally:
        page.close()

    assert (200, 403, 421) == (answer.status_code, data.status_code, named.status_code)
    assert "frame-ancestors 'self' http://localhost:*" in answer.headers["content-security-policy"]
    assert "x-frame-options" not in answer.headers
    assert "(closed)" in repr(page)
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url)


def test_show_on_another_machine_says_what_to_do(stars: Path) -> None:
    with pytest.raises(BadInput, match=r"JupyterHub.*psfharvest serve .*ssh -L 8080"):
        show(stars, 500, environment={"JUPYTERHUB_API_TOKEN": "x"})


def test_show_of_a_harvest(stars: Path) -> None:
    """The method itself, in a process of its own."""
    program = (
        "import sys, urllib.request\nfrom psfharvest import Harvest\npage = Harvest(sys.argv[1]).show(height=300)\n"
        "print(urllib.request.urlopen(page.url).status, 'height:300px' in page._repr_html_())\npage.close()"
    )
    here = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    words = [sys.executable, "-c", program, str(stars)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=here, check=False)

    assert done.stdout.split() == ["200", "True"], done.stderr
