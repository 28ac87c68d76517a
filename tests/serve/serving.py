"""What tests of the service share: a client without a server between, and a server in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

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
def served(*words: str | Path, env: dict[str, str] | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``psfharvest serve``, and give the address that its first line says."""
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
