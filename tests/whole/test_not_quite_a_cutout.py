"""Near misses of a dataURI never become a stored sentence, by whichever door they come in."""

from __future__ import annotations

import json
import sqlite3
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from harness import rows_of
from psfharvest import Archive, BadURI, Query, blocking, mast_api_psf
from psfharvest.core.fits import datauri
from psfharvest.core.model import Reason, State
from psfharvest.simulator import Simulator

SHELL_REST = "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]"
"""What a shell leaves of a dataURI without quotes."""

SPELLINGS = {
    "brackets": lambda uri: uri.replace("[", "%5B").replace("]", "%5d"),
    "html": lambda uri: uri.replace("&", "&amp;"),
    "slashes": lambda uri: uri.replace("/", "%2F"),
}


@pytest.fixture
def uris(simulator: Simulator) -> list[str]:
    """Some dataURIs of the simulated archive."""
    with blocking.Archive(simulator.url) as archive:
        return mast_api_psf.make_dataURIs(archive.query(Query("UVIS", limit=6)), "UVIS", ["flt"])


@pytest.fixture
def sentences():
    """An archive that answers everything with status 200 and a sentence."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"dataset parameter is required"
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *words: object) -> None:
            del words

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("uri", "words"),
    [(SHELL_REST, "single quotes"), (SHELL_REST.replace("[1]", "%5B1%5D"), "single quotes"),
     ("mast:WFPC2PSF/url/x", "absent"), ("mast:HLA/url/cgi-bin/fitscut.cgi?red=a[1]", "absent")],
)  # fmt: skip
def test_fetch_refuses_a_part_of_a_datauri(
    psfharvest, tmp_path: Path, sentences: str, uri: str, words: str
) -> None:
    """An unquoted URI is bad input with the hint to quote it, and nothing is stored."""
    run = psfharvest("fetch", uri, "--archive", sentences)

    assert (2, True, []) == (run.status, words in run.err, list(tmp_path.iterdir()))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "name", ["mast:HST/product/x", "mast:HST/get?name=y", "mast:HST/x.fits", "mast:HST/x.tar.gz"]
)
def test_a_sentence_is_no_file(psfharvest, tmp_path: Path, sentences: str, name: str) -> None:
    """A sentence with status 200 is stored for no file that is not named as a text."""
    run = psfharvest("fetch", name, "--archive", sentences, "--attempts", "1")

    assert (3, []) == (run.status, list(tmp_path.iterdir()))
    assert 0 == psfharvest("fetch", "mast:HST/x.txt", "--archive", sentences).status
    assert b"dataset parameter is required" == (tmp_path / "x.txt").read_bytes()


@pytest.mark.sample(1)
@pytest.mark.parametrize("n_cut", [1, 10, 80, 110])
def test_a_stream_cut_within_a_line(
    psfharvest, simulator: Simulator, tmp_path: Path, uris: list[str], n_cut: int
) -> None:
    """A producer that dies within a line makes an error; the rest is kept, and the whole list goes on."""
    text = "\n".join(uris)
    cut = psfharvest("harvest", "d", "--uris", "-", "--archive", simulator.url, stdin=text[:-n_cut])

    assert (2, True) == (cut.status, f"within line {len(uris)}" in cut.err)
    assert dict.fromkeys(uris[:-1], "done") == {r["uri"]: r["state"] for r in rows_of(tmp_path / "d")}

    simulator.forget()
    again = psfharvest("harvest", "d", "--uris", "-", "--archive", simulator.url, "--json", stdin=text)
    assert (0, len(uris), len(uris)) == (again.status, again.account["total"], again.account["done"])
    assert 1 == again.account["requests"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("door", ["file", "-"])
def test_tails_behind_the_name(
    psfharvest, simulator: Simulator, tmp_path: Path, uris: list[str], door: str
) -> None:
    """A CSV tail behind the name is bad_uri with its line's number, and nothing is asked of the archive for it."""
    text = "".join(f"{uri},8000495,F390W\n" for uri in uris[:3]) + "".join(f"{uri}\n" for uri in uris[3:])
    (tmp_path / "list").write_text(text)
    words = ["harvest", "d", "--uris", "list" if door == "file" else "-", "--archive", simulator.url, "--json"]
    run = psfharvest(*words, stdin=text)

    assert (3, {"bad_uri": 3}, 3) == (run.status, run.account["reasons"], run.account["done"])
    with sqlite3.connect(tmp_path / "d" / "manifest.sqlite") as db:
        details = [d for (d,) in db.execute("SELECT detail FROM outcome WHERE state = 'failed'")]
    db.close()
    assert [True] * 3 == [f"line {n}: " in d and "behind the file name" in d for n, d in enumerate(details, 1)]


@pytest.mark.sample(1)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_are_one_cutout(
    psfharvest, simulator: Simulator, tmp_path: Path, uris: list[str], spell
) -> None:
    """In a harvest, in adopt and in a stream, every spelling of a cutout counts once."""
    text = "".join(f"{uri}\n{spell(uri)}\n" for uri in uris)
    run = psfharvest("harvest", "d", "--uris", "-", "--archive", simulator.url, "--json", stdin=text)
    assert (0, len(uris), len(uris)) == (run.status, run.account["total"], run.account["done"])

    (tmp_path / "d" / "manifest.sqlite").unlink()
    (tmp_path / "list").write_text("".join(f"{spell(uri)}\n" for uri in uris))
    adopted = psfharvest("adopt", "d", "--uris", "list", "--json")
    assert (0, len(uris)) == (adopted.status, json.loads(adopted.out)["done"])
    assert set(uris) == {r["uri"] for r in rows_of(tmp_path / "d")}

    with blocking.Archive(simulator.url) as archive:
        assert uris[0] == archive.fetch(spell(uris[0])).uri
        assert archive.fetch(uris[0]).raw == archive.fetch(spell(uris[0])).raw
        with archive.stream([spell(uri) for uri in uris]) as cutouts:
            assert set(uris) == {cutout.uri for cutout in cutouts}


def test_the_notebooks_functions_read_any_spelling(
    simulator: Simulator, tmp_path: Path, uris: list[str], monkeypatch
) -> None:
    """The notebook's module takes escaped dataURIs and dataURLs as what they mean, and refuses parts of one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PSFHARVEST_ARCHIVE", simulator.url)
    escaped = [uri.replace("[", "%5B").replace("]", "%5D") for uri in uris]

    assert mast_api_psf.convert_dataURIs_to_dataURLs(uris) == mast_api_psf.convert_dataURIs_to_dataURLs(escaped)
    urls = [url.replace("[1]", "%5B1%5D") for url in mast_api_psf.convert_dataURIs_to_dataURLs(uris)]
    assert len(uris) == len(mast_api_psf.extract_cutouts_pool(urls))
    mast_api_psf.download_request_bundle([*uris, *escaped], "b.tar.gz")
    for function in (mast_api_psf.download_request_pool, mast_api_psf.convert_dataURIs_to_dataURLs):
        with pytest.raises(BadURI):
            function([*uris, SHELL_REST])
    with pytest.raises(BadURI):
        mast_api_psf.download_request_bundle([SHELL_REST], "c.tar.gz")
    with pytest.raises(BadURI, match="single quotes"):
        mast_api_psf.download_request_file([SHELL_REST, "x.fits"])
    assert {"b.tar.gz"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.anyio
async def test_python_refuses_a_part_of_a_datauri(simulator: Simulator) -> None:
    """Archive.fetch raises before anything is asked."""
    async with Archive(simulator.url) as archive:
        with pytest.raises(BadURI, match="size and x and y and format are absent"):
            await archive.fetch(SHELL_REST)
    assert datauri.parts_of(SHELL_REST) is None


class Spoiled(httpx.AsyncHTTPTransport):
    """The way to the archive, on which the lowest rows of each answer lose their coordinates."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        body = await response.aread()
        await response.aclose()
        if "/invoke" in request.url.path:
            answer = json.loads(body)
            rows = [row for row in answer["data"] if "x_cal" in row]
            for row in sorted(rows, key=lambda row: int(row["id"]))[:2]:
                row["x_cal"] = None
            body = json.dumps(answer).encode()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() == b"content-type"]
        return httpx.Response(response.status_code, headers=headers, content=body)


@pytest.mark.anyio
async def test_a_stream_accounts_for_rows_as_a_harvest_does(simulator: Simulator, tmp_path: Path) -> None:
    """Rows of the catalogue without coordinates are bad_uri in a stream as in a harvest."""
    async with httpx.AsyncClient(transport=Spoiled()) as client, Archive(simulator.url, client=client) as archive:
        query = Query("UVIS", limit=10)
        report = await archive.harvest(query, tmp_path / "d", suffixes=["flt", "raw"])
        async with archive.stream(query, suffixes=["flt", "raw"]) as cutouts:
            n = len([cutout async for cutout in cutouts])

    assert (20, 18, {"bad_uri": 2}) == (report.total, report.done, dict(report.reasons))
    assert (18, {State.DONE: 18, State.FAILED: 2}) == (n, dict(cutouts.states))
    assert [Reason.BAD_URI] * 2 == [outcome.reason for outcome in cutouts.failures]
    assert all("id=" in outcome.item.uri and outcome.detail for outcome in cutouts.failures)
    assert all(json.loads(outcome.item.source)["id"] for outcome in cutouts.failures)


@pytest.mark.anyio
async def test_a_stream_accounts_for_texts_as_a_harvest_does(
    simulator: Simulator, tmp_path: Path, uris: list[str]
) -> None:
    """Texts that are no dataURI are bad_uri in a stream as in a harvest; blanks and comments are passed over."""
    lines = [SHELL_REST, "junk", *uris, "", "# comment"]
    async with Archive(simulator.url) as archive:
        report = await archive.harvest(list(lines), tmp_path / "d")
        async with archive.stream(lines) as cutouts:
            found = {cutout.uri async for cutout in cutouts}

    assert (len(uris), {"bad_uri": 2}) == (report.done, dict(report.reasons))
    assert (set(uris), {SHELL_REST, "junk"}) == (found, {outcome.item.uri for outcome in cutouts.failures})
    assert ["line 1: ", "line 2: "] == [outcome.detail[:8] for outcome in cutouts.failures]
