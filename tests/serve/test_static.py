"""The page's own files: small, from nowhere else, in the wheel, and never making markup of a text."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

import psfharvest.serve

WEB = Path(psfharvest.serve.__file__).parent / "web"
VENDORED = {"uplot.js", "uplot.css", "uplot-license.txt"}
OWN = [path for path in WEB.iterdir() if path.name not in VENDORED]


def test_the_page_is_small() -> None:
    """Less than 60 kB of our own; all that is vendored is uPlot, with its licence."""
    assert sum(path.stat().st_size for path in OWN) < 60_000
    assert {path.name for path in WEB.iterdir()} >= VENDORED
    assert "MIT License" in (WEB / "uplot-license.txt").read_text()


def test_no_text_becomes_markup_and_nothing_comes_from_outside() -> None:
    """No module writes markup, evaluates text, or names another host."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    for path in OWN:
        text = path.read_text()
        assert not re.search(forbidden, text), path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=\"|style=\"", text), path


async def test_every_file_is_served_as_what_it_is(client: httpx.AsyncClient) -> None:
    """Each file comes with its media type and is not sent again to who has it."""
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for path in WEB.iterdir():
        answer = await client.get(f"/static/{path.name}")
        assert path.read_bytes() == answer.content
        assert answer.headers["content-type"].startswith(kinds.get(path.suffix, "text/plain"))
        again = await client.get(f"/static/{path.name}", headers={"if-none-match": answer.headers["etag"]})
        assert (304, b"") == (again.status_code, again.content)
