"""Options of ``harvest`` for several processes: ``--workers`` and ``--dask``."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import click

from psfharvest.cli.options import F, Number
from psfharvest.core import ranges
from psfharvest.core.errors import BadInput


def cluster_options(command: F) -> F:
    """Add ``--workers``, ``--dask`` and ``--part-rows``."""
    for option in (
        click.option(
            "--part-rows",
            type=Number(ranges.PAGE_ROWS),
            default=50_000,
            show_default=True,
            metavar="N",
            help="With --workers or --dask: sources of a part, at most.",
        ),
        click.option(
            "--dask",
            metavar="ADDRESS",
            help="Harvest in parts on a Dask cluster: its scheduler's address, its JSON file, or local:N.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Harvest in parts with N processes of this machine; the connections are for all together.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the parts of a harvest are worked on: a scheduler's address, or a number of processes."""

    address: str | None
    n_workers: int | None

    @classmethod
    def of(cls, dask: str | None, workers: int | None, *, sink: str | None, uris: str | None) -> Cluster | None:
        """Return what the options ask for, None for a harvest by this process; or raise `BadInput`."""
        if dask is None and workers is None:
            return None
        if dask is not None and workers is not None:
            raise BadInput("either --workers N or --dask ADDRESS")
        name = "--workers" if dask is None else "--dask"
        if sink == "files":
            raise BadInput(f"--sink files does not go with {name}: use --sink shards or --sink parquet")
        if uris == "-":
            raise BadInput(f"--uris - does not go with {name}: write the list to a file")
        local = re.fullmatch(r"local:([1-9]\d*)", dask or "")
        from psfharvest.cluster.extra import require_dask  # noqa: PLC0415 - heavy

        require_dask()
        return cls(None, int(local[1])) if local else cls(dask, workers)

    def connected(self, token: str | None) -> AbstractAsyncContextManager[Any]:
        """Return its client, open within the context."""
        from psfharvest.cluster.local import connected  # noqa: PLC0415 - needs the extra

        return connected(self.address, self.n_workers, token)
