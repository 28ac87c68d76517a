"""What lives are lived in: a simulated archive, what it has for them, and the zygote that they are forked from."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import anyio

from psfharvest import Archive, Query
from psfharvest.core.fits import datauri
from psfharvest.simulator import Settings, Simulator
from whole import crash_life

PATIENCE_S = 120
"""After which a life is held to hang: far longer than any takes on a slow machine."""


class Zygote:
    """
    The process that lives are forked from, seen from the test.

    Parameters
    ----------
    env
        Variables that it and all lives have beside those of this process.
    """

    def __init__(self, env: Mapping[str, str] = MappingProxyType({})) -> None:
        self._env = dict(env)
        self._ended: dict[int, int] = {}
        self._read = b""
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        program = Path(__file__).with_name("zygote.py")
        alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith(("PSFHARVEST_", "MAST_"))}
            | alone
            | self._env,
        )
        assert {"ready": True} == self._next(PATIENCE_S)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def begin(self, life: dict[str, Any]) -> int:
        """Begin a life, and return its number."""
        number = next(self._numbers)
        self._tell({"id": number, "life": life})
        return number

    def kill(self, number: int) -> None:
        """End a life, if it has not ended."""
        self.send(number, signal.SIGKILL)

    def send(self, number: int, signum: int) -> None:
        """Send a life a signal, if it has not ended."""
        self._tell({"id": number, "signal": int(signum)})

    def has_ended(self, number: int) -> bool:
        """Return whether a life has ended; how it did is kept for `wait`."""
        while number not in self._ended and (told := self._next(0.0)) is not None:
            self._ended[told["id"]] = told["status"]
        return number in self._ended

    def wait(self, number: int, timeout_s: float = PATIENCE_S) -> int | None:
        """Return how a life ended, or None when it has not after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while number not in self._ended:
            told = self._next(max(0.0, deadline - time.monotonic()))
            if told is None:
                return None
            self._ended[told["id"]] = told["status"]
        return self._ended.pop(number)

    def live(self, life: dict[str, Any]) -> int:
        """Have a whole life lived, and return how it ended."""
        number = self.begin(life)
        status = self.wait(number)
        assert status is not None, f"a life hangs: {life}"
        return status

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        while b"\n" not in self._read:
            if not select.select([handle], [], [], timeout_s)[0]:
                return None
            more = os.read(handle, 2**16)
            assert more, "the zygote has died"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        told = json.loads(line)
        assert isinstance(told, dict)
        return told


class World(NamedTuple):
    """An archive, the dataURIs that are asked for with what it has for them, a list of them, and the zygote."""

    zygote: Zygote
    simulator: Simulator
    bodies: dict[str, bytes]
    list: Path

    def settle(self) -> None:
        """Wait until the archive has seen that the dead are gone."""
        deadline = time.monotonic() + PATIENCE_S
        while self.simulator.record.open_now()["connections"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def asked(self) -> list[str]:
        """Return which cutouts were asked for since the archive last forgot."""
        return [u for seen in self.simulator.requests if seen.service in ("file", "bundle") for u in seen.uris]


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Start an archive and a zygote, and ask the archive what lives will ask."""
    with Zygote() as zygote, Simulator(Settings(sources=3000, seed=1)) as simulator:
        yield make_world(zygote, simulator, folder, crash_life.query())


def make_world(zygote: Zygote, simulator: Simulator, folder: Path, query: Query) -> World:
    """Return a world in which a query's cutouts are asked for."""

    async def ask(query: Query) -> list[dict[str, Any]]:
        async with Archive(simulator.url) as archive:
            table = await archive.query(query)
        return [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()]

    sizes = {"unsat_size_px": crash_life.SIZES["unsat_size"], "sat_size_px": crash_life.SIZES["sat_size"]}
    uris = [str(datauri.build_checked(row, query.detector, "flt", **sizes)) for row in anyio.run(ask, query)]
    path = folder / f"uris-{len(uris)}.txt"
    path.write_text("# each once, the first twice\n" + "".join(f"{uri}\n" for uri in [*uris, uris[0]]))
    return World(zygote, simulator, {uri: simulator.render(uri) for uri in uris}, path)
