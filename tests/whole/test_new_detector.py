"""
A new detector is one entry in one file.

A copy of the package gets a fourth detector; the archive is the simulator, behind a proxy that gives WFC3's sources
under the new detector's names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import psfharvest
from harness import rows_of
from psfharvest.simulator import Simulator

ENTRY = """
ACS = Detector(
    name="ACS",
    instrument="ACS",
    service="Mast.Catalogs.Filtered.AcsPsf.Wfc",
    suffixes=("flc",),
    filter_column="filter",
    lacks=_WFPC2_ONLY,
    full_frame_extensions={1: 4, 2: 1},
    also_called=("HRC",),
    rootname_initial="j",
    filters="F435W F606W F814W",
    chips=("1", "2"),
    full_frame_px=4096,
    axis_lengths=frozenset({4096}),
    calibrated_unit="electron",
    flux_unit="electron",
    electronics=Electronics(read_noise=4.0, gain=2.0),
)
DETECTORS = {d.name: d for d in (UVIS, IR, WFPC2, ACS)}
"""
TODAY = "DETECTORS = {d.name: d for d in (UVIS, IR, WFPC2)}\n"

READ = """
import json
from psfharvest import Harvest
from psfharvest.cli import complete
from psfharvest.core.fits import datauri

stars = Harvest("d")
first = stars[0]
root = datauri.parse(first.uri).rootname
uri = first.uri.replace(root, "j" + root[1:])
print(json.dumps({
    "n": len(stars.select(detector="ACS")), "detectors": sorted(set(stars.table()["detector"])),
    "unit": first.unit, "sigma": float(first.sigma.min()),
    "url": datauri.from_data_url(datauri.data_url(uri))[1] == uri,
    "completed": complete._columns("ACS"),
}))
"""

REFUSED = [
    (["count", "ASC"], "did you mean ACS?"),
    (["count", "hrc"], "write ACS (one of UVIS, IR, WFPC2, ACS)"),
    (["harvest", "e", "ACS", "--suffix", "flt"], "'flt' is calibrated WFC3 data, which ACS does not have"),
]
"""Commands, and the words in which each is refused."""

EACH = """
import json, sys
from psfharvest.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        print(end.code, file=sys.stderr, flush=True)
"""
"""Runs commands one after the other; behind the words of each stands its exit status."""


@pytest.fixture
def archive(simulator: Simulator) -> Iterator[str]:
    """The simulator, with ACS in place of WFC3's UVIS."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._forward(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._forward(body.replace(b"AcsPsf.Wfc", b"Wfc3Psf.Uvis"))

        def _forward(self, body: bytes | None) -> None:
            path = self.path.replace("ACSPSF", "WFC3PSF")
            try:
                answer = urllib.request.urlopen(simulator.url + path, body)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                found = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.campaign
def test_a_new_detector_is_one_entry(archive: str, tmp_path: Path) -> None:
    """It is queried, harvested, verified, adopted and read back; its misspellings are answered."""
    package = tmp_path / "src/psfharvest"
    shutil.copytree(Path(psfharvest.__file__).parent, package)  # bytecode, too, where there is any
    entries = package / "core/catalog/detectors.py"
    assert TODAY in entries.read_text()
    entries.write_text(entries.read_text().replace(TODAY, textwrap.dedent(ENTRY)))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(package.parent), "PSFHARVEST_ARCHIVE": archive}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # several processes: only the first one compiles
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def command(*words: str) -> dict:
        done = run("-m", "psfharvest", *words, "--json")
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    words = ["harvest", "d", "acs", "filter=F606W,F814W", "--limit", "20", "--suffix", "flc", "--via", "file"]
    assert 20 == command(*words)["done"]
    assert {"ACSPSF"} == {p.name for p in (tmp_path / "d").iterdir() if p.is_dir() and p.name[0] != "."}
    assert (20, 0) == ((found := command("verify", "d"))["ok"], found["strays"])

    regions = run("-c", "import psfharvest; print(len(list(psfharvest.Harvest('d').groups(region=(2, 2)))))")
    assert 1 <= int(regions.stdout) <= 4, regions.stderr

    (tmp_path / "uris.txt").write_text("".join(f"{row['uri']}\n" for row in rows_of(tmp_path / "d")))
    for path in (tmp_path / "d").glob("manifest.sqlite*"):
        path.unlink()
    assert (20, 0) == ((found := command("adopt", "d", "--uris", "uris.txt"))["done"], found["broken"])

    read = run("-c", READ)
    assert 0 == read.returncode, read.stderr
    found = json.loads(read.stdout)
    assert (20, ["ACS"], "electron", True) == (found["n"], found["detectors"], found["unit"], found["url"])
    assert found["sigma"] >= 4.0
    assert ("filter" in found["completed"], "filter_1" in found["completed"]) == (True, False)

    examined = run("-m", "psfharvest", "doctor", "ACS", "--json", "--max-per-second", "100")
    assert "Traceback" not in examined.stderr, examined.stderr
    checks = {check["name"]: check["verdict"] for check in json.loads(examined.stdout.splitlines()[-1])["checks"]}
    assert "as expected" == checks["columns ACS"], checks

    refused = run("-c", EACH, json.dumps([words for words, _ in REFUSED]))
    said = refused.stderr.split("\n2\n")
    assert (len(REFUSED) + 1, "") == (len(said), said[-1]), refused.stderr
    for (words, hint), message in zip(REFUSED, said, strict=False):
        assert hint in message, words
