"""
The catalogue inside a folder: its size, and what it takes to read it. Usage: catalogue.py [-n N] NAME=SRC...

Each NAME=SRC is a version of the package (its `src` folder); all of them are given the same rows and measured in
one run, so that ``before=/other/checkout/src after=src`` says what a change has done. The rows are the simulator's,
of UVIS, with their 25 columns; and once more with 64 made-up columns beside them: flags, counts, floats of two to
five decimals, texts of few words, with nulls here and there.

Prints one JSON object a measurement, each made in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE_ROWS = 1000
N_MORE = 64
TESTS = ("column", "select and sort", "table", "row")


def make(folder: Path, n: int, *, is_wide: bool) -> dict[str, Any]:
    from psfharvest.core.catalog.query import Query
    from psfharvest.core.model import Outcome, State
    from psfharvest.run import rows as run_rows
    from psfharvest.store.manifest.manifest import Manifest, Stored

    names, pieces = rows_of(n, is_wide=is_wide)
    spec = {"suffixes": ["flt"], "unsat_size_px": 51, "sat_size_px": 101}
    query, body = Query("UVIS"), bytes(17_280)
    asking_s = 0.0
    folder.mkdir()
    with Manifest.create(folder, sink="shards", layout="tree") as manifest:
        before_mb = peak_mb()
        for piece in pieces:
            began = time.process_time()
            with manifest.transaction():
                numbers = manifest.sources("UVIS", names, piece)
                lines = [
                    line
                    for number, row in zip(numbers, piece, strict=True)
                    for line in run_rows.uris_of(dict(zip(names, row, strict=True)), query, spec, number)
                ]
                manifest.add(lines)
            asking_s += time.process_time() - began
            items = manifest.pending(0, PIECE_ROWS)
            stored = [
                Stored(Outcome(item, State.DONE, 1, body, random.randbytes(32)), 0, 17_920 * item.number)
                for item in items
            ]
            with manifest.transaction():
                manifest.record(stored)
    size = (folder / "manifest.sqlite").stat().st_size
    return {
        "bytes a cutout": round(size / n, 1),
        "asking, CPU µs a row": round(asking_s / n * 1e6, 1),
        "peak MB before, after": [before_mb, peak_mb()],
    }


def rows_of(n: int, *, is_wide: bool) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
    """Return the columns' names, and the rows in pieces."""
    with open(os.environ["PSFHARVEST_ROWS"]) as file:
        names = json.loads(file.readline())
    more = [f"more_{k:02d}" for k in range(N_MORE)] if is_wide else []
    return names + more, _pieces(n, len(more))


def _pieces(n: int, n_more: int) -> Iterator[list[tuple[Any, ...]]]:
    draw = random.Random(7)
    with open(os.environ["PSFHARVEST_ROWS"]) as file:
        file.readline()
        for _ in range(0, n, PIECE_ROWS):
            piece = [json.loads(next(file)) for _ in range(PIECE_ROWS)]
            yield [tuple(row + [_more(k, draw) for k in range(n_more)]) for row in piece]


def _more(k: int, draw: random.Random) -> Any:
    """Return a value of a made-up column."""
    match k % 8:
        case 0:
            return int(draw.random() < 0.02)
        case 1:
            return draw.randrange(12)
        case 2:
            return round(draw.gauss(24, 1.5), 3)
        case 3:
            return round(abs(draw.gauss(0, 0.02)), 4)
        case 4:
            return None if draw.random() < 0.1 else round(draw.random() * 8, 2)
        case 5:
            return ("GO/PAR", "GO", "SNAP", "CAL/WFC3")[draw.randrange(4)]
        case 6:
            return 1.0
        case _:
            return None if k % 16 == 7 else round(draw.random() * 360, 5)


def make_rows(path: Path, n: int) -> None:
    """Write the simulator's rows as JSON lines, the names first."""
    from psfharvest.simulator.catalog.catalogue import Catalogue
    from psfharvest.simulator.settings import Settings

    columns = Catalogue(Settings(sources=round(2.6 * n))).rows("UVIS")
    with path.open("w") as file:
        file.write(json.dumps(list(columns)) + "\n")
        for start in range(0, n, 50_000):
            some = [column[start : min(n, start + 50_000)] for column in columns.values()]
            kinds = [column.dtype.kind for column in some]
            for row in zip(*(column.tolist() for column in some), strict=True):
                plain = [
                    None if (kind == "f" and math.isnan(value)) or value == "" else value
                    for kind, value in zip(kinds, row, strict=True)
                ]
                file.write(json.dumps(plain) + "\n")


def measure(what: str, folder: Path) -> dict[str, Any]:
    import numpy as np

    from psfharvest import Harvest
    from psfharvest.core.catalog import criterion
    from psfharvest.serve import orders, rows
    from psfharvest.store.manifest.manifest import Manifest

    if what == "table":
        stars = Harvest(folder)
        names = json.loads(os.environ["PSFHARVEST_COLUMNS"])
        before_mb, began = peak_mb(), _now()
        table = stars.table(names)
        return _said(began, shape=[len(table), len(table.colnames)], peak_mb=[before_mb, peak_mb()])
    with Manifest.read(folder) as manifest:
        began = _now()
        if what == "column":
            column = orders.Orders().column(manifest, "psf_flux", lambda: False)
            return _said(began, n=len(column.values), mean=float(np.nanmean(column.values)))
        if what == "select and sort":
            wanted = orders.Selection(
                (criterion.of("psf_flux", (1e4, 1e5)), criterion.of("qfit", (0.01, 0.05))), "sky"
            )
            found = orders.Orders().members(manifest, wanted, lambda: False)
            return _said(began, n=len(found))
        total = manifest.tally().total
        seconds = []
        draw = random.Random(3)
        rows.rows(manifest, rows.one(1))
        for n in [draw.randint(1, total) for _ in range(200)]:
            start = time.process_time()
            rows.rows(manifest, rows.one(n))
            seconds.append(time.process_time() - start)
        seconds.sort()
        return {
            "median CPU ms": round(1e3 * seconds[100], 2),
            "of 200, the 190th, ms": round(1e3 * seconds[190], 2),
        }


def _said(began: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {
        "seconds": round(time.perf_counter() - began[0], 3),
        "CPU s": round(time.process_time() - began[1], 3),
        **more,
    }


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def peak_mb() -> int:
    """Peak memory of this program alone: ru_maxrss would begin with that of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


def main() -> None:
    match sys.argv[1:]:
        case ["--rows", path, n]:
            make_rows(Path(path), int(n))
        case ["--make", folder, n, width]:
            print(json.dumps(make(Path(folder), int(n), is_wide=width == "wide")))
        case ["--measure", what, folder]:
            print(json.dumps(measure(what, Path(folder))))
        case ["-n", n, *versions]:
            play(int(n), dict(version.split("=", 1) for version in versions))
        case versions:
            play(1_000_000, dict(version.split("=", 1) for version in versions))


def play(n: int, versions: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="psfharvest-catalogue-") as name:
        home = Path(name)
        path = home / "rows.jsonl"
        _own(next(iter(versions.values())), path, "", "--rows", path, n)
        with path.open() as file:
            columns = file.readline()
        for width, is_wide in (("25 columns", "narrow"), ("89 columns", "wide")):
            folders = {version: home / f"{version} {width[:2]}" for version in versions}
            for version, src in versions.items():
                made = _own(src, path, columns, "--make", folders[version], n, is_wide)
                print(json.dumps({"version": version, "width": width, "n": n, **json.loads(made)}), flush=True)
            for what in TESTS:
                for version, src in versions.items():
                    for _ in range(1 if what == "table" else 2):  # the second with a warm disk cache
                        found = _own(src, path, columns, "--measure", what, folders[version])
                    print(json.dumps({"version": version, "width": width, what: json.loads(found)}), flush=True)


def _own(src: str, rows: Path, columns: str, *arguments: object) -> str:
    """Run this script with one version of the package, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": src, "PSFHARVEST_ROWS": str(rows), "PSFHARVEST_COLUMNS": columns}
    words = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else json.dumps({"failed": done.stderr[-2000:]})


if __name__ == "__main__":
    main()
