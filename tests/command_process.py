"""
Run the command ``psfharvest`` as a process of its own without paying for its imports each time.

`multiprocessing`'s fork server imports the package once; each run is a fork of it with a working directory, an
environment and outputs of its own. Tests of the start itself, of signals and of kills start a fresh interpreter
instead (`harness.command`).
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_CLI = Path(__file__).parents[1] / "src/psfharvest/cli"
_PIPE_BYTES = 2**20
"""Room of the pipe at standard input."""
_PRELOAD = [
    *("psfharvest.client", "psfharvest.blocking", "psfharvest.store.readers.reader", "psfharvest.simulator"),
    *("astropy.table", "astropy.io.fits", "pyarrow.parquet", "pycurl"),
    *("anyio._backends._asyncio", "certifi", "encodings.idna", "httpcore", "httpx", "mimetypes"),
    *(f"psfharvest.cli.{path.stem}" for path in _CLI.glob("[a-z]*.py")),
]
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_PRELOAD)


def _run_here(words: Sequence[str], cwd: str, env: dict[str, str], stdin: bytes, out: str, err: str) -> None:
    """Be the command, within a fork."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    given, end = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(end, False)
    assert os.write(end, stdin) == len(stdin), "too long for the pipe"
    os.close(end)
    os.dup2(given, 0)
    os.close(given)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as at an interpreter's start
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["psfharvest", *words]
    runpy.run_module("psfharvest", run_name="__main__", alter_sys=True)


def start(
    words: Sequence[str], *, cwd: Path, env: dict[str, str], scratch: Path, stdin: str = ""
) -> multiprocessing.process.BaseProcess:
    """Start the command once, and return its process; it writes to the files ``out`` and ``err`` in `scratch`."""
    process = _server.Process(
        target=_run_here, args=(list(words), str(cwd), env, stdin.encode(), f"{scratch}/out", f"{scratch}/err")
    )
    process.start()
    return process


def run(
    words: Sequence[str], *, cwd: Path, env: dict[str, str], scratch: Path, timeout_s: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """
    Run the command once.

    Parameters
    ----------
    words
        What follows ``psfharvest``.
    cwd, env
        Its working directory and its whole environment.
    scratch
        An existing folder, apart from `cwd`, for what it writes to its outputs.
    timeout_s
        A command that takes longer is killed, and the test fails.
    stdin
        What its standard input, a pipe, holds.
    """
    out, err = scratch / "out", scratch / "err"
    process = start(words, cwd=cwd, env=env, scratch=scratch, stdin=stdin)
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(list(words), timeout_s, out.read_bytes(), err.read_bytes())
    status = process.exitcode
    process.close()
    return subprocess.CompletedProcess(list(words), status, out.read_text(), err.read_text())
