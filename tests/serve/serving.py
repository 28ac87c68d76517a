"""What tests of the service share: a client without a server between, and a server in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import command_process
from harness import command
from psfharvest.serve import create_app

N_STARS = 60
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser of this machine, or None."""


def client_of(folder: Any, **options: Any) -> httpx.AsyncClient:
    """Give a client of the application over one folder, or several."""
    transport = httpx.ASGITransport(create_app(folder, **options))
    return httpx.AsyncClient(transport=transport, base_url="http://stars.example")


@contextmanager
def served_at(*words: str | Path) -> Iterator[str]:
    """Run ``psfharvest serve`` as a fork, which costs no start, and give the address that its first line says."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        process = command_process.start(
            ["serve", *map(str, words)], cwd=Path.cwd(), env=dict(os.environ), scratch=scratch
        )
        try:
            while not (said := _read(scratch / "out")).endswith("\n"):
                assert process.is_alive(), _read(scratch / "err")
                time.sleep(0.01)
            yield said.strip()
        finally:
            process.kill()
            process.join()
            process.close()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@contextmanager
def served(*words: str | Path, env: dict[str, str] | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``psfharvest serve`` in an interpreter of its own, for tests of its signals and outputs."""
    process = subprocess.Popen(
        command("serve", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, process.communicate(timeout=30)[1]
        yield url, process
    finally:
        process.kill()
        process.communicate(timeout=30)
