"""
What an export takes: time, CPU, and memory at each tenth of it, for each format. Usage, as a module:

    python -m benchmarks.exporting make FOLDER [N]     a harvest folder of N cutouts, or the rest of one
    python -m benchmarks.exporting FOLDER [ENDING...]  one JSON object an export; OUT is removed

The cutouts are the simulator's rows of UVIS with a few bodies again and again, in shards that ``psfharvest verify``
finds whole. Memory is flat where it is at the last tenth what it was at the first.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psfharvest.store.folder import Settings
    from psfharvest.store.manifest.manifest import Manifest

ENDINGS = (".npz", ".zarr", ".parquet", ".fits", ".h5")
SIZE_PX = 25
N_BODIES = 16
AT_ONCE = 4096


def make(folder: Path, n: int) -> None:
    """Make a harvest folder, or go on with it."""
    from benchmarks import catalogue
    from psfharvest.store import folder as folders
    from psfharvest.store.folder import Settings

    rows = folder.with_suffix(".rows")
    if not rows.exists():
        catalogue.make_rows(rows, n)
    os.environ["PSFHARVEST_ROWS"] = str(rows)
    settings = Settings(sink="shards")
    if not (folder / "manifest.sqlite").exists():
        folder.mkdir()
        with folders.new_folder(folder, settings) as manifest:
            ask(manifest, n)
    with folders.old_folder(folder, settings) as manifest:
        store(folder, manifest, settings)


def ask(manifest: Manifest, n: int) -> None:
    """Ask for all cutouts."""
    from benchmarks import catalogue
    from psfharvest.core.catalog.query import Query
    from psfharvest.run import rows as run_rows

    names, pieces = catalogue.rows_of(n, is_wide=False)
    query, spec = Query("UVIS"), {"suffixes": ["flt"], "unsat_size_px": SIZE_PX, "sat_size_px": SIZE_PX}
    for piece in pieces:
        with manifest.transaction():
            lines = [
                line
                for number, row in zip(manifest.sources("UVIS", names, piece), piece, strict=True)
                for line in run_rows.uris_of(dict(zip(names, row, strict=True)), query, spec, number)
            ]
            manifest.add(lines)


def store(folder: Path, manifest: Manifest, settings: Settings) -> None:
    """Store a body for each cutout that has none."""
    from psfharvest.core.model import Outcome, State
    from psfharvest.simulator.catalog.catalogue import Catalogue
    from psfharvest.simulator.settings import Settings as SimulatorSettings
    from psfharvest.simulator.sky.fitscut import Fitscut
    from psfharvest.store import folder as folders

    simulator = SimulatorSettings(sources=100)
    body = bytearray(Fitscut(Catalogue(simulator), simulator).static(SIZE_PX, SIZE_PX))
    bodies = []
    for number in range(N_BODIES):
        body[-2880:-2879] = bytes([65 + number % 2])  # the first pixel, about 10 or about 40
        body[-2879:-2878] = bytes([number * 8])
        bodies.append((bytes(body), hashlib.sha256(body).digest()))
    sink, after = folders.open_sink(folder, manifest, settings), 0
    while items := manifest.pending(after, AT_ONCE, with_source=True):
        after = items[-1].number
        outcomes = [Outcome(item, State.DONE, 1, *bodies[item.number % N_BODIES]) for item in items]
        stored = sink.store(outcomes)
        with manifest.transaction():
            manifest.record(stored)
            manifest.set(**sink.checkpoint())
    sink.close()


def export(folder: Path, ending: str) -> dict[str, Any]:
    """Export a folder, in a process of its own, and say what it took."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as name:
        out = Path(name) / f"out{ending}"
        began = time.monotonic()
        words = [sys.executable, "-m", "benchmarks.exporting", "--one", str(folder), str(out)]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
        return {
            "export": ending,
            "status": done.returncode,
            "seconds": round(time.monotonic() - began, 1),
            **json.loads(done.stdout or b"{}"),
            "GB": round(_size(out) / 1e9, 2),
        }


def export_here(folder: Path, out: Path) -> dict[str, Any]:
    """Export a folder in this process, and say what it took; memory in MB: the highest yet, and what is in use."""
    from psfharvest.export import export

    tenths: list[list[int]] = []

    def note(n: int, total: int) -> None:
        if n * 10 >= (len(tenths) + 1) * total:
            tenths.append(_memory_mb())

    export(folder, out, progress=note)
    return {
        "CPU s": round(time.process_time(), 1),
        "peak MB": _memory_mb()[0],
        "MB at each tenth, highest and in use": tenths,
    }


def _memory_mb() -> list[int]:
    text = Path("/proc/self/status").read_text()
    return [int(text.split(f"{name}:", 1)[1].split(maxsplit=1)[0]) // 1024 for name in ("VmHWM", "VmRSS")]


def _size(out: Path) -> int:
    return sum(path.stat().st_size for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())


def main() -> None:
    match sys.argv[1:]:
        case ["make", folder, *n]:
            make(Path(folder).absolute(), int(n[0]) if n else 1_000_000)
        case ["--one", folder, out]:
            print(json.dumps(export_here(Path(folder), Path(out))))
        case [folder, *endings]:
            for ending in endings or ENDINGS:
                print(json.dumps(export(Path(folder).absolute(), ending)), flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
