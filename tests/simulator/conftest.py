"""What the simulator's tests share: simulators to talk to, and two ways of talking."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from psfharvest.simulator import Fault, Settings, Simulator

SERVICES = {
    "UVIS": "Mast.Catalogs.Filtered.Wfc3Psf.Uvis",
    "IR": "Mast.Catalogs.Filtered.Wfc3Psf.Ir",
    "WFPC2": "Mast.Catalogs.Filtered.Wfpc2Psf.Uvis",
}
REAL = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibe802npq_flc[1]&size=51&x=1977.875&y=675.3514"
    "&format=fits/ibe802npq_27404778_F606W_flc_cutout.fits"
)


@dataclass
class Asker:
    """A plain client of one simulator."""

    sim: Simulator
    http: httpx.Client

    def file(self, uri: str, **more: Any) -> httpx.Response:
        """Ask for one cutout."""
        return self.http.get(f"/api/v0.1/Download/file?uri={quote(uri, safe='')}", **more)

    def bundle(self, uris: list[str]) -> httpx.Response:
        """Ask for a bundle."""
        return self.http.post("/api/v0.1/Download/bundle.tar.gz", data={"uri": uris})

    def query(self, columns: str, filters: list[dict[str, Any]], detector: str = "UVIS", **more: Any) -> Any:
        """Ask the databases, and give the parsed answer."""
        form = {
            "service": SERVICES.get(detector, detector),
            "params": {"columns": columns, "filters": filters},
            "format": "json",
            **more,
        }
        return self.http.post("/api/v0/invoke", data={"request": json.dumps(form)}).json()

    def raw(self, target: str, timeout_s: float = 5.0) -> tuple[bytes, str]:
        """Send a bare GET; give all bytes that come back, and how it ended: ``end``, ``reset`` or ``silence``."""
        parts = urlsplit(self.sim.url)
        received = b""
        with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            try:
                while piece := connection.recv(65_536):
                    received += piece
            except TimeoutError:
                return received, "silence"
            except ConnectionResetError:
                return received, "reset"
        return received, "end"

    def raw_file(self, uri: str, timeout_s: float = 5.0) -> tuple[bytes, bytes, str]:
        """Ask for a cutout by a bare GET; give the head, what follows it, and how it ended."""
        received, ending = self.raw(f"/api/v0.1/Download/file?uri={quote(uri, safe='')}", timeout_s)
        head, _, rest = received.partition(b"\r\n\r\n")
        return head, rest, ending


@pytest.fixture
def start() -> Iterator[Callable[..., Asker]]:
    """Start a simulator of 200 sources with other settings, and faults, for one test."""
    with ExitStack() as stack:

        def started(*faults: str | Fault, **settings: Any) -> Asker:
            settings = {"sources": 200, "seed": 1} | settings
            parsed = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
            sim = stack.enter_context(Simulator(Settings(**settings), faults=parsed))
            return Asker(sim, stack.enter_context(httpx.Client(base_url=sim.url, timeout=10)))

        yield started


@pytest.fixture(scope="session")
def plain() -> Iterator[Asker]:
    """Give a simulator of 2,000 sources that nothing is wrong with."""
    with Simulator(Settings(sources=2_000, seed=1)) as sim, httpx.Client(base_url=sim.url, timeout=10) as http:
        yield Asker(sim, http)


@pytest.fixture
def real() -> str:
    """Give the dataURI of a source that is in every catalogue."""
    return REAL


@pytest.fixture
def uris() -> list[str]:
    """Give the dataURIs of the six sources that answer the notebook's query."""
    found = Simulator(Settings(sources=0)).catalogue.rows("UVIS")
    inside = (abs(found["psf_x_center"] - 101) <= 1) & (abs(found["psf_y_center"] - 101) <= 1)
    columns = ("rootname", "id", "filter", "x_cal", "y_cal")
    return [
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={root}_flt[1]&size=51&x={x}&y={y}"
        f"&format=fits/{root}_{number}_{name}_flt_cutout.fits"
        for root, number, name, x, y in zip(*(found[column][inside].tolist() for column in columns), strict=True)
    ]
