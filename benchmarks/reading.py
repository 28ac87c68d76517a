"""
Reading back N cutouts from each sink: stack, iterate, index, table, select, export. Usage: reading.py [N] [SINK...]

The harvest is made without an archive: real header text, one seeded noise image a cutout, 10 % of them 101 pixels.
Prints one JSON object a measurement: seconds, cutouts a second, peak memory of the process that measured.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from psfharvest.core.fits import pixels
from psfharvest.core.model import Outcome, State, WantedURI
from psfharvest.store import folder as folders
from psfharvest.store.folder import Settings

COLUMNS = ("id", "rootname", "filter", "chip", "exptime", "psf_x_center", "psf_y_center", "psf_flux", "sky", "qfit",
           "n_sat_pixels", "subarray", "x_cal", "y_cal", "x_raw", "y_raw", "focus", "date")  # fmt: skip


def make(folder: Path, n: int, sink: str) -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(10, 5, 10_201 + 100_000).astype(np.float32)
    cards = [f"KEYWORD{k % 10} = {k:>20} / a card as headers have it" for k in range(70)]
    with folders.new_folder(folder, Settings(sink=sink)) as manifest:
        store = folders.open_sink(folder, manifest, Settings())
        for start in range(0, n, 512):
            ks = range(start, min(start + 512, n))
            rows = [row(k) for k in ks]
            with manifest.transaction():
                sources = manifest.sources("UVIS", COLUMNS, rows)
                manifest.add([WantedURI(uri(r), s) for r, s in zip(rows, sources, strict=True)])
            outcomes = []
            for item in manifest.pending(start, 512, with_source=store.needs_sources):
                side = item.size_px or 51
                at = item.number * 7919 % 100_000
                body = fits(noise[at : at + side * side].reshape(side, side), cards)
                outcomes.append(Outcome(item, State.DONE, 1, body, hashlib.sha256(body).digest()))
            stored = store.store(outcomes)
            with manifest.transaction():
                manifest.record(stored)
                manifest.set(**store.checkpoint())
        store.close()


def row(k: int) -> tuple:
    is_saturated = k % 10 == 9
    x, y = 30 + k % 4000 + 0.25, 40 + k % 1900 + 0.5
    qfit, n_saturated = (0.0, 40) if is_saturated else (0.01 * (1 + k % 30), 0)
    name, where = f"ib{k // 50 % 46656:06x}q", (x, y, x + 25, y)
    return (8_000_000 + k, name, ("F606W", "F814W")[k % 2], "2", 350.0, x + 1, y + 1, 1e4 + k, 12.5, qfit,
            n_saturated, 0, *where, None, "2014-01-01")  # fmt: skip


def uri(r: tuple) -> str:
    size = 101 if r[9] == 0 else 51
    return (f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red={r[1]}_flt[1]&size={size}&x={r[12]}&y={r[13]}"
            f"&format=fits/{r[1]}_{r[0]}_{r[2]}_flt_cutout.fits")  # fmt: skip


def fits(image: np.ndarray, cards: list[str]) -> bytes:
    n = len(image)
    start = [
        f"SIMPLE  = {'T':>20}",
        f"BITPIX  = {-32:>20}",
        f"NAXIS   = {2:>20}",
        f"NAXIS1  = {n:>20}",
        f"NAXIS2  = {n:>20}",
    ]
    text = "".join(f"{card:<80}" for card in [*start, *cards, "END"])
    return pixels.put_together(text + " " * (-len(text) % 2880), image)


def measure(what: str, folder: Path, n: int) -> None:
    """Run in a process of its own, so that peak memory is this one's."""
    from psfharvest import Harvest

    stars = Harvest(folder)
    before = peak_mb()
    began, cpu = time.perf_counter(), time.process_time()
    if what == "stack":
        result = stars.stack(51).shape
    elif what == "iterate":
        result = sum(1 for _ in stars)
    elif what == "index":
        draw = np.random.default_rng(0)
        result = len([stars[int(k)] for k in draw.integers(0, n, 1000)])
    elif what == "table":
        result = len(stars.table())
    elif what == "select":
        result = len(stars.select(filter="F606W", qfit=(0, 0.1)))
    elif what == "len":
        result = len(stars)
    else:
        from psfharvest.export import export

        out = folder.parent / f"out{what}"
        result = export(stars, out)
        result = result | {"mb": round(sum(p.stat().st_size for p in [out, *out.rglob("*")] if p.is_file()) / 1e6)}
    elapsed = time.perf_counter() - began
    print(json.dumps({
        "what": what, "sink": folder.name, "n": n, "seconds": round(elapsed, 2),
        "cpu_s": round(time.process_time() - cpu, 2), "per_second": round(n / elapsed),
        "peak_mb": peak_mb(), "peak_before_mb": before, "result": result,
    }, default=str), flush=True)  # fmt: skip


def peak_mb() -> int:
    """Peak memory of this program alone: ru_maxrss would begin with that of the process that started it."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    sinks = sys.argv[2:] or ["shards", "parquet", "files"]
    home = Path(tempfile.mkdtemp(prefix="psfharvest-reading-"))
    for sink in sinks:
        began = time.perf_counter()
        make(home / sink, n, sink)
        size = sum(p.stat().st_size for p in (home / sink).rglob("*") if p.is_file())
        print(
            json.dumps(
                {"made": sink, "n": n, "seconds": round(time.perf_counter() - began, 1), "mb": round(size / 1e6)}
            )
        )
        whats = ["len", "stack", "iterate", "index", "table", "select"]
        for what in whats + ([".parquet", ".zarr", ".npz"] if sink == sinks[0] else []):
            subprocess.run([sys.executable, __file__, "--measure", what, home / sink, str(n)], check=True)
    print(f"left in {home}: delete it when it is no longer needed")


if __name__ == "__main__":
    main()
