"""The page in a real browser: Chromium, driven as a person would, on the page of a server in another process."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy.io import fits
from serving import CHROMIUM, N_STARS, served, served_at

from harness import command, rows_of, stored_bytes
from psfharvest import Harvest
from psfharvest.simulator import Fault, Settings, Simulator
from psfharvest.store.manifest import block_encoder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

pytestmark = pytest.mark.browser
WIDE = {"width": 1400, "height": 900}
PHONE = {"width": 390, "height": 844}
VIEWS = {
    "progress": "",
    "stars": "#view=stars",
    "table": "#view=stars&as=table&sort=psf_flux&order=desc&where=state=missing",
    "plot": "#view=plot",
    "star": "#view=stars&star=3&pos=2",
}
READ_BACK = """(zoom) => {
  const canvas = document.getElementById("big");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = [];
  for (let y = zoom >> 1; y < canvas.height; y += zoom)
    for (let x = zoom >> 1; x < canvas.width; x += zoom)
      found.push(data.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 3).join(" "));
  return found.join(" ");
}"""
"""The colour in the middle of each pixel of the big picture, row by row from the top, as one text."""
MARKUP = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;'


@pytest.fixture(scope="module")
def browser(stars: Path) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    del stars  # made before: while the browser's driver runs, this thread has an event loop
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def url(stars: Path) -> Iterator[str]:
    with served_at(stars) as address:
        yield address


class Watched:
    """A page whose console and requests are kept: nothing may be said, and nothing asked of another host."""

    def __init__(self, page: Page, may_fail: bool) -> None:
        self.page = page
        self._may_fail = may_fail
        self.said: list[str] = []
        self.hosts: set[str | None] = set()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))

    def _said(self, message: ConsoleMessage) -> None:
        if not (self._may_fail and message.text.startswith("Failed to load resource")):  # the browser's own words
            self.said.append(message.text)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """Open pages; at the end, each must have kept silent and within its own host."""
    opened: list[Watched] = []

    def open_(address: str, **options: Any) -> Page:
        may_fail = options.pop("may_fail", False)
        context = browser.new_context(viewport=options.pop("viewport", WIDE), **options)
        context.set_default_timeout(60_000)
        opened.append(Watched(context.new_page(), may_fail))
        opened[-1].page.goto(address)
        return opened[-1].page

    yield open_
    for watched in opened:
        watched.page.context.close()
        assert [] == watched.said
        assert watched.hosts <= {"127.0.0.1", "", None}


def until(page: Page, condition: str) -> None:
    """Wait for a condition in the page; its own policy forbids to evaluate texts there, as the driver would."""
    deadline = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def figures(page: Page) -> dict[str, int]:
    names = ("total", "done", "missing", "failed", "pending", "requests")
    texts = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('[data-figure]')]"
        ".map(e => [e.dataset.figure, e.querySelector('dd').textContent]))"
    )
    return {name: int(texts[name].replace(",", "")) for name in names}


def status(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        command("status", folder, "--json"), capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.campaign
@pytest.mark.quiet
@pytest.mark.parametrize(("n_stars", "outage_s"), [(600, 4), pytest.param(5000, 30, marks=pytest.mark.campaign)])
def test_a_live_harvest_is_followed_to_its_end(tmp_path: Path, open_page, n_stars: int, outage_s: float) -> None:
    """While another process harvests through an outage, the page shows what ``status --json`` says."""
    folder = tmp_path / "d"
    outage = Fault("outage", seconds=outage_s, start=n_stars // 2)
    with Simulator(Settings(sources=4 * n_stars, latency_s=0.02), [outage]) as simulator:
        words = ["harvest", folder, "UVIS", "--suffix", "flt", "--limit", str(n_stars), "--via", "file", "--quiet"]
        words += ["--archive", simulator.url, "--max-connections", "4"]
        with subprocess.Popen(command(*words)) as busy:
            try:
                while not (folder / "manifest.sqlite").exists():
                    assert busy.poll() is None
                with served_at(folder) as address:
                    page = open_page(address)
                    page.wait_for_selector("[data-figure=done]")
                    looks = 0
                    while busy.poll() is None:
                        before, shown, after = status(folder), figures(page), status(folder)
                        looks += 1
                        assert shown["total"] == sum(shown[s] for s in ("done", "missing", "failed", "pending"))
                        # what is shown may be as old as the time between two questions of the page
                        assert shown["done"] <= after["done"]
                        if before == after:
                            page.wait_for_timeout(2500)
                            now = status(folder)
                            if now == after:
                                assert {name: now[name] for name in shown} == figures(page)
                    until(page, f"document.getElementById('headline').textContent.includes('{n_stars:,} are here')")
                    last = status(folder)
                    assert {name: last[name] for name in figures(page)} == figures(page)
                    assert looks >= 2
                    series = page.evaluate("async () => (await fetch('api/series')).json()")
            finally:
                busy.kill()

    assert n_stars == last["done"]
    assert series["done"] == sorted(series["done"])


def test_a_drawn_pixel_is_the_files(open_page, url: str, stars: Path) -> None:
    """With a linear stretch the grey of each pixel is the FITS file's value within its range; NaN has a shade."""
    rows = rows_of(stars)
    n = next(
        n
        for n, row in enumerate(rows, 1)
        if row["state"] == "done" and np.isnan(fits.getdata(io.BytesIO(stored_bytes(stars, row)))).any()
    )
    image = fits.getdata(io.BytesIO(stored_bytes(stars, rows[n - 1]))).astype(float)
    page = open_page(f"{url}#view=stars&star={n}&stretch=linear&black=0")
    until(page, "document.getElementById('big').getAttribute('aria-label')")
    zoom = 612 // max(image.shape)
    drawn = page.evaluate(READ_BACK, zoom)
    got = np.fromstring(drawn, int, sep=" ").reshape(*image.shape, 3)[::-1]
    low, high = np.nanmin(image), np.nanmax(image)
    expected = 255 * (image - low) / (high - low)
    is_nan = np.isnan(image)
    np.testing.assert_allclose(got[~is_nan], np.repeat(expected[~is_nan][:, None], 3, 1), atol=1.0)
    assert (got[is_nan] == (113, 128, 150)).all()
    y, x = np.unravel_index(np.nanargmax(image), image.shape)
    box = page.locator("#big").bounding_box()
    side = box["width"] / max(image.shape)
    page.mouse.move(box["x"] + (x + 0.5) * side, box["y"] + (image.shape[0] - 1 - y + 0.5) * side)
    words = page.locator("#pixel").inner_text()
    assert words.startswith(f"x {x}, y {y}: ")
    assert np.isclose(float(words.split(": ")[1]), image[y, x], rtol=1e-6)


@pytest.mark.campaign
@pytest.mark.quiet
def test_eight_tabs_and_an_interrupt(open_page, browser: Browser, stars: Path) -> None:
    """Eight tabs of one browser load, and do not hold up the end of the service."""
    with served(stars) as (address, process):
        context = browser.new_context()
        pages = [context.new_page() for _ in range(8)]
        for page, view in zip(pages, list(VIEWS.values()) * 2, strict=False):
            page.goto(address + view)
        for page in pages:
            until(page, f"document.getElementById('brief').textContent.startsWith('{N_STARS - 2}')")
        process.send_signal(signal.SIGINT)
        started_at = time.monotonic()
        assert process.wait(timeout=30) == 0
        took_s = time.monotonic() - started_at
        context.close()

    assert took_s < 10  # a hang, not a slow machine


def test_keyboard_only(open_page, url: str) -> None:
    """Filter, walk over the tiles, open a star, go to the next, read a pixel, and come back, without a pointer."""
    page = open_page(f"{url}#view=stars")
    page.wait_for_selector("#tiles button")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    for _ in range(30):
        if page.evaluate("document.activeElement.id") == "where":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("state=done psf_flux=..1e9")
    page.keyboard.press("Enter")
    until(page, f"document.getElementById('found').textContent.startsWith('{N_STARS - 2} of')")
    for _ in range(60):
        if page.evaluate("document.activeElement.parentElement?.id") == "tiles":
            break
        page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.dataset.n")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.n")
    assert first != second
    page.keyboard.press("Enter")
    until(page, f"document.getElementById('place').textContent == '2 of {N_STARS - 2}'")
    assert page.evaluate("document.activeElement.id") == "starname"
    page.keyboard.press("ArrowRight")
    until(page, f"document.getElementById('place').textContent == '3 of {N_STARS - 2}'")
    page.keyboard.press("ArrowLeft")
    until(page, f"document.getElementById('place').textContent == '2 of {N_STARS - 2}'")
    page.locator("#big").focus()
    page.keyboard.press("d")
    assert page.locator("#pixel").inner_text().startswith("x ")
    page.keyboard.press("Escape")
    page.wait_for_selector("#tiles button")
    assert "where=state%3Ddone" in page.url


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_accessible_and_within_the_width(open_page, url: str, view: str, scheme: str, viewport: dict) -> None:
    """axe-core has no serious finding in any view, and nothing is wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(url + VIEWS[view], viewport=viewport, color_scheme=scheme, bypass_csp=True)
    until(page, "document.getElementById('brief').textContent")
    until(page, "!document.querySelector('main > section:not([hidden]) h2')?.textContent.includes('…')")
    page.wait_for_timeout(300)
    found = Axe().run(page).response["violations"]

    serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert [] == serious
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.campaign
def test_the_state_is_in_the_address(open_page, url: str) -> None:
    """A filter, a sort and a star of its own come back after a reload, and go with the back button."""
    page = open_page(f"{url}#view=stars")
    page.wait_for_selector("#tiles button")
    page.fill("#where", "filter=F606W,F814W")
    page.press("#where", "Enter")
    page.select_option("#sort", "psf_flux")
    page.select_option("#order", "desc")
    until(page, "location.hash.includes('order=desc')")
    until(page, "!document.getElementById('found').textContent.startsWith('60 ')")
    tiles = "() => [...document.querySelectorAll('#tiles button')].map(e => e.dataset.n)"
    page.wait_for_timeout(500)
    before = page.evaluate(tiles)
    page.reload()
    page.wait_for_selector("#tiles button")

    assert before == page.evaluate(tiles)
    assert "filter=F606W,F814W" == page.input_value("#where")
    page.click("#tiles button >> nth=1")
    page.wait_for_selector("#star:not([hidden])")
    page.go_back()
    page.wait_for_selector("#tiles button")
    assert before == page.evaluate(tiles)
    code = page.evaluate("document.getElementById('python').textContent")
    assert ".select(filter=['F606W', 'F814W'])" in code


@pytest.mark.campaign
def test_what_cannot_be_asked_is_said(open_page, url: str) -> None:
    """A filter that cannot be read is answered in words beside it."""
    page = open_page(f"{url}#view=progress", may_fail=True)
    page.click("nav >> text=Stars")
    page.wait_for_selector("#tiles button")
    with page.expect_response("**/api/rows*"):
        page.fill("#where", "qfitt=1")
        page.evaluate("document.getElementById('ask').requestSubmit()")
    until(page, "document.getElementById('found').textContent.includes('did you mean qfit')")


@pytest.mark.campaign
def test_a_box_in_the_plot_selects(open_page, url: str, stars: Path) -> None:
    """A box dragged over the plot gives the stars within it."""
    page = open_page(f"{url}#view=plot")
    page.wait_for_selector("#scatter canvas")
    box = page.locator("#scatter .u-over").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    page.mouse.up()
    ends = {name: float(page.input_value(f"[name={name}]")) for name in ("x0", "x1", "y0", "y1")}
    page.click("text=Show these stars")
    page.wait_for_selector("#tiles button")
    page.wait_for_timeout(500)

    expected = Harvest(stars).select(psf_flux=(ends["x0"], ends["x1"]), qfit=(ends["y0"], ends["y1"]))
    assert page.locator("#tiles button").count() == len(expected.table(["uri"], state=None))


@pytest.mark.campaign
@pytest.mark.quiet
def test_markup_in_every_column_is_text(open_page, stars: Path, tmp_path: Path) -> None:
    """Whatever a catalogue row or a failure holds is shown as it is written, and never becomes part of the page."""
    folder = tmp_path / "stars"
    shutil.copytree(stars, folder)
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        columns = json.loads(db.execute("SELECT columns FROM layout").fetchone()[0])
        for first, n in db.execute("SELECT first, n FROM block").fetchall():
            data = block_encoder.encode([[MARKUP] * len(columns)] * n, len(columns))
            db.execute("UPDATE block SET data = ? WHERE first = ?", (data, first))
        db.execute("UPDATE layout SET columns = ?", (json.dumps([*columns[:-1], f"zz{MARKUP}"]),))
        db.execute("UPDATE item SET rootname = ?, filter = ?, other = ? WHERE n % 2 = 0", (MARKUP, MARKUP, MARKUP))
        db.execute("UPDATE outcome SET detail = ? WHERE state = 'missing'", (MARKUP,))
        db.execute("UPDATE run SET stopped = ?, retried = ?", (MARKUP, json.dumps({MARKUP: 3})))
    db.close()

    with served_at(folder) as address:
        for view in VIEWS.values():
            page = open_page(address + view, may_fail=True)  # texts cannot be plotted, and that is said
            until(page, "document.getElementById('brief').textContent")
            page.wait_for_timeout(700)
            assert page.evaluate("document.querySelectorAll('img[src=x], main script').length") == 0
            assert page.title() not in ("1", "2")
        assert page.locator("#row").inner_text().count(MARKUP) >= len(columns) - 1


@pytest.mark.campaign
@pytest.mark.quiet
def test_several_harvests_under_one_page(open_page, stars: Path, tmp_path: Path, psfharvest, simulator) -> None:
    """Another harvest is chosen at the top, and has an address of its own."""
    words = ["harvest", tmp_path / "other", "IR", "--suffix", "flt", "--limit", "7", "--archive", simulator.url]
    assert psfharvest(*words).status == 0
    with served_at(stars, tmp_path / "other") as address:
        page = open_page(address)
        until(page, f"document.getElementById('brief').textContent.startsWith('{N_STARS - 2} of')")
        page.select_option("#harvest", label="other")
        until(page, "document.getElementById('headline').textContent == 'All 7 are here.'")
        page.click("nav >> text=Stars")
        page.wait_for_selector("#tiles button")

        assert page.locator("#tiles button").count() == 7
        assert "h=1" in page.url
        assert page.locator("#title").inner_text() == "other"


@pytest.mark.campaign
def test_a_service_that_ends_is_said(open_page, stars: Path) -> None:
    """When the service goes away the page says so, and keeps what it shows."""
    with served(stars) as (address, process):
        context = open_page(address).context
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("[data-figure=done]")
        for other in context.pages[:1]:
            other.goto("about:blank")
        process.kill()
        page.wait_for_selector("#offline:not([hidden])")

        assert "does not answer" in page.locator("#offline").inner_text()
        assert figures(page)["total"] == N_STARS
