"""The cluster of a command: workers of this machine made for it, or a scheduler's, named by address or file."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from psfharvest.core.errors import ArchiveDown, BadInput
from psfharvest.filesystem import extras

CONNECT_S = 30.0
CLOSE_S = 10.0
RESTART_S = "10 minutes"
"""How long a killed worker may take to come back: Dask gives one up for good after 15 s."""
OWN = "psfharvest-"
"""How the name of a cluster begins that was made for one harvest."""


def require_dask() -> None:
    """Raise `BadInput` when `distributed` is not installed."""
    missing = extras.needs("a harvest on a cluster", "dask", "distributed")
    if missing is not None:
        raise BadInput(missing)


@asynccontextmanager
async def connected(address: str | None, n_workers: int | None, token: str | None = None) -> AsyncIterator[Any]:
    """
    Yield a client of a scheduler, or of as many processes of this machine.

    Raises
    ------
    BadInput
        When the extra is missing, or the scheduler's file cannot be read.
    ArchiveDown
        When the scheduler does not answer: the same command continues later.
    """
    require_dask()
    with ExitStack() as stack:
        client = await anyio.to_thread.run_sync(_opened, stack, address, n_workers, token)
        leave = stack.pop_all()
    try:
        yield client
    except BaseException:  # an interrupt does not wait for what the workers are at: what they claimed is durable
        if address is None:
            leave.callback(_kill_workers, client.cluster)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(leave.close)


def _kill_workers(cluster: Any) -> None:
    """Kill the processes of a cluster of this machine; closing it waits seconds for the tasks of living ones."""
    for nanny in list(cluster.workers.values()):
        nanny.auto_restart = False
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def _opened(stack: ExitStack, address: Any, n_workers: int | None, token: str | None) -> Any:
    import dask  # noqa: PLC0415
    import distributed  # noqa: PLC0415 - takes half a second

    connect: Callable[..., Any] = distributed.Client
    if address is None:
        if token:
            os.environ["MAST_API_TOKEN"] = token  # the workers are our children
        dask.config.set({"distributed.deploy.lost-worker-timeout": RESTART_S})
        make: Callable[..., Any] = distributed.LocalCluster
        cluster = make(
            name=f"{OWN}{os.getpid()}",
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
        stack.callback(cluster.close, timeout=CLOSE_S)
        address = cluster
    is_file = isinstance(address, str) and address.endswith(".json")
    if is_file and not Path(address).is_file():
        raise BadInput(f"--dask {address}: there is no such file; 'dask scheduler --scheduler-file' makes it")
    try:
        client = connect(**{"scheduler_file" if is_file else "address": address}, timeout=CONNECT_S)
    except ValueError as error:
        raise BadInput(f"--dask {address}: an address like tcp://host:8786 or a scheduler's JSON file") from error
    except OSError as error:
        raise ArchiveDown(f"the scheduler {address} does not answer; run the same again once it does") from error
    stack.callback(client.close, timeout=CLOSE_S)  # its own context would be left in another thread
    return client
