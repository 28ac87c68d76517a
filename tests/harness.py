"""What tests of the whole share: the command as a user runs it, and a harvest folder read without our own code."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from psfharvest.core.fits import datauri
from psfharvest.simulator import Simulator
from psfharvest.store.readers.reader import Reader

HAS_TAR_FILTERS = hasattr(tarfile, "data_filter")
SUMS_S = 0.06
"""What the work of `slowness` takes on a processor of 2020."""


class Run:
    """A finished command: its exit status, both outputs, and the JSON object at the end of the first."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def account(self) -> dict[str, Any]:
        """The last line of standard output, read as JSON."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found


def extract_all(tar: tarfile.TarFile, folder: Path = Path()) -> None:
    """Extract a tar as the published notebook does: with the filter for data, which Python has from 3.11.4 on."""
    if HAS_TAR_FILTERS:
        tar.extractall(folder, filter="data")
    else:
        tar.extractall(folder)


def is_refused(info: tarfile.TarInfo) -> bool:
    """Return whether that filter refuses a member; on an older Python, whether by its rules it would."""
    if not HAS_TAR_FILTERS:
        is_outside = os.path.normpath(info.name.lstrip("/")).startswith("..")
        return is_outside or not (info.isreg() or info.isdir())
    try:
        tarfile.data_filter(info, "/tmp/x")
    except tarfile.FilterError:
        return True
    return False


@cache
def slowness() -> float:
    """Return how many times longer than on a quiet machine a piece of work takes here and now: 1 to 10."""
    began_s = time.perf_counter()
    for _ in range(20):
        sum(range(100_000))
    return min(10.0, max(1.0, (time.perf_counter() - began_s) / SUMS_S))


def sampled(values: Iterable[Any], now: Collection[Any]) -> list[Any]:
    """Return the parameters of a long test: those of `now` for the default run, the rest for the campaign."""
    listed = list(values)
    unknown = [value for value in now if value not in listed]
    assert not unknown, unknown
    return [value if value in now else pytest.param(value, marks=pytest.mark.campaign) for value in listed]


def command(*words: str | Path) -> list[str]:
    """The command line of psfharvest as this environment has it."""
    return [sys.executable, "-m", "psfharvest", *map(str, words)]


def on_terminal(words: list[str], env: dict[str, str], folder: Path, width: int, status: int = 0) -> str:
    """Run a command whose outputs are a terminal of that width; return what it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        command(*words), cwd=folder, env={**clean, **env}, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    ) as busy:
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 10_000)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        os.close(master)
        assert status == busy.wait(timeout=60)
    return seen.decode()


def rows_of(folder: Path) -> list[dict]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM cutout")]
    db.close()
    return rows


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*.fits")}


def stored_bytes(folder: Path, row: dict) -> bytes:
    """Read one cutout by its location alone, as the design describes it."""
    path, colon, offset = row["location"].partition(":")
    if path.endswith(".parquet"):
        return parquet_bytes(folder, path, int(offset), row)
    with (folder / path).open("rb") as file:
        file.seek(int(offset) if colon else 0)
        return file.read(row["size_bytes"] if colon else -1)


@cache
def parquet_table(path: Path, _changed_ns: int) -> pa.Table:
    return pq.read_table(path)


def parquet_bytes(folder: Path, path: str, at: int, row: dict) -> bytes:
    """Put one cutout together from its row; before the file is there, the journal is read by our own code."""
    if not (folder / path).exists():
        with Reader(folder) as reader:
            return reader.read(row["location"], row["size_bytes"])
    found = parquet_table(folder / path, (folder / path).stat().st_mtime_ns).slice(at, 1).to_pylist()[0]
    if found["fits"] is not None:
        return bytes(found["fits"])
    data = np.array(found["image"], ">f4").tobytes()
    return found["header"].encode("latin-1") + data + bytes(-len(data) % 2880)


def check_every_file(folder: Path, simulator: Simulator) -> int:
    """Hold every stored file against the manifest and what the archive renders; some against astropy, too."""
    rows = rows_of(folder)
    done = [r for r in rows if r["state"] == "done"]
    assert {r["location"] for r in done if ":" not in r["location"]} == files_of(folder)
    for n, row in enumerate(done):
        body = stored_bytes(folder, row)
        assert simulator.render(row["uri"]) == body
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row["size_bytes"], row["sha256"])
        parts = datauri.parse(row["uri"])
        assert parts is not None
        if n % 16 == 0:  # equal bytes have equal shapes: astropy is asked about the simulator
            assert (parts.size_px, parts.size_px) == fits.getdata(io.BytesIO(body)).shape
    return len(done)
