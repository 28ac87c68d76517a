"""The page within a notebook, where the kernel runs on the machine whose browser shows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from html import escape
from pathlib import Path

import anyio

from psfharvest.core.errors import BadInput, LocalError
from psfharvest.serve.server import Address, Service

STARTS_WITHIN_S = 30.0
ENDS_WITHIN_S = 10.0
ELSEWHERE = {
    "JUPYTERHUB_API_TOKEN": "JupyterHub",
    "COLAB_RELEASE_TAG": "Colab",
    "BINDER_SERVICE_HOST": "Binder",
    "SSH_CONNECTION": "ssh",
}
"""Variables of kernels that run on another machine than the browser, and what such a place is called."""


class Page:
    """The page of a harvest, served on loopback by a thread of this process until `close` or the process's end."""

    def __init__(self, folder: Path, height_px: int = 720) -> None:
        self.height_px = height_px
        self._service = Service([folder], Address(), may_be_framed=True)
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="psfharvest-page", daemon=True)
        self._thread.start()
        if not self._is_ready.wait(STARTS_WITHIN_S):
            self._service.end()
            raise LocalError(f"the page did not start within {STARTS_WITHIN_S:.0f} s")

    @property
    def url(self) -> str:
        """Its address, for a browser of this machine."""
        return self._service.url

    def close(self) -> None:
        """End the service."""
        self._service.end()
        self._thread.join(ENDS_WITHIN_S)

    def __repr__(self) -> str:
        return f"<Page {self.url}{'' if self._thread.is_alive() else ' (closed)'}>"

    def _repr_html_(self) -> str:
        """Return a frame with the page, for notebooks."""
        style = f"width:100%;height:{self.height_px}px;border:0"
        return f'<iframe title="psfharvest" src="{escape(self.url, quote=True)}" style="{style}"></iframe>'

    def _run(self) -> None:
        anyio.run(self._service.serve, self._is_ready.set)


def show(folder: Path, height_px: int, environment: Mapping[str, str] = os.environ) -> Page:
    """
    Return the page of a harvest, which a notebook shows.

    Raises
    ------
    BadInput
        When the kernel runs on another machine than the browser.
    """
    for name, place in ELSEWHERE.items():
        if environment.get(name):
            raise BadInput(
                f"this kernel runs on another machine ({place}), whose page your browser cannot reach: run "
                f"'psfharvest serve {folder} --port 8080' there and 'ssh -L 8080:127.0.0.1:8080' to it, and open "
                "http://127.0.0.1:8080/"
            )
    return Page(folder, height_px)
