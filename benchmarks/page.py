"""
The page over a large harvest: first stars, a page, a sort, the account meanwhile, and memory after many requests.

Usage::

    python benchmarks/catalogue.py --rows rows.jsonl 1000000
    PSFHARVEST_ROWS=rows.jsonl python benchmarks/catalogue.py --make FOLDER 1000000 narrow
    python -m benchmarks.page --stars FOLDER
    python -m benchmarks.page FOLDER [REQUESTS]

``--stars`` gives such a folder a shard of few cutouts, to which all rows point: the catalogue is what is large.
Prints one JSON object a measurement: milliseconds by the clock, or mebibytes.
"""

from __future__ import annotations

import http.client
import json
import random
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from psfharvest import Query, blocking
from psfharvest.simulator import Settings, Simulator

N_STARS = 200
TILES = 120
"""Stars that the page shows at once."""
LABELS = "id,filter,state,reason"
"""Columns that it asks for beside the one of a sort."""
N_REQUESTS = 10_000
SORTS = ("psf_flux", "qfit", "sky")


def give_stars(folder: Path) -> None:
    """Write a shard of cutouts into a folder, and let each row point to one of them."""
    with (
        Simulator(Settings(sources=4 * N_STARS)) as simulator,
        blocking.Archive(simulator.url) as archive,
        archive.stream(Query("UVIS", limit=N_STARS), suffixes=["flt"]) as cutouts,
    ):
        bodies = [cutout.raw for cutout in cutouts]
    (folder / "shards").mkdir(exist_ok=True)
    places = []
    with tarfile.open(folder / "shards" / "000000.tar", "w") as tar:
        for n, body in enumerate(bodies):
            entry = tarfile.TarInfo(f"{n}.fits")
            entry.size = len(body)
            tar.addfile(entry, BytesIO(body))
            places.append((n, tar.offset - -len(body) // 512 * -512, len(body)))
    with closing(sqlite3.connect(folder / "manifest.sqlite")) as db, db:
        db.execute("CREATE TEMP TABLE star (n INTEGER PRIMARY KEY, place, size_bytes)")
        db.executemany("INSERT INTO star VALUES (?, ?, ?)", places)
        db.execute(
            "UPDATE outcome SET shard = 0, (place, size_bytes) = "
            "(SELECT place, size_bytes FROM star WHERE star.n = outcome.n % ?)",
            (len(places),),
        )


class Service:
    """The service over a folder, in a process of its own, asked over one kept connection."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        parts = urlsplit(url)
        self._at = parts.hostname or "", parts.port
        self._connection = http.client.HTTPConnection(*self._at)

    def another(self) -> Service:
        """Return one more connection to the same service."""
        return Service(self.process, f"http://{self._at[0]}:{self._at[1]}")

    def get(self, path: str, **asked: Any) -> tuple[float, bytes]:
        """Return how many milliseconds an answer took, and its body."""
        began = time.perf_counter()
        self._connection.request("GET", f"/{path}?{urlencode(asked, doseq=True)}" if asked else f"/{path}")
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status in (200, 204), (path, asked, answer.status, body)
        return 1e3 * (time.perf_counter() - began), body

    def peak_mb(self) -> float:
        """Return the most memory that the service had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def served(folder: Path) -> Iterator[Service]:
    """Serve a folder."""
    line = [sys.executable, "-m", "psfharvest", "serve", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Service(process, process.stdout.readline().strip())
        finally:
            process.terminate()


def tell(what: str, **figures: Any) -> None:
    """Print one measurement."""
    print(json.dumps({"what": what, **{k: round(v, 1) if isinstance(v, float) else v for k, v in figures.items()}}))
    sys.stdout.flush()


def shown(service: Service, at: int, **asked: Any) -> tuple[float, float]:
    """Return how long the rows of a page took, and its stars."""
    rows_ms, body = service.get("api/rows", at=at, count=TILES, columns=LABELS, **asked)
    rows = json.loads(body)["rows"]
    pixels_ms, _ = service.get("api/pixels", n=",".join(str(row["n"]) for row in rows))
    return rows_ms, pixels_ms


def sorting(service: Service, column: str) -> None:
    """Sort by a column that nobody has asked for, and ask for the account meanwhile."""
    is_over = threading.Event()
    accounts_ms: list[float] = []

    def watch() -> None:
        other = service.another()
        while not is_over.is_set():
            accounts_ms.append(other.get("api/now")[0])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    asked = {"sort": column, "count": TILES, "columns": f"{LABELS},{column}"}
    first_ms, _ = service.get("api/rows", order="desc", **asked)
    is_over.set()
    watcher.join()
    again_ms, _ = service.get("api/rows", order="desc", at=TILES, **asked)
    turned_ms, _ = service.get("api/rows", order="asc", **asked)
    tell(
        f"sort by {column}",
        first_ms=first_ms,
        again_ms=again_ms,
        the_other_way_ms=turned_ms,
        account_meanwhile_ms=max(accounts_ms),
    )


def many(service: Service, n: int, total: int) -> None:
    """Ask for much, as several people do who look around."""
    draw = random.Random(1)
    began = time.perf_counter()
    slowest_ms = 0.0
    for k in range(n):
        match k % 5:
            case 0:
                ms, _ = service.get("api/now")
            case 1:
                ms, _ = service.get("api/rows", at=draw.randrange(total - TILES), count=TILES)
            case 2:
                sort = draw.choice(SORTS)
                ms, _ = service.get("api/rows", sort=sort, at=draw.randrange(total - TILES), count=20)
            case 3:
                numbers = ",".join(str(draw.randrange(1, total)) for _ in range(20))
                ms, _ = service.get("api/pixels", n=numbers)
            case _:
                ms, _ = service.get(f"api/cutout/{draw.randrange(1, total)}")
        slowest_ms = max(slowest_ms, ms)
    rate = n / (time.perf_counter() - began)
    tell(f"{n} requests", per_second=rate, slowest_ms=slowest_ms, peak_mb=service.peak_mb())


def main(words: list[str]) -> None:
    """Prepare a folder, or measure one."""
    if words[0] == "--stars":
        give_stars(Path(words[1]))
        return
    with served(Path(words[0])) as service:
        html_ms, _ = service.get("")
        now_ms, body = service.get("api/now")
        total = json.loads(body)["total"]
        rows_ms, pixels_ms = shown(service, 0)
        tell("first look", rows=total, html_ms=html_ms, account_ms=now_ms, rows_ms=rows_ms, stars_ms=pixels_ms)
        ats = [total * k // 10 for k in range(10)]
        pages = [shown(service, at) for at in ats]
        tell("a page anywhere", rows_ms=max(p[0] for p in pages), stars_ms=max(p[1] for p in pages))
        for column in SORTS:
            sorting(service, column)
        where_ms, body = service.get(
            "api/rows", where=["qfit=0..0.1", "psf_flux=1e4.."], sort="psf_flux", count=TILES
        )
        tell("filter and sort", first_ms=where_ms, total=json.loads(body)["total"])
        tell("so far", peak_mb=service.peak_mb())
        many(service, int(words[1]) if len(words) > 1 else N_REQUESTS, total)


if __name__ == "__main__":
    main(sys.argv[1:])
